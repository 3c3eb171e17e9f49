//! The namespaces: declared and built-in ones.

use std::sync::Arc;

use super::{Config, NamespaceConfig, NamespaceHistory};
use crate::event::{HistoryPolicy, Namespace, Namespaces};

/// The built-in namespaces, with their rule for subscribing. An anonymous connection has no channel
/// of its own, not even the one named `user`.
const BUILT_IN: [(&str, &str); 2] = [("global", "true"), ("user", r#"user != "" && id == user"#)];

impl Config {
    /// The declared namespaces, and `global` and `user` if they are not declared. For development
    /// these two keep some history and have presence, and undeclared namespaces are open.
    #[must_use]
    pub fn all_namespaces(&self, dev: bool) -> Vec<NamespaceConfig> {
        let mut all = self.namespace.clone();
        for (name, subscribe) in BUILT_IN {
            match all.iter_mut().find(|namespace| namespace.name == name) {
                // A declaration, for instance of its history, must not revoke the open access.
                Some(declared) => {
                    declared
                        .subscribe
                        .get_or_insert_with(|| subscribe.to_owned());
                }
                None if dev => all.push(open(name)),
                None => all.push(NamespaceConfig {
                    name: name.to_owned(),
                    subscribe: Some(subscribe.to_owned()),
                    ..NamespaceConfig::default()
                }),
            }
        }
        if dev && !all.iter().any(|namespace| namespace.name == "*") {
            all.push(open("*"));
        }
        all
    }

    /// The settings of [`Config::all_namespaces`] that apply to channels; the rules are compiled by
    /// the [policy](crate::auth::Policy).
    #[must_use]
    pub fn namespaces(&self, dev: bool) -> Namespaces {
        Namespaces::new(
            self.all_namespaces(dev)
                .iter()
                .map(NamespaceConfig::settings),
        )
    }
}

impl NamespaceConfig {
    /// The settings of the namespace's channels.
    #[must_use]
    pub fn settings(&self) -> Namespace {
        Namespace {
            name: Arc::from(self.name.as_str()),
            history: self.history.policy(),
            presence: self.presence,
            slow_consumer: self.slow_consumer,
            max_idle: self.max_idle,
        }
    }
}

impl NamespaceHistory {
    /// The limits of its history.
    #[must_use]
    pub fn policy(&self) -> HistoryPolicy {
        if self.size == 0 {
            return HistoryPolicy::NONE;
        }
        HistoryPolicy {
            size: self.size,
            ttl: self.ttl,
            bytes: self.bytes,
        }
    }
}

/// A namespace for development.
fn open(name: &str) -> NamespaceConfig {
    NamespaceConfig {
        name: name.to_owned(),
        history: NamespaceHistory {
            size: 100,
            ..NamespaceHistory::default()
        },
        presence: true,
        subscribe: Some(String::from("true")),
        publish: Some(String::from("true")),
        ..NamespaceConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::event::ChannelName;

    fn channel(name: &str) -> ChannelName {
        ChannelName::new(name).expect("a name")
    }

    #[test]
    fn built_in_namespaces_keep_no_history() {
        let config = Config::default();
        let names: Vec<String> = config
            .all_namespaces(false)
            .into_iter()
            .map(|n| n.name)
            .collect();
        assert_eq!(names, ["global", "user"]);
        assert_eq!(
            config.namespaces(false).of(&channel("global")).history,
            HistoryPolicy::NONE
        );
        assert!(!config.namespaces(false).of(&channel("user:a")).presence);
    }

    #[test]
    fn declared_namespace_replaces_built_in_one() {
        let declared = NamespaceConfig {
            name: String::from("global"),
            ..NamespaceConfig::default()
        };
        let config = Config {
            namespace: vec![declared],
            ..Config::default()
        };
        let all = config.all_namespaces(true);
        let kept = all.iter().find(|n| n.name == "global").expect("declared");
        assert_eq!((kept.presence, kept.history.size), (false, 0));
        assert_eq!(kept.subscribe.as_deref(), Some("true"));
        assert_eq!(all.iter().filter(|n| n.name == "global").count(), 1);
    }

    #[test]
    fn dev_mode_opens_undeclared_namespaces() {
        let config = Config::default();
        let all = config.all_namespaces(true);
        let other = all.iter().find(|n| n.name == "*").expect("the rest");
        assert_eq!(other.subscribe.as_deref(), Some("true"));
        assert_eq!(other.publish.as_deref(), Some("true"));
        for name in ["global", "user:a", "anything:else"] {
            let namespaces = config.namespaces(true);
            let settings = namespaces.of(&channel(name));
            assert_eq!(
                (settings.history.size, settings.history.ttl),
                (100, Duration::from_hours(1))
            );
            assert!(settings.presence);
        }
    }
}
