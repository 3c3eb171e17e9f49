"""The scripted server over gRPC, behind a proxy that can be cut."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
from google.protobuf import duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from tidings.v1 import event_pb2, event_service_pb2, event_service_pb2_grpc

from script import Epochs, Refusal, Script, states


class GrpcServer:
    """One server for one driver; `script` changes with each case."""

    def __init__(self) -> None:
        self.script: Script
        self._proxy = Proxy()
        self._server = grpc.aio.server()
        event_service_pb2_grpc.add_EventServiceServicer_to_server(Events(self), self._server)

    async def start(self) -> None:
        """Listens."""
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        await self._proxy.start(port)

    async def stop(self) -> None:
        """Ends all calls."""
        await self._proxy.stop()
        await self._server.stop(0)

    def cut(self) -> None:
        """Breaks all connections, as a network does."""
        self._proxy.cut()

    @property
    def address(self) -> str:
        """For the driver."""
        return f"127.0.0.1:{self._proxy.port}"


class Events(event_service_pb2_grpc.EventServiceServicer):
    """EventService, by the script."""

    def __init__(self, server: GrpcServer) -> None:
        self._server = server

    async def Subscribe(
        self, request: Any, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[event_service_pb2.SubscribeResponse]:
        script = self._server.script
        since = {
            one.channel: f"{one.since.epoch}/{one.since.offset}"
            for one in request.subscriptions
            if one.HasField("since")
        }
        rewind = {one.channel: one.rewind for one in request.subscriptions if one.rewind}
        interval = request.min_interval.ToMilliseconds() if request.HasField("min_interval") else None
        steps = script.begin(since, rewind, _token(context), request.durable, interval)
        epochs = Epochs()
        for number, step in enumerate(steps):
            last = number == len(steps) - 1
            if step == "drop":
                # What was written before must be on its way.
                await asyncio.sleep(0.05)
                script.ended()
                self._server.cut()
                return
            if _ends(step):
                script.ended()
                await _abort(context, _reason(step))
            if isinstance(step, dict) and ("ack" in step or "lost_ack" in step):
                script.awaits_lost_ack("lost_ack" in step)
                channel, offset = step.get("ack") or step["lost_ack"]
                await script.acked(channel, offset, lost="lost_ack" in step)
                script.awaits_lost_ack(False)
            else:
                yield _message(step, epochs)
            if last:
                script.ended()
        if not steps:
            await _abort(context, Refusal("unavailable"))
        await asyncio.Event().wait()

    async def Ack(
        self, request: Any, context: grpc.aio.ServicerContext[Any, Any]
    ) -> event_service_pb2.AckResponse:
        loses = self._server.script.loses()
        self._server.script.ack(request.channel, request.durable, request.offset)
        if loses:
            await asyncio.Event().wait()
        return event_service_pb2.AckResponse()

    async def Publish(
        self, request: Any, context: grpc.aio.ServicerContext[Any, Any]
    ) -> event_service_pb2.PublishResponse:
        answer = self._publish(request, context)
        if isinstance(answer, Refusal):
            await _abort(context, answer)
        if answer is None:
            self._server.cut()
            await asyncio.Event().wait()
        assert isinstance(answer, event_service_pb2.PublishResponse)
        return answer

    async def PublishStream(
        self, requests: AsyncIterator[Any], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[event_service_pb2.PublishStreamResponse]:
        async for message in requests:
            answer = self._publish(message.request, context)
            if answer is None:
                # The answers before must be on their way.
                await asyncio.sleep(0.05)
                self._server.cut()
                return
            if isinstance(answer, Refusal):
                if answer.code in ("unauthenticated", "unavailable"):
                    await _abort(context, answer)
                answer = event_service_pb2.PublishResponse(error=_status(answer))
            yield event_service_pb2.PublishStreamResponse(response=answer)

    def _publish(
        self, request: Any, context: grpc.aio.ServicerContext[Any, Any]
    ) -> event_service_pb2.PublishResponse | Refusal | None:
        """None: the answer is lost."""
        outcome = self._server.script.publish(
            json.loads(request.data), request.idempotency_key, _token(context)
        )
        if isinstance(outcome, Refusal):
            return outcome
        answer, offset, duplicate = outcome
        if answer == "lost":
            return None
        position = event_pb2.Position(epoch="e1", offset=offset)
        result = event_service_pb2.PublishResult(
            channel=request.channels[0], position=position, duplicate=duplicate
        )
        return event_service_pb2.PublishResponse(id="id", results=[result])


def _message(step: Any, epochs: Epochs) -> event_service_pb2.SubscribeResponse:
    response = event_service_pb2.SubscribeResponse()
    if step == "novelty":
        # Field 15 of the message: a member of the `oneof` that is not known yet.
        response.ParseFromString(b"\x7a\x02hi")
    elif "subscribed" in step:
        given = states(step["subscribed"])
        epochs.learn(given)
        response.subscribed.connection_id = "0123"
        for state in given:
            entry = response.subscribed.channels.add(
                channel=state.channel, recovered=state.recovered, replayed=state.replayed
            )
            if state.cursor is not None:
                entry.cursor = state.cursor
            if state.epoch is not None:
                entry.position.epoch, entry.position.offset = state.epoch, state.offset
    elif "denied" in step:
        channel, code = step["denied"]
        response.subscribed.errors.add(channel=channel, code=code, message="the script says so")
    elif "gap" in step:
        channel, first, last, reason = step["gap"]
        response.gap.CopyFrom(
            event_service_pb2.Gap(channel=channel, to=last, reason=reason, **{"from": first})
        )
    else:
        channel, offset = step["event"]
        event = response.event
        event.id, event.type, event.channel = f"{channel}-{offset}", "n", channel
        event.data = json.dumps(offset).encode()
        if offset is not None:
            event.position.epoch, event.position.offset = epochs[channel], offset
    return response


def _ends(step: Any) -> bool:
    """Whether it ends the stream."""
    return step != "novelty" and (isinstance(step, str) or "refuse" in step)


def _reason(step: Any) -> Refusal:
    if isinstance(step, dict):
        return Refusal.of(step["refuse"])
    codes = {"restart": "unavailable", "too_slow": "resource_exhausted", "expired": "unauthenticated"}
    return Refusal(codes[step], 50 if step == "restart" else None)


def _status(refusal: Refusal) -> status_pb2.Status:
    code = code_pb2.Code.Value(refusal.code.upper())
    status = status_pb2.Status(code=code, message="the script says so")
    if refusal.retry_after_ms is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(refusal.retry_after_ms)
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


async def _abort(context: grpc.aio.ServicerContext[Any, Any], refusal: Refusal) -> None:
    status = _status(refusal)
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
    await context.abort(code, status.message)


def _token(context: grpc.aio.ServicerContext[Any, Any]) -> str | None:
    for name, value in context.invocation_metadata() or ():
        if name == "authorization":
            return str(value).partition(" ")[2]
    return None


class Proxy:
    """Passes bytes on, until it is cut."""

    def __init__(self) -> None:
        self._open: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None
        self._behind = 0
        self.port = 0

    async def start(self, behind: int) -> None:
        """Listens, in front of this port."""
        self._behind = behind
        self._listener = await asyncio.start_server(self._joined, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Ends everything."""
        self.cut()
        if self._listener is not None:
            self._listener.close()

    def cut(self) -> None:
        """Resets all connections."""
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()

    async def _joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, onward = await asyncio.open_connection("127.0.0.1", self._behind)
        self._open |= {writer, onward}
        for pump in (self._pump(reader, onward), self._pump(there, writer)):
            task = asyncio.ensure_future(pump)
            self._pumps.add(task)
            task.add_done_callback(self._pumps.discard)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.transport.abort()
            self._open.discard(writer)
