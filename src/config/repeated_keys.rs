//! The declarations of the keys in tables that may be repeated: namespaces, event types,
//! dialects and webhooks.

use super::keys::{Key, fixed, key, required};
use super::kind::{Kind, MANY};

const ONE: Kind = Kind::Whole(1, MANY);
const POLICIES: Kind = Kind::OneOf(&["disconnect", "drop_oldest", "conflate", "resync"]);

/// Every key of a repeated table.
pub(super) const REPEATED: &[Key] = &[
    key("namespace", Kind::Tables, "[]", "Namespaces."),
    required(
        "namespace[].name",
        Kind::Text,
        r#""project""#,
        "Name of the namespace, or \"*\" for every undeclared one.",
    ),
    key(
        "namespace[].presence",
        Kind::Bool,
        "false",
        "Whether the server tracks which users are subscribed to a channel.",
    ),
    key(
        "namespace[].subscribe",
        Kind::Text,
        r#""""#,
        "[Rule](../how-to/tokens-and-rules.md#rules): who may subscribe; missing: services and admins only.",
    ),
    key(
        "namespace[].publish",
        Kind::Text,
        r#""""#,
        "[Rule](../how-to/tokens-and-rules.md#rules): who may publish; missing: services and admins only.",
    ),
    key(
        "namespace[].slow_consumer",
        POLICIES,
        r#""disconnect""#,
        "Policy for a full outbox: `disconnect`, `drop_oldest`, `conflate` or `resync` (needs history); [what each does](protocol.md#slow-connections).",
    ),
    key(
        "namespace[].min_interval",
        Kind::Duration,
        r#""0""#,
        "The least time between two events of a key, for each subscriber of a channel: only the newest is delivered, and the others count as `conflated`; `0`: none. [More](protocol.md#at-most-one-event-of-a-key).",
    ),
    key(
        "namespace[].max_idle",
        Kind::Duration,
        r#""1h""#,
        "Time after which an empty channel without subscribers is removed.",
    ),
    key(
        "namespace[].history.size",
        Kind::Whole(0, 100_000_000),
        "0",
        "Most events kept per channel; 0: no history, and no offsets.",
    ),
    key(
        "namespace[].history.ttl",
        Kind::Duration,
        r#""1h""#,
        "How long an event is kept.",
    ),
    key(
        "namespace[].history.bytes",
        ONE,
        "67108864",
        "Most bytes of events kept per channel.",
    ),
    key("event_type", Kind::Tables, "[]", "Event types."),
    required(
        "event_type[].name",
        Kind::Text,
        r#""project.updated""#,
        "Name of the event type.",
    ),
    key(
        "event_type[].namespace",
        Kind::Text,
        r#""""#,
        "The namespace in whose channels it may be published; it must be declared. Empty or `\"*\"`: any.",
    ),
    key(
        "event_type[].description",
        Kind::Text,
        r#""""#,
        "What the event means.",
    ),
    key(
        "event_type[].roles",
        Kind::List,
        "[]",
        "If set, only connections with one of these roles receive it.",
    ),
    key(
        "event_type[].broadcast",
        Kind::Bool,
        "false",
        "Whether an event type with a `namespace` may also be published to everyone, in the channel `global`.",
    ),
    key(
        "event_type[].control",
        Kind::Bool,
        "false",
        "true: a message of the server or of a client that is listed in the catalog but can't be published. Only these may have a [reserved name](protocol.md#reserved-names).",
    ),
    key(
        "event_type[].schema",
        Kind::Json,
        r#""""#,
        "JSON Schema (2020-12) of the payload; empty: none.",
    ),
    key(
        "event_type[].schema_file",
        Kind::Path,
        r#""""#,
        "The schema in a JSON file.",
    ),
    key(
        "event_type[].example",
        Kind::Json,
        r#""""#,
        "A valid payload; empty: the first of the schema's examples.",
    ),
    key(
        "event_type[].example_file",
        Kind::Path,
        r#""""#,
        "The example in a JSON file.",
    ),
    key(
        "event_type[].conflate_key",
        Kind::Text,
        r#""""#,
        "Path of the conflation key in the event, such as \"data.job_id\"; empty: only the key that the publisher sets.",
    ),
    key("dialect", Kind::Tables, "[]", "Dialects."),
    required(
        "dialect[].name",
        Kind::Text,
        r#""mobile""#,
        "Name of the dialect: 1–128 of `A-Z a-z 0-9 _ - .`, and not that of a built-in dialect.",
    ),
    key(
        "dialect[].protocol",
        Kind::OneOf(&["websocket", "socket.io"]),
        r#""websocket""#,
        "The transport: `websocket`, or [`socket.io`](../how-to/socket-io-clients.md).",
    ),
    key(
        "dialect[].paths",
        Kind::List,
        "[]",
        "Paths of the dialect's own endpoints. For `socket.io` they are Engine.IO endpoints, and one may be `websocket.path`. Two dialects of one protocol can't share a path.",
    ),
    key(
        "dialect[].namespaces",
        Kind::List,
        r#"["/"]"#,
        "For `socket.io`: the namespaces to which a client may connect.",
    ),
    key(
        "dialect[].event.data",
        Kind::Text,
        r#""data""#,
        "The member that holds an event's data; `\"\"`: flat, see below.",
    ),
    key(
        "dialect[].event.members",
        Kind::List,
        r#"["type", "channel", "id", "timestamp", "offset", "headers", "traceparent"]"#,
        "The members of the envelope, in this order. `traceparent` includes `tracestate`; `position`, which is not a default, is `{channel, epoch, offset}`.",
    ),
    key(
        "dialect[].control.data",
        Kind::Text,
        r#""""#,
        "The member that holds the body of replies and of the server's own messages; `\"\"`: the body's members are written at the top level.",
    ),
    key(
        "dialect[].control.members",
        Kind::List,
        r#"["type"]"#,
        "Members that are written besides the body: `type`, `timestamp` (the current time, unless the body has one). A request's `id` is always echoed.",
    ),
    key(
        "dialect[].control.refusals",
        Kind::OneOf(&["subscribed", "error"]),
        r#""subscribed""#,
        "How refused channels are reported: `subscribed` lists them in the `errors` of `subscribed`; `error` sends an `error` with its `channel` for each, and `subscribed` only if at least one subscription succeeded.",
    ),
    key(
        "dialect[].control.names",
        Kind::Names,
        "{}",
        "Maps our name of a message to the dialect's: a name, a list (the message is sent once under each name), or `[]` (the message is not sent).",
    ),
    key(
        "dialect[].command",
        Kind::Tables,
        "[]",
        "The dialect's client commands, as below. Commands that are not listed keep our names.",
    ),
    required(
        "dialect[].command[].name",
        Kind::Text,
        r#""join""#,
        "The dialect's name of the command: the message's `type`, or the event's name in Socket.IO.",
    ),
    required(
        "dialect[].command[].does",
        Kind::Text,
        r#""subscribe""#,
        "Our command that it maps to: `authenticate`, `register`, `subscribe`, `unsubscribe`, `publish`, `history`, `presence`, `ping`, `heartbeat_response` or `receive`.",
    ),
    key(
        "dialect[].command[].channels",
        Kind::Text,
        r#""""#,
        "Template of the channel names: `{member}` is replaced by that member of the message, a string or a number. A list of those makes one channel each (256 at most).",
    ),
    key(
        "dialect[].command[].members",
        Kind::Texts,
        "{}",
        "Maps the dialect's members to ours: `{ newest = \"rewind\" }`. Errors use the dialect's names.",
    ),
    key(
        "dialect[].command[].echo",
        Kind::List,
        "[]",
        "Members of the message that its reply repeats, also if the reply is an `error`; never a token.",
    ),
    fixed("webhook", Kind::Tables, "[]", "Webhooks."),
    Key {
        reloads: false,
        ..required(
            "webhook[].url",
            Kind::Text,
            r#""https://app.example.com/tidings""#,
            "The `http` or `https` address that gets [the events](../how-to/webhooks.md), without user and password.",
        )
    },
    fixed(
        "webhook[].secret",
        Kind::Text,
        r#""""#,
        "Signs the requests (Standard Webhooks): `whsec_` and 24 to 64 bytes in base64; empty: they are not signed.",
    ),
    fixed(
        "webhook[].events",
        Kind::List,
        r#"["connection.opened", "connection.closed", "channel.occupied", "channel.vacated", "presence.joined", "presence.left"]"#,
        "The events that it gets.",
    ),
    fixed(
        "webhook[].queue_bytes",
        Kind::Whole(1 << 16, MANY),
        "67108864",
        "Most bytes of queued events. When the queue is full, new events are dropped, which is counted, logged and reported to the application by `webhook.dropped`.",
    ),
    fixed(
        "webhook[].dead_letter_bytes",
        Kind::Whole(0, MANY),
        "16777216",
        "Most bytes of dead letters that are kept; the oldest are dropped.",
    ),
    fixed(
        "webhook[].batch_events",
        Kind::Whole(1, 10_000),
        "500",
        "Most events of one request, which has at most 256 KiB unless one event is larger.",
    ),
    fixed(
        "webhook[].timeout",
        Kind::Duration,
        r#""10s""#,
        "How long a request may take, the answer included.",
    ),
    fixed(
        "webhook[].retry_for",
        Kind::Duration,
        r#""24h""#,
        "How long an event is tried before it becomes a dead letter.",
    ),
    fixed(
        "webhook[].retry_pause",
        Kind::Duration,
        r#""5m""#,
        "The longest pause between two attempts, unless the application asks for a longer one with `Retry-After`. Pauses begin at 1 s and double.",
    ),
];
