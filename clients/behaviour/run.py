"""Runs the cases with the drivers of all clients, and compares. See README.md."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from grpc_server import GrpcServer
from script import Case, Script, load
from websocket_server import WebsocketServer

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
# A driver that is silent for so long has failed the case.
_PATIENCE = 15.0


@dataclass
class Client:
    """A client: how its driver is started, and over what it speaks."""

    name: str
    command: list[str]
    needs: Path
    transport: str = "grpc"
    streams: bool = True
    durable: bool = True

    def takes(self, case: Case) -> bool:
        """Whether the case is for it."""
        subscribe = case.given.get("subscribe", {})
        newer = "durable" in subscribe or "min_interval_ms" in subscribe
        return (
            self.transport in case.transports
            and (self.streams or not case.given.get("stream"))
            and (self.durable or not newer)
        )


# Compiled and with its classpath written by Maven: see `.ci/run`.
JAVA = [
    "sh",
    "-c",
    'cd "$0" && exec java -XX:TieredStopAtLevel=1 -cp "target/test-classes:target/classes:$(cat target/classpath)" "$@"',
    str(ROOT / "clients/java"),
    "dev.tidings.BehaviourDriver",
]

CLIENTS = [
    Client("python", [sys.executable, str(HERE / "drivers/python_async.py")], HERE),
    Client("python-sync", [sys.executable, str(HERE / "drivers/python_sync.py")], HERE),
    Client("go", [str(TARGET / "behaviour-go")], TARGET / "behaviour-go"),
    Client("rust", [str(TARGET / "debug/examples/behaviour")], TARGET / "debug/examples/behaviour"),
    # Durable subscriptions are not in this client yet.
    Client("java", JAVA, ROOT / "clients/java/target/classpath", streams=False, durable=False),
    Client("js", ["node", str(HERE / "drivers/js.mjs")], ROOT / "clients/js/dist/index.js", "websocket"),
    # Its streams do not repeat: what was under way when they broke is refused.
    Client(
        "js-node",
        ["node", str(HERE / "drivers/js-node.mjs")],
        ROOT / "clients/js/dist/node.js",
        streams=False,
    ),
]


async def run_case(client: Client, case: Case, server: GrpcServer | WebsocketServer) -> list[str]:
    """Runs one case. Returns what is wrong."""
    script = server.script = Script(case)
    driver = await asyncio.create_subprocess_exec(
        *client.command,
        case.for_driver(server.address),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert driver.stdout is not None
    assert driver.stderr is not None
    seen: list[str] = []
    expected: list[str] = case.given["sees"]
    wrong: list[str] = []
    try:
        while len(seen) < len(expected):
            line = await asyncio.wait_for(driver.stdout.readline(), _PATIENCE)
            if not line:
                wrong.append("the driver has ended")
                break
            seen.append(line.decode().strip())
        await asyncio.wait_for(script.done.wait(), _PATIENCE)
    except asyncio.TimeoutError:
        wrong.append(f"nothing for {_PATIENCE:g} s")
    if driver.returncode is None:
        driver.kill()
    rest, errors = await driver.communicate()
    seen += rest.decode().split("\n")[:-1]
    if seen != expected:
        wrong.append(f"saw       {seen}\n    should see {expected}")
    wrong += script.violations
    if wrong and errors:
        wrong.append(errors.decode()[-2000:])
    return wrong


async def run_client(client: Client, cases: list[Case]) -> int:
    """Runs all cases with one client. Returns how many failed."""
    server = GrpcServer() if client.transport == "grpc" else WebsocketServer()
    await server.start()
    failed, mine = 0, [case for case in cases if client.takes(case)]
    for case in mine:
        wrong = await run_case(client, case, server)
        if wrong:
            failed += 1
            print(f"FAILED {client.name}: {case.subject}/{case.name}")
            for line in wrong:
                print(f"    {line}")
    await server.stop()
    print(f"{client.name}: {len(mine) - failed} of {len(mine)} cases passed", flush=True)
    return failed


async def main() -> int:
    """Runs the command line."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--client", action="append", help="only this one; all that are built otherwise")
    arguments.add_argument("--case", default="", help="only cases whose name has this in it")
    given = arguments.parse_args()
    chosen = [client for client in CLIENTS if not given.client or client.name in given.client]
    absent = [client.name for client in chosen if not client.needs.exists()]
    if given.client and absent:
        print(f"not built: {', '.join(absent)}")
        return 2
    for name in absent:
        print(f"{name}: skipped, it is not built")
    # It reports processes of whose end it hears late.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    cases = [case for case in load(HERE / "scenarios") if given.case in case.name]
    results = await asyncio.gather(
        *(run_client(client, cases) for client in chosen if client.name not in absent)
    )
    return 1 if sum(results) else 0


sys.exit(asyncio.run(main()))
