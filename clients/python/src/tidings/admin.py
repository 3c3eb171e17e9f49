"""What operators ask: connections, channels, counters, and the catalog."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc.aio

from . import wire
from .connection import Connection
from .errors import TidingsError, from_call
from .types import Presence
from .v1 import catalog_service_pb2, connection_service_pb2

# Items per page. The server's maximum.
_PAGE = 1000


class Admin:
    """The calls of `ConnectionService`, for role `admin`, and of `CatalogService`: `client.admin`.

    Answers are the messages of the schema (`tidings.v1`). Lists are read page by page as they are iterated.
    """

    def __init__(self, connection: Connection, timeout: float) -> None:
        self._connection = connection
        self._timeout = timeout

    async def stats(self, node: str = "") -> connection_service_pb2.Stats:
        """The current counters of all nodes together, or of one node: its name or its number."""
        return (await self.cluster_stats(node)).stats

    async def cluster_stats(self, node: str = "") -> connection_service_pb2.GetStatsResponse:
        """The counters of all nodes together, those of each in `nodes`, and who did not answer in time."""
        request = connection_service_pb2.GetStatsRequest(node=node)
        answer: connection_service_pb2.GetStatsResponse = await self._call(
            self._connection.connections.GetStats, request
        )
        return answer

    async def watch_stats(self, interval: float = 1.0) -> AsyncIterator[connection_service_pb2.Stats]:
        """The counters, every `interval` seconds. Ends with the first failure, which it raises."""
        request = connection_service_pb2.WatchStatsRequest()
        request.interval.FromMilliseconds(round(interval * 1000))
        metadata, _ = await self._connection.metadata()
        stream = self._connection.connections.WatchStats(request, metadata=metadata)
        try:
            async for reading in stream:
                yield reading.stats
        except grpc.aio.AioRpcError as error:
            raise from_call(error) from None
        finally:
            stream.cancel()

    async def connections(
        self,
        *,
        user: str = "",
        role: str = "",
        channel: str = "",
        transport: str = "",
        client_type: str = "",
        node: str = "",
        on_unreachable: Callable[[list[str]], None] | None = None,
    ) -> AsyncIterator[connection_service_pb2.Connection]:
        """The open connections that match all conditions.

        `on_unreachable` is called with the names of nodes that did not answer in time: theirs are missing.
        """
        request = connection_service_pb2.ListConnectionsRequest(
            user=user,
            role=role,
            channel=channel,
            transport=transport,
            client_type=client_type,
            node=node,
            page_size=_PAGE,
        )
        async for page in self._pages(self._connection.connections.ListConnections, request):
            if page.unreachable and on_unreachable is not None:
                on_unreachable(list(page.unreachable))
            for connection in page.connections:
                yield connection

    async def connection(self, connection_id: str) -> connection_service_pb2.Connection | None:
        """One connection. None if it is closed."""
        request = connection_service_pb2.GetConnectionRequest(connection_id=connection_id)
        try:
            answer: connection_service_pb2.GetConnectionResponse = await self._call(
                self._connection.connections.GetConnection, request
            )
        except TidingsError as error:
            if error.code == "not_found":
                return None
            raise
        return answer.connection

    async def disconnect(
        self, *, connection_id: str = "", user: str = "", reason: str = "", revoke: bool = False
    ) -> int:
        """Closes one connection, or all of a user. Returns how many. `revoke` also ends their tokens."""
        if bool(connection_id) == bool(user):
            raise ValueError("expected either connection_id or user")
        request = connection_service_pb2.DisconnectRequest(reason=reason, revoke=revoke)
        if user:
            request.user = user
        else:
            request.connection_id = connection_id
        answer: connection_service_pb2.DisconnectResponse = await self._call(
            self._connection.connections.Disconnect, request
        )
        return answer.disconnected

    async def channels(self, prefix: str = "") -> AsyncIterator[connection_service_pb2.Channel]:
        """The channels that have subscribers or history, by name."""
        request = connection_service_pb2.ListChannelsRequest(prefix=prefix, page_size=_PAGE)
        async for page in self._pages(self._connection.connections.ListChannels, request):
            for channel in page.channels:
                yield channel

    async def presence(self, channel: str) -> Presence:
        """The presence of a channel. Needs role `service` or `admin`."""
        request = connection_service_pb2.GetPresenceRequest(channel=channel)
        answer: connection_service_pb2.GetPresenceResponse = await self._call(
            self._connection.connections.GetPresence, request
        )
        return Presence({user.user: user.connections for user in answer.users}, answer.total)

    async def event_types(self) -> AsyncIterator[catalog_service_pb2.EventType]:
        """The event types of the catalog, by name."""
        request = catalog_service_pb2.ListEventTypesRequest(page_size=_PAGE)
        async for page in self._pages(self._connection.catalog.ListEventTypes, request):
            for event_type in page.event_types:
                yield event_type

    async def event_type(self, name: str) -> catalog_service_pb2.EventType | None:
        """One event type, with its schema and example as JSON. None if the catalog lacks it."""
        request = catalog_service_pb2.GetEventTypeRequest(name=name)
        try:
            answer: catalog_service_pb2.GetEventTypeResponse = await self._call(
                self._connection.catalog.GetEventType, request
            )
        except TidingsError as error:
            if error.code == "not_found":
                return None
            raise
        return answer.event_type

    async def validate(self, type: str, data: Any) -> list[catalog_service_pb2.ValidationError]:
        """Checks a payload against the catalog. Returns the violations: none if it would be accepted."""
        request = catalog_service_pb2.ValidateEventRequest(type=type, data=wire.payload(data))
        answer: catalog_service_pb2.ValidateEventResponse = await self._call(
            self._connection.catalog.ValidateEvent, request
        )
        return list(answer.errors)

    async def _call(self, method: Callable[..., Any], request: object) -> Any:
        return await self._connection.call(method, request, self._timeout)

    async def _pages(self, method: Callable[..., Any], request: Any) -> AsyncIterator[Any]:
        while True:
            page = await self._call(method, request)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token
