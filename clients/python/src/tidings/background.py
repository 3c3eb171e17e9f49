"""Publishes without making the caller wait: a bounded queue behind `fire_and_forget`."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from .errors import TidingsError
from .publisher import Publisher
from .types import Published
from .v1 import event_service_pb2

log = logging.getLogger("tidings")

# Failures and drops are logged at most once in so many seconds.
_LOG_EVERY = 10.0


@dataclass(frozen=True)
class BackgroundStats:
    """What became of the events given to `fire_and_forget`.

    `pending` are queued or unacknowledged. `dropped` did not fit into the queue. `failed` were refused by
    the server, or had no answer within the timeout.
    """

    pending: int
    published: int
    dropped: int
    failed: int


class Background:
    """The queue and the task that empties it.

    `put` may be called from any thread, everything else from the event loop's. The counters count an event
    from `put` to its result, so the bounds hold for what waits and what is in flight together.
    """

    def __init__(self, new_publisher: Callable[[], Publisher], events: int, size: int) -> None:
        if events < 1 or size < 1:
            raise ValueError("queue_events, queue_bytes: expected 1 or more")
        self._new_publisher = new_publisher
        self._most_events = events
        self._most_bytes = size
        self._lock = threading.Lock()
        self._waiting: deque[event_service_pb2.PublishRequest] = deque()
        self._pending = 0
        self._bytes = 0
        self._published = 0
        self._dropped = 0
        self._failed = 0
        self._wake_is_due = False
        self._closed = False
        self._logged_at = float("-inf")
        self._loop = asyncio.get_running_loop()
        self._work = asyncio.Event()
        self._progress = asyncio.Event()
        self._publisher: Publisher | None = None
        self._running: asyncio.Task[None] | None = None

    def put(self, request: event_service_pb2.PublishRequest) -> bool:
        """Queues a request. Returns False, and counts a drop, if the queue is full or closed."""
        size = request.ByteSize()
        with self._lock:
            full = self._pending >= self._most_events or self._bytes + size > self._most_bytes
            if full or self._closed:
                self._dropped += 1
                reason = "closed" if self._closed else "full"
            else:
                self._waiting.append(request)
                self._pending += 1
                self._bytes += size
                wake, self._wake_is_due = not self._wake_is_due, True
                reason = ""
        if reason:
            self._warn(f"the queue of fire_and_forget is {reason}")
            return False
        if wake:
            try:
                self._loop.call_soon_threadsafe(self._wake)
            except RuntimeError:  # The loop ended without a `close`.
                return False
        return True

    @property
    def stats(self) -> BackgroundStats:
        """The counters."""
        with self._lock:
            return BackgroundStats(self._pending, self._published, self._dropped, self._failed)

    async def flush(self, timeout: float | None = None) -> bool:
        """Waits until nothing is pending. Returns False on timeout."""
        deadline = None if timeout is None else self._loop.time() + timeout
        while self.stats.pending and not self._closed:
            self._progress.clear()
            left = None if deadline is None else deadline - self._loop.time()
            if left is not None and left <= 0:
                return False
            try:
                await asyncio.wait_for(self._progress.wait(), left)
            except asyncio.TimeoutError:
                return False
        return self.stats.pending == 0

    async def close(self) -> None:
        """Drops what is still pending. Call `flush` before."""
        with self._lock:
            self._closed = True
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait((self._running,))
        if self._publisher is not None:
            await self._publisher.aclose()
        with self._lock:
            left = list(self._waiting)
            self._waiting.clear()
            self._pending -= len(left)
            self._bytes -= sum(request.ByteSize() for request in left)
            self._dropped += len(left)
        self._progress.set()

    def _wake(self) -> None:
        with self._lock:
            self._wake_is_due = False
        self._work.set()
        if self._running is None and not self._closed:
            self._running = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        while True:
            request = self._next()
            if request is None:
                self._work.clear()
                if not self._waiting:
                    await self._work.wait()
                continue
            await self._send(request)

    def _next(self) -> event_service_pb2.PublishRequest | None:
        with self._lock:
            return self._waiting.popleft() if self._waiting else None

    async def _send(self, request: event_service_pb2.PublishRequest) -> None:
        """Waits while the publisher is full, but not for the result."""
        size = request.ByteSize()
        if self._publisher is None or self._publisher.closed:
            self._publisher = self._new_publisher()
        try:
            answer = await self._publisher.send(request)
        except TidingsError as error:
            self._settle(size, error)
        except asyncio.CancelledError:
            self._settle(size, TidingsError("cancelled", "the client was closed"))
            raise
        else:
            answer.add_done_callback(lambda done: self._answered(size, done))

    def _answered(self, size: int, answer: asyncio.Future[Published]) -> None:
        cancelled = TidingsError("cancelled", "the client was closed")
        self._settle(size, cancelled if answer.cancelled() else answer.exception())

    def _settle(self, size: int, error: BaseException | None) -> None:
        with self._lock:
            self._pending -= 1
            self._bytes -= size
            if error is None:
                self._published += 1
            else:
                self._failed += 1
        self._progress.set()
        if error is not None:
            self._warn(str(error))

    def _warn(self, reason: str) -> None:
        now = time.monotonic()
        with self._lock:
            if now - self._logged_at < _LOG_EVERY:
                return
            self._logged_at = now
            dropped, failed = self._dropped, self._failed
        log.warning("fire_and_forget: %s (%d dropped, %d failed until now)", reason, dropped, failed)
