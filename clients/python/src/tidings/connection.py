"""The connection to a server: credentials, tokens, and retries."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
import grpc.aio

from . import tracing
from .backoff import Backoff
from .errors import TidingsError, from_call
from .token import TokenProvider, Tokens
from .v1 import catalog_service_pb2_grpc, connection_service_pb2_grpc, event_service_pb2_grpc

Answer = TypeVar("Answer")
Metadata = list[tuple[str, str]]

# A batch or a page may have up to 16 MiB.
_LARGEST_MESSAGE = 32 << 20


@dataclass(frozen=True)
class Tls:
    """TLS settings: trusted authorities and a client certificate, as contents of PEM files or as paths.

    Without `ca`, gRPC's bundled authorities are trusted. `server_name` is the expected name in the server's
    certificate, if it differs from the address.
    """

    ca: str | Path | bytes | None = None
    cert: str | Path | bytes | None = None
    key: str | Path | bytes | None = None
    server_name: str | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Reads the files."""
        if (self.cert is None) != (self.key is None):
            raise ValueError("expected both cert and key, or neither")
        return grpc.ssl_channel_credentials(_pem(self.ca), _pem(self.key), _pem(self.cert))


def _pem(source: str | Path | bytes | None) -> bytes | None:
    return Path(source).read_bytes() if isinstance(source, (str, Path)) else source


class Connection:
    """One gRPC channel, with the stubs of all services."""

    def __init__(
        self,
        address: str,
        token: str | TokenProvider | None,
        tls: Tls | bool,
        backoff: Backoff,
        keepalive: float,
    ) -> None:
        secure = bool(tls)
        for scheme in ("http://", "https://"):
            if address.startswith(scheme):
                secure = secure or scheme == "https://"
                address = address[len(scheme) :].rstrip("/")
        options: list[tuple[str, Any]] = [
            # Keep-alive pings detect a server that has disappeared.
            ("grpc.keepalive_time_ms", int(keepalive * 1000)),
            ("grpc.keepalive_timeout_ms", int(min(keepalive, 10) * 1000)),
            # Retries are decided here, so gRPC's own are disabled.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 2000),
            ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
            # Unread data stays within HTTP/2's window, whatever the bandwidth.
            ("grpc.http2.bdp_probe", 0),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        if secure:
            chosen = tls if isinstance(tls, Tls) else Tls()
            if chosen.server_name:
                options.append(("grpc.ssl_target_name_override", chosen.server_name))
            self.channel = grpc.aio.secure_channel(address, chosen.credentials(), options)
        else:
            self.channel = grpc.aio.insecure_channel(address, options)
        self.events = event_service_pb2_grpc.EventServiceStub(self.channel)
        self.connections = connection_service_pb2_grpc.ConnectionServiceStub(self.channel)
        self.catalog = catalog_service_pb2_grpc.CatalogServiceStub(self.channel)
        self.tokens = Tokens(token)
        self.backoff = backoff
        self.closed = False

    async def close(self) -> None:
        """Cancels all calls."""
        self.closed = True
        await self.channel.close()

    async def metadata(self) -> tuple[Metadata, str | None]:
        """The metadata of a call, and the token in it."""
        carrier: dict[str, str] = {}
        tracing.inject(carrier)
        token = await self.tokens.get()
        if token:
            carrier["authorization"] = f"Bearer {token}"
        return [(name.lower(), value) for name, value in carrier.items()], token

    async def call(
        self,
        method: Callable[..., Awaitable[Answer]],
        request: object,
        timeout: float,
        repeatable: bool = True,
    ) -> Answer:
        """Retries until there is a response, a permanent failure, or the timeout.

        A call that is not `repeatable` is only retried if the server has surely not executed it.
        """
        deadline = Deadline(timeout)
        failures, renewed = 0, False
        while True:
            token = None
            try:
                metadata, token = await deadline.of(self.metadata())
                return await method(request, metadata=metadata, timeout=deadline.left())
            except grpc.aio.AioRpcError as error:
                failure = from_call(error)
            except TidingsError as error:
                failure = error
            if failure.code == "unauthenticated" and not renewed and self.tokens.refused(token):
                renewed = True
                continue
            if not failure.passing or not (repeatable or failure.retry_after is not None):
                raise failure
            pause = self.backoff.pause(failures, failure.retry_after)
            if pause >= deadline.left():
                raise failure
            await asyncio.sleep(pause)
            failures += 1


class Deadline:
    """A deadline."""

    def __init__(self, seconds: float) -> None:
        self._at = asyncio.get_running_loop().time() + seconds

    def left(self) -> float:
        """The seconds left. Never zero, so that a last call fails by itself."""
        return max(self._at - asyncio.get_running_loop().time(), 0.001)

    async def of(self, work: Awaitable[Answer]) -> Answer:
        """Waits for the work. Raises `deadline_exceeded` on timeout."""
        try:
            return await asyncio.wait_for(work, self.left())
        except asyncio.TimeoutError:
            raise TidingsError("deadline_exceeded", "no token came in time") from None
