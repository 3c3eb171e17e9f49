"""Publishing: accepted events are stored exactly once, whatever the connection does."""

from __future__ import annotations

import asyncio
import socket
from datetime import datetime, timezone

import pytest
from conftest import HISTORY, QUICK, Line, Server, Start, until

from tidings import NewEvent, Published, Tidings, TidingsError


async def payloads(client: Tidings, channel: str) -> list[object]:
    return [event.json() async for event in client.history(channel, page_size=1000)]


async def test_event_arrives_as_published(server: Server) -> None:
    async with server.client() as client:
        when = datetime(2026, 11, 21, 10, 6, 53, 731000, tzinfo=timezone.utc)
        published = await client.publish(
            ["project:1", "project:2"],
            "project.updated",
            {"name": "é"},
            headers={"region": "eu"},
            source="tests",
            time=when,
        )
        assert [result.channel for result in published.results] == ["project:1", "project:2"]
        [event] = [event async for event in client.history("project:2")]
        assert event.id == published.id
        assert event.data == '{"name":"é"}'.encode()
        assert (event.type, event.source, event.time) == ("project.updated", "tests", when)
        assert event.headers == {"region": "eu"}
        assert event.position == published.results[1].position
        raw = await client.publish("project:1", "raw", b"\x00\xff", content_type="application/octet-stream")
        [event] = [event async for event in client.history("project:1", since=published.position)]
        assert (event.data, event.content_type, event.id) == (
            b"\x00\xff",
            "application/octet-stream",
            raw.id,
        )


async def test_lost_response_does_not_publish_twice(server: Server, line: Line) -> None:
    async with server.client(line) as client, server.client() as other:
        await client.publish("project:1", "first", 1)
        line.answers.clear()
        publishing = asyncio.create_task(client.publish("project:1", "second", 2))

        async def arrived() -> bool:
            return len(await payloads(other, "project:1")) == 2

        await until(arrived, "the server has the event")
        assert not publishing.done()
        line.cut()
        line.answers.set()
        published = await publishing
        assert published.duplicate
        assert await payloads(other, "project:1") == [1, 2]


async def test_invalid_event_is_refused_with_field(server: Server) -> None:
    async with server.client() as client:
        with pytest.raises(TidingsError) as refused:
            await client.publish("project:1", "not a type", {})
        assert (refused.value.code, refused.value.field) == ("invalid_argument", "type")


async def test_unreachable_server_is_retried_until_timeout(server: Server) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        async with Tidings(f"127.0.0.1:{nobody.getsockname()[1]}", backoff=QUICK, timeout=1) as client:
            with pytest.raises(TidingsError) as failed:
                await client.publish("project:1", "a", 1)
            assert failed.value.code in ("unavailable", "deadline_exceeded")
    async with server.client() as client:
        await client.publish("project:1", "a", 1)
        server.kill()
        publishing = asyncio.create_task(client.publish("project:1", "b", 2))
        await server.start()
        await publishing


async def test_batch_has_individual_results(server: Server) -> None:
    async with server.client() as client:
        events = [NewEvent(channel="project:1", type="n", data=n) for n in range(2500)]
        events[1200] = NewEvent(channel="project:1", type="not a type")
        outcomes = await client.publish_batch(events)
        refused = outcomes[1200]
        assert isinstance(refused, TidingsError)
        assert refused.code == "invalid_argument"
        assert sum(isinstance(outcome, Published) for outcome in outcomes) == 2499
        assert await payloads(client, "project:1") == [n for n in range(2500) if n != 1200]


async def test_broken_stream_publishes_once_in_order(server: Server, line: Line) -> None:
    async with server.client(line) as client:
        most = 0
        async with client.publisher(in_flight=32) as publisher:
            answers = []
            for n in range(1500):
                answers.append(await publisher.publish(NewEvent(channel="project:1", type="n", data=n)))
                most = max(most, publisher.in_flight)
                if n % 400 == 399:
                    line.cut()
        published = [answer.result() for answer in answers]
        assert most == 32
        assert line.connections >= 4
        assert [p.position and p.position.offset for p in published] == list(range(1, 1501))
        assert await payloads(client, "project:1") == list(range(1500))


async def test_in_flight_limit_holds_while_server_is_down(server: Server, line: Line) -> None:
    line.answers.clear()
    async with server.client(line) as client:
        async with client.publisher(in_flight=8) as publisher:
            answers = [
                await publisher.publish(NewEvent(channel="project:1", type="n", data=n)) for n in range(8)
            ]
            ninth = asyncio.create_task(publisher.publish(NewEvent(channel="project:1", type="n", data=8)))
            await until(lambda: line.connections == 1, "the stream is open")
            assert (publisher.in_flight, ninth.done()) == (8, False)
            line.cut()
            line.answers.set()
            answers.append(await ninth)
        assert all(answer.done() for answer in answers)
        assert await payloads(client, "project:1") == list(range(9))


async def test_stream_reports_refused_event_and_continues(server: Server) -> None:
    async with server.client() as client:
        async with client.publisher() as publisher:
            wrong = await publisher.publish(NewEvent(channel="project:1", type="not a type"))
            right = await publisher.publish(NewEvent(channel="project:1", type="n", data=1))
            with pytest.raises(TidingsError, match="invalid_argument"):
                await publisher.flush()
        assert isinstance(wrong.exception(), TidingsError)
        assert right.result().position is not None


async def test_unacknowledged_events_time_out(server: Server, line: Line) -> None:
    line.answers.clear()
    async with server.client(line) as client:
        publisher = client.publisher(timeout=0.2)
        answer = await publisher.publish(NewEvent(channel="project:1", type="n"))
        with pytest.raises(TidingsError, match="deadline_exceeded"):
            await asyncio.wait_for(answer, 10)
        await asyncio.wait_for(publisher.aclose(), 10)
        assert publisher.in_flight == 0


async def test_closing_client_ends_all_waiters(server: Server, line: Line) -> None:
    line.answers.clear()
    client = server.client(line)
    publisher = client.publisher()
    answer = await publisher.publish(NewEvent(channel="project:1", type="n"))
    await until(lambda: line.connections == 1, "the stream is open")
    await client.close()
    with pytest.raises(TidingsError, match="cancelled"):
        await asyncio.wait_for(answer, 10)


async def test_rate_limit_advice_is_followed(start: Start) -> None:
    server = await start(HISTORY + "[limits]\npublishes_per_second = 100\npublishes_burst = 5\n")
    async with server.client() as client:
        outcomes = await client.publish_batch(
            [NewEvent(channel="project:1", type="n", data=n) for n in range(20)]
        )
        assert all(isinstance(outcome, Published) for outcome in outcomes)
        async with client.publisher() as publisher:
            for n in range(20, 40):
                await publisher.publish(NewEvent(channel="project:1", type="n", data=n))
        await asyncio.gather(*(client.publish("project:1", "n", n) for n in range(40, 50)))
        values = await payloads(client, "project:1")
        assert sorted(values, key=str) == sorted(range(50), key=str)


async def test_ttl_skipped_history_and_expected_offset_are_respected(server: Server) -> None:
    async with server.client() as client:
        first = await client.publish("project:1", "n", 1, expected_offset=0)
        assert first.position is not None
        with pytest.raises(TidingsError) as refused:
            await client.publish("project:1", "n", 2, expected_offset=0)
        assert refused.value.code == "failed_precondition"
        assert (await client.publish("project:1", "n", 3, skip_history=True)).position is None
        await client.publish("project:1", "n", 4, ttl=0.001)

        async def only_the_first() -> bool:
            return [event.json() async for event in client.history("project:1")] == [1]

        await until(only_the_first, "the ttl is over")
