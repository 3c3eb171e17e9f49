//! Custom dialects: a codec as data, from `[[dialect]]` in the configuration.

mod definition;
mod template;

pub use definition::{CommandWords, ControlMember, ControlWords, Definition, EventWords, Refusals};
pub use template::Template;
