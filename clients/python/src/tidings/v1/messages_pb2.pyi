import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from tidings.v1 import event_pb2 as _event_pb2
from tidings.v1 import event_service_pb2 as _event_service_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ClientMessage(_message.Message):
    __slots__ = ("id", "authenticate", "register", "subscribe", "unsubscribe", "publish", "history", "presence", "ping", "heartbeat_response", "receive", "ack", "rpc")
    ID_FIELD_NUMBER: _ClassVar[int]
    AUTHENTICATE_FIELD_NUMBER: _ClassVar[int]
    REGISTER_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBE_FIELD_NUMBER: _ClassVar[int]
    UNSUBSCRIBE_FIELD_NUMBER: _ClassVar[int]
    PUBLISH_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    PRESENCE_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    RECEIVE_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    RPC_FIELD_NUMBER: _ClassVar[int]
    id: str
    authenticate: AuthenticateCommand
    register: RegisterCommand
    subscribe: SubscribeCommand
    unsubscribe: UnsubscribeCommand
    publish: PublishCommand
    history: HistoryCommand
    presence: PresenceCommand
    ping: PingCommand
    heartbeat_response: HeartbeatResponseCommand
    receive: ReceiveCommand
    ack: AckCommand
    rpc: RpcCommand
    def __init__(self, id: _Optional[str] = ..., authenticate: _Optional[_Union[AuthenticateCommand, _Mapping]] = ..., register: _Optional[_Union[RegisterCommand, _Mapping]] = ..., subscribe: _Optional[_Union[SubscribeCommand, _Mapping]] = ..., unsubscribe: _Optional[_Union[UnsubscribeCommand, _Mapping]] = ..., publish: _Optional[_Union[PublishCommand, _Mapping]] = ..., history: _Optional[_Union[HistoryCommand, _Mapping]] = ..., presence: _Optional[_Union[PresenceCommand, _Mapping]] = ..., ping: _Optional[_Union[PingCommand, _Mapping]] = ..., heartbeat_response: _Optional[_Union[HeartbeatResponseCommand, _Mapping]] = ..., receive: _Optional[_Union[ReceiveCommand, _Mapping]] = ..., ack: _Optional[_Union[AckCommand, _Mapping]] = ..., rpc: _Optional[_Union[RpcCommand, _Mapping]] = ...) -> None: ...

class AuthenticateCommand(_message.Message):
    __slots__ = ("token",)
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    token: str
    def __init__(self, token: _Optional[str] = ...) -> None: ...

class RegisterCommand(_message.Message):
    __slots__ = ("client_type", "client_name")
    CLIENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    CLIENT_NAME_FIELD_NUMBER: _ClassVar[int]
    client_type: str
    client_name: str
    def __init__(self, client_type: _Optional[str] = ..., client_name: _Optional[str] = ...) -> None: ...

class SubscribeCommand(_message.Message):
    __slots__ = ("subscriptions", "event_types", "filter", "presence", "durable", "min_interval")
    SUBSCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPES_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    PRESENCE_FIELD_NUMBER: _ClassVar[int]
    DURABLE_FIELD_NUMBER: _ClassVar[int]
    MIN_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    subscriptions: _containers.RepeatedCompositeFieldContainer[_event_service_pb2.Subscription]
    event_types: _containers.RepeatedScalarFieldContainer[str]
    filter: str
    presence: bool
    durable: str
    min_interval: _duration_pb2.Duration
    def __init__(self, subscriptions: _Optional[_Iterable[_Union[_event_service_pb2.Subscription, _Mapping]]] = ..., event_types: _Optional[_Iterable[str]] = ..., filter: _Optional[str] = ..., presence: bool = ..., durable: _Optional[str] = ..., min_interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class AckCommand(_message.Message):
    __slots__ = ("channel", "durable", "offset")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    DURABLE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    channel: str
    durable: str
    offset: int
    def __init__(self, channel: _Optional[str] = ..., durable: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...

class UnsubscribeCommand(_message.Message):
    __slots__ = ("channels", "event_types")
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPES_FIELD_NUMBER: _ClassVar[int]
    channels: _containers.RepeatedScalarFieldContainer[str]
    event_types: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, channels: _Optional[_Iterable[str]] = ..., event_types: _Optional[_Iterable[str]] = ...) -> None: ...

class PublishCommand(_message.Message):
    __slots__ = ("channel", "event_type", "data", "content_type", "headers", "key", "idempotency_key", "traceparent", "tracestate")
    class HeadersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    TRACESTATE_FIELD_NUMBER: _ClassVar[int]
    channel: str
    event_type: str
    data: bytes
    content_type: str
    headers: _containers.ScalarMap[str, str]
    key: str
    idempotency_key: str
    traceparent: str
    tracestate: str
    def __init__(self, channel: _Optional[str] = ..., event_type: _Optional[str] = ..., data: _Optional[bytes] = ..., content_type: _Optional[str] = ..., headers: _Optional[_Mapping[str, str]] = ..., key: _Optional[str] = ..., idempotency_key: _Optional[str] = ..., traceparent: _Optional[str] = ..., tracestate: _Optional[str] = ...) -> None: ...

class HistoryCommand(_message.Message):
    __slots__ = ("channel", "since", "limit", "reverse")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    REVERSE_FIELD_NUMBER: _ClassVar[int]
    channel: str
    since: _event_pb2.Position
    limit: int
    reverse: bool
    def __init__(self, channel: _Optional[str] = ..., since: _Optional[_Union[_event_pb2.Position, _Mapping]] = ..., limit: _Optional[int] = ..., reverse: bool = ...) -> None: ...

class PresenceCommand(_message.Message):
    __slots__ = ("channel",)
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    channel: str
    def __init__(self, channel: _Optional[str] = ...) -> None: ...

class RpcCommand(_message.Message):
    __slots__ = ("method", "data")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    method: str
    data: bytes
    def __init__(self, method: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...

class PingCommand(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HeartbeatResponseCommand(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReceiveCommand(_message.Message):
    __slots__ = ("id", "channel", "received_at", "handled_at", "sent_at")
    ID_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_AT_FIELD_NUMBER: _ClassVar[int]
    HANDLED_AT_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_FIELD_NUMBER: _ClassVar[int]
    id: str
    channel: str
    received_at: _timestamp_pb2.Timestamp
    handled_at: _timestamp_pb2.Timestamp
    sent_at: _timestamp_pb2.Timestamp
    def __init__(self, id: _Optional[str] = ..., channel: _Optional[str] = ..., received_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., handled_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., sent_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ServerMessage(_message.Message):
    __slots__ = ("id", "event", "connection_established", "authenticated", "registered", "subscribed", "unsubscribed", "published", "history", "presence", "pong", "error", "heartbeat", "presence_joined", "presence_left", "token_expiring", "gap", "reconnect", "rpc", "confirm")
    ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    CONNECTION_ESTABLISHED_FIELD_NUMBER: _ClassVar[int]
    AUTHENTICATED_FIELD_NUMBER: _ClassVar[int]
    REGISTERED_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBED_FIELD_NUMBER: _ClassVar[int]
    UNSUBSCRIBED_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    PRESENCE_FIELD_NUMBER: _ClassVar[int]
    PONG_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    PRESENCE_JOINED_FIELD_NUMBER: _ClassVar[int]
    PRESENCE_LEFT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_EXPIRING_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    RECONNECT_FIELD_NUMBER: _ClassVar[int]
    RPC_FIELD_NUMBER: _ClassVar[int]
    CONFIRM_FIELD_NUMBER: _ClassVar[int]
    id: str
    event: _event_pb2.Event
    connection_established: ConnectionEstablished
    authenticated: Authenticated
    registered: Registered
    subscribed: _event_service_pb2.Subscribed
    unsubscribed: Unsubscribed
    published: Published
    history: HistoryPage
    presence: Presence
    pong: Pong
    error: Failure
    heartbeat: Heartbeat
    presence_joined: PresenceJoined
    presence_left: PresenceLeft
    token_expiring: TokenExpiring
    gap: _event_service_pb2.Gap
    reconnect: Reconnect
    rpc: RpcReply
    confirm: bool
    def __init__(self, id: _Optional[str] = ..., event: _Optional[_Union[_event_pb2.Event, _Mapping]] = ..., connection_established: _Optional[_Union[ConnectionEstablished, _Mapping]] = ..., authenticated: _Optional[_Union[Authenticated, _Mapping]] = ..., registered: _Optional[_Union[Registered, _Mapping]] = ..., subscribed: _Optional[_Union[_event_service_pb2.Subscribed, _Mapping]] = ..., unsubscribed: _Optional[_Union[Unsubscribed, _Mapping]] = ..., published: _Optional[_Union[Published, _Mapping]] = ..., history: _Optional[_Union[HistoryPage, _Mapping]] = ..., presence: _Optional[_Union[Presence, _Mapping]] = ..., pong: _Optional[_Union[Pong, _Mapping]] = ..., error: _Optional[_Union[Failure, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., presence_joined: _Optional[_Union[PresenceJoined, _Mapping]] = ..., presence_left: _Optional[_Union[PresenceLeft, _Mapping]] = ..., token_expiring: _Optional[_Union[TokenExpiring, _Mapping]] = ..., gap: _Optional[_Union[_event_service_pb2.Gap, _Mapping]] = ..., reconnect: _Optional[_Union[Reconnect, _Mapping]] = ..., rpc: _Optional[_Union[RpcReply, _Mapping]] = ..., confirm: bool = ...) -> None: ...

class ConnectionEstablished(_message.Message):
    __slots__ = ("connection_id", "user", "roles", "heartbeat_interval_ms", "heartbeat_timeout_ms", "timestamp")
    CONNECTION_ID_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    connection_id: str
    user: str
    roles: _containers.RepeatedScalarFieldContainer[str]
    heartbeat_interval_ms: int
    heartbeat_timeout_ms: int
    timestamp: _timestamp_pb2.Timestamp
    def __init__(self, connection_id: _Optional[str] = ..., user: _Optional[str] = ..., roles: _Optional[_Iterable[str]] = ..., heartbeat_interval_ms: _Optional[int] = ..., heartbeat_timeout_ms: _Optional[int] = ..., timestamp: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Authenticated(_message.Message):
    __slots__ = ("user", "roles", "expires_at")
    USER_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    user: str
    roles: _containers.RepeatedScalarFieldContainer[str]
    expires_at: _timestamp_pb2.Timestamp
    def __init__(self, user: _Optional[str] = ..., roles: _Optional[_Iterable[str]] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Registered(_message.Message):
    __slots__ = ("client_type", "client_name")
    CLIENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    CLIENT_NAME_FIELD_NUMBER: _ClassVar[int]
    client_type: str
    client_name: str
    def __init__(self, client_type: _Optional[str] = ..., client_name: _Optional[str] = ...) -> None: ...

class Unsubscribed(_message.Message):
    __slots__ = ("channels", "event_types", "reason")
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPES_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    channels: _containers.RepeatedScalarFieldContainer[str]
    event_types: _containers.RepeatedScalarFieldContainer[str]
    reason: _event_service_pb2.SubscriptionError
    def __init__(self, channels: _Optional[_Iterable[str]] = ..., event_types: _Optional[_Iterable[str]] = ..., reason: _Optional[_Union[_event_service_pb2.SubscriptionError, _Mapping]] = ...) -> None: ...

class Published(_message.Message):
    __slots__ = ("event_id", "position", "duplicate")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    position: _event_pb2.Position
    duplicate: bool
    def __init__(self, event_id: _Optional[str] = ..., position: _Optional[_Union[_event_pb2.Position, _Mapping]] = ..., duplicate: bool = ...) -> None: ...

class HistoryPage(_message.Message):
    __slots__ = ("channel", "position", "events")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    channel: str
    position: _event_pb2.Position
    events: _containers.RepeatedCompositeFieldContainer[_event_pb2.Event]
    def __init__(self, channel: _Optional[str] = ..., position: _Optional[_Union[_event_pb2.Position, _Mapping]] = ..., events: _Optional[_Iterable[_Union[_event_pb2.Event, _Mapping]]] = ...) -> None: ...

class Presence(_message.Message):
    __slots__ = ("channel", "users", "total")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    USERS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    channel: str
    users: _containers.RepeatedCompositeFieldContainer[PresentUser]
    total: int
    def __init__(self, channel: _Optional[str] = ..., users: _Optional[_Iterable[_Union[PresentUser, _Mapping]]] = ..., total: _Optional[int] = ...) -> None: ...

class PresentUser(_message.Message):
    __slots__ = ("user", "connections")
    USER_FIELD_NUMBER: _ClassVar[int]
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    user: str
    connections: int
    def __init__(self, user: _Optional[str] = ..., connections: _Optional[int] = ...) -> None: ...

class RpcReply(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class Pong(_message.Message):
    __slots__ = ("timestamp",)
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    timestamp: _timestamp_pb2.Timestamp
    def __init__(self, timestamp: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("code", "message", "field", "expected", "retry_after_ms")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    field: str
    expected: str
    retry_after_ms: int
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., field: _Optional[str] = ..., expected: _Optional[str] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("timestamp",)
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    timestamp: _timestamp_pb2.Timestamp
    def __init__(self, timestamp: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class PresenceJoined(_message.Message):
    __slots__ = ("channel", "user")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    channel: str
    user: str
    def __init__(self, channel: _Optional[str] = ..., user: _Optional[str] = ...) -> None: ...

class PresenceLeft(_message.Message):
    __slots__ = ("channel", "user")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    channel: str
    user: str
    def __init__(self, channel: _Optional[str] = ..., user: _Optional[str] = ...) -> None: ...

class TokenExpiring(_message.Message):
    __slots__ = ("expires_at",)
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    expires_at: _timestamp_pb2.Timestamp
    def __init__(self, expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Reconnect(_message.Message):
    __slots__ = ("after_ms", "reason")
    AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    after_ms: int
    reason: str
    def __init__(self, after_ms: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...
