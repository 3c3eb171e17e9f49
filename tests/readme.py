"""Runs what a newcomer pastes: readme.py TIDINGS

The shell lines of README.md and of docs/start/first-ten-minutes.md run in a copy of the tree, in the
order in which they stand, with `target/release/tidings` in its place so that nothing is compiled again.
The page of the README is not opened; its script is compared with what it must say.
"""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIMIT = 120.0


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def lines(block: str) -> list[str]:
    """The commands of a block, without comments."""
    commands = [re.sub(r"\s+#.*$", "", line).strip() for line in block.splitlines()]
    return [command for command in commands if command and not command.startswith("#")]


def shell(command: str, folder: pathlib.Path, **environment: str) -> str:
    done = subprocess.run(
        ["bash", "-euc", command], cwd=folder, env={**os.environ, **environment}, timeout=LIMIT,
        capture_output=True, text=True,
    )
    if done.returncode != 0:
        raise AssertionError(f"{command}\n{done.stdout}{done.stderr}")
    return done.stdout


class Serving:
    """A server that a pasted line starts, until it answers."""

    def __init__(self, command: str, folder: pathlib.Path, url: str) -> None:
        self.log = folder / "server.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                ["bash", "-euc", f"exec {command}"], cwd=folder, stdout=log, stderr=subprocess.STDOUT
            )
        end = time.monotonic() + LIMIT
        while True:
            try:
                urllib.request.urlopen(url).close()
                return
            except OSError as error:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise AssertionError(f"{command}: {error}\n{self.log.read_text()}") from error
                time.sleep(0.1)

    def __enter__(self) -> "Serving":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(LIMIT)


def copy_of_tree(program: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """The tracked files, and the program where a release build puts it."""
    tree = folder / "tidings"
    for name in subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0"):
        if name and (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name)
    (tree / "target/release").mkdir(parents=True)
    os.link(program, tree / "target/release/tidings") if same_device(program, tree) else shutil.copy(
        program, tree / "target/release/tidings"
    )
    return tree


def same_device(one: pathlib.Path, other: pathlib.Path) -> bool:
    return one.stat().st_dev == other.stat().st_dev


def readme(tree: pathlib.Path) -> None:
    build, serve, install, publish = (lines(block) for block in blocks("README.md", "sh")[:4])
    assert build[-1] == "cargo build --release", build
    (hello,) = blocks("README.md", "python")
    (tree / "hello.py").write_text(hello)
    with Serving(serve[0], tree, "http://127.0.0.1:8000/readyz") as server:
        token = next(line for line in server.log.read_text().splitlines() if line.startswith("eyJ"))
        for command in install:
            shell(command, tree)
        tail = f"target/release/tidings tail demo --rewind 5 --count 1 --token {token} --json"
        for command in publish:
            # The reader puts the printed token in the place of the dots.
            printed = shell(command.replace("…", token), tree, TIDINGS_TOKEN=token)
        print(printed, end="")
        seen = shell(tail, tree)
        assert "hello from Python" in seen, seen
    # The page follows the channel and the type that the program publishes.
    (page,) = blocks("README.md", "html")
    for word in re.findall(r'publish\("(\w+)", "(\w+)", \{"(\w+)"', hello)[0]:
        assert f'"{word}"' in page or f".{word}" in page, word


def first_ten_minutes(tree: pathlib.Path) -> None:
    page = "docs/start/first-ten-minutes.md"
    commands = [command for block in blocks(page, "sh") for command in lines(block)]
    dev = next(one for one in commands if one.endswith("serve --dev"))
    check = next(one for one in commands if " check " in one)
    serve = next(one for one in commands if "serve --config" in one)
    app = next(one for one in commands if one.endswith("app.py"))
    with Serving(dev, tree, "http://127.0.0.1:8000/"):
        pass
    shell(check, tree)
    for command in commands[commands.index(serve) + 1:commands.index(app)]:
        shell(command, tree)
    with Serving(serve, tree, "http://127.0.0.1:8000/readyz"), Serving(app, tree, "http://127.0.0.1:3000/"):
        token = urllib.request.urlopen("http://127.0.0.1:3000/token").read().decode()
        assert token.count(".") == 2, token
        done = urllib.request.Request("http://127.0.0.1:3000/done", data=b"", method="POST")
        urllib.request.urlopen(done).close()
        own = shell("target/release/tidings token --config docs/start/first-app/tidings.toml --sub me --role service", tree)
        follow = f"target/release/tidings tail 'project:*' --count 1 --json --token {own.strip()}"
        tail = subprocess.Popen(["bash", "-c", follow], cwd=tree, stdout=subprocess.PIPE, text=True)
        end = time.monotonic() + LIMIT
        while tail.poll() is None and time.monotonic() < end:
            urllib.request.urlopen(done).close()
            time.sleep(0.3)
        print(tail.communicate()[0], end="")
        assert tail.returncode == 0


def main() -> None:
    program = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        tree = copy_of_tree(program, pathlib.Path(folder))
        readme(tree)
        first_ten_minutes(tree)
    print("what is pasted works")


if __name__ == "__main__":
    main()
