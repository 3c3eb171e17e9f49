import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.rpc import status_pb2 as _status_pb2
from tidings.v1 import event_pb2 as _event_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PublishRequest(_message.Message):
    __slots__ = ("channels", "type", "data", "content_type", "headers", "key", "idempotency_key", "audience", "source", "time", "ttl", "skip_history", "expected_offset", "traceparent", "tracestate")
    class HeadersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    SKIP_HISTORY_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_OFFSET_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    TRACESTATE_FIELD_NUMBER: _ClassVar[int]
    channels: _containers.RepeatedScalarFieldContainer[str]
    type: str
    data: bytes
    content_type: str
    headers: _containers.ScalarMap[str, str]
    key: str
    idempotency_key: str
    audience: _event_pb2.Audience
    source: str
    time: _timestamp_pb2.Timestamp
    ttl: _duration_pb2.Duration
    skip_history: bool
    expected_offset: int
    traceparent: str
    tracestate: str
    def __init__(self, channels: _Optional[_Iterable[str]] = ..., type: _Optional[str] = ..., data: _Optional[bytes] = ..., content_type: _Optional[str] = ..., headers: _Optional[_Mapping[str, str]] = ..., key: _Optional[str] = ..., idempotency_key: _Optional[str] = ..., audience: _Optional[_Union[_event_pb2.Audience, _Mapping]] = ..., source: _Optional[str] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., skip_history: bool = ..., expected_offset: _Optional[int] = ..., traceparent: _Optional[str] = ..., tracestate: _Optional[str] = ...) -> None: ...

class PublishResponse(_message.Message):
    __slots__ = ("id", "results", "error")
    ID_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    id: str
    results: _containers.RepeatedCompositeFieldContainer[PublishResult]
    error: _status_pb2.Status
    def __init__(self, id: _Optional[str] = ..., results: _Optional[_Iterable[_Union[PublishResult, _Mapping]]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class PublishResult(_message.Message):
    __slots__ = ("channel", "position", "subscribers", "duplicate")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBERS_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    channel: str
    position: _event_pb2.Position
    subscribers: int
    duplicate: bool
    def __init__(self, channel: _Optional[str] = ..., position: _Optional[_Union[_event_pb2.Position, _Mapping]] = ..., subscribers: _Optional[int] = ..., duplicate: bool = ...) -> None: ...

class PublishBatchRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[PublishRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[PublishRequest, _Mapping]]] = ...) -> None: ...

class PublishBatchResponse(_message.Message):
    __slots__ = ("responses",)
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    responses: _containers.RepeatedCompositeFieldContainer[PublishResponse]
    def __init__(self, responses: _Optional[_Iterable[_Union[PublishResponse, _Mapping]]] = ...) -> None: ...

class PublishStreamRequest(_message.Message):
    __slots__ = ("request",)
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    request: PublishRequest
    def __init__(self, request: _Optional[_Union[PublishRequest, _Mapping]] = ...) -> None: ...

class PublishStreamResponse(_message.Message):
    __slots__ = ("response",)
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    response: PublishResponse
    def __init__(self, response: _Optional[_Union[PublishResponse, _Mapping]] = ...) -> None: ...

class SubscribeRequest(_message.Message):
    __slots__ = ("subscriptions", "event_types", "filter", "durable", "min_interval")
    SUBSCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPES_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    DURABLE_FIELD_NUMBER: _ClassVar[int]
    MIN_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    subscriptions: _containers.RepeatedCompositeFieldContainer[Subscription]
    event_types: _containers.RepeatedScalarFieldContainer[str]
    filter: str
    durable: str
    min_interval: _duration_pb2.Duration
    def __init__(self, subscriptions: _Optional[_Iterable[_Union[Subscription, _Mapping]]] = ..., event_types: _Optional[_Iterable[str]] = ..., filter: _Optional[str] = ..., durable: _Optional[str] = ..., min_interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Subscription(_message.Message):
    __slots__ = ("channel", "since", "rewind")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    REWIND_FIELD_NUMBER: _ClassVar[int]
    channel: str
    since: _event_pb2.Position
    rewind: int
    def __init__(self, channel: _Optional[str] = ..., since: _Optional[_Union[_event_pb2.Position, _Mapping]] = ..., rewind: _Optional[int] = ...) -> None: ...

class SubscribeResponse(_message.Message):
    __slots__ = ("subscribed", "event", "gap", "heartbeat")
    SUBSCRIBED_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    subscribed: Subscribed
    event: _event_pb2.Event
    gap: Gap
    heartbeat: _timestamp_pb2.Timestamp
    def __init__(self, subscribed: _Optional[_Union[Subscribed, _Mapping]] = ..., event: _Optional[_Union[_event_pb2.Event, _Mapping]] = ..., gap: _Optional[_Union[Gap, _Mapping]] = ..., heartbeat: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Subscribed(_message.Message):
    __slots__ = ("channels", "errors", "connection_id")
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    CONNECTION_ID_FIELD_NUMBER: _ClassVar[int]
    channels: _containers.RepeatedCompositeFieldContainer[SubscribedChannel]
    errors: _containers.RepeatedCompositeFieldContainer[SubscriptionError]
    connection_id: str
    def __init__(self, channels: _Optional[_Iterable[_Union[SubscribedChannel, _Mapping]]] = ..., errors: _Optional[_Iterable[_Union[SubscriptionError, _Mapping]]] = ..., connection_id: _Optional[str] = ...) -> None: ...

class SubscribedChannel(_message.Message):
    __slots__ = ("channel", "position", "recovered", "replayed", "cursor")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    RECOVERED_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    channel: str
    position: _event_pb2.Position
    recovered: bool
    replayed: int
    cursor: int
    def __init__(self, channel: _Optional[str] = ..., position: _Optional[_Union[_event_pb2.Position, _Mapping]] = ..., recovered: bool = ..., replayed: _Optional[int] = ..., cursor: _Optional[int] = ...) -> None: ...

class SubscriptionError(_message.Message):
    __slots__ = ("channel", "code", "message")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    channel: str
    code: str
    message: str
    def __init__(self, channel: _Optional[str] = ..., code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class Gap(_message.Message):
    __slots__ = ("channel", "to", "reason")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    channel: str
    to: int
    reason: str
    def __init__(self, channel: _Optional[str] = ..., to: _Optional[int] = ..., reason: _Optional[str] = ..., **kwargs) -> None: ...

class GetHistoryRequest(_message.Message):
    __slots__ = ("channel", "since", "page_size", "page_token", "reverse")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REVERSE_FIELD_NUMBER: _ClassVar[int]
    channel: str
    since: _event_pb2.Position
    page_size: int
    page_token: str
    reverse: bool
    def __init__(self, channel: _Optional[str] = ..., since: _Optional[_Union[_event_pb2.Position, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., reverse: bool = ...) -> None: ...

class GetHistoryResponse(_message.Message):
    __slots__ = ("channel", "position", "events", "next_page_token")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    channel: str
    position: _event_pb2.Position
    events: _containers.RepeatedCompositeFieldContainer[_event_pb2.Event]
    next_page_token: str
    def __init__(self, channel: _Optional[str] = ..., position: _Optional[_Union[_event_pb2.Position, _Mapping]] = ..., events: _Optional[_Iterable[_Union[_event_pb2.Event, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class PurgeHistoryRequest(_message.Message):
    __slots__ = ("channel", "until_offset", "user")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    UNTIL_OFFSET_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    channel: str
    until_offset: int
    user: str
    def __init__(self, channel: _Optional[str] = ..., until_offset: _Optional[int] = ..., user: _Optional[str] = ...) -> None: ...

class PurgeHistoryResponse(_message.Message):
    __slots__ = ("purged", "position")
    PURGED_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    purged: int
    position: _event_pb2.Position
    def __init__(self, purged: _Optional[int] = ..., position: _Optional[_Union[_event_pb2.Position, _Mapping]] = ...) -> None: ...

class SubscribeUserRequest(_message.Message):
    __slots__ = ("user", "connection_id", "channels", "event_types", "filter")
    USER_FIELD_NUMBER: _ClassVar[int]
    CONNECTION_ID_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPES_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    user: str
    connection_id: str
    channels: _containers.RepeatedScalarFieldContainer[str]
    event_types: _containers.RepeatedScalarFieldContainer[str]
    filter: str
    def __init__(self, user: _Optional[str] = ..., connection_id: _Optional[str] = ..., channels: _Optional[_Iterable[str]] = ..., event_types: _Optional[_Iterable[str]] = ..., filter: _Optional[str] = ...) -> None: ...

class SubscribeUserResponse(_message.Message):
    __slots__ = ("connections",)
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    connections: int
    def __init__(self, connections: _Optional[int] = ...) -> None: ...

class UnsubscribeUserRequest(_message.Message):
    __slots__ = ("user", "connection_id", "channels")
    USER_FIELD_NUMBER: _ClassVar[int]
    CONNECTION_ID_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    user: str
    connection_id: str
    channels: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, user: _Optional[str] = ..., connection_id: _Optional[str] = ..., channels: _Optional[_Iterable[str]] = ...) -> None: ...

class UnsubscribeUserResponse(_message.Message):
    __slots__ = ("connections",)
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    connections: int
    def __init__(self, connections: _Optional[int] = ...) -> None: ...

class AckRequest(_message.Message):
    __slots__ = ("channel", "durable", "offset", "user")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    DURABLE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    channel: str
    durable: str
    offset: int
    user: str
    def __init__(self, channel: _Optional[str] = ..., durable: _Optional[str] = ..., offset: _Optional[int] = ..., user: _Optional[str] = ...) -> None: ...

class AckResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetCursorsRequest(_message.Message):
    __slots__ = ("channel", "user", "durable", "page_size", "page_token")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    DURABLE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    channel: str
    user: str
    durable: str
    page_size: int
    page_token: str
    def __init__(self, channel: _Optional[str] = ..., user: _Optional[str] = ..., durable: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class GetCursorsResponse(_message.Message):
    __slots__ = ("cursors", "next_page_token")
    CURSORS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    cursors: _containers.RepeatedCompositeFieldContainer[Cursor]
    next_page_token: str
    def __init__(self, cursors: _Optional[_Iterable[_Union[Cursor, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class Cursor(_message.Message):
    __slots__ = ("user", "durable", "channel", "position", "used_at")
    USER_FIELD_NUMBER: _ClassVar[int]
    DURABLE_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    USED_AT_FIELD_NUMBER: _ClassVar[int]
    user: str
    durable: str
    channel: str
    position: _event_pb2.Position
    used_at: _timestamp_pb2.Timestamp
    def __init__(self, user: _Optional[str] = ..., durable: _Optional[str] = ..., channel: _Optional[str] = ..., position: _Optional[_Union[_event_pb2.Position, _Mapping]] = ..., used_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
