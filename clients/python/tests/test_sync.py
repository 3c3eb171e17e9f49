"""The synchronous client: threads, subscriptions, forks, and the end of the process."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from conftest import QUICK, Server, token

from tidings import Event, NewEvent, Subscribed, TidingsError
from tidings.sync import Tidings

Result = TypeVar("Result")


def client(server: Server, **options: Any) -> Tidings:
    options.setdefault("token", token())
    return Tidings(server.address, backoff=QUICK, **options)


async def aside(work: Callable[[], Result]) -> Result:
    """Runs synchronous code in a thread: the test's own loop serves the fixtures."""
    return await asyncio.wait_for(asyncio.to_thread(work), 60)


async def test_every_call_works_from_several_threads(server: Server) -> None:
    def work() -> None:
        with client(server) as tidings:
            threads = [threading.Thread(target=tidings.publish, args=("project:1", "n", n)) for n in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            outcomes = tidings.publish_batch(NewEvent(channel="project:1", type="n", data=n) for n in (8, 9))
            assert len(outcomes) == 2
            with tidings.publisher(in_flight=2) as publisher:
                answers = [
                    publisher.publish(NewEvent(channel="project:1", type="n", data=n)) for n in range(10, 15)
                ]
            positions = [answer.result().position for answer in answers]
            assert [position and position.offset for position in positions] == [*range(11, 16)]
            assert sorted(event.json() for event in tidings.history("project:1", page_size=4)) == [*range(15)]
            assert tidings.submit("project:1", "n", 15).result(30).position is not None
            assert tidings.presence("project:1").total == 0
            assert tidings.stats().events.published == 16
            assert [channel.channel for channel in tidings.admin.channels("project")] == ["project:1"]
            assert next(iter(tidings.admin.watch_stats(0.1))).events.published == 16
            assert tidings.admin.event_type("unknown") is None
            assert [*tidings.admin.event_types()] == []
        with pytest.raises(TidingsError, match="cancelled"):
            tidings.publish("project:1", "n", 1)

    await aside(work)


async def test_subscription_is_iterated_and_closed_from_elsewhere(server: Server) -> None:
    def work() -> None:
        with client(server) as tidings, tidings.subscribe("project:1") as following:
            assert isinstance(next(following), Subscribed)
            assert following.get(timeout=0.05) is None
            tidings.publish("project:1", "n", 1)
            first = following.get(timeout=30)
            assert isinstance(first, Event)
            assert following.positions["project:1"] == first.position
            [listed] = tidings.admin.connections(channel="project:1")
            assert listed.id == following.connection_id
            found = tidings.admin.connection(listed.id)
            assert found is not None
            assert found.transport == "grpc"
            tidings.publish("project:1", "n", 2)
            assert next(following.events()).json() == 2
            closing = threading.Timer(0.05, following.close)
            closing.start()
            assert [*following] == []
            closing.join()

    await aside(work)


async def test_connections_are_disconnected(server: Server) -> None:
    def work() -> None:
        with client(server) as tidings, tidings.subscribe("project:1", "project:2") as following:
            next(following), next(following)
            assert tidings.admin.disconnect(connection_id=following.connection_id, reason="tests") == 1
            assert tidings.admin.disconnect(user="nobody") == 0
            with pytest.raises(ValueError, match="either"):
                tidings.admin.disconnect()

    await aside(work)


async def test_blocking_token_provider_holds_nobody_up(server: Server) -> None:
    asked, go = threading.Event(), threading.Event()

    def provider() -> str:
        asked.set()
        assert go.wait(30)
        return token()

    def work() -> None:
        with client(server, token=provider) as tidings:
            answer = tidings.submit("project:1", "n", 1)
            assert asked.wait(30)
            assert tidings.flush(1)
            go.set()
            answer.result(30)

    await aside(work)


SCRIPT = """
import os, sys
from tidings.sync import Tidings
tidings = Tidings(sys.argv[1], token=os.environ["TIDINGS_TOKEN"])
"""


async def run(server: Server, code: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SCRIPT + code, server.address),
        env={**os.environ, "TIDINGS_TOKEN": token()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    return out.decode()


async def test_queued_events_are_sent_at_exit(server: Server) -> None:
    await run(server, 'for n in range(500): tidings.fire_and_forget("project:1", "n", n)')
    async with server.client() as other:
        seen = [event.json() async for event in other.history("project:1", page_size=1000)]
        assert seen == list(range(500))


async def test_forked_process_makes_its_own_connection(server: Server) -> None:
    await run(
        server,
        """
tidings.admin  # created before the fork, connected after it
children = []
for n in range(3):
    pid = os.fork()
    if pid == 0:
        tidings.publish("project:1", "n", n)
        tidings.fire_and_forget("project:1", "n", 10 + n)
        tidings.flush(30)
        os._exit(0)
    children.append(pid)
assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
tidings.publish("project:1", "n", 20)
""",
    )
    async with server.client() as other:
        seen = sorted([event.json() async for event in other.history("project:1")])
        assert seen == [0, 1, 2, 10, 11, 12, 20]
