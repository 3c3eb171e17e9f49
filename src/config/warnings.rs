//! Warnings about settings that work but are probably a mistake.

use super::{Config, Secret};
use crate::hooks::HookType;
use crate::net::forwarded::Network;

impl Config {
    /// Warnings for the operator. Each names its key.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let auth = &self.auth;
        let mut warnings = Vec::new();
        if !auth.has_key() && !self.hooks.asks(HookType::Connect) {
            warnings.push(String::from(
                "auth: no key to check tokens with; the server will not start without one",
            ));
        }
        if auth.hs256_secret.as_ref().is_some_and(Secret::is_weak) {
            warnings.push(format!(
                "auth.hs256_secret: shorter than {} bytes can be guessed",
                Secret::STRONG_LEN
            ));
        }
        if self
            .public
            .allowed_origins
            .iter()
            .any(|origin| origin == "*")
        {
            warnings.push(String::from(
                "public.allowed_origins: pages of every origin may connect",
            ));
        }
        let mut proxies = self.public.trusted_proxies.iter();
        if proxies.any(|text| text.parse().is_ok_and(|n: Network| n.is_everyone())) {
            warnings.push(String::from(
                "public.trusted_proxies: whoever connects may say where it comes from",
            ));
        }
        if self.internal.allowed_origins.iter().any(|o| o == "*") {
            warnings.push(String::from(
                "internal.allowed_origins: pages of every origin may call gRPC-Web",
            ));
        }
        for (index, webhook) in self.webhook.iter().enumerate() {
            if webhook.secret.is_none() {
                warnings.push(format!(
                    "webhook[{index}].secret: not set: the application can't tell who sends the requests"
                ));
            }
        }
        if self.limits.outbox_bytes < self.limits.event_bytes {
            warnings.push(String::from(
                "limits.outbox_bytes: less than limits.event_bytes: the biggest events fit no outbox",
            ));
        }
        if self.internal.allowed_hosts.iter().any(|host| host == "*") {
            warnings.push(String::from(
                "internal.allowed_hosts: pages that bend their name to this address may read /metrics",
            ));
        }
        let burst = match self.limits.messages_burst {
            0 => self.limits.messages_per_second,
            burst => burst,
        };
        let subscriptions = self.limits.subscriptions_per_connection;
        if self.limits.messages_per_second > 0
            && usize::try_from(burst).is_ok_and(|burst| burst < subscriptions)
        {
            warnings.push(String::from(
                "limits.messages_burst: less than limits.subscriptions_per_connection: a client \
                 that subscribes to its channels one by one is refused some of them",
            ));
        }
        let endpoint = self.hooks.endpoint.as_deref().unwrap_or_default();
        let is_plain = endpoint.starts_with("http://") || endpoint.starts_with("grpc://");
        if is_plain && !is_local(endpoint) {
            warnings.push(String::from(
                "hooks.endpoint: questions with cookies and tokens cross the network without TLS",
            ));
        }
        let own = self.dialect.iter().enumerate();
        let silent = own.filter(|(_, dialect)| {
            dialect.paths.is_empty() && dialect.name != self.websocket.dialect
        });
        warnings.extend(silent.map(|(index, _)| {
            format!(
                "dialect[{index}].paths: the dialect is not used: it has no paths, and websocket.dialect names another"
            )
        }));
        warnings
    }
}

/// True for a URL on this machine.
fn is_local(url: &str) -> bool {
    let url = url.parse::<http::Uri>().ok();
    let host = url.as_ref().and_then(|url| url.host()).unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DialectConfig;

    #[test]
    fn valid_configuration_has_no_warnings() {
        let mut config = Config::default();
        config.auth.hs256_secret = Some(Secret::new("x".repeat(32)));
        assert_eq!(config.warnings(), Vec::<String>::new());
    }

    #[test]
    fn burst_of_all_subscriptions_has_no_warning() {
        let warned = |rate, burst| {
            let mut config = Config::default();
            config.limits.messages_per_second = rate;
            config.limits.messages_burst = burst;
            let warnings = config.warnings();
            warnings
                .iter()
                .any(|text| text.starts_with("limits.messages_burst: "))
        };
        assert!(warned(50, 127) && warned(127, 0));
        assert!(!warned(50, 128) && !warned(128, 0));
        assert!(!warned(0, 1), "without a rate there is no limit");
    }

    #[test]
    fn doubtful_settings_are_warned_of() {
        let mut config = Config::default();
        assert!(
            config
                .warnings()
                .iter()
                .any(|warning| warning.starts_with("auth: "))
        );
        config.auth.hs256_secret = Some(Secret::new("short"));
        config.public.allowed_origins = vec![String::from("*")];
        config.public.trusted_proxies = vec![String::from("0.0.0.0/0")];
        config.internal.allowed_origins = vec![String::from("*")];
        config.limits.outbox_bytes = 1;
        config.limits.messages_burst = 127;
        config.dialect.push(DialectConfig::default());
        let keys: Vec<String> = config
            .warnings()
            .iter()
            .filter_map(|w| w.split(": ").next().map(str::to_owned))
            .collect();
        assert_eq!(
            keys,
            [
                "auth.hs256_secret",
                "public.allowed_origins",
                "public.trusted_proxies",
                "internal.allowed_origins",
                "limits.outbox_bytes",
                "limits.messages_burst",
                "dialect[0].paths"
            ]
        );
        assert!(!config.warnings().join("").contains("short\""));
    }
}
