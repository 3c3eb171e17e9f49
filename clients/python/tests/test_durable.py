"""Durable subscriptions, and what back ends do with other users' subscriptions and history."""

from __future__ import annotations

import asyncio

import pytest
from conftest import HISTORY, Line, Server, Start, token, until

from tidings import Cursor, Event, NewEvent, Subscribed, Subscription, Tidings, TidingsError
from tidings import sync as synchronous

DISK = HISTORY + '[history]\nstorage = "disk"\npath = "HOME/data"\n'


async def publish(client: Tidings, channel: str, numbers: range) -> None:
    await client.publish_batch([NewEvent(channel=channel, type="n", data=n) for n in numbers])


async def take(subscription: Subscription, count: int) -> list[object]:
    seen: list[object] = []
    while len(seen) < count:
        step = await asyncio.wait_for(subscription.__anext__(), 30)
        if isinstance(step, Event):
            seen.append(step.json())
    return seen


async def began(subscription: Subscription) -> Subscribed:
    step = await asyncio.wait_for(subscription.__anext__(), 30)
    assert isinstance(step, Subscribed), step
    return step


async def cursors(client: Tidings) -> list[Cursor]:
    return [cursor async for cursor in client.get_cursors()]


async def test_unacknowledged_events_come_again_through_kill(start: Start) -> None:
    server = await start(DISK)
    async with server.client() as client:
        following = client.subscribe("project:1", durable="inbox")
        assert (await began(following)).cursor == 0
        await publish(client, "project:1", range(1, 5))
        assert await take(following, 4) == [1, 2, 3, 4]
        await following.ack("project:1", 2)
        # An earlier offset has no effect.
        await following.ack("project:1", 1)
        [cursor] = await cursors(client)
        assert (cursor.user, cursor.durable, cursor.position.offset) == ("tests", "inbox", 2)
        await publish(client, "project:1", range(5, 6))
    server.kill()
    await server.start()
    async with server.client() as client, client.subscribe("project:1", durable="inbox") as following:
        first = await began(following)
        assert (first.cursor, first.recovered) == (2, True)
        assert await take(following, 3) == [3, 4, 5]


async def test_broken_connection_delivers_again_from_the_cursor(server: Server, line: Line) -> None:
    async with server.client(line) as client, server.client() as other:
        following = client.subscribe("project:1", durable="inbox")
        await began(following)
        await publish(other, "project:1", range(1, 4))
        assert await take(following, 3) == [1, 2, 3]
        await following.ack("project:1", 1)
        line.cut()
        await publish(other, "project:1", range(4, 5))
        assert await take(following, 3) == [2, 3, 4]
        await following.aclose()


async def test_auto_ack_acknowledges_when_the_next_step_is_asked_for(server: Server) -> None:
    async with server.client() as client:
        async with client.subscribe("project:1", durable="inbox", auto_ack=True) as following:
            await began(following)
            await publish(client, "project:1", range(1, 4))
            async for event in following.events():
                if event.json() == 3:
                    # Its handler has failed: the loop asks for nothing more.
                    break
        # Leaving the block has waited for what was handled.
        assert [cursor.position.offset for cursor in await cursors(client)] == [2]
        async with client.subscribe("project:1", durable="inbox") as following:
            assert await take(following, 1) == [3]


async def test_ack_without_a_durable_subscription_is_refused(server: Server) -> None:
    async with server.client() as client:
        with pytest.raises(ValueError, match="durable"):
            client.subscribe("project:1", auto_ack=True)
        async with client.subscribe("project:1") as following:
            with pytest.raises(TidingsError) as refused:
                await following.ack("project:1", 1)
        assert refused.value.code == "failed_precondition"
        with pytest.raises(TidingsError) as unknown:
            await client.ack("project:1", 1, durable="inbox")
        assert unknown.value.code == "failed_precondition"


async def test_min_interval_conflates_events_of_a_key(server: Server) -> None:
    async with server.client() as client, client.subscribe("project:1", min_interval=0.3) as following:
        await began(following)
        for n in range(1, 11):
            await client.publish("project:1", "n", n, key="k")
        assert (await take(following, 2))[0] == 1
        assert following.positions["project:1"].offset > 2


async def test_service_purges_history(server: Server) -> None:
    async with server.client() as client:
        await publish(client, "project:1", range(1, 5))
        purged = await client.purge_history("project:1", until_offset=3)
        assert (purged.purged, purged.position and purged.position.offset) == (3, 4)
        assert [event.json() async for event in client.history("project:1")] == [4]
        assert (await client.purge_history("project:none")).position is None


async def test_service_subscribes_a_user(server: Server) -> None:
    async with server.client() as client, server.client(token=token("service", user="bob")) as reader:
        following = reader.subscribe("project:1")
        await began(following)
        assert await client.subscribe_user("project:2", user="bob", event_types=["n"]) == 1
        await client.publish("project:2", "other", 0)
        await client.publish("project:2", "n", 1)
        assert await take(following, 1) == [1]
        assert await client.unsubscribe_user("project:2", user="bob") == 1
        await client.publish("project:2", "n", 2)
        await client.publish("project:1", "n", 3)
        assert await take(following, 1) == [3]
        await following.aclose()


async def test_nodes_of_counters_and_connections_are_named(server: Server) -> None:
    async with server.client() as client, client.subscribe("project:1") as following:
        await began(following)
        answer = await client.admin.cluster_stats()
        assert [one.node for one in answer.nodes] == [answer.stats.node]
        assert list(answer.unreachable) == []
        node = answer.stats.node
        missing: list[str] = []
        found = [one.node async for one in client.admin.connections(node=node, on_unreachable=missing.extend)]
        assert (found, missing) == ([node], [])
        with pytest.raises(TidingsError) as unknown:
            await client.admin.stats("nobody")
        assert unknown.value.code == "not_found"


async def test_synchronous_client_does_the_same(server: Server) -> None:
    def use() -> list[object]:
        with synchronous.Tidings(server.address, token=token()) as client:
            with client.subscribe("project:1", durable="inbox", auto_ack=True) as following:
                assert isinstance(next(following), Subscribed)
                client.publish("project:1", "n", 1, expected_offset=0, ttl=60, traceparent="")
                client.publish("project:1", "n", 2)
                events = following.events()
                seen = [next(events).json(), next(events).json()]
            client.ack("project:1", 2, durable="inbox")
            offsets = [cursor.position.offset for cursor in client.get_cursors(user="tests")]
            assert client.subscribe_user("project:2", user="tests") == 0
            assert client.unsubscribe_user("project:2", user="tests") == 0
            assert client.admin.cluster_stats().stats.node == client.admin.stats().node
            return [seen, offsets, client.purge_history("project:1").purged]

    assert await asyncio.to_thread(use) == [[1, 2], [2], 2]


async def test_acknowledgement_of_another_device_is_kept(server: Server) -> None:
    async with server.client() as client, server.client() as other:
        mine, theirs = (one.subscribe("project:1", durable="inbox") for one in (client, other))
        await began(mine)
        await began(theirs)
        await publish(client, "project:1", range(1, 4))
        assert await take(mine, 3) == await take(theirs, 3)
        await theirs.ack("project:1", 3)
        await mine.ack("project:1", 1)
        await until_cursor(client, 3)
        await mine.aclose()
        await theirs.aclose()


async def until_cursor(client: Tidings, offset: int) -> None:
    async def moved() -> bool:
        return [cursor.position.offset for cursor in await cursors(client)] == [offset]

    await until(moved, "the cursor")
