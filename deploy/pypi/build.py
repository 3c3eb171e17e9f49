"""Builds the wheel that carries the server: python build.py BINARY PLATFORM OUT

The wheel has no Python code: pip puts the program among its scripts, as `tidings` and as
`tidings-server`, so that `uvx tidings-server serve --dev` runs it without installing anything.
PLATFORM is a tag such as manylinux_2_17_x86_64.musllinux_1_1_x86_64 or macosx_11_0_arm64; a static
binary runs on any Linux.
"""

import base64
import hashlib
import pathlib
import subprocess
import sys
import zipfile

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
NAME = "tidings_server"
# The oldest time that a zip archive can hold: the same input makes the same wheel.
TIME = (1980, 1, 1, 0, 0, 0)


def build(binary: pathlib.Path, platform: str, out: pathlib.Path) -> pathlib.Path:
    version = subprocess.run(
        [binary, "--version"], check=True, capture_output=True, text=True
    ).stdout.split()[1]
    info = f"{NAME}-{version}.dist-info"
    scripts = f"{NAME}-{version}.data/scripts"
    program = binary.read_bytes()
    metadata = "\n".join([
        "Metadata-Version: 2.4",
        "Name: tidings-server",
        f"Version: {version}",
        "Summary: A real-time event server: gRPC in, WebSocket out, nothing lost silently.",
        "License-Expression: MIT OR Apache-2.0",
        "License-File: LICENSE-MIT",
        "License-File: LICENSE-APACHE",
        "Keywords: websocket,grpc,pubsub,realtime,events",
        "Classifier: Operating System :: POSIX :: Linux",
        "Classifier: Topic :: Internet",
        "Requires-Python: >=3.8",
        "Description-Content-Type: text/markdown",
        "",
        (HERE / "README.md").read_text(),
    ])
    tags = [f"Tag: py3-none-{tag}" for tag in platform.split(".")]
    wheel = "\n".join(
        ["Wheel-Version: 1.0", "Generator: tidings", "Root-Is-Purelib: false", *tags, ""]
    )
    launcher = "#!/bin/sh\nexec \"$(dirname \"$0\")/tidings\" \"$@\"\n"
    files = [
        (f"{scripts}/tidings", program, 0o755),
        (f"{scripts}/tidings-server", launcher.encode(), 0o755),
        (f"{info}/METADATA", metadata.encode(), 0o644),
        (f"{info}/WHEEL", wheel.encode(), 0o644),
        (f"{info}/licenses/LICENSE-MIT", (ROOT / "LICENSE-MIT").read_bytes(), 0o644),
        (f"{info}/licenses/LICENSE-APACHE", (ROOT / "LICENSE-APACHE").read_bytes(), 0o644),
    ]
    record = ""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{NAME}-{version}-py3-none-{platform}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content, mode in files:
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
            record += f"{name},sha256={digest.decode()},{len(content)}\n"
            write(archive, name, content, mode)
        write(archive, f"{info}/RECORD", f"{record}{info}/RECORD,,\n".encode(), 0o644)
    return path


def write(archive: zipfile.ZipFile, name: str, content: bytes, mode: int) -> None:
    entry = zipfile.ZipInfo(name, TIME)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = (0o100000 | mode) << 16
    archive.writestr(entry, content)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    print(build(pathlib.Path(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])))
