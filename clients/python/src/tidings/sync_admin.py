"""What operators ask, without `asyncio`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from .types import Presence
from .v1 import catalog_service_pb2, connection_service_pb2

if TYPE_CHECKING:
    from .sync import Tidings


class Admin:
    """The calls of `ConnectionService`, for role `admin`, and of `CatalogService`. See `tidings.Admin`."""

    def __init__(self, client: Tidings) -> None:
        self._client = client

    def stats(self, node: str = "") -> connection_service_pb2.Stats:
        """The current counters of all nodes together, or of one node: its name or its number."""
        return self._client._run(lambda client: client.admin.stats(node))

    def cluster_stats(self, node: str = "") -> connection_service_pb2.GetStatsResponse:
        """The counters of all nodes together, those of each in `nodes`, and who did not answer in time."""
        return self._client._run(lambda client: client.admin.cluster_stats(node))

    def watch_stats(self, interval: float = 1.0) -> Iterator[connection_service_pb2.Stats]:
        """The counters, every `interval` seconds. Ends with the first failure, which it raises."""
        return self._client._each(lambda client: client.admin.watch_stats(interval))

    def connections(
        self,
        *,
        user: str = "",
        role: str = "",
        channel: str = "",
        transport: str = "",
        client_type: str = "",
        node: str = "",
        on_unreachable: Callable[[list[str]], None] | None = None,
    ) -> Iterator[connection_service_pb2.Connection]:
        """The open connections that match all conditions. `on_unreachable`: see `tidings.Admin`."""
        return self._client._each(
            lambda client: client.admin.connections(
                user=user,
                role=role,
                channel=channel,
                transport=transport,
                client_type=client_type,
                node=node,
                on_unreachable=on_unreachable,
            )
        )

    def connection(self, connection_id: str) -> connection_service_pb2.Connection | None:
        """One connection. None if it is closed."""
        return self._client._run(lambda client: client.admin.connection(connection_id))

    def disconnect(
        self, *, connection_id: str = "", user: str = "", reason: str = "", revoke: bool = False
    ) -> int:
        """Closes one connection, or all of a user. Returns how many. `revoke` also ends their tokens."""
        return self._client._run(
            lambda client: client.admin.disconnect(
                connection_id=connection_id, user=user, reason=reason, revoke=revoke
            )
        )

    def channels(self, prefix: str = "") -> Iterator[connection_service_pb2.Channel]:
        """The channels that have subscribers or history, by name."""
        return self._client._each(lambda client: client.admin.channels(prefix))

    def presence(self, channel: str) -> Presence:
        """The presence of a channel. Needs role `service` or `admin`."""
        return self._client._run(lambda client: client.admin.presence(channel))

    def event_types(self) -> Iterator[catalog_service_pb2.EventType]:
        """The event types of the catalog, by name."""
        return self._client._each(lambda client: client.admin.event_types())

    def event_type(self, name: str) -> catalog_service_pb2.EventType | None:
        """One event type, with its schema and example as JSON. None if the catalog lacks it."""
        return self._client._run(lambda client: client.admin.event_type(name))

    def validate(self, type: str, data: Any) -> list[catalog_service_pb2.ValidationError]:
        """Checks a payload against the catalog. Returns the violations: none if it would be accepted."""
        return self._client._run(lambda client: client.admin.validate(type, data))
