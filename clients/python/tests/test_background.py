"""`fire_and_forget`: never waits, never raises, stays within its bounds, and counts."""

from __future__ import annotations

import asyncio

import pytest
from conftest import HISTORY, Line, Server, Start, until


async def test_events_are_published_once_in_order(server: Server, line: Line) -> None:
    async with server.client(line) as client:
        for n in range(1000):
            assert client.fire_and_forget("project:1", "n", n)
            if n % 250 == 249:
                await asyncio.sleep(0)
                line.cut()
        assert await client.flush(30)
        assert [e.json() async for e in client.history("project:1", page_size=1000)] == list(range(1000))
        stats = client.background_stats
        assert (stats.pending, stats.published, stats.dropped, stats.failed) == (0, 1000, 0, 0)


async def test_full_queue_drops_the_newest_and_counts(server: Server, line: Line) -> None:
    line.answers.clear()
    async with server.client(line, queue_events=5) as client:
        kept = [client.fire_and_forget("project:1", "n", n) for n in range(8)]
        assert kept == [True] * 5 + [False] * 3
        assert (client.background_stats.pending, client.background_stats.dropped) == (5, 3)
        line.answers.set()
        assert await client.flush(30)
        assert client.fire_and_forget("project:1", "n", 8)
        assert await client.flush(30)
        assert [event.json() async for event in client.history("project:1")] == [0, 1, 2, 3, 4, 8]
    async with server.client(line, queue_bytes=1000) as client:
        assert not client.fire_and_forget("project:1", "n", "x" * 1000)
        assert client.background_stats.dropped == 1


async def test_flush_gives_up_after_timeout(server: Server) -> None:
    async with server.client(timeout=30) as client:
        server.kill()
        client.fire_and_forget("project:1", "n", 1)
        assert not await client.flush(0.05)
        await server.start()
        assert await client.flush(30)


async def test_refused_events_are_counted_and_the_rest_goes_on(server: Server) -> None:
    async with server.client() as client:
        client.fire_and_forget("project:1", "not a type", 1)
        client.fire_and_forget("project:1", "n", 2)
        assert await client.flush(30)
        assert (client.background_stats.published, client.background_stats.failed) == (1, 1)


async def test_unencodable_payload_raises_at_the_caller(server: Server) -> None:
    async with server.client() as client:
        with pytest.raises(TypeError):
            client.fire_and_forget("project:1", "n", object())
        assert client.background_stats.pending == 0


async def test_leaving_the_block_sends_what_is_queued(server: Server) -> None:
    async with server.client() as client:
        client.fire_and_forget("project:1", "n", 1, headers={"a": "b"})
    assert not client.fire_and_forget("project:1", "n", 2)
    async with server.client() as other:
        [event] = [event async for event in other.history("project:1")]
        assert event.headers == {"a": "b"}


async def test_outage_longer_than_the_timeout_fails_what_waited(start: Start) -> None:
    server = await start(HISTORY)
    async with server.client(timeout=0.2) as client:
        server.kill()
        client.fire_and_forget("project:1", "n", 1)
        await until(lambda: client.background_stats.failed == 1, "it is given up")
        await server.start()

        async def published() -> bool:
            client.fire_and_forget("project:1", "n", 2)
            await client.flush(5)
            return client.background_stats.published > 0

        await until(published, "later ones are published")
