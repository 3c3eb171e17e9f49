//! Label values that are known at compile time.

/// The transport of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A WebSocket of one of the server's own dialects.
    WebSocket,
    /// Socket.IO, by long polling or over a WebSocket: a connection can upgrade from one to the
    /// other.
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

    /// The number of transports.
    pub const COUNT: usize = 4;

    /// The name in metrics and responses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Transport::WebSocket => "websocket",
            Transport::SocketIo => "socketio",
            Transport::Sse => "sse",
            Transport::Grpc => "grpc",
        }
    }

    /// The list of all transports, for error messages.
    #[must_use]
    pub fn expected() -> String {
        let names = Self::ALL.map(Transport::as_str);
        let [names @ .., last] = &names;
        format!("expected {} or {last}", names.join(", "))
    }

    /// This transport's element of a table.
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
    /// A newer event of the same key replaced it in a full outbox.
    Conflated,
    /// The connection closed with the event still in its outbox.
    Disconnected,
    /// Recovery needed an event that history no longer holds.
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

    /// The reason in metrics.
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

    /// This reason's element of a table.
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

/// The result of a client's delivery confirmation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Confirmation {
    /// It is in the trace and the histogram.
    Taken,
    /// The client was not asked about this event, has confirmed it already, or took too long.
    Unknown,
    /// Its times are impossible: before the event was sent, or decreasing.
    Implausible,
}

impl Confirmation {
    /// All results.
    pub const ALL: [Confirmation; 3] = [
        Confirmation::Taken,
        Confirmation::Unknown,
        Confirmation::Implausible,
    ];

    /// The result in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Confirmation::Taken => "taken",
            Confirmation::Unknown => "unknown",
            Confirmation::Implausible => "implausible",
        }
    }

    /// This result's element of a table.
    pub(super) const fn pick<T>(self, table: &[T; 3]) -> &T {
        let [taken, unknown, implausible] = table;
        match self {
            Confirmation::Taken => taken,
            Confirmation::Unknown => unknown,
            Confirmation::Implausible => implausible,
        }
    }
}

/// The part of the server that stalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stalled {
    /// A shard's thread, with its connections.
    Shard,
    /// The runtime, with HTTP, gRPC and handshakes.
    Runtime,
}

impl Stalled {
    /// All parts that can stall.
    pub const ALL: [Stalled; 2] = [Stalled::Shard, Stalled::Runtime];

    /// The name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Stalled::Shard => "shard",
            Stalled::Runtime => "runtime",
        }
    }

    /// This part's element of a table.
    pub(super) const fn pick<T>(self, table: &[T; 2]) -> &T {
        let [shard, runtime] = table;
        match self {
            Stalled::Shard => shard,
            Stalled::Runtime => runtime,
        }
    }
}
