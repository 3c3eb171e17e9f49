//! Logging to standard error.
//!
//! Client text is logged with `?` (its `Debug` form), never with `%`: line breaks and escape
//! sequences then stay escaped within quotes and cannot forge a line. A log line of a request has
//! its trace and span ids, one about a connection its connection id: `info!(trace_id =
//! span.trace_id(), span_id = span.span_id(), connection_id = %id, "…")`.

use std::fmt;
use std::io::IsTerminal;
use std::str::FromStr;

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For humans.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl FromStr for Format {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, LogError> {
        match text {
            "text" => Ok(Format::Text),
            "json" => Ok(Format::Json),
            _ => Err(LogError(
                "telemetry.log_format: expected text or json".to_owned(),
            )),
        }
    }
}

/// Why logging could not be initialized.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogError(String);

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LogError {}

/// Sends the process's log lines to standard error, from `info` up, unless `RUST_LOG` says
/// otherwise (`debug`, `tidings::hub=trace,info`).
///
/// # Errors
/// `RUST_LOG` is invalid, or logging was initialized before.
pub fn init(format: Format) -> Result<(), LogError> {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .from_env()
        .map_err(|error| LogError(format!("RUST_LOG: {error}")))?;
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing::subscriber::set_global_default(subscriber(format, filter, colours, std::io::stderr))
        .map_err(|_| LogError("logging was set up before".to_owned()))
}

fn subscriber<W>(
    format: Format,
    filter: EnvFilter,
    colours: bool,
    writer: W,
) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer);
    match format {
        Format::Text => Box::new(lines.with_ansi(colours).finish()),
        Format::Json => Box::new(lines.json().flatten_event(true).with_ansi(false).finish()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format, log: impl FnOnce()) -> String {
        let page = Page::default();
        let writer = page.clone();
        let subscriber = subscriber(format, EnvFilter::new("info"), false, move || {
            writer.clone()
        });
        tracing::subscriber::with_default(subscriber, log);
        let bytes = page.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    const FORGED: &str = "x\n2026-01-01T00:00:00Z ERROR forged\r\u{1b}[31m";

    #[test]
    fn client_text_cannot_forge_a_log_line() {
        let text = logged(
            Format::Text,
            || tracing::info!(name = ?FORGED, "registered"),
        );
        assert_eq!(text.lines().count(), 1, "{text:?}");
        assert!(
            !text.trim_end().contains(|c: char| c.is_control()),
            "{text:?}"
        );
        assert!(
            text.contains("registered") && text.contains("ERROR forged"),
            "{text:?}"
        );
    }

    #[test]
    fn json_line_is_always_one_object() {
        let text = logged(Format::Json, || tracing::info!(name = FORGED, "registered"));
        assert_eq!(text.lines().count(), 1, "{text:?}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["message"], "registered");
        assert_eq!(line["name"], FORGED);
    }

    #[test]
    fn lines_below_info_are_omitted() {
        assert_eq!(logged(Format::Text, || tracing::debug!("detail")), "");
    }

    #[test]
    fn line_has_trace_id_only_with_a_trace() {
        let id = super::super::TraceId(0xabc);
        let text = logged(Format::Json, || {
            tracing::info!(trace_id = Some(tracing::field::display(id)), "x");
        });
        assert!(
            text.contains("\"trace_id\":\"00000000000000000000000000000abc\""),
            "{text}"
        );
        let none: Option<tracing::field::DisplayValue<super::super::TraceId>> = None;
        let text = logged(Format::Json, || {
            tracing::info!(trace_id = none, "x");
        });
        assert!(!text.contains("trace_id"), "{text}");
    }

    #[test]
    fn unknown_log_format_error_names_key() {
        let error = "xml".parse::<Format>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "telemetry.log_format: expected text or json"
        );
    }
}
