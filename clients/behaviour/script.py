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
        return ["grpc"] if self.given.get("stream") else both

    def for_driver(self, server: str) -> str:
        """What the driver gets."""
        wanted = {
            name: self.given[name]
            for name in ("subscribe", "publish", "tokens", "token", "stream")
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
        self._keys: dict[int, str] = {}
        self._offsets: dict[str, int] = {}
        self._last_connection = 0.0
        self._last_attempt = 0.0
        self._running = 0
        self.done = asyncio.Event()
        self._check_done()

    def begin(self, since: Mapping[str, str], rewind: Mapping[str, int], token: str | None) -> list[Step]:
        """A client subscribes. Returns what to do on this connection."""
        if not self._connections:
            # Whoever comes back after the last step waits for the driver's end.
            return []
        expected = self._connections.pop(0)
        self._running += 1
        self._compare("since", dict(since), expected.get("since", {}))
        self._compare("rewind", dict(rewind), expected.get("rewind", {}))
        if "token" in expected:
            self._compare("token", token, expected["token"])
        self._last_connection = self._not_before(self._last_connection, expected, "the connection")
        steps: list[Step] = expected["do"]
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
        if not self._connections and not self._attempts and not self._running:
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
        replayed = int(more.split()[1]) if more.startswith("replays") else 0
        found.append(State(channel, epoch, int(offset), more == "recovered", replayed))
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
