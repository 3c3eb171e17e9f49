"""Acknowledges the events of a durable subscription."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from .errors import TidingsError
from .types import Position

log = logging.getLogger("tidings")


class Acks:
    """What was acknowledged, by channel. A background task sends the newest offset of each channel.

    A failure is repeated with the next event of the channel, or when the subscription has resumed.
    """

    def __init__(self, send: Callable[[str, int], Awaitable[None]]) -> None:
        self._send = send
        self._acked: dict[str, Position] = {}
        self._unsent: set[str] = set()
        self._sending: asyncio.Task[None] | None = None

    def resumed(self, channel: str, cursor: Position) -> Position:
        """The subscription has resumed at this cursor. Returns the position behind which events are new."""
        mine = self._acked.get(channel)
        if mine is None or mine.epoch != cursor.epoch or mine.offset <= cursor.offset:
            self._acked[channel] = cursor
            self._unsent.discard(channel)
            return cursor
        # An acknowledgement that the server has not received is repeated, not its events.
        self._put(channel)
        return mine

    def handled(self, channel: str, position: Position) -> None:
        """Acknowledges in the background."""
        if self._move(channel, position):
            self._put(channel)

    async def ack(self, channel: str, offset: int) -> None:
        """Acknowledges, and waits until the server has stored it. An earlier offset has no effect."""
        known = self._acked.get(channel)
        if known is None:
            raise TidingsError("failed_precondition", f"{channel}: not a durable subscription")
        if self._move(channel, Position(known.epoch, offset)):
            await self._send(channel, offset)

    async def close(self, timeout: float) -> None:
        """Waits for what is unsent, but not longer than this."""
        if self._sending is not None and not self._sending.done():
            await asyncio.wait((self._sending,), timeout=timeout)
            self._sending.cancel()

    def _move(self, channel: str, position: Position) -> bool:
        known = self._acked.get(channel)
        if known is not None and known.epoch == position.epoch and known.offset >= position.offset:
            return False
        self._acked[channel] = position
        return True

    def _put(self, channel: str) -> None:
        self._unsent.add(channel)
        if self._sending is None or self._sending.done():
            self._sending = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        while self._unsent:
            channel = self._unsent.pop()
            try:
                await self._send(channel, self._acked[channel].offset)
            except TidingsError as error:
                log.warning("%s: not acknowledged: %s", channel, error)
