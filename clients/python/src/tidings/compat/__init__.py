"""The functions of other real-time layers, on top of Tidings: change the import, keep the calls.

| module | stands for |
|---|---|
| `tidings.compat.football` | a `WebSocketManager` with `broadcast` and `send_to_user` |
| `tidings.compat.devplatform` | an `EventBroadcaster` with `broadcast_project_updated` and so on |
| `tidings.compat.spc` | `notify_sample`, `notify_violation`, `notify_acknowledgment` |
| `tidings.compat.photo` | `broadcast_photo_imported` and so on |
| `tidings.compat.robotics` | a `WebSocketManager` with `broadcast_session_started` and so on |
| `tidings.compat.socketio` | the `emit` of python-socketio |

All of them publish with `fire_and_forget`: they neither wait nor raise when the server is away, as the old
layers did not. `configure(confirm=True)` makes them wait for the server's answer and raise `TidingsError`.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Mapping
from typing import Any

from ..sync import Tidings
from ..types import Audience, NewEvent

__all__ = ["client", "configure", "deliver", "deliver_async"]

_lock = threading.Lock()
_client: Tidings | None = None
_confirm = False


def configure(client: Tidings | None = None, *, confirm: bool = False) -> None:
    """Sets the client that all functions use, and whether they wait for the server's answer.

    Without a client, one is made from the environment: `TIDINGS_SERVER` (`127.0.0.1:50051`) and
    `TIDINGS_TOKEN`.
    """
    global _client, _confirm
    with _lock:
        _confirm = confirm
        if client is not None:
            _client = client


def client() -> Tidings:
    """The client that all functions use."""
    global _client
    with _lock:
        if _client is None:
            server = os.environ.get("TIDINGS_SERVER", "127.0.0.1:50051")
            _client = Tidings(server, token=os.environ.get("TIDINGS_TOKEN"))
        return _client


def deliver(event: NewEvent) -> bool:
    """Publishes for a synchronous function. False if the queue of `fire_and_forget` is full."""
    if not _confirm:
        return client().queue(event)
    client().submit_event(event).result()
    return True


async def deliver_async(event: NewEvent) -> bool:
    """Publishes for an asynchronous function, in any event loop."""
    if not _confirm:
        return client().queue(event)
    await asyncio.wrap_future(client().submit_event(event))
    return True


def fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a payload: what is None was not given."""
    return {name: value for name, value in given.items() if value is not None}


def only_for(
    users: list[str] | None = None, roles: list[str] | None = None, without: list[str] | None = None
) -> Audience | None:
    """An audience. None if nothing narrows it."""
    if not (users or roles or without):
        return None
    return Audience(users=users or (), roles=roles or (), except_connections=without or ())
