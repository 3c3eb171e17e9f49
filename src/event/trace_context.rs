//! The W3C trace context of an event.

use std::fmt;
use std::sync::Arc;

/// A `traceparent` with its `tracestate` (W3C Trace Context §3.2, §3.3).
#[derive(Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace id.
    pub trace_id: u128,
    /// The id of the parent span.
    pub span_id: u64,
    /// The `sampled` flag.
    pub sampled: bool,
    /// Vendor data (`tracestate`), at most 512 bytes.
    pub state: Option<Arc<str>>,
}

impl TraceContext {
    /// Parses the two headers. Returns `None` if `traceparent` is malformed, as the standard
    /// requires.
    #[must_use]
    pub fn parse(traceparent: &str, tracestate: &str) -> Option<Self> {
        let mut parts = traceparent.trim().split('-');
        let (version, trace, span, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let later_version = version != "00";
        if !hex(version, 2) || version == "ff" || (!later_version && parts.next().is_some()) {
            return None;
        }
        if !hex(trace, 32) || !hex(span, 16) || !hex(flags, 2) {
            return None;
        }
        let trace_id = u128::from_str_radix(trace, 16).ok()?;
        let span_id = u64::from_str_radix(span, 16).ok()?;
        let flags = u8::from_str_radix(flags, 16).ok()?;
        if trace_id == 0 || span_id == 0 {
            return None;
        }
        let keep = !tracestate.is_empty()
            && tracestate.len() <= 512
            && tracestate.bytes().all(|b| (0x20..0x7f).contains(&b));
        let state = keep.then(|| Arc::from(tracestate));
        Some(TraceContext {
            trace_id,
            span_id,
            sampled: flags & 1 == 1,
            state,
        })
    }
}

fn hex(text: &str, len: usize) -> bool {
    text.len() == len
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// The `traceparent` header.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "00-{:032x}-{:016x}-{:02x}",
            self.trace_id,
            self.span_id,
            u8::from(self.sampled)
        )
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
