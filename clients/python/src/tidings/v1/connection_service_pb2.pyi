import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from tidings.v1 import event_pb2 as _event_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetStatsRequest(_message.Message):
    __slots__ = ("node",)
    NODE_FIELD_NUMBER: _ClassVar[int]
    node: str
    def __init__(self, node: _Optional[str] = ...) -> None: ...

class GetStatsResponse(_message.Message):
    __slots__ = ("stats", "nodes", "unreachable")
    STATS_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    UNREACHABLE_FIELD_NUMBER: _ClassVar[int]
    stats: Stats
    nodes: _containers.RepeatedCompositeFieldContainer[Stats]
    unreachable: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, stats: _Optional[_Union[Stats, _Mapping]] = ..., nodes: _Optional[_Iterable[_Union[Stats, _Mapping]]] = ..., unreachable: _Optional[_Iterable[str]] = ...) -> None: ...

class WatchStatsRequest(_message.Message):
    __slots__ = ("interval",)
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    interval: _duration_pb2.Duration
    def __init__(self, interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class WatchStatsResponse(_message.Message):
    __slots__ = ("stats",)
    STATS_FIELD_NUMBER: _ClassVar[int]
    stats: Stats
    def __init__(self, stats: _Optional[_Union[Stats, _Mapping]] = ...) -> None: ...

class Stats(_message.Message):
    __slots__ = ("node", "uptime", "connections", "subscriptions", "channels", "events", "bytes_in", "bytes_out", "errors", "auth_failures", "rate_limited", "slow_consumers", "latency")
    class ErrorsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NODE_FIELD_NUMBER: _ClassVar[int]
    UPTIME_FIELD_NUMBER: _ClassVar[int]
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    BYTES_IN_FIELD_NUMBER: _ClassVar[int]
    BYTES_OUT_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    AUTH_FAILURES_FIELD_NUMBER: _ClassVar[int]
    RATE_LIMITED_FIELD_NUMBER: _ClassVar[int]
    SLOW_CONSUMERS_FIELD_NUMBER: _ClassVar[int]
    LATENCY_FIELD_NUMBER: _ClassVar[int]
    node: str
    uptime: _duration_pb2.Duration
    connections: ConnectionStats
    subscriptions: int
    channels: int
    events: EventStats
    bytes_in: int
    bytes_out: int
    errors: _containers.ScalarMap[str, int]
    auth_failures: int
    rate_limited: int
    slow_consumers: int
    latency: LatencyStats
    def __init__(self, node: _Optional[str] = ..., uptime: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., connections: _Optional[_Union[ConnectionStats, _Mapping]] = ..., subscriptions: _Optional[int] = ..., channels: _Optional[int] = ..., events: _Optional[_Union[EventStats, _Mapping]] = ..., bytes_in: _Optional[int] = ..., bytes_out: _Optional[int] = ..., errors: _Optional[_Mapping[str, int]] = ..., auth_failures: _Optional[int] = ..., rate_limited: _Optional[int] = ..., slow_consumers: _Optional[int] = ..., latency: _Optional[_Union[LatencyStats, _Mapping]] = ...) -> None: ...

class ConnectionStats(_message.Message):
    __slots__ = ("now", "peak", "total", "by_transport", "by_client_type")
    class ByTransportEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class ByClientTypeEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NOW_FIELD_NUMBER: _ClassVar[int]
    PEAK_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    BY_TRANSPORT_FIELD_NUMBER: _ClassVar[int]
    BY_CLIENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    now: int
    peak: int
    total: int
    by_transport: _containers.ScalarMap[str, int]
    by_client_type: _containers.ScalarMap[str, int]
    def __init__(self, now: _Optional[int] = ..., peak: _Optional[int] = ..., total: _Optional[int] = ..., by_transport: _Optional[_Mapping[str, int]] = ..., by_client_type: _Optional[_Mapping[str, int]] = ...) -> None: ...

class EventStats(_message.Message):
    __slots__ = ("published", "delivered", "replayed", "dropped", "conflated", "filtered", "by_type")
    class ByTypeEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    PUBLISHED_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    CONFLATED_FIELD_NUMBER: _ClassVar[int]
    FILTERED_FIELD_NUMBER: _ClassVar[int]
    BY_TYPE_FIELD_NUMBER: _ClassVar[int]
    published: int
    delivered: int
    replayed: int
    dropped: int
    conflated: int
    filtered: int
    by_type: _containers.ScalarMap[str, int]
    def __init__(self, published: _Optional[int] = ..., delivered: _Optional[int] = ..., replayed: _Optional[int] = ..., dropped: _Optional[int] = ..., conflated: _Optional[int] = ..., filtered: _Optional[int] = ..., by_type: _Optional[_Mapping[str, int]] = ...) -> None: ...

class LatencyStats(_message.Message):
    __slots__ = ("p50", "p90", "p99", "max")
    P50_FIELD_NUMBER: _ClassVar[int]
    P90_FIELD_NUMBER: _ClassVar[int]
    P99_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    p50: _duration_pb2.Duration
    p90: _duration_pb2.Duration
    p99: _duration_pb2.Duration
    max: _duration_pb2.Duration
    def __init__(self, p50: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., p90: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., p99: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ListConnectionsRequest(_message.Message):
    __slots__ = ("user", "role", "channel", "transport", "client_type", "page_size", "page_token", "order_by", "desc", "address", "node")
    USER_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    TRANSPORT_FIELD_NUMBER: _ClassVar[int]
    CLIENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ORDER_BY_FIELD_NUMBER: _ClassVar[int]
    DESC_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    user: str
    role: str
    channel: str
    transport: str
    client_type: str
    page_size: int
    page_token: str
    order_by: str
    desc: bool
    address: str
    node: str
    def __init__(self, user: _Optional[str] = ..., role: _Optional[str] = ..., channel: _Optional[str] = ..., transport: _Optional[str] = ..., client_type: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., order_by: _Optional[str] = ..., desc: bool = ..., address: _Optional[str] = ..., node: _Optional[str] = ...) -> None: ...

class ListConnectionsResponse(_message.Message):
    __slots__ = ("connections", "next_page_token", "unreachable")
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    UNREACHABLE_FIELD_NUMBER: _ClassVar[int]
    connections: _containers.RepeatedCompositeFieldContainer[Connection]
    next_page_token: str
    unreachable: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, connections: _Optional[_Iterable[_Union[Connection, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., unreachable: _Optional[_Iterable[str]] = ...) -> None: ...

class GetConnectionRequest(_message.Message):
    __slots__ = ("connection_id",)
    CONNECTION_ID_FIELD_NUMBER: _ClassVar[int]
    connection_id: str
    def __init__(self, connection_id: _Optional[str] = ...) -> None: ...

class GetConnectionResponse(_message.Message):
    __slots__ = ("connection",)
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    connection: Connection
    def __init__(self, connection: _Optional[_Union[Connection, _Mapping]] = ...) -> None: ...

class Connection(_message.Message):
    __slots__ = ("id", "user", "roles", "transport", "client_type", "client_name", "address", "connected_at", "last_seen_at", "subscriptions", "delivered", "dropped", "bytes_in", "bytes_out", "outbox_bytes", "round_trip", "user_agent", "origin", "dialect", "compression", "token_expires_at", "messages_in", "rate_limited", "claims", "subscription_count", "node")
    ID_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    TRANSPORT_FIELD_NUMBER: _ClassVar[int]
    CLIENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    CLIENT_NAME_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_AT_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_AT_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    BYTES_IN_FIELD_NUMBER: _ClassVar[int]
    BYTES_OUT_FIELD_NUMBER: _ClassVar[int]
    OUTBOX_BYTES_FIELD_NUMBER: _ClassVar[int]
    ROUND_TRIP_FIELD_NUMBER: _ClassVar[int]
    USER_AGENT_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    DIALECT_FIELD_NUMBER: _ClassVar[int]
    COMPRESSION_FIELD_NUMBER: _ClassVar[int]
    TOKEN_EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_IN_FIELD_NUMBER: _ClassVar[int]
    RATE_LIMITED_FIELD_NUMBER: _ClassVar[int]
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTION_COUNT_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    id: str
    user: str
    roles: _containers.RepeatedScalarFieldContainer[str]
    transport: str
    client_type: str
    client_name: str
    address: str
    connected_at: _timestamp_pb2.Timestamp
    last_seen_at: _timestamp_pb2.Timestamp
    subscriptions: _containers.RepeatedCompositeFieldContainer[ConnectionSubscription]
    delivered: int
    dropped: int
    bytes_in: int
    bytes_out: int
    outbox_bytes: int
    round_trip: _duration_pb2.Duration
    user_agent: str
    origin: str
    dialect: str
    compression: bool
    token_expires_at: _timestamp_pb2.Timestamp
    messages_in: int
    rate_limited: int
    claims: _containers.RepeatedScalarFieldContainer[str]
    subscription_count: int
    node: str
    def __init__(self, id: _Optional[str] = ..., user: _Optional[str] = ..., roles: _Optional[_Iterable[str]] = ..., transport: _Optional[str] = ..., client_type: _Optional[str] = ..., client_name: _Optional[str] = ..., address: _Optional[str] = ..., connected_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., last_seen_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., subscriptions: _Optional[_Iterable[_Union[ConnectionSubscription, _Mapping]]] = ..., delivered: _Optional[int] = ..., dropped: _Optional[int] = ..., bytes_in: _Optional[int] = ..., bytes_out: _Optional[int] = ..., outbox_bytes: _Optional[int] = ..., round_trip: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., user_agent: _Optional[str] = ..., origin: _Optional[str] = ..., dialect: _Optional[str] = ..., compression: bool = ..., token_expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., messages_in: _Optional[int] = ..., rate_limited: _Optional[int] = ..., claims: _Optional[_Iterable[str]] = ..., subscription_count: _Optional[int] = ..., node: _Optional[str] = ...) -> None: ...

class ConnectionSubscription(_message.Message):
    __slots__ = ("channel", "position", "filter", "event_types", "live")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPES_FIELD_NUMBER: _ClassVar[int]
    LIVE_FIELD_NUMBER: _ClassVar[int]
    channel: str
    position: _event_pb2.Position
    filter: str
    event_types: _containers.RepeatedScalarFieldContainer[str]
    live: bool
    def __init__(self, channel: _Optional[str] = ..., position: _Optional[_Union[_event_pb2.Position, _Mapping]] = ..., filter: _Optional[str] = ..., event_types: _Optional[_Iterable[str]] = ..., live: bool = ...) -> None: ...

class DisconnectRequest(_message.Message):
    __slots__ = ("connection_id", "user", "reason", "revoke")
    CONNECTION_ID_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REVOKE_FIELD_NUMBER: _ClassVar[int]
    connection_id: str
    user: str
    reason: str
    revoke: bool
    def __init__(self, connection_id: _Optional[str] = ..., user: _Optional[str] = ..., reason: _Optional[str] = ..., revoke: bool = ...) -> None: ...

class DisconnectResponse(_message.Message):
    __slots__ = ("disconnected",)
    DISCONNECTED_FIELD_NUMBER: _ClassVar[int]
    disconnected: int
    def __init__(self, disconnected: _Optional[int] = ...) -> None: ...

class ListChannelsRequest(_message.Message):
    __slots__ = ("prefix", "page_size", "page_token", "order_by", "desc")
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ORDER_BY_FIELD_NUMBER: _ClassVar[int]
    DESC_FIELD_NUMBER: _ClassVar[int]
    prefix: str
    page_size: int
    page_token: str
    order_by: str
    desc: bool
    def __init__(self, prefix: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., order_by: _Optional[str] = ..., desc: bool = ...) -> None: ...

class ListChannelsResponse(_message.Message):
    __slots__ = ("channels", "next_page_token")
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    channels: _containers.RepeatedCompositeFieldContainer[Channel]
    next_page_token: str
    def __init__(self, channels: _Optional[_Iterable[_Union[Channel, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class Channel(_message.Message):
    __slots__ = ("channel", "subscribers", "position", "last_event_at", "history_events", "history_bytes", "rate", "users")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBERS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    LAST_EVENT_AT_FIELD_NUMBER: _ClassVar[int]
    HISTORY_EVENTS_FIELD_NUMBER: _ClassVar[int]
    HISTORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    USERS_FIELD_NUMBER: _ClassVar[int]
    channel: str
    subscribers: int
    position: _event_pb2.Position
    last_event_at: _timestamp_pb2.Timestamp
    history_events: int
    history_bytes: int
    rate: float
    users: int
    def __init__(self, channel: _Optional[str] = ..., subscribers: _Optional[int] = ..., position: _Optional[_Union[_event_pb2.Position, _Mapping]] = ..., last_event_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., history_events: _Optional[int] = ..., history_bytes: _Optional[int] = ..., rate: _Optional[float] = ..., users: _Optional[int] = ...) -> None: ...

class GetPresenceRequest(_message.Message):
    __slots__ = ("channel",)
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    channel: str
    def __init__(self, channel: _Optional[str] = ...) -> None: ...

class GetPresenceResponse(_message.Message):
    __slots__ = ("channel", "users", "total")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    USERS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    channel: str
    users: _containers.RepeatedCompositeFieldContainer[PresenceUser]
    total: int
    def __init__(self, channel: _Optional[str] = ..., users: _Optional[_Iterable[_Union[PresenceUser, _Mapping]]] = ..., total: _Optional[int] = ...) -> None: ...

class PresenceUser(_message.Message):
    __slots__ = ("user", "connections")
    USER_FIELD_NUMBER: _ClassVar[int]
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    user: str
    connections: int
    def __init__(self, user: _Optional[str] = ..., connections: _Optional[int] = ...) -> None: ...

class GetServerInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetServerInfoResponse(_message.Message):
    __slots__ = ("server",)
    SERVER_FIELD_NUMBER: _ClassVar[int]
    server: ServerInfo
    def __init__(self, server: _Optional[_Union[ServerInfo, _Mapping]] = ...) -> None: ...

class ServerInfo(_message.Message):
    __slots__ = ("node", "version", "started_at", "dev", "public_address", "internal_address", "nodes", "store", "process", "limits", "closes", "namespaces", "configuration")
    class ClosesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: int
        def __init__(self, key: _Optional[int] = ..., value: _Optional[int] = ...) -> None: ...
    NODE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    DEV_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    INTERNAL_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    CLOSES_FIELD_NUMBER: _ClassVar[int]
    NAMESPACES_FIELD_NUMBER: _ClassVar[int]
    CONFIGURATION_FIELD_NUMBER: _ClassVar[int]
    node: str
    version: str
    started_at: _timestamp_pb2.Timestamp
    dev: bool
    public_address: str
    internal_address: str
    nodes: _containers.RepeatedCompositeFieldContainer[ServerNode]
    store: StoreInfo
    process: ProcessInfo
    limits: _containers.RepeatedCompositeFieldContainer[LimitUse]
    closes: _containers.ScalarMap[int, int]
    namespaces: _containers.RepeatedCompositeFieldContainer[NamespaceInfo]
    configuration: _containers.RepeatedCompositeFieldContainer[Setting]
    def __init__(self, node: _Optional[str] = ..., version: _Optional[str] = ..., started_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., dev: bool = ..., public_address: _Optional[str] = ..., internal_address: _Optional[str] = ..., nodes: _Optional[_Iterable[_Union[ServerNode, _Mapping]]] = ..., store: _Optional[_Union[StoreInfo, _Mapping]] = ..., process: _Optional[_Union[ProcessInfo, _Mapping]] = ..., limits: _Optional[_Iterable[_Union[LimitUse, _Mapping]]] = ..., closes: _Optional[_Mapping[int, int]] = ..., namespaces: _Optional[_Iterable[_Union[NamespaceInfo, _Mapping]]] = ..., configuration: _Optional[_Iterable[_Union[Setting, _Mapping]]] = ...) -> None: ...

class ServerNode(_message.Message):
    __slots__ = ("id", "self", "name", "version", "started_at", "connections", "leaving", "heard_ago", "round_trip")
    ID_FIELD_NUMBER: _ClassVar[int]
    SELF_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    LEAVING_FIELD_NUMBER: _ClassVar[int]
    HEARD_AGO_FIELD_NUMBER: _ClassVar[int]
    ROUND_TRIP_FIELD_NUMBER: _ClassVar[int]
    id: str
    self: bool
    name: str
    version: str
    started_at: _timestamp_pb2.Timestamp
    connections: int
    leaving: bool
    heard_ago: _duration_pb2.Duration
    round_trip: _duration_pb2.Duration
    def __init__(self_, id: _Optional[str] = ..., self: bool = ..., name: _Optional[str] = ..., version: _Optional[str] = ..., started_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., connections: _Optional[int] = ..., leaving: bool = ..., heard_ago: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., round_trip: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class StoreInfo(_message.Message):
    __slots__ = ("kind", "durability", "available", "bytes", "limit_bytes")
    KIND_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    kind: str
    durability: str
    available: bool
    bytes: int
    limit_bytes: int
    def __init__(self, kind: _Optional[str] = ..., durability: _Optional[str] = ..., available: bool = ..., bytes: _Optional[int] = ..., limit_bytes: _Optional[int] = ...) -> None: ...

class ProcessInfo(_message.Message):
    __slots__ = ("cpu", "resident_bytes", "open_files", "open_files_limit", "threads", "processors", "shards")
    CPU_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    OPEN_FILES_FIELD_NUMBER: _ClassVar[int]
    OPEN_FILES_LIMIT_FIELD_NUMBER: _ClassVar[int]
    THREADS_FIELD_NUMBER: _ClassVar[int]
    PROCESSORS_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    cpu: _duration_pb2.Duration
    resident_bytes: int
    open_files: int
    open_files_limit: int
    threads: int
    processors: int
    shards: int
    def __init__(self, cpu: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., resident_bytes: _Optional[int] = ..., open_files: _Optional[int] = ..., open_files_limit: _Optional[int] = ..., threads: _Optional[int] = ..., processors: _Optional[int] = ..., shards: _Optional[int] = ...) -> None: ...

class LimitUse(_message.Message):
    __slots__ = ("key", "limit", "used", "reached")
    KEY_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    REACHED_FIELD_NUMBER: _ClassVar[int]
    key: str
    limit: int
    used: int
    reached: int
    def __init__(self, key: _Optional[str] = ..., limit: _Optional[int] = ..., used: _Optional[int] = ..., reached: _Optional[int] = ...) -> None: ...

class NamespaceInfo(_message.Message):
    __slots__ = ("name", "history_size", "history_ttl", "history_bytes", "presence", "slow_consumer", "max_idle", "subscribe", "publish")
    NAME_FIELD_NUMBER: _ClassVar[int]
    HISTORY_SIZE_FIELD_NUMBER: _ClassVar[int]
    HISTORY_TTL_FIELD_NUMBER: _ClassVar[int]
    HISTORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    PRESENCE_FIELD_NUMBER: _ClassVar[int]
    SLOW_CONSUMER_FIELD_NUMBER: _ClassVar[int]
    MAX_IDLE_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBE_FIELD_NUMBER: _ClassVar[int]
    PUBLISH_FIELD_NUMBER: _ClassVar[int]
    name: str
    history_size: int
    history_ttl: _duration_pb2.Duration
    history_bytes: int
    presence: bool
    slow_consumer: str
    max_idle: _duration_pb2.Duration
    subscribe: str
    publish: str
    def __init__(self, name: _Optional[str] = ..., history_size: _Optional[int] = ..., history_ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., history_bytes: _Optional[int] = ..., presence: bool = ..., slow_consumer: _Optional[str] = ..., max_idle: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., subscribe: _Optional[str] = ..., publish: _Optional[str] = ...) -> None: ...

class Setting(_message.Message):
    __slots__ = ("key", "value", "source", "secret", "reloads")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    RELOADS_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: str
    source: str
    secret: bool
    reloads: bool
    def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ..., source: _Optional[str] = ..., secret: bool = ..., reloads: bool = ...) -> None: ...

class GetStatsHistoryRequest(_message.Message):
    __slots__ = ("after",)
    AFTER_FIELD_NUMBER: _ClassVar[int]
    after: _timestamp_pb2.Timestamp
    def __init__(self, after: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class GetStatsHistoryResponse(_message.Message):
    __slots__ = ("step", "samples")
    STEP_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    step: _duration_pb2.Duration
    samples: _containers.RepeatedCompositeFieldContainer[StatsSample]
    def __init__(self, step: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., samples: _Optional[_Iterable[_Union[StatsSample, _Mapping]]] = ...) -> None: ...

class StatsSample(_message.Message):
    __slots__ = ("time", "length", "connections", "subscriptions", "channels", "outbox_bytes", "resident_bytes", "cpu", "opened", "published", "delivered", "replayed", "dropped", "conflated", "refused", "slow_consumers", "bytes_in", "bytes_out", "latency_p50", "latency_p99")
    TIME_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    OUTBOX_BYTES_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    CPU_FIELD_NUMBER: _ClassVar[int]
    OPENED_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    CONFLATED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    SLOW_CONSUMERS_FIELD_NUMBER: _ClassVar[int]
    BYTES_IN_FIELD_NUMBER: _ClassVar[int]
    BYTES_OUT_FIELD_NUMBER: _ClassVar[int]
    LATENCY_P50_FIELD_NUMBER: _ClassVar[int]
    LATENCY_P99_FIELD_NUMBER: _ClassVar[int]
    time: _timestamp_pb2.Timestamp
    length: _duration_pb2.Duration
    connections: int
    subscriptions: int
    channels: int
    outbox_bytes: int
    resident_bytes: int
    cpu: _duration_pb2.Duration
    opened: int
    published: int
    delivered: int
    replayed: int
    dropped: int
    conflated: int
    refused: int
    slow_consumers: int
    bytes_in: int
    bytes_out: int
    latency_p50: _duration_pb2.Duration
    latency_p99: _duration_pb2.Duration
    def __init__(self, time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., length: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., connections: _Optional[int] = ..., subscriptions: _Optional[int] = ..., channels: _Optional[int] = ..., outbox_bytes: _Optional[int] = ..., resident_bytes: _Optional[int] = ..., cpu: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., opened: _Optional[int] = ..., published: _Optional[int] = ..., delivered: _Optional[int] = ..., replayed: _Optional[int] = ..., dropped: _Optional[int] = ..., conflated: _Optional[int] = ..., refused: _Optional[int] = ..., slow_consumers: _Optional[int] = ..., bytes_in: _Optional[int] = ..., bytes_out: _Optional[int] = ..., latency_p50: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., latency_p99: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("user", "claims", "roles", "action", "channel", "event_type")
    USER_FIELD_NUMBER: _ClassVar[int]
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    user: str
    claims: str
    roles: _containers.RepeatedScalarFieldContainer[str]
    action: str
    channel: str
    event_type: str
    def __init__(self, user: _Optional[str] = ..., claims: _Optional[str] = ..., roles: _Optional[_Iterable[str]] = ..., action: _Optional[str] = ..., channel: _Optional[str] = ..., event_type: _Optional[str] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("allowed", "rule", "source", "inputs", "reason")
    class InputsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ALLOWED_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    allowed: bool
    rule: str
    source: str
    inputs: _containers.ScalarMap[str, str]
    reason: str
    def __init__(self, allowed: bool = ..., rule: _Optional[str] = ..., source: _Optional[str] = ..., inputs: _Optional[_Mapping[str, str]] = ..., reason: _Optional[str] = ...) -> None: ...

class WatchRefusalsRequest(_message.Message):
    __slots__ = ("recent", "once")
    RECENT_FIELD_NUMBER: _ClassVar[int]
    ONCE_FIELD_NUMBER: _ClassVar[int]
    recent: int
    once: bool
    def __init__(self, recent: _Optional[int] = ..., once: bool = ...) -> None: ...

class WatchRefusalsResponse(_message.Message):
    __slots__ = ("refusals", "missed")
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    MISSED_FIELD_NUMBER: _ClassVar[int]
    refusals: _containers.RepeatedCompositeFieldContainer[Refusal]
    missed: int
    def __init__(self, refusals: _Optional[_Iterable[_Union[Refusal, _Mapping]]] = ..., missed: _Optional[int] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("sequence", "time", "kind", "code", "close_code", "reason", "user", "address", "transport", "channel", "event_type", "connection_id", "by")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    CLOSE_CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    TRANSPORT_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    CONNECTION_ID_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    time: _timestamp_pb2.Timestamp
    kind: str
    code: str
    close_code: int
    reason: str
    user: str
    address: str
    transport: str
    channel: str
    event_type: str
    connection_id: str
    by: str
    def __init__(self, sequence: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., kind: _Optional[str] = ..., code: _Optional[str] = ..., close_code: _Optional[int] = ..., reason: _Optional[str] = ..., user: _Optional[str] = ..., address: _Optional[str] = ..., transport: _Optional[str] = ..., channel: _Optional[str] = ..., event_type: _Optional[str] = ..., connection_id: _Optional[str] = ..., by: _Optional[str] = ...) -> None: ...

class ListSourcesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListSourcesResponse(_message.Message):
    __slots__ = ("node", "sources")
    NODE_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    node: str
    sources: _containers.RepeatedCompositeFieldContainer[SourceState]
    def __init__(self, node: _Optional[str] = ..., sources: _Optional[_Iterable[_Union[SourceState, _Mapping]]] = ...) -> None: ...

class SourceState(_message.Message):
    __slots__ = ("name", "kind", "server", "connected", "lag", "lag_time", "events", "duplicates", "dead_letters", "failures", "rate", "last_failure", "last_failure_at", "recent_dead_letters")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SERVER_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_FIELD_NUMBER: _ClassVar[int]
    LAG_FIELD_NUMBER: _ClassVar[int]
    LAG_TIME_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    DUPLICATES_FIELD_NUMBER: _ClassVar[int]
    DEAD_LETTERS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    LAST_FAILURE_FIELD_NUMBER: _ClassVar[int]
    LAST_FAILURE_AT_FIELD_NUMBER: _ClassVar[int]
    RECENT_DEAD_LETTERS_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: str
    server: str
    connected: bool
    lag: int
    lag_time: _duration_pb2.Duration
    events: int
    duplicates: int
    dead_letters: int
    failures: int
    rate: float
    last_failure: str
    last_failure_at: _timestamp_pb2.Timestamp
    recent_dead_letters: _containers.RepeatedCompositeFieldContainer[SourceDeadLetter]
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[str] = ..., server: _Optional[str] = ..., connected: bool = ..., lag: _Optional[int] = ..., lag_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., events: _Optional[int] = ..., duplicates: _Optional[int] = ..., dead_letters: _Optional[int] = ..., failures: _Optional[int] = ..., rate: _Optional[float] = ..., last_failure: _Optional[str] = ..., last_failure_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., recent_dead_letters: _Optional[_Iterable[_Union[SourceDeadLetter, _Mapping]]] = ...) -> None: ...

class SourceDeadLetter(_message.Message):
    __slots__ = ("time", "record", "channel", "reason")
    TIME_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    time: _timestamp_pb2.Timestamp
    record: str
    channel: str
    reason: str
    def __init__(self, time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., record: _Optional[str] = ..., channel: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ListWebhooksRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListWebhooksResponse(_message.Message):
    __slots__ = ("webhooks",)
    WEBHOOKS_FIELD_NUMBER: _ClassVar[int]
    webhooks: _containers.RepeatedCompositeFieldContainer[Webhook]
    def __init__(self, webhooks: _Optional[_Iterable[_Union[Webhook, _Mapping]]] = ...) -> None: ...

class Webhook(_message.Message):
    __slots__ = ("url", "events", "state", "queued", "queued_bytes", "lag", "delivered", "failures", "last_error", "next_attempt_at", "dead_letters", "dropped")
    URL_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    QUEUED_BYTES_FIELD_NUMBER: _ClassVar[int]
    LAG_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    LAST_ERROR_FIELD_NUMBER: _ClassVar[int]
    NEXT_ATTEMPT_AT_FIELD_NUMBER: _ClassVar[int]
    DEAD_LETTERS_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    url: str
    events: _containers.RepeatedScalarFieldContainer[str]
    state: str
    queued: int
    queued_bytes: int
    lag: _duration_pb2.Duration
    delivered: int
    failures: int
    last_error: str
    next_attempt_at: _timestamp_pb2.Timestamp
    dead_letters: int
    dropped: int
    def __init__(self, url: _Optional[str] = ..., events: _Optional[_Iterable[str]] = ..., state: _Optional[str] = ..., queued: _Optional[int] = ..., queued_bytes: _Optional[int] = ..., lag: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., delivered: _Optional[int] = ..., failures: _Optional[int] = ..., last_error: _Optional[str] = ..., next_attempt_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., dead_letters: _Optional[int] = ..., dropped: _Optional[int] = ...) -> None: ...

class ResendWebhooksRequest(_message.Message):
    __slots__ = ("url",)
    URL_FIELD_NUMBER: _ClassVar[int]
    url: str
    def __init__(self, url: _Optional[str] = ...) -> None: ...

class ResendWebhooksResponse(_message.Message):
    __slots__ = ("resent",)
    RESENT_FIELD_NUMBER: _ClassVar[int]
    resent: int
    def __init__(self, resent: _Optional[int] = ...) -> None: ...
