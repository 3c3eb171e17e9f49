//! The label values that are known beforehand.

/// How a client is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A WebSocket of the server's own dialects.
    WebSocket,
    /// Socket.IO, by long polling or over a WebSocket: a connection goes from one to the other.
    SocketIo,
    /// Server-sent events.
    Sse,
    /// A gRPC stream.
    Grpc,
}

impl Transport {
    /// Every transport, in the order of their declaration.
    pub const ALL: [Transport; Transport::COUNT] = [
        Transport::WebSocket,
        Transport::SocketIo,
        Transport::Sse,
        Transport::Grpc,
    ];

    /// How many there are.
    pub const COUNT: usize = 4;

    /// The name as it stands in metrics and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Transport::WebSocket => "websocket",
            Transport::SocketIo => "socketio",
            Transport::Sse => "sse",
            Transport::Grpc => "grpc",
        }
    }

    /// What is said where something else is named: all of them.
    #[must_use]
    pub fn expected() -> String {
        let names = Self::ALL.map(Transport::as_str);
        let [names @ .., last] = &names;
        format!("expected {} or {last}", names.join(", "))
    }

    /// Picks this transport's part of a table that has one part for each.
    pub(super) const fn pick<T>(self, table: &[T; Self::COUNT]) -> &T {
        let [websocket, socketio, sse, grpc] = table;
        match self {
            Transport::WebSocket => websocket,
            Transport::SocketIo => socketio,
            Transport::Sse => sse,
            Transport::Grpc => grpc,
        }
    }
}

/// Why an event did not reach a subscriber that it was meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The outbox was full and the policy ended the connection.
    SlowConsumer,
    /// The outbox was full and the policy dropped the oldest.
    DropOldest,
    /// A newer event of the same key took its place in a full outbox.
    Conflated,
    /// The connection ended with the event still in its outbox.
    Disconnected,
    /// A catch-up needed an event that history no longer holds.
    NoHistory,
}

impl DropReason {
    /// Every reason.
    pub const ALL: [DropReason; 5] = [
        DropReason::SlowConsumer,
        DropReason::DropOldest,
        DropReason::Conflated,
        DropReason::Disconnected,
        DropReason::NoHistory,
    ];

    /// The reason as it stands in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            DropReason::SlowConsumer => "slow_consumer",
            DropReason::DropOldest => "drop_oldest",
            DropReason::Conflated => "conflated",
            DropReason::Disconnected => "disconnected",
            DropReason::NoHistory => "no_history",
        }
    }

    /// Picks this reason's part of a table that has one part for each.
    pub(super) const fn pick<T>(self, table: &[T; 5]) -> &T {
        let [
            slow_consumer,
            drop_oldest,
            conflated,
            disconnected,
            no_history,
        ] = table;
        match self {
            DropReason::SlowConsumer => slow_consumer,
            DropReason::DropOldest => drop_oldest,
            DropReason::Conflated => conflated,
            DropReason::Disconnected => disconnected,
            DropReason::NoHistory => no_history,
        }
    }
}

/// What became of a client's word that an event has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Confirmation {
    /// It stands in the trace and the histogram.
    Taken,
    /// The client was not asked about this event, has told already, or took too long.
    Unknown,
    /// Its times can't be: the event had not been sent yet, or they run backwards.
    Implausible,
}

impl Confirmation {
    /// Every outcome.
    pub const ALL: [Confirmation; 3] = [
        Confirmation::Taken,
        Confirmation::Unknown,
        Confirmation::Implausible,
    ];

    /// The outcome as it stands in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Confirmation::Taken => "taken",
            Confirmation::Unknown => "unknown",
            Confirmation::Implausible => "implausible",
        }
    }

    /// Picks this outcome's part of a table that has one part for each.
    pub(super) const fn pick<T>(self, table: &[T; 3]) -> &T {
        let [taken, unknown, implausible] = table;
        match self {
            Confirmation::Taken => taken,
            Confirmation::Unknown => unknown,
            Confirmation::Implausible => implausible,
        }
    }
}

/// What was not there for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stalled {
    /// The thread of a shard, with its connections.
    Shard,
    /// The runtime, with HTTP, gRPC and handshakes.
    Runtime,
}

impl Stalled {
    /// Everything that can stall.
    pub const ALL: [Stalled; 2] = [Stalled::Shard, Stalled::Runtime];

    /// What it is called in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Stalled::Shard => "shard",
            Stalled::Runtime => "runtime",
        }
    }

    /// Picks its part of a table that has one part for each.
    pub(super) const fn pick<T>(self, table: &[T; 2]) -> &T {
        let [shard, runtime] = table;
        match self {
            Stalled::Shard => shard,
            Stalled::Runtime => runtime,
        }
    }
}
