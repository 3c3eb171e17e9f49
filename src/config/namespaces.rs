//! The namespaces there are: the declared ones and those built in.

use std::sync::Arc;
use std::time::Duration;

use super::{Config, NamespaceConfig, NamespaceHistory};
use crate::event::{HistoryPolicy, Namespace, Namespaces};

impl Config {
    /// The declared namespaces, and `global` and `user` where they are not declared. For
    /// development these two keep some history and presence, and whatever is undeclared is open.
    #[must_use]
    pub fn all_namespaces(&self, dev: bool) -> Vec<NamespaceConfig> {
        let mut all = self.namespace.clone();
        for (name, subscribe) in [("global", "true"), ("user", "id == user")] {
            add(&mut all, name, subscribe, dev);
        }
        if dev {
            add(&mut all, "*", "true", dev);
        }
        all
    }

    /// The settings of [`Config::all_namespaces`] that hold for channels; the rules are for
    /// whoever decides on rights.
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
    /// What holds for the namespace's channels.
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
    /// How much is kept.
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

fn add(all: &mut Vec<NamespaceConfig>, name: &str, subscribe: &str, dev: bool) {
    if all.iter().any(|namespace| namespace.name == name) {
        return;
    }
    let mut built_in = NamespaceConfig {
        name: name.to_owned(),
        subscribe: Some(subscribe.to_owned()),
        ..NamespaceConfig::default()
    };
    if dev {
        built_in.publish = Some(String::from("true"));
        built_in.presence = true;
        built_in.history = NamespaceHistory {
            size: 100,
            ttl: Duration::from_hours(1),
            ..NamespaceHistory::default()
        };
    }
    all.push(built_in);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ChannelName;

    fn channel(name: &str) -> ChannelName {
        ChannelName::new(name).expect("a name")
    }

    #[test]
    fn built_in_namespaces_keep_nothing_and_undeclared_ones_have_no_rule() {
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
    fn a_declared_namespace_stands_for_the_built_in_one() {
        let declared = NamespaceConfig {
            name: String::from("global"),
            ..NamespaceConfig::default()
        };
        let config = Config {
            namespace: vec![declared.clone()],
            ..Config::default()
        };
        let all = config.all_namespaces(true);
        assert_eq!(all.iter().find(|n| n.name == "global"), Some(&declared));
        assert_eq!(all.iter().filter(|n| n.name == "global").count(), 1);
    }

    #[test]
    fn for_development_everything_undeclared_is_open_and_remembered() {
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
