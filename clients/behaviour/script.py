"""A case: what the server does on each connection, and what it must see. Knows no transport."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Step = Any
# Timers of clients and of the server may differ by this much.
_TOLERANCE_MS = 20


class Violation(Exception):
    """The client did what it must not do."""


@dataclass
class Refusal:
    """Why something is refused."""

    code: str
    retry_after_ms: int | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Refusal:
        """From a case."""
        return cls(given["code"], given.get("retry_after_ms"))


@dataclass
class State:
    """The state of a channel, as `subscribed` says it."""

    channel: str
    epoch: str | None
    offset: int
    recovered: bool
    replayed: int
    cursor: int | None = None


@dataclass
class Case:
    """One case of a scenario file."""

    name: str
    subject: str
    given: dict[str, Any]

    @property
    def transports(self) -> list[str]:
        """The transports that it is for."""
        both: list[str] = self.given.get("transports", ["grpc", "websocket"])
        # Calls of the application are a command of the WebSocket only.
        if "call" in self.given:
            return ["websocket"]
        return ["grpc"] if self.given.get("stream") else both

    def for_driver(self, server: str) -> str:
        """What the driver gets."""
        wanted = {
            name: self.given[name]
            for name in ("subscribe", "publish", "call", "tokens", "token", "stream")
            if name in self.given
        }
        return json.dumps({"server": server, **wanted})


def load(folder: Path) -> list[Case]:
    """All cases."""
    cases = []
    for path in sorted(folder.glob("*.json")):
        cases += [Case(given["name"], path.stem, given) for given in json.loads(path.read_text())]
    names = [case.name for case in cases]
    if len(set(names)) != len(names):
        raise ValueError("two cases have one name")
    return cases


@dataclass
class Script:
    """A case under way."""

    case: Case
    violations: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._connections = list(self.case.given.get("connections", []))
        self._attempts = list(self.case.given.get("attempts", []))
        self._calls = list(self.case.given.get("calls", []))
        self._terms = {
            name: self.case.given.get("subscribe", {}).get(name) for name in ("durable", "min_interval_ms")
        }
        # By channel: what was acknowledged, and the most that ever was.
        self._acked: dict[str, int] = {}
        self._best: dict[str, int] = {}
        self._epochs: dict[str, str | None] = {}
        self._ack_came = asyncio.Event()
        self._keys: dict[int, str] = {}
        self._offsets: dict[str, int] = {}
        self._last_connection = 0.0
        self._last_attempt = 0.0
        self._running = 0
        self.done = asyncio.Event()
        self._check_done()

    def begin(
        self,
        since: Mapping[str, str],
        rewind: Mapping[str, int],
        token: str | None,
        durable: str | None = None,
        min_interval_ms: int | None = None,
    ) -> list[Step]:
        """A client subscribes. Returns what to do on this connection."""
        if not self._connections:
            # Whoever comes back after the last step waits for the driver's end.
            return []
        expected = self._connections.pop(0)
        self._running += 1
        self._compare("since", dict(since), expected.get("since", {}))
        self._compare("rewind", dict(rewind), expected.get("rewind", {}))
        if "refuse" not in expected["do"][0]:
            self._compare("durable", durable or None, self._terms["durable"])
            self._compare("min_interval", min_interval_ms or None, self._terms["min_interval_ms"])
        if "token" in expected:
            self._compare("token", token, expected["token"])
        self._last_connection = self._not_before(self._last_connection, expected, "the connection")
        steps: list[Step] = expected["do"]
        for step in steps:
            if isinstance(step, dict) and "subscribed" in step:
                for state in states(step["subscribed"]):
                    # Offsets of another epoch can't be compared.
                    if self._epochs.setdefault(state.channel, state.epoch) != state.epoch:
                        self._epochs[state.channel] = state.epoch
                        self._best.pop(state.channel, None)
                        self._acked.pop(state.channel, None)
        return steps

    def next_refusal(self) -> str | None:
        """The code with which the next connection is refused at once."""
        first = self._connections[0]["do"][0] if self._connections else None
        code: str | None = first["refuse"]["code"] if isinstance(first, dict) and "refuse" in first else None
        return code

    def ended(self) -> None:
        """The steps of a connection were done."""
        self._running -= 1
        self._check_done()

    def ack(self, channel: str, durable: str, offset: int) -> None:
        """A client acknowledges."""
        self._compare("durable of an acknowledgement", durable, self._terms["durable"])
        if offset < self._best.get(channel, 0):
            self._violation(f"the acknowledgement of {channel} goes back to {offset}")
        self._acked[channel] = self._best[channel] = offset
        self._ack_came.set()

    async def acked(self, channel: str, offset: int, *, lost: bool) -> None:
        """Waits until this is acknowledged. `lost`: the server forgets it."""
        while self._acked.get(channel, 0) < offset:
            self._ack_came.clear()
            await self._ack_came.wait()
        self._compare("the acknowledgement", self._acked[channel], offset)
        if lost:
            del self._acked[channel]

    def loses(self) -> bool:
        """Whether an acknowledgement that arrives now gets no answer."""
        return self._losing

    _losing = False

    def awaits_lost_ack(self, losing: bool) -> None:
        """From now on acknowledgements get no answer, or get one again."""
        self._losing = losing

    def call(self, method: str, data: Any) -> Any:
        """A client calls the application. The answer is its result, `lost`, `silent` or a refusal."""
        if not self._calls:
            raise self._violation(f"{method} is called once more than expected")
        expected = self._calls.pop(0)
        self._compare("the method", method, expected["method"])
        self._compare("the arguments", data, expected.get("data"))
        self._check_done()
        return expected["answer"]

    def publish(self, number: int, key: str, token: str | None) -> tuple[str, int, bool] | Refusal:
        """A client publishes. The answer is `ok` or `lost`, the offset, and whether it is a repeat."""
        if not self._attempts:
            raise self._violation(f"event {number} is published once more than expected")
        expected = self._attempts.pop(0)
        self._compare("the event", number, expected["event"])
        if "token" in expected:
            self._compare("token", token, expected["token"])
        if not key:
            self._violation(f"event {number} has no idempotency key")
        if self._keys.setdefault(number, key) != key:
            self._violation(f"event {number} came again with another idempotency key")
        self._last_attempt = self._not_before(self._last_attempt, expected, f"event {number}")
        self._check_done()
        answer = expected["answer"]
        if isinstance(answer, dict):
            return Refusal.of(answer)
        repeat = key in self._offsets
        offset = self._offsets.setdefault(key, len(self._offsets) + 1)
        return answer, offset, repeat

    def _not_before(self, last: float, expected: Mapping[str, Any], what: str) -> float:
        now = time.monotonic()
        waited, least = (now - last) * 1000, expected.get("after_ms", 0)
        if waited < least - _TOLERANCE_MS:
            self._violation(f"{what} came after {waited:.0f} ms, and was asked to wait for {least} ms")
        return now

    def _compare(self, what: str, seen: object, expected: object) -> None:
        if seen != expected:
            self._violation(f"{what} is {seen}, and should be {expected}")

    def _violation(self, text: str) -> Violation:
        self.violations.append(text)
        return Violation(text)

    def _check_done(self) -> None:
        if not self._connections and not self._attempts and not self._calls and not self._running:
            self.done.set()


def states(given: Mapping[str, str | None]) -> list[State]:
    """The channels of a `subscribed` step."""
    found = []
    for channel, text in given.items():
        if text is None:
            found.append(State(channel, None, 0, False, 0))
            continue
        position, _, more = text.partition(" ")
        epoch, _, offset = position.partition("/")
        words = more.split()
        numbers = dict(zip(words, words[1:]))
        replayed, cursor = int(numbers.get("replays", 0)), numbers.get("cursor")
        state = State(channel, epoch, int(offset), "recovered" in words, replayed)
        state.cursor = None if cursor is None else int(cursor)
        found.append(state)
    return found


class Epochs:
    """The epoch of each channel on one connection: events of gRPC carry it."""

    def __init__(self) -> None:
        self._now: dict[str, str] = {}

    def learn(self, given: list[State]) -> None:
        """What `subscribed` said."""
        self._now.update({state.channel: state.epoch for state in given if state.epoch})

    def __getitem__(self, channel: str) -> str:
        return self._now[channel]
