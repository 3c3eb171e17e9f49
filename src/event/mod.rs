//! Value types that are valid by construction. This layer knows no transport and no store.

mod accepted;
mod audience;
mod channel;
mod event_type;
pub mod json;
mod namespace;
mod node;
mod payload;
mod position;
mod record;
pub mod strict_json;
mod targeting;
mod timestamp;
mod trace_context;
mod weight;

pub use accepted::AcceptedAt;
pub use audience::{Audience, ConnectionId};
pub use channel::{ChannelName, ChannelPattern};
pub use event_type::{EventType, RESERVED_EVENT_TYPES, TypePattern};
pub use namespace::{HistoryPolicy, Namespace, Namespaces, SlowConsumer};
pub use node::NodeId;
pub use payload::{JSON, Payload};
pub use position::{Epoch, Position};
pub use record::{Draft, Event, Headers, IdempotencyKey};
pub use targeting::names_receivers;
pub use timestamp::Timestamp;
pub use trace_context::TraceContext;
pub use weight::{allocated, shared};
