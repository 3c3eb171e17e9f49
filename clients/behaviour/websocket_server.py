"""The scripted server over WebSocket, as `tidings.v1.json`."""

from __future__ import annotations

import asyncio
import contextlib
import json
from datetime import datetime, timezone
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from script import Epochs, Refusal, Script, states

_CLOSE = {"too_slow": 4411, "expired": 4401, "restart": 1012}
_CLOSE_FOR_REFUSAL = {"unauthenticated": 4401, "permission_denied": 4403}


class WebsocketServer:
    """One server for one driver; `script` changes with each case."""

    def __init__(self) -> None:
        self.script: Script
        self._server: Server | None = None

    async def start(self) -> None:
        """Listens."""
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            0,
            subprotocols=["tidings.v1.json"],
            compression=None,  # type: ignore[list-item]
        )

    async def stop(self) -> None:
        """Ends all connections."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    @property
    def address(self) -> str:
        """For the driver."""
        assert self._server is not None
        return f"ws://127.0.0.1:{next(iter(self._server.sockets)).getsockname()[1]}/ws"

    async def _serve(self, socket: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            await Connection(socket, self.script).run()


class Connection:
    """One connection, by the script."""

    def __init__(self, socket: ServerConnection, script: Script) -> None:
        self._socket = socket
        self._script = script
        self._token: str | None = None
        self._wanted = list(script.case.given.get("subscribe", {}).get("channels", []))
        self._since: dict[str, str] = {}
        self._rewind: dict[str, int] = {}
        self._seen: set[str] = set()
        self._request: Any = None
        self._playing: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Until it is closed."""
        await self._say(
            type="connection_established",
            connection_id="0123",
            user=None,
            roles=[],
            heartbeat_interval_ms=30000,
            heartbeat_timeout_ms=60000,
            timestamp=_now(),
        )
        async for text in self._socket:
            message = json.loads(text)
            kind = message["type"]
            if kind == "authenticate":
                self._token = message["token"]
                if not await self._authenticated(message["id"]):
                    return
            elif kind == "subscribe":
                await self._subscribe(message)
            elif kind == "publish":
                await self._publish(message)
            elif kind == "ack":
                self._script.ack(message["channel"], message["durable"], message["offset"])
            elif kind == "rpc":
                await self._call(message)

    async def _authenticated(self, id: Any) -> bool:
        refused = self._script.next_refusal() == "unauthenticated"
        if refused:
            self._script.begin({}, {}, self._token)
            self._script.ended()
            await self._say(type="error", id=id, code="unauthenticated", message="the script says so")
            await self._socket.close(4401)
            return False
        await self._say(type="authenticated", id=id, user="u", roles=[], expires_at=None)
        return True

    async def _subscribe(self, message: Any) -> None:
        """The channels may come in several messages: the script begins when it has all of them."""
        self._seen |= set(message["channels"])
        for channel, since in (message.get("since") or {}).items():
            self._since[channel] = f"{since['epoch']}/{since['offset']}"
        for channel in message["channels"]:
            if message.get("rewind"):
                self._rewind[channel] = message["rewind"]
        self._request = message
        if self._seen >= set(self._wanted):
            interval = message.get("min_interval")
            steps = self._script.begin(
                self._since,
                self._rewind,
                self._token,
                message.get("durable"),
                None if interval is None else int(interval.removesuffix("ms")),
            )
            # A task of its own: it may wait for what the client sends.
            self._playing = asyncio.ensure_future(self._play_until_closed(steps))

    async def _play_until_closed(self, steps: list[Any]) -> None:
        with contextlib.suppress(ConnectionClosed):
            await self._play(steps)

    async def _play(self, steps: list[Any]) -> None:
        epochs = Epochs()
        answered = False
        for number, step in enumerate(steps):
            last = number == len(steps) - 1
            if isinstance(step, str) and step != "novelty":
                await self._end(step)
                return
            if isinstance(step, dict) and ("ack" in step or "lost_ack" in step):
                channel, offset = step.get("ack") or step["lost_ack"]
                await self._script.acked(channel, offset, lost="lost_ack" in step)
                if last:
                    self._script.ended()
                continue
            if isinstance(step, dict) and "refuse" in step:
                await self._refuse(Refusal.of(step["refuse"]))
                return
            if isinstance(step, dict) and ("subscribed" in step or "denied" in step) and not answered:
                answered = True
                await self._say(**_subscribed(step, epochs), id=self._request["id"])
            else:
                await self._say(**_message(step, epochs))
            if last:
                self._script.ended()

    async def _refuse(self, refusal: Refusal) -> None:
        self._script.ended()
        advice = {} if refusal.retry_after_ms is None else {"retry_after_ms": refusal.retry_after_ms}
        await self._say(type="error", code=refusal.code, message="the script says so", **advice)
        await self._socket.close(_CLOSE_FOR_REFUSAL.get(refusal.code, 1013))

    async def _end(self, how: str) -> None:
        self._script.ended()
        if how == "drop":
            await asyncio.sleep(0.05)
            self._socket.transport.abort()
            return
        if how == "restart":
            await self._say(type="reconnect", after_ms=50, reason="restart")
        if how == "expired":
            await self._say(type="error", code="unauthenticated", message="the token has expired")
        await self._socket.close(_CLOSE[how])

    async def _call(self, message: Any) -> None:
        answer = self._script.call(message["method"], message.get("data"))
        if answer == "lost":
            self._socket.transport.abort()
        elif "refuse" in answer:
            refusal = Refusal.of(answer["refuse"])
            await self._say(type="error", id=message["id"], code=refusal.code, message="the script says so")
        elif answer != "silent":
            await self._say(type="rpc", id=message["id"], data=answer["data"])

    async def _publish(self, message: Any) -> None:
        outcome = self._script.publish(message["data"], message.get("idempotency_key", ""), self._token)
        if isinstance(outcome, Refusal):
            advice = {} if outcome.retry_after_ms is None else {"retry_after_ms": outcome.retry_after_ms}
            await self._say(
                type="error", id=message["id"], code=outcome.code, message="the script says so", **advice
            )
            if outcome.code == "unauthenticated":
                await self._socket.close(4401)
            return
        answer, offset, duplicate = outcome
        if answer == "lost":
            self._socket.transport.abort()
            return
        await self._say(
            type="published",
            id=message["id"],
            event_id="id",
            epoch="e1",
            offset=offset,
            **({"duplicate": True} if duplicate else {}),
        )

    async def _say(self, **message: Any) -> None:
        await self._socket.send(json.dumps(message))


def _subscribed(step: Any, epochs: Epochs) -> dict[str, Any]:
    channels, errors = [], []
    if "denied" in step:
        channel, code = step["denied"]
        errors.append({"channel": channel, "code": code, "message": "the script says so"})
    else:
        given = states(step["subscribed"])
        epochs.learn(given)
        for state in given:
            entry: dict[str, Any] = {"channel": state.channel, "recovered": state.recovered}
            if state.epoch is not None:
                entry |= {"epoch": state.epoch, "offset": state.offset}
            if state.cursor is not None:
                entry["cursor"] = state.cursor
            channels.append({**entry, "replayed": state.replayed})
    return {"type": "subscribed", "channels": channels, "errors": errors}


def _message(step: Any, epochs: Epochs) -> dict[str, Any]:
    if step == "novelty":
        return {"type": "something.new", "about": "nothing that a client knows"}
    if "subscribed" in step:
        return _subscribed(step, epochs)
    if "denied" in step:
        channel, code = step["denied"]
        reason = {"code": code, "message": "the script says so"}
        return {"type": "unsubscribed", "channels": [channel], "event_types": [], "reason": reason}
    if "gap" in step:
        channel, first, last, reason = step["gap"]
        return {"type": "gap", "channel": channel, "from": first, "to": last, "reason": reason}
    channel, offset = step["event"]
    event = {
        "type": "n",
        "channel": channel,
        "id": f"{channel}-{offset}",
        "timestamp": _now(),
        "data": offset,
    }
    return event if offset is None else {**event, "offset": offset}


def _now() -> str:
    return datetime.now(timezone.utc).isoformat()
