"""An event through a proxy: try.py PROXY TIDINGS [PROGRAM]

PROXY is nginx, caddy, haproxy, envoy or traefik; PROGRAM is its program, unless it is found by that name.
The configuration is the one in deploy/proxies, with other ports, and with shorter timeouts where they
are `90s`: Tidings' heartbeats must keep idle streams open through them. Checked are WebSocket, SSE and
gRPC (Publish and Subscribe), at once and after a pause, and the client's address as Tidings sees it.
"""

import asyncio
import contextlib
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import tidings
import websockets

CONFIGS = pathlib.Path(__file__).resolve().parent.parent.parent / "deploy" / "proxies"
SECRET = "a-secret-for-this-one-run-and-no-other"
# Heartbeats each second. A proxy that does not see them closes an idle stream before the pause ends.
HEARTBEAT, SHORT, PAUSE = "1s", "3s", 6.0
LIMIT = 30.0
# Where the WebSocket comes from: another loopback address, so that a forwarded address shows.
CLIENT = "127.0.0.9"

COMMANDS = {
    "nginx": lambda program, folder: [program, "-p", folder, "-e", "stderr", "-c", f"{folder}/nginx.conf", "-g",
                                      f"daemon off; pid {folder}/nginx.pid;"],
    "caddy": lambda program, folder: [program, "run", "--adapter", "caddyfile", "--config", f"{folder}/Caddyfile"],
    "haproxy": lambda program, folder: [program, "-db", "-f", f"{folder}/haproxy.cfg"],
    "envoy": lambda program, folder: [program, "-c", f"{folder}/envoy.yaml", "--log-level", "warning",
                                      "--use-dynamic-base-id", "--concurrency", "1"],
    "traefik": lambda program, folder: [program, f"--configFile={folder}/traefik.yaml"],
}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def until(what: str, holds) -> object:
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        with contextlib.suppress(OSError, ValueError):
            if found := holds():
                return found
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {LIMIT} s")


def start_tidings(program: str, folder: str) -> tuple[subprocess.Popen, dict, str]:
    environment = {
        **os.environ,
        "TIDINGS_AUTH__HS256_SECRET": SECRET,
        "TIDINGS_HEARTBEAT__INTERVAL": HEARTBEAT,
        "TIDINGS_PUBLIC__TRUSTED_PROXIES": "127.0.0.1",
    }
    ready = pathlib.Path(folder, "ready.json")
    server = subprocess.Popen(
        [program, "serve", "--dev", "--public", "127.0.0.1:0", "--internal", "127.0.0.1:0", "--ready-file", ready],
        env=environment, stdout=subprocess.DEVNULL,
    )
    bound = until("Tidings is ready", lambda: json.loads(ready.read_text()))
    token = subprocess.run(
        [program, "token", "--sub", "ci", "--role", "service", "--role", "admin"],
        env=environment, check=True, capture_output=True, text=True,
    ).stdout.strip()
    return server, bound, token


def configure(folder: str, bound: dict) -> tuple[int, int]:
    """Writes the configurations with free ports and short timeouts."""
    public, internal = free_port(), free_port()
    ports = {"8000": bound["public"].rsplit(":", 1)[1], "50051": bound["internal"].rsplit(":", 1)[1],
             "8080": str(public), "8081": str(internal)}
    for path in CONFIGS.iterdir():
        text = re.sub(r"\b(8000|50051|8080|8081)\b", lambda found: ports[found[0]], path.read_text())
        # HAProxy refuses to start where it may not have so many descriptors.
        text = text.replace("90s", SHORT).replace("maxconn 20000", "maxconn 1000")
        # Traefik's second file is named relative to the working directory.
        text = text.replace("filename: traefik-routes", f"filename: {folder}/traefik-routes")
        pathlib.Path(folder, path.name).write_text(text)
    return public, internal


class Sse:
    """A stream of server-sent events, read in the background."""

    def __init__(self, port: int) -> None:
        self.found: asyncio.Queue[dict] = asyncio.Queue()
        self.port = port

    async def run(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"GET /sse?channel=demo HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
        status = await reader.readline()
        assert b" 200 " in status, status
        while line := await reader.readline():
            if line.startswith(b"data:"):
                await self.found.put(json.loads(line[5:]))
        raise AssertionError("the SSE stream has ended")

    async def wait(self, text: str) -> None:
        while (await self.found.get()).get("data") != {"text": text}:
            pass


async def websocket_event(socket_: websockets.ClientConnection, text: str) -> None:
    async for frame in socket_:
        if json.loads(frame).get("data") == {"text": text}:
            return
    raise AssertionError("the WebSocket has ended")


async def grpc_event(stream: tidings.Subscription, text: str) -> None:
    async for step in stream:
        if isinstance(step, tidings.Event) and step.json() == {"text": text}:
            return


async def check(public: int, internal: int, bound: dict, token: str) -> None:
    until("the proxy forwards", lambda: urllib.request.urlopen(f"http://127.0.0.1:{public}/readyz").status == 200)
    sse = Sse(public)
    reading = asyncio.create_task(sse.run())
    url = f"ws://127.0.0.1:{public}/ws"
    async with (
        tidings.Tidings(f"127.0.0.1:{internal}", token=token) as client,
        websockets.connect(url, subprotocols=["tidings.v1.json"], local_addr=(CLIENT, 0), proxy=None) as page,
    ):
        await page.send(json.dumps({"type": "subscribe", "channels": ["demo"]}))
        stream = client.subscribe("demo")
        following = asyncio.create_task(grpc_event(stream, "first"))
        stats = urllib.request.Request(f"http://{bound['public']}/api/v1/connections",
                                       headers={"Authorization": f"Bearer {token}"})

        def connections() -> list[dict]:
            return json.load(urllib.request.urlopen(stats))["connections"]

        def followed() -> bool:
            return sum(1 for one in connections() for channel in one["subscriptions"] if channel["channel"] == "demo") == 3

        await asyncio.to_thread(until, "three subscriptions", followed)
        seen = {one["transport"]: one["address"] for one in connections()}
        assert seen["websocket"].startswith(CLIENT), seen

        before = {one["id"] for one in connections()}
        for text in ("first", "second"):
            if text == "second":
                # Nothing but heartbeats: this pause is what is tried.
                await asyncio.sleep(PAUSE)
                following = asyncio.create_task(grpc_event(stream, text))
            await client.publish("demo", "greeting", {"text": text})
            arrivals = asyncio.gather(sse.wait(text), websocket_event(page, text), following)
            await asyncio.wait_for(arrivals, LIMIT)
        # The Python client resumes by itself: the connections must be the same as before.
        assert {one["id"] for one in connections()} == before, "a stream was cut while it was idle"
        assert not reading.done(), reading
    reading.cancel()


def main() -> None:
    if not 3 <= len(sys.argv) <= 4 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    name, program = sys.argv[1], os.path.abspath(sys.argv[2])
    proxy_program = sys.argv[3] if len(sys.argv) == 4 else shutil.which(name)
    if proxy_program is None:
        sys.exit(f"there is no {name}")
    with tempfile.TemporaryDirectory() as folder:
        # nginx starts its workers as nobody.
        os.chmod(folder, 0o755)
        processes = []
        try:
            server, bound, token = start_tidings(program, folder)
            processes.append(server)
            public, internal = configure(folder, bound)
            processes.append(subprocess.Popen(
                COMMANDS[name](proxy_program, folder), env={**os.environ, "HOME": folder}, cwd=folder,
            ))
            asyncio.run(check(public, internal, bound, token))
        finally:
            for process in reversed(processes):
                process.terminate()
            for process in processes:
                process.wait(LIMIT)
    print(f"{name}: an event by WebSocket, SSE and gRPC, at once and after {PAUSE:.0f} s of silence")


if __name__ == "__main__":
    main()
