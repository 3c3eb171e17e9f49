//! Pure values, valid by construction: nothing here knows a transport or a store.

mod audience;
mod channel;
mod event_type;
pub mod json;
mod namespace;
mod payload;
mod position;
mod record;
mod timestamp;
mod trace_context;
mod weight;

pub use audience::{Audience, ConnectionId};
pub use channel::{ChannelName, ChannelPattern};
pub use event_type::{EventType, TypePattern, is_control_name};
pub use namespace::{HistoryPolicy, Namespace, Namespaces, SlowConsumer};
pub use payload::{JSON, MAX_JSON_DEPTH, Payload};
pub use position::{Epoch, Position};
pub use record::{Draft, Event, Headers};
pub use timestamp::Timestamp;
pub use trace_context::TraceContext;
pub use weight::{allocated, shared};
