"""What the tests of the examples share: programs that run as an example's README says, on other ports."""

import contextlib
import json
import os
import pathlib
import pwd
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import TypeVar

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SECRET = "a-secret-for-this-one-run-and-no-other"
# The port of the application in every README.
PORT = "3000"
LIMIT = 30.0
T = TypeVar("T")
# The caller's environment must not affect the programs.
for name in [name for name in os.environ if name.startswith(("PG", "TIDINGS_"))]:
    del os.environ[name]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def until(what: str, holds: Callable[[], T]) -> T:
    """What `holds` returns, once it is true."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        with contextlib.suppress(OSError, ValueError):
            if found := holds():
                return found
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {LIMIT} s")


def fetch(url: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> tuple[int, bytes, dict]:
    """The status, the body and the headers of an answer. With a body, it is a POST."""
    request = urllib.request.Request(url, data=body, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=LIMIT) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read(), dict(refused.headers)


class Example:
    """An example with its README, and a folder for one run."""

    def __init__(self, name: str, folder: str, tidings: str) -> None:
        self.home = ROOT / "examples" / name
        self.folder = pathlib.Path(folder)
        self.tidings = tidings
        readme = (self.home / "README.md").read_text()
        self.blocks = re.findall(r"^```(\w+)\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
        self.environment = {
            **os.environ, "TIDINGS_AUTH__HS256_SECRET": SECRET, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1",
        }
        # The README's `tidings` is the program under test; its `python` and `uvicorn` are beside this Python.
        programs = self.folder / "bin"
        programs.mkdir()
        (programs / "tidings").symlink_to(pathlib.Path(tidings).resolve())
        here = pathlib.Path(sys.executable).parent
        self.environment["PATH"] = f"{programs}:{here}:{os.environ['PATH']}"

    def configuration(self) -> str:
        return next(text for language, text in self.blocks if language == "toml")

    def line(self, words: str) -> str:
        """The line of a shell block with these words."""
        lines = [line for language, text in self.blocks if language == "sh" for line in text.splitlines()]
        found = [line for line in lines if words in line]
        assert len(found) == 1, f"{self.home.name}/README.md has {len(found)} lines with {words!r}"
        return found[0]

    @contextlib.contextmanager
    def running(self, line: str, log: str, **environment: str) -> Iterator[subprocess.Popen]:
        """A line of the README that runs until the block ends. Its output is in the file `log`."""
        path = self.folder / log
        with path.open("w") as output:
            process = subprocess.Popen(
                ["bash", "-c", f"exec env {line}"], cwd=self.home, env={**self.environment, **environment},
                stdout=output, stderr=subprocess.STDOUT,
            )
        try:
            yield process
        except BaseException:
            print(f"--- {log}\n{path.read_text()}", flush=True)
            raise
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(LIMIT)

    def run(self, line: str, **environment: str) -> subprocess.CompletedProcess:
        """A line of the README that ends by itself."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line], cwd=self.home, env={**self.environment, **environment},
            capture_output=True, text=True, timeout=LIMIT,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done

    @contextlib.contextmanager
    def server(self, configuration: str, *options: str) -> Iterator[dict[str, str]]:
        """Tidings with this configuration, and its addresses."""
        path, ready = self.folder / "tidings.toml", self.folder / "ready.json"
        path.write_text(configuration)
        words = ["tidings", "serve", *options, "--config", str(path), "--public", "127.0.0.1:0", "--internal",
                 "127.0.0.1:0", "--ready-file", str(ready)]
        with self.running(shlex.join(words), "tidings.log") as process:

            def bound() -> dict[str, str]:
                assert process.poll() is None, "Tidings has ended"
                return json.loads(ready.read_text())

            yield until("Tidings is ready", bound)

    def token(self, *roles: str, user: str = "ci") -> str:
        words = ["tidings", "token", "--sub", user, *(f"--role={role}" for role in roles)]
        return self.run(shlex.join(words)).stdout.strip()


@contextlib.contextmanager
def example(name: str, tidings: str) -> Iterator[Example]:
    with tempfile.TemporaryDirectory() as folder:
        yield Example(name, folder, tidings)


class Postgres:
    """A PostgreSQL server with the database `app`, on a socket in `folder`."""

    def __init__(self, folder: pathlib.Path) -> None:
        # Debian keeps the server's programs off the path.
        found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
        self.programs = f"{found[-1]}/" if found else ""
        self.folder = folder / "postgres"
        self.folder.mkdir()
        # It refuses to run as root. The example's user is the superuser all the same.
        self.user = None
        if os.getuid() == 0:
            self.user = "nobody"
            nobody = pwd.getpwnam(self.user)
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
            # So that it may enter its own folder.
            folder.chmod(0o711)
        self.me = pwd.getpwuid(os.getuid()).pw_name
        self.url = f"postgresql:///app?host={self.folder}"

    def __enter__(self) -> "Postgres":
        data = self.folder / "data"
        made = subprocess.run(
            [f"{self.programs}initdb", "-U", self.me, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", data],
            user=self.user, cwd=self.folder, capture_output=True, text=True, timeout=LIMIT,
        )
        assert made.returncode == 0, made.stderr
        with (self.folder.parent / "postgres.log").open("w") as log:
            self.process = subprocess.Popen(
                [f"{self.programs}postgres", "-h", "", "-k", self.folder, "-D", data, "-c", "fsync=off"],
                user=self.user, cwd=self.folder, stdout=log, stderr=subprocess.STDOUT,
            )
        try:
            until("PostgreSQL is ready", lambda: self.psql("postgres", "SELECT 1", check=False) == "1")
            self.psql("postgres", "CREATE DATABASE app")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # A fast shutdown: it does not wait for clients.
        self.process.send_signal(signal.SIGINT)
        self.process.wait(LIMIT)

    def psql(self, database: str, statement: str, check: bool = True) -> str:
        """What a statement returns, a line for each row."""
        done = subprocess.run(
            ["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", f"postgresql:///{database}?host={self.folder}", "-c", statement],
            capture_output=True, text=True, timeout=LIMIT,
        )
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout.strip()
