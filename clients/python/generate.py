"""Regenerates the gRPC code in src/tidings/v1 from proto/. With --check, verifies that it is up to date.

The code is kept in the repository, so that `pip install` needs neither a compiler for schemas nor the
schema itself. It must be written by the grpcio-tools that pyproject.toml names: code runs with the
protobuf and grpcio of its own time and newer ones, but never with older ones.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import grpc_tools  # type: ignore[import-untyped]
from grpc_tools import protoc

HERE = Path(__file__).resolve().parent
SCHEMA = HERE.parent.parent / "proto"
WELL_KNOWN = Path(grpc_tools.__file__).parent / "_proto"
KEPT = HERE / "src" / "tidings" / "v1"


def generated(into: Path) -> dict[str, bytes]:
    """Generates into a directory. Returns the files by name."""
    outputs = [f"--{kind}_out={into}" for kind in ("python", "pyi", "grpc_python")]
    sources = [str(path) for path in sorted((SCHEMA / "tidings" / "v1").glob("*.proto"))]
    if protoc.main(["protoc", f"-I{SCHEMA}", f"-I{WELL_KNOWN}", *outputs, *sources]) != 0:
        sys.exit("protoc failed")
    files = {path.name: path.read_bytes() for path in (into / "tidings" / "v1").iterdir()}
    # They have no services.
    for name in ("event", "messages"):
        del files[f"{name}_pb2_grpc.py"]
    return files


def main() -> None:
    """Runs the command line."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--check", action="store_true", help="change nothing; exit 1 if out of date")
    check = arguments.parse_args().check
    with tempfile.TemporaryDirectory() as scratch:
        fresh = generated(Path(scratch))
    kept = {path.name: path.read_bytes() for path in KEPT.glob("*_pb2*.py*") if path.is_file()}
    if check and fresh != kept:
        stale = sorted(name for name in fresh.keys() | kept.keys() if fresh.get(name) != kept.get(name))
        sys.exit(f"not what proto/ says: {', '.join(stale)}; run {Path(__file__).name}")
    for name in kept.keys() - fresh.keys():
        (KEPT / name).unlink()
    for name, content in fresh.items():
        if kept.get(name) != content:
            (KEPT / name).write_bytes(content)


if __name__ == "__main__":
    main()
