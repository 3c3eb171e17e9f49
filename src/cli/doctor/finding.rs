//! The result of one check.

/// How serious a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Ok,
    /// The server works, but less well or less safely than it could.
    Warn,
    /// The server does not start, or can't hold the configured number of connections.
    Fail,
}

impl Level {
    pub(super) fn name(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "fail",
        }
    }

    /// The terminal's colour code: green, yellow or red.
    pub(super) fn colour(self) -> &'static str {
        match self {
            Level::Ok => "\u{1b}[32m",
            Level::Warn => "\u{1b}[33m",
            Level::Fail => "\u{1b}[31m",
        }
    }
}

/// The result of a check, and how to fix it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) check: &'static str,
    pub(super) level: Level,
    pub(super) message: String,
    pub(super) advice: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Finding {
            check,
            level: Level::Ok,
            message: message.into(),
            advice: None,
        }
    }

    pub(super) fn warn(check: &'static str, message: impl Into<String>, advice: &str) -> Self {
        Finding {
            level: Level::Warn,
            advice: Some(advice.to_owned()),
            ..Finding::ok(check, message)
        }
    }

    pub(super) fn fail(check: &'static str, message: impl Into<String>, advice: &str) -> Self {
        Finding {
            level: Level::Fail,
            ..Finding::warn(check, message, advice)
        }
    }
}
