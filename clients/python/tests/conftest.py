"""A real server, and a TCP proxy in front of it that can be cut."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tidings import Backoff, Tidings

ROOT = Path(__file__).resolve().parents[3]
BINARY = os.environ.get("TIDINGS_BIN", str(ROOT / "target" / "debug" / "tidings"))
SECRET = "a-secret-for-the-tests-of-this-client"
QUICK = Backoff(first=0.05, longest=0.5)

CONFIG = """
[public]
listen = "127.0.0.1:{public}"
[internal]
listen = "127.0.0.1:{internal}"
{internal_more}
[auth]
hs256_secret = "{secret}"
leeway = "0s"
{more}
"""
HISTORY = """
[[namespace]]
name = "project"
history = { size = 20000, ttl = "1h" }
presence = true
"""


def token(*roles: str, ttl: float = 3600, user: str = "tests") -> str:
    """A JWT that the server accepts."""

    def part(value: object) -> str:
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    claims = {"sub": user, "roles": roles or ("service", "admin"), "exp": int(time.time() + ttl)}
    text = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part(claims)}"
    return f"{text}.{part(hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).digest())}"


async def until(condition: Callable[[], bool | Awaitable[bool]], what: str, seconds: float = 30) -> None:
    """Waits until the condition holds, or fails."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while True:
        held = condition()
        if held if isinstance(held, bool) else await held:
            return
        if loop.time() > end:
            pytest.fail(f"never came true: {what}")
        await asyncio.sleep(0.01)


class Server:
    """A server that can be killed and restarted at the same address."""

    def __init__(self, home: Path, more: str, internal_more: str, preset: str = "") -> None:
        self.home = home
        self._preset = ["--preset", preset] if preset else []
        self._more = more
        self._internal_more = internal_more
        self._process: subprocess.Popen[bytes] | None = None
        self._ports = ("0", "0")

    async def start(self) -> None:
        ready = self.home / "ready.json"
        ready.unlink(missing_ok=True)
        config = self.home / "tidings.toml"
        public, internal = self._ports
        config.write_text(
            CONFIG.format(
                public=public,
                internal=internal,
                secret=SECRET,
                more=self._more.replace("HOME", str(self.home)),
                internal_more=self._internal_more.replace("HOME", str(self.home)),
            )
        )
        log = (self.home / "log").open("ab")
        process = subprocess.Popen(  # noqa: ASYNC220 - it takes no time that matters here
            [BINARY, "serve", "--config", config, "--ready-file", ready, *self._preset],
            stdout=log,
            stderr=log,
            cwd=self.home,
        )
        self._process = process

        def is_ready() -> bool:
            if process.poll() is not None:
                pytest.fail((self.home / "log").read_text())
            return ready.exists() and ready.stat().st_size > 0

        await until(is_ready, "the server is ready")
        bound = json.loads(ready.read_text())
        self._ports = (bound["public"].rpartition(":")[2], bound["internal"].rpartition(":")[2])

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._ports[1]}"

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def client(self, via: Line | None = None, **options: Any) -> Tidings:
        options.setdefault("token", token())
        options.setdefault("backoff", QUICK)
        return Tidings(via.address if via else self.address, **options)


class Line:
    """A TCP proxy. It counts response bytes, can hold responses back, and can cut connections."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._listener: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self.answers = asyncio.Event()
        self.answers.set()
        self.received = 0
        self.connections = 0

    async def start(self) -> None:
        self._listener = await asyncio.start_server(self._joined, "127.0.0.1", 0)
        self._port = self._listener.sockets[0].getsockname()[1]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def cut(self) -> None:
        """Closes all connections. Responses that were held back are lost."""
        for pump in self._pumps:
            pump.cancel()
        for writer in list(self._open):
            writer.transport.abort()
        self._open.clear()

    async def stop(self) -> None:
        self.cut()
        if self._listener is not None:
            self._listener.close()

    async def _joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self._server.address.partition(":")
        try:
            there, onward = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.transport.abort()
            return
        self.connections += 1
        self._open |= {writer, onward}
        for pump in (self._pump(reader, onward, False), self._pump(there, writer, True)):
            task = asyncio.create_task(pump)
            self._pumps.add(task)
            task.add_done_callback(self._pumps.discard)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, back: bool) -> None:
        try:
            while data := await reader.read(65536):
                if back:
                    await self.answers.wait()
                    self.received += len(data)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.transport.abort()
            self._open.discard(writer)


Start = Callable[..., Awaitable[Server]]


@pytest_asyncio.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts servers, which stop with the test."""
    servers: list[Server] = []

    async def begin(more: str = HISTORY, internal_more: str = "", preset: str = "") -> Server:
        home = tmp_path / str(len(servers))
        home.mkdir()
        server = Server(home, more, internal_more, preset)
        servers.append(server)
        await server.start()
        return server

    yield begin
    for server in servers:
        server.kill()


@pytest_asyncio.fixture
async def server(start: Start) -> Server:
    """A server with history in memory for `project`."""
    return await start()


@pytest_asyncio.fixture
async def line(server: Server) -> AsyncIterator[Line]:
    """A proxy to `server`."""
    line = Line(server)
    await line.start()
    yield line
    await line.stop()
