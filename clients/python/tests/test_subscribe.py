"""Subscriptions: every event once and in order, or a report of what is missing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from conftest import HISTORY, Line, Server, Start, until

from tidings import Event, Gap, NewEvent, Position, Subscribed, Subscription, Tidings, TidingsError

DISK = HISTORY + '[history]\nstorage = "disk"\npath = "HOME/data"\n'


async def step(subscription: Subscription) -> Event | Gap | Subscribed:
    return await asyncio.wait_for(subscription.__anext__(), 30)


async def subscribed(subscription: Subscription) -> Subscribed:
    first = await step(subscription)
    assert isinstance(first, Subscribed), first
    return first


async def event(subscription: Subscription) -> Event:
    next_one = await step(subscription)
    assert isinstance(next_one, Event), next_one
    return next_one


async def take(subscription: Subscription, count: int) -> list[object]:
    return [(await event(subscription)).json() for _ in range(count)]


async def publish(client: Tidings, channel: str, numbers: range) -> None:
    outcomes = await client.publish_batch([NewEvent(channel=channel, type="n", data=n) for n in numbers])
    for outcome in outcomes:
        if isinstance(outcome, TidingsError):
            raise outcome


async def test_published_events_arrive_in_order(server: Server) -> None:
    async with server.client() as client, client.subscribe("project:1") as following:
        began = await subscribed(following)
        assert (began.channel, began.recovered) == ("project:1", None)
        await publish(client, "project:1", range(100))
        assert await take(following, 100) == list(range(100))
        assert following.positions["project:1"].offset == 100


async def test_broken_connection_loses_nothing(server: Server, line: Line) -> None:
    async with server.client(line) as client, server.client() as other:
        following = client.subscribe("project:1")
        await subscribed(following)
        expected = 0
        for _ in range(3):
            await publish(other, "project:1", range(expected, expected + 20))
            # Some are delivered, some are in flight, some arrive while there is no connection.
            assert await take(following, 10) == list(range(expected, expected + 10))
            line.cut()
            await publish(other, "project:1", range(expected + 20, expected + 30))
            seen: list[object] = []
            again = None
            while len(seen) < 20:
                one = await step(following)
                if isinstance(one, Subscribed):
                    again = one
                else:
                    assert isinstance(one, Event), one
                    seen.append(one.json())
            assert seen == list(range(expected + 10, expected + 30))
            assert again is not None
            assert again.recovered is True
            expected += 30


async def test_disk_history_survives_kill(start: Start) -> None:
    server = await start(DISK)
    async with server.client() as client:
        following = client.subscribe("project:1")
        await subscribed(following)
        await publish(client, "project:1", range(10))
        assert await take(following, 10) == list(range(10))
        await publish(client, "project:1", range(10, 20))
        server.kill()
        await server.start()
        seen: list[object] = []
        recovered = []
        while len(seen) < 10:
            one = await step(following)
            if isinstance(one, Event):
                seen.append(one.json())
            elif isinstance(one, Subscribed):
                recovered.append(one.recovered)
        assert seen == list(range(10, 20))
        assert set(recovered) <= {True}
        await publish(client, "project:1", range(20, 30))
        assert await numbers(following, 10) == list(range(20, 30))


async def numbers(following: Subscription, count: int) -> list[object]:
    """The payloads only."""
    seen: list[object] = []
    async for one in following.events():
        seen.append(one.json())
        if len(seen) == count:
            break
    return seen


async def test_memory_history_loss_is_reported(server: Server) -> None:
    async with server.client() as client:
        following = client.subscribe("project:1")
        await subscribed(following)
        await publish(client, "project:1", range(5))
        assert await take(following, 5) == list(range(5))
        server.kill()
        await server.start()
        again = await subscribed(following)
        assert (again.recovered, again.stale) == (False, True)
        # Offsets restart, and must not be mistaken for earlier ones.
        await publish(client, "project:1", range(3))
        assert await take(following, 3) == [0, 1, 2]


async def test_events_iterator_calls_on_stale(server: Server) -> None:
    async with server.client() as client:
        following = client.subscribe("project:1", "project:2")
        stale: list[str] = []

        async def reload(reason: Gap | Subscribed) -> None:
            stale.append(reason.channel)

        events = following.events(reload)
        await publish(client, "project:1", range(1))
        coming = asyncio.ensure_future(events.__anext__())
        await until(lambda: following.connection_id != "", "it stands")
        await publish(client, "project:2", range(1, 2))
        assert (await asyncio.wait_for(coming, 30)).json() == 1
        assert stale == []
        coming = asyncio.ensure_future(events.__anext__())
        server.kill()
        await server.start()
        await until(lambda: sorted(stale) == ["project:1", "project:2"], "both are stale")
        await publish(client, "project:1", range(2, 3))
        assert (await asyncio.wait_for(coming, 30)).json() == 2


async def test_channels_of_pattern_are_resumed(server: Server, line: Line) -> None:
    async with server.client(line) as client, server.client() as other:
        following = client.subscribe("project:*")
        assert (await subscribed(following)).recovered is None
        for channel in ("project:1", "project:2"):
            await publish(other, channel, range(3))
            assert await take(following, 3) == [0, 1, 2]
        line.cut()
        for channel in ("project:1", "project:2", "project:new"):
            await publish(other, channel, range(3, 6))
        seen: dict[str, list[object]] = {}
        recovered: dict[str, bool | None] = {}
        while sum(map(len, seen.values())) < 6 or len(recovered) < 3:
            one = await step(following)
            if isinstance(one, Event):
                seen.setdefault(one.channel, []).append(one.json())
            elif isinstance(one, Subscribed):
                recovered[one.channel] = one.recovered
        # Events of a channel that it had never seen may have been missed, so the pattern is stale.
        assert recovered == {"project:*": False, "project:1": True, "project:2": True}
        assert {name: seen[name] for name in ("project:1", "project:2")} == {
            "project:1": [3, 4, 5],
            "project:2": [3, 4, 5],
        }
        await publish(other, "project:1", range(6, 8))
        rest = await numbers(following, 2)
        assert rest[-2:] == [6, 7]


async def test_since_and_rewind_set_the_start(server: Server) -> None:
    async with server.client() as client:
        await publish(client, "project:1", range(10))
        async with client.subscribe("project:1", rewind=3) as following:
            assert (await subscribed(following)).replayed == 3
            assert await take(following, 3) == [7, 8, 9]
            last = following.positions["project:1"]
        middle = Position(last.epoch, 5)
        async with client.subscribe("project:1", since=middle) as following:
            assert (await subscribed(following)).recovered is True
            assert await take(following, 5) == [5, 6, 7, 8, 9]
        async with client.subscribe("project:*", since={"project:1": middle}) as following:
            began = [await subscribed(following), await subscribed(following)]
            assert {b.channel: b.recovered for b in began} == {"project:*": False, "project:1": True}
            assert await take(following, 5) == [5, 6, 7, 8, 9]
        async with client.subscribe("project:1", since=Position("other", 5)) as following:
            assert (await subscribed(following)).recovered is False
        with pytest.raises(ValueError, match="project:2"):
            client.subscribe("project:1", since={"project:2": middle})


async def test_types_and_filter_narrow_events(server: Server) -> None:
    async with server.client() as client:
        wanted = client.subscribe("project:1", event_types=["n"], filter="event.data > 7")
        async with wanted as following:
            await subscribed(following)
            await client.publish("project:1", "other", 100)
            await publish(client, "project:1", range(10))
            assert await take(following, 2) == [8, 9]


async def test_refused_channel_ends_iteration(server: Server) -> None:
    async with server.client() as client:
        with pytest.raises(TidingsError) as refused:
            await step(client.subscribe("not a channel"))
        assert refused.value.code == "invalid_argument"
        two = client.subscribe("project:1", "not a channel")
        with pytest.raises(TidingsError) as refused:
            await step(two)
        assert (refused.value.code, refused.value.channel) == ("invalid_argument", "not a channel")
        with pytest.raises(StopAsyncIteration):
            await two.__anext__()


async def test_subscription_limit_falls_back_to_pattern(start: Start) -> None:
    server = await start(HISTORY + "[limits]\nsubscriptions_per_connection = 4\n")
    async with server.client() as client:
        following = client.subscribe("project:*")
        await subscribed(following)
        for n in range(6):
            await publish(client, f"project:{n}", range(1))
        assert await take(following, 6) == [0] * 6
        server.kill()
        await server.start()
        stale = {(await subscribed(following)).channel for _ in range(7)}
        assert stale == {"project:*", *(f"project:{n}" for n in range(6))}
        await publish(client, "project:5", range(1, 2))
        assert await take(following, 1) == [1]


async def test_cancelled_wait_loses_nothing(server: Server) -> None:
    async with server.client() as client:
        following = client.subscribe("project:1")
        await subscribed(following)
        for n in range(5):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(following.__anext__(), 0.01)
            await publish(client, "project:1", range(n, n + 1))
            assert await take(following, 1) == [n]


async def test_closing_ends_iteration(server: Server) -> None:
    client = server.client()
    first, second = client.subscribe("project:1"), client.subscribe("project:1")
    for following, close in ((first, first.aclose), (second, client.close)):
        await subscribed(following)
        waiting = asyncio.ensure_future(following.__anext__())
        await asyncio.sleep(0)
        await close()
        with pytest.raises(StopAsyncIteration):
            await asyncio.wait_for(waiting, 30)


async def test_slow_reader_is_bounded_and_sees_gap(start: Start, tmp_path: Path) -> None:
    limits = HISTORY + 'slow_consumer = "drop_oldest"\n[limits]\noutbox_bytes = 262144\n'
    server = await start(limits)
    line = Line(server)
    await line.start()
    async with server.client(line) as client, server.client() as other:
        following = client.subscribe("project:1")
        await subscribed(following)
        big = "x" * 65536
        count = 0

        async def slow() -> bool:
            nonlocal count
            for _ in range(16):
                await other.publish("project:1", "big", big)
                count += 1
            return bool((await other.stats()).slow_consumers > 0)

        await until(slow, "the server finds it slow")
        # Megabytes were published, of which hardly more than HTTP/2's window has arrived.
        for _ in range(64):
            await other.publish("project:1", "big", big)
            count += 1
        assert count * len(big) > 8 * line.received
        assert line.received < 1 << 20
        accounted: list[int] = []
        gaps = 0
        while len(accounted) < count:
            one = await step(following)
            if isinstance(one, Event) and one.position:
                accounted.append(one.position.offset)
            elif isinstance(one, Gap):
                gaps += 1
                assert one.stale
                accounted.extend(range(one.first, one.last + 1))
        assert accounted == list(range(1, count + 1))
        assert gaps > 0
    await line.stop()


async def test_disconnected_slow_reader_resumes(server: Server) -> None:
    async with server.client() as client, server.client() as other:
        following = client.subscribe("project:1")
        await subscribed(following)
        big = "x" * 65536
        count = 0

        async def sent_away() -> bool:
            nonlocal count
            for _ in range(16):
                await other.publish("project:1", "big", big)
                count += 1
            return (await other.stats()).connections.by_transport["grpc"] == 0

        await until(sent_away, "it is sent away")
        seen: list[int] = []
        async for one in following.events():
            assert one.position is not None
            seen.append(one.position.offset)
            if len(seen) == count:
                break
        assert seen == list(range(1, count + 1))
