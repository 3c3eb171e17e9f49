//! Maps environment variables to settings.

/// The prefix of all of them.
pub(super) const PREFIX: &str = "TIDINGS_";

/// Variables of the command line and of those who test it; none is a setting.
const OTHERS: [&str; 6] = [
    "TIDINGS_SERVER",
    "TIDINGS_CONTEXT",
    "TIDINGS_TOKEN",
    "TIDINGS_CONFIG",
    "TIDINGS_PRESET",
    "TIDINGS_BIN",
];

/// The dotted path that a variable sets; `None` for variables that are not settings.
pub(super) fn path(name: &str) -> Option<String> {
    let rest = name.strip_prefix(PREFIX)?;
    if OTHERS.contains(&name) || is_service_link(rest) {
        return None;
    }
    Some(rest.to_ascii_lowercase().replace("__", "."))
}

/// The variable that sets a dotted path.
pub(super) fn name(path: &str) -> String {
    format!(
        "{PREFIX}{}",
        path.replace("[]", "")
            .replace('.', "__")
            .to_ascii_uppercase()
    )
}

/// True for the variables that Kubernetes sets in every container when a service is named `tidings`
/// or `tidings-…`: `TIDINGS_SERVICE_HOST`, `TIDINGS_PORT_8000_TCP_ADDR` and so on.
fn is_service_link(rest: &str) -> bool {
    let links = ["SERVICE_HOST", "SERVICE_PORT", "PORT"];
    !rest.contains("__")
        && links.iter().any(|link| {
            let Some((before, after)) = rest.split_once(link) else {
                return false;
            };
            let begins = before.is_empty() || before.ends_with('_');
            let numbered = after.strip_prefix('_').is_some_and(|after| {
                *link == "SERVICE_PORT" || after.starts_with(|c: char| c.is_ascii_digit())
            });
            begins && (after.is_empty() || numbered)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_distinguished_from_other_variables() {
        for (variable, setting) in [
            ("TIDINGS_AUTH__HS256_SECRET", Some("auth.hs256_secret")),
            ("TIDINGS_AUTO_SUBSCRIBE", Some("auto_subscribe")),
            ("TIDINGS_AUTH_HS256_SECRET", Some("auth_hs256_secret")),
            ("TIDINGS_PORTS", Some("ports")),
            ("TIDINGS_TOKEN", None),
            ("TIDINGS_SERVER", None),
            ("TIDINGS_CONTEXT", None),
            ("TIDINGS_CONFIG", None),
            ("TIDINGS_PORT", None),
            ("TIDINGS_PORT_8000_TCP_ADDR", None),
            ("TIDINGS_SERVICE_HOST", None),
            ("TIDINGS_SERVICE_PORT_HTTP", None),
            ("TIDINGS_INTERNAL_SERVICE_PORT", None),
            ("HOME", None),
        ] {
            assert_eq!(path(variable).as_deref(), setting, "{variable}");
        }
    }

    #[test]
    fn path_maps_to_variable() {
        assert_eq!(name("limits.event_bytes"), "TIDINGS_LIMITS__EVENT_BYTES");
    }
}
