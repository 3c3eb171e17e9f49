"""The functions of other layers, each against a server with that layer's preset."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from conftest import QUICK, Server, Start, token

from tidings import Event, Subscribed, TidingsError, compat, sync
from tidings.compat import devplatform, football, photo, robotics, socketio, spc

Moved = Callable[[str], Awaitable[Server]]


@pytest_asyncio.fixture
async def moved(start: Start) -> AsyncIterator[Moved]:
    """Starts a server with a preset, and makes the functions publish there."""
    clients = []

    async def begin(preset: str) -> Server:
        server = await start("", "", preset)
        client = sync.Tidings(server.address, token=token(), backoff=QUICK)
        compat.configure(client, confirm=True)
        clients.append(client)
        return server

    yield begin
    compat.configure(confirm=False)
    for client in clients:
        await asyncio.to_thread(client.close)


async def seen(server: Server, *channels: str) -> list[tuple[str, str, Any]]:
    """What is in the history of channels."""
    async with server.client() as client:
        return [
            (event.channel, event.type, event.json())
            for channel in channels
            async for event in client.history(channel)
        ]


async def test_football(moved: Moved) -> None:
    server = await moved("football")
    progress = {
        "job_id": "job-123",
        "progress": 75.0,
        "stage": "team_normalization",
        "timestamp": datetime(2026, 11, 21, tzinfo=timezone.utc),
    }
    manager = football.WebSocketManager()
    await manager.broadcast(football.WebSocketEventType.PROCESSING_PROGRESS.value, progress)
    await football.handle_job_queued({"job_id": "job-1"})
    await manager.broadcast("system_alert", {"message": "m"}, required_roles=["admin"])
    await manager.send_to_user("user-123", "user_notification", {"message": "Your job is complete!"})
    assert await seen(server, "global", "user:user-123") == [
        ("global", "processing_progress", {**progress, "timestamp": "2026-11-21T00:00:00Z"}),
        ("global", "job_queued", {"job_id": "job-1"}),
        ("global", "system_alert", {"message": "m"}),
        ("user:user-123", "user_notification", {"message": "Your job is complete!"}),
    ]
    async with server.client(token=token(user="user-7")) as client, client.subscribe("global") as mine:
        assert isinstance(await mine.__anext__(), Subscribed)
        await manager.send_to_user("user-8", "processing_completed", {"job_id": "not mine"})
        await manager.send_to_user("user-7", "processing_completed", {"job_id": "job-1"})
        event = await asyncio.wait_for(mine.__anext__(), 30)
        assert isinstance(event, Event)
        assert event.json() == {"job_id": "job-1"}
    with pytest.raises(TidingsError):
        await manager.broadcast("no_such_event", {})


async def test_devplatform(moved: Moved) -> None:
    server = await moved("devplatform")
    project = UUID("12345678-1234-5678-1234-567812345678")
    user = UUID(int=1)
    broadcaster = devplatform.get_broadcaster()
    await broadcaster.broadcast_project_updated(
        project_id=project,
        project_name="My Project",
        repository_url="https://example.com/r",
        status="active",
        updated_by=user,
        changes={"status": "updated"},
    )
    await broadcaster.broadcast_project_deleted(project)
    await broadcaster.broadcast_agent_status_changed("a-1", status="busy")
    await broadcaster.broadcast_agent_connected("a-1")
    await broadcaster.broadcast_agent_disconnected("a-1")
    await broadcaster.broadcast_workflow_started("w", project)
    await broadcaster.broadcast_workflow_progress("w", project, progress=50)
    await broadcaster.broadcast_workflow_completed("w", project)
    await broadcaster.broadcast_workflow_failed("w", project, "it broke")
    await broadcaster.broadcast_pr_created(project, 1, "t")
    await broadcaster.broadcast_pr_updated(project, 1)
    await broadcaster.broadcast_pr_closed(project, 1, merged=True)
    await broadcaster.broadcast_issue_created(project, 2, "t")
    await broadcaster.broadcast_issue_updated(project, 2)
    await broadcaster.broadcast_issue_closed(project, 2)
    await broadcaster.broadcast_ai_suggestion("s", user_id="u")
    await broadcaster.broadcast_ai_analysis_complete("a", project_id=project)
    told = await seen(server, f"project:{project}", "agent:a-1", "user:u")
    assert told[0][2] == {
        "project_id": str(project),
        "project_name": "My Project",
        "repository_url": "https://example.com/r",
        "status": "active",
        "updated_by": str(user),
        "changes": {"status": "updated"},
    }
    assert len(told) == 17
    assert {type for _, type, _ in told} == {
        *("project.updated", "project.deleted", "agent.status_changed", "agent.connected"),
        *("agent.disconnected", "workflow.started", "workflow.progress", "workflow.completed"),
        *("workflow.failed", "pr.created", "pr.updated", "pr.closed", "issue.created", "issue.updated"),
        *("issue.closed", "ai.suggestion", "ai.analysis_complete"),
    }


async def test_spc(moved: Moved) -> None:
    server = await moved("spc")
    await spc.notify_sample(
        char_id=1,
        sample_id=123,
        timestamp=datetime(2026, 2, 2, 12, tzinfo=timezone.utc),
        value=Decimal("10.5"),
        zone="zone_c_upper",
        in_control=True,
    )
    await spc.notify_violation(1, 456, 123, 1, "One point beyond 3 sigma", "CRITICAL")
    await spc.notify_acknowledgment(1, 456, True, "operator1")
    await spc.ws_manager.broadcast_to_characteristic(
        2,
        {"type": "ack_update", "payload": {"violation_id": 1, "characteristic_id": 2, "acknowledged": True}},
    )
    told = await seen(server, "characteristic:1", "characteristic:2")
    assert [type for _, type, _ in told] == ["sample", "violation", "ack_update", "ack_update"]
    assert told[0][2]["value"] == 10.5
    assert told[0][2]["timestamp"] == "2026-02-02T12:00:00Z"
    assert "ack_reason" not in told[2][2]


async def test_photo_functions_cover_the_catalog(moved: Moved) -> None:
    server = await moved("photo")
    samples = {
        **dict.fromkeys(("photo_id", "session_id", "job_id", "export_id"), "id-1"),
        **dict.fromkeys(("progress", "pending", "priority"), 1),
        **dict.fromkeys(("error", "message", "resource", "status"), "text"),
        "decision": "approved",
    }
    names = [value for name, value in vars(photo.EventType).items() if name.isupper()]
    assert len(names) == 25

    def work() -> None:
        for name in names:
            broadcast = getattr(photo, f"broadcast_{name}")
            needed = list(broadcast.__code__.co_varnames[: broadcast.__code__.co_argcount])
            assert broadcast(**{field: samples[field] for field in needed}), name

    await asyncio.to_thread(work)
    channels = ("jobs", "photos", "sessions", "system", "queue", "approval", "export")
    assert sorted(type for _, type, _ in await seen(server, *channels)) == sorted(names)


async def test_robotics(moved: Moved) -> None:
    server = await moved("robotics")
    manager = robotics.WebSocketManager()
    assert manager is robotics.WebSocketManager()
    await manager.broadcast_session_started("s-1", model_id="arm")
    await manager.broadcast_session_progress("s-1", 10.0, estimated_remaining_seconds=None)
    await manager.broadcast_session_completed("s-1", {"loss": 0.1})
    await manager.broadcast_session_failed("s-1", "it broke")
    await manager.broadcast_session_cancelled("s-1")
    await manager.broadcast_notification("t", "m", "warning")
    await manager.broadcast_alert("t", "critical")
    await manager.broadcast_system_status("healthy")
    assert [type for _, type, _ in await seen(server, "session:s-1", "global")] == [
        *("session_started", "session_progress", "session_completed", "session_failed"),
        *("session_cancelled", "notification", "alert", "system_status"),
    ]

    def work() -> None:
        schema = robotics.get_event_schema("session_progress")
        assert schema is not None
        assert "session_id" in schema["required"]
        example = robotics.get_event_example("session_progress")
        assert example is not None
        assert robotics.validate_event("session_progress", example)
        assert not robotics.validate_event("session_progress", {})
        assert robotics.get_event_schema("unknown") is None

    await asyncio.to_thread(work)


async def test_socketio_emitters_reach_rooms_and_connections(moved: Moved) -> None:
    server = await moved("devplatform")
    emitter = socketio.AsyncEmitter()
    issue = {"project_id": "1", "issue_number": 1}
    async with server.client() as client:
        one, two = client.subscribe("project:1"), client.subscribe("project:1")
        for subscription in (one, two):
            assert isinstance(await subscription.__anext__(), Subscribed)
        await emitter.emit("issue.closed", issue, room="project:1", skip_sid=one.connection_id)
        await emitter.emit("issue.updated", {**issue, "title": "t"}, to=one.connection_id)
        await asyncio.to_thread(socketio.Emitter().emit, "issue.closed", issue, ["project:1", "project:2"])
        for subscription, types in (
            (one, ["issue.updated", "issue.closed"]),
            (two, ["issue.closed", "issue.closed"]),
        ):
            for type in types:
                event = await asyncio.wait_for(subscription.__anext__(), 30)
                assert isinstance(event, Event)
                assert event.type == type
    for wrong in ((1, 2), b"bytes"):
        with pytest.raises(ValueError, match="data: expected"):
            await emitter.emit("issue.closed", wrong)
    with pytest.raises(ValueError, match="callback"):
        await emitter.emit("issue.closed", issue, callback=print)


async def test_without_confirmation_an_outage_raises_nothing(moved: Moved) -> None:
    server = await moved("spc")
    compat.configure(confirm=False)
    await asyncio.to_thread(compat.client().stats)
    server.kill()
    assert await spc.notify_acknowledgment(1, 2)
    await server.start()
    assert await asyncio.to_thread(compat.client().flush, 30)
    assert len(await seen(server, "characteristic:1")) == 1
