//! The declarations of the keys in tables that may stand several times: namespaces, event types and
//! dialects.

use super::keys::{Key, key, required};
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
        "Its name, or \"*\" for every undeclared one.",
    ),
    key(
        "namespace[].presence",
        Kind::Bool,
        "false",
        "Whether it is known who is in a channel.",
    ),
    key(
        "namespace[].subscribe",
        Kind::Text,
        r#""""#,
        "[Rule](../how-to/tokens-and-rules.md#rules): who may follow; missing: services and admins only.",
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
        "When an outbox is full: `disconnect`, `drop_oldest`, `conflate` or `resync` (needs history); [what each does](protocol.md#slow-connections).",
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
        "An empty, unused channel is forgotten after this.",
    ),
    key(
        "namespace[].history.size",
        Kind::Whole(0, 100_000_000),
        "0",
        "Events of each channel; 0: none, and no offsets.",
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
        "Bytes of events of each channel.",
    ),
    key("event_type", Kind::Tables, "[]", "Event types."),
    required(
        "event_type[].name",
        Kind::Text,
        r#""project.updated""#,
        "Its name.",
    ),
    key(
        "event_type[].namespace",
        Kind::Text,
        r#""""#,
        "The namespace in whose channels it is published, which must be declared; empty or `\"*\"`: any.",
    ),
    key(
        "event_type[].description",
        Kind::Text,
        r#""""#,
        "What it means.",
    ),
    key(
        "event_type[].roles",
        Kind::List,
        "[]",
        "If set, only holders of one of these receive it.",
    ),
    key(
        "event_type[].broadcast",
        Kind::Bool,
        "false",
        "Whether it may also go to everyone, in the channel `global`, where `namespace` is set.",
    ),
    key(
        "event_type[].control",
        Kind::Bool,
        "false",
        "true: one of the server's own messages, or a client's, which can be looked up but not published. Only these may have a [reserved name](protocol.md#reserved-names).",
    ),
    key(
        "event_type[].schema",
        Kind::Json,
        r#""""#,
        "JSON Schema (2020-12) of its payload; empty: none.",
    ),
    key(
        "event_type[].schema_file",
        Kind::Path,
        r#""""#,
        "The same in a JSON file.",
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
        "The same in a JSON file.",
    ),
    key(
        "event_type[].conflate_key",
        Kind::Text,
        r#""""#,
        "Where the key for conflation stands, such as \"data.job_id\"; empty: only the publisher's own key.",
    ),
    key("dialect", Kind::Tables, "[]", "Dialects."),
    required(
        "dialect[].name",
        Kind::Text,
        r#""mobile""#,
        "Its name: 1–128 of `A-Z a-z 0-9 _ - .`, and not that of a dialect that is always there.",
    ),
    key(
        "dialect[].protocol",
        Kind::OneOf(&["websocket", "socket.io"]),
        r#""websocket""#,
        "What carries it: `websocket`, or [`socket.io`](../how-to/socket-io-clients.md).",
    ),
    key(
        "dialect[].paths",
        Kind::List,
        "[]",
        "Further paths where it is spoken; for `socket.io` those of Engine.IO, of which one may be `websocket.path`. No two dialects of one protocol share one.",
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
        "The member that carries an event's data; `\"\"`: flat, see below.",
    ),
    key(
        "dialect[].event.members",
        Kind::List,
        r#"["type", "channel", "id", "timestamp", "offset", "headers", "traceparent"]"#,
        "Which members of the envelope are written, in this order. `traceparent` brings `tracestate`; `position`, which is not a default, is `{channel, epoch, offset}`.",
    ),
    key(
        "dialect[].control.data",
        Kind::Text,
        r#""""#,
        "The member that carries the body of replies and of the server's own messages; `\"\"`: the body's members stand beside the others.",
    ),
    key(
        "dialect[].control.members",
        Kind::List,
        r#"["type"]"#,
        "What is written beside the body: `type`, `timestamp` (now, unless the body has one). A request's `id` is always echoed.",
    ),
    key(
        "dialect[].control.refusals",
        Kind::OneOf(&["subscribed", "error"]),
        r#""subscribed""#,
        "Channels that were refused stand in `errors` of `subscribed`, or, with `error`, each in an `error` of its own that names its `channel`; then `subscribed` comes only if something was subscribed to.",
    ),
    key(
        "dialect[].control.names",
        Kind::Names,
        "{}",
        "By our name, what a message is called: a name, a list (it is said once under each), or `[]` (not said at all).",
    ),
    key(
        "dialect[].command",
        Kind::Tables,
        "[]",
        "What clients say, as below. What is not listed keeps our names.",
    ),
    required(
        "dialect[].command[].name",
        Kind::Text,
        r#""join""#,
        "What the client says: its message's `type`, or the event's name in Socket.IO.",
    ),
    required(
        "dialect[].command[].does",
        Kind::Text,
        r#""subscribe""#,
        "Our command: `authenticate`, `register`, `subscribe`, `unsubscribe`, `publish`, `history`, `presence`, `ping`, `heartbeat_response` or `receive`.",
    ),
    key(
        "dialect[].command[].channels",
        Kind::Text,
        r#""""#,
        "What makes the channels: `{member}` stands for that member of the message, a text or a number, or a list of those, for one channel each (256 at most).",
    ),
    key(
        "dialect[].command[].members",
        Kind::Texts,
        "{}",
        "By their name, which member of ours it is: `{ newest = \"rewind\" }`. Failures name theirs.",
    ),
    key(
        "dialect[].command[].echo",
        Kind::List,
        "[]",
        "Members of the message that its reply repeats, be it an `error`; never a token.",
    ),
];
