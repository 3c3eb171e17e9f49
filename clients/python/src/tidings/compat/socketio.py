"""The `emit` of python-socketio: `Emitter` for its `RedisManager`, `AsyncEmitter` for its `AsyncServer`.

The server speaks Socket.IO, with a dialect such as that of `--preset devplatform`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Union

from ..types import Audience, NewEvent
from . import client, deliver, deliver_async

__all__ = ["AsyncEmitter", "Emitter"]

Names = Union[str, Sequence[str]]

# A `sid` is the id of a connection, as the server makes it: `socket.id` in the browser.
_SID = re.compile(r"[0-9a-f]{28,64}")


class _Rooms:
    def __init__(self, channel_of: Callable[[str], str] | None = None) -> None:
        self._channel_of = channel_of or (lambda room: room)

    def events(
        self,
        event: str,
        data: Any,
        to: Names | None,
        room: Names | None,
        skip_sid: Names | None,
        callback: object,
    ) -> list[NewEvent]:
        """What to publish: one event to the rooms, and one to the connections."""
        if callback is not None:
            raise ValueError("callback: the server does not ask clients for acknowledgements")
        if isinstance(data, tuple):
            if len(data) > 1:
                raise ValueError("data: expected one argument; put several into an object")
            data = data[0] if data else None
        if isinstance(data, bytes):
            raise ValueError("data: expected what JSON can have; publish bytes with a content_type instead")
        names, skipped = _list(to if to is not None else room), _list(skip_sid)
        everyone = not names
        sids = [name for name in names if _SID.fullmatch(name) and name not in skipped]
        rooms = [self._channel_of(name) for name in names if not _SID.fullmatch(name)]
        made = []
        if everyone or rooms:
            audience = Audience(except_connections=skipped) if skipped else None
            channel = rooms or "global"
            made.append(NewEvent(channel=channel, type=event, data=data, audience=audience))
        if sids:
            made.append(NewEvent(type=event, data=data, audience=Audience(connections=sids)))
        return made


class Emitter:
    """Emits from synchronous code, as python-socketio's `RedisManager(url, write_only=True)` does.

    `channel_of` makes the name of a channel from that of a room. The default is the same name.
    """

    def __init__(self, channel_of: Callable[[str], str] | None = None) -> None:
        self._rooms = _Rooms(channel_of)

    def emit(
        self,
        event: str,
        data: Any = None,
        to: Names | None = None,
        room: Names | None = None,
        skip_sid: Names | None = None,
        namespace: str | None = None,
        callback: object = None,
    ) -> bool:
        """Emits to a room or a `sid`, to several, or without one to `global`, that is to everyone.

        `skip_sid` is left out. `namespace` changes nothing, as the server's namespaces share their rooms.
        Returns False if the queue of `fire_and_forget` is full.
        """
        queued = [deliver(new) for new in self._rooms.events(event, data, to, room, skip_sid, callback)]
        return all(queued)

    def send(self, data: Any, **options: Any) -> bool:
        """Emits `message`."""
        return self.emit("message", data, **options)

    def disconnect(self, sid: str, namespace: str | None = None) -> None:
        """Closes a connection. Needs role `admin`."""
        client().admin.disconnect(connection_id=sid)


class AsyncEmitter:
    """Emits from asynchronous code, as python-socketio's `AsyncServer` and `AsyncRedisManager` do."""

    def __init__(self, channel_of: Callable[[str], str] | None = None) -> None:
        self._rooms = _Rooms(channel_of)

    async def emit(
        self,
        event: str,
        data: Any = None,
        to: Names | None = None,
        room: Names | None = None,
        skip_sid: Names | None = None,
        namespace: str | None = None,
        callback: object = None,
    ) -> bool:
        """Emits to a room or a `sid`, to several, or without one to `global`: see `Emitter.emit`."""
        made = self._rooms.events(event, data, to, room, skip_sid, callback)
        queued = [await deliver_async(new) for new in made]
        return all(queued)

    async def send(self, data: Any, **options: Any) -> bool:
        """Emits `message`."""
        return await self.emit("message", data, **options)


def _list(names: Names | None) -> list[str]:
    if names is None:
        return []
    return [names] if isinstance(names, str) else list(names)
