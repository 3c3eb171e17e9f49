//! Why a rule allows or refuses something, for operators.

use serde_json::{Value, json};

use super::{BUILT_IN, NAMES, Policy, Request, Rule, STEPS};
use crate::auth::Identity;
use crate::event::ChannelName;
use crate::filter::expression::Steps;

/// What somebody would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Follow a channel.
    Subscribe,
    /// Publish to it.
    Publish,
    /// See who is in it.
    Presence,
    /// Read its history.
    History,
}

impl Action {
    /// All actions.
    pub const ALL: [Action; 4] = [
        Action::Subscribe,
        Action::Publish,
        Action::Presence,
        Action::History,
    ];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Action::Subscribe => "subscribe",
            Action::Publish => "publish",
            Action::Presence => "presence",
            Action::History => "history",
        }
    }

    /// The action of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Action> {
        Action::ALL
            .into_iter()
            .find(|action| action.as_str() == name)
    }
}

/// The answer of the rules, and how it came about.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// Whether it is allowed.
    pub allowed: bool,
    /// The rule that decided, in CEL; empty where none was asked.
    pub rule: String,
    /// Where the decision comes from: a role, the token, or the namespace whose rule it is.
    pub source: String,
    /// What the rule read, by name.
    pub inputs: Vec<(&'static str, Value)>,
    /// The answer as a sentence.
    pub reason: String,
}

impl Explanation {
    /// The same decision by something other than a rule.
    fn by(identity: &Identity, allowed: bool, source: &str, reason: String) -> Self {
        Explanation {
            allowed,
            rule: String::new(),
            source: source.to_owned(),
            inputs: vec![
                ("user", json!(identity.user().map(|user| &**user))),
                ("roles", roles(identity)),
            ],
            reason,
        }
    }

    /// Refused for this reason, whatever the rules say.
    #[must_use]
    pub fn refused(self, source: &str, reason: impl Into<String>) -> Self {
        Explanation {
            allowed: false,
            source: source.to_owned(),
            reason: reason.into(),
            ..self
        }
    }
}

fn roles(identity: &Identity) -> Value {
    identity.roles().iter().map(|role| &**role).collect()
}

impl Policy {
    /// Explains what [`Policy::may_subscribe`] or [`Policy::may_publish`] would answer. Presence and
    /// history are read by whoever may subscribe.
    #[must_use]
    pub fn explain(
        &self,
        identity: &Identity,
        action: Action,
        channel: &ChannelName,
    ) -> Explanation {
        let publishes = action == Action::Publish;
        if publishes && identity.is_read_only() {
            let reason = String::from("role viewer changes nothing");
            return Explanation::by(identity, false, "role viewer", reason);
        }
        for (role, holds) in [
            ("admin", identity.is_admin()),
            ("service", identity.is_service()),
            ("viewer", !publishes && identity.sees_all()),
        ] {
            if holds {
                let reason = format!("role {role} may do this in every channel");
                return Explanation::by(identity, true, &format!("role {role}"), reason);
            }
        }
        if !publishes && identity.is_granted(channel.as_str()) {
            let reason = String::from("the token itself grants this channel (auth.channels_claim)");
            return Explanation::by(identity, true, "token", reason);
        }
        self.by_rule(identity, publishes, channel)
    }

    fn by_rule(&self, identity: &Identity, publishes: bool, channel: &ChannelName) -> Explanation {
        let namespace = channel.namespace();
        let rules = self.of(namespace);
        let rule = if publishes {
            &rules.publish
        } else {
            &rules.subscribe
        };
        let key = if publishes { "publish" } else { "subscribe" };
        let source = self.source_of(namespace, rule);
        match rule {
            Rule::Closed => {
                let reason = format!(
                    "there is no `{key}` rule for this namespace, so only services and admins may"
                );
                Explanation::by(identity, false, &source, reason)
            }
            Rule::Open => {
                let reason = String::from("with --dev every undeclared namespace is open");
                Explanation::by(identity, true, &source, reason)
            }
            Rule::When(expression) => {
                let text = expression.source().to_string();
                let request = Request::new(identity, channel, None);
                let steps = Steps::new(STEPS);
                let (allowed, reason) = match expression.evaluate(&request, &steps) {
                    Ok(true) => (true, String::from("the rule answered true")),
                    Ok(false) => (false, String::from("the rule answered false")),
                    Err(fault) => (
                        false,
                        format!("the rule gave no answer, which means no: {fault}"),
                    ),
                };
                Explanation {
                    allowed,
                    inputs: inputs(&text, &request),
                    rule: text,
                    source,
                    reason,
                }
            }
        }
    }

    /// Where a namespace's rule comes from.
    fn source_of(&self, namespace: &str, rule: &Rule) -> String {
        let is_built_in = |(name, text): &(&str, &str)| {
            *name == namespace && matches!(rule, Rule::When(rule) if **rule.source() == **text)
        };
        if BUILT_IN.iter().any(|built_in| is_built_in(built_in)) {
            format!("built in for namespace {namespace}")
        } else if self.rules.contains_key(namespace) {
            format!("namespace {namespace}")
        } else if self.other_is_declared {
            String::from("namespace *")
        } else if matches!(rule, Rule::Open) {
            String::from("--dev")
        } else {
            format!("no namespace {namespace} is declared")
        }
    }
}

/// The values of the variables that the rule names.
fn inputs(rule: &str, request: &Request<'_>) -> Vec<(&'static str, Value)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words: Vec<&str> = rule.split(|c| !is_part(c)).collect();
    let identity = request.identity;
    let value = |name: &str| match name {
        "user" => json!(identity.user().map_or("", |user| user)),
        "roles" => roles(identity),
        "claims" => request.claims().clone(),
        "client" => json!(request.client_id),
        "id" => json!(request.channel.id()),
        _ => json!(request.channel.as_str()),
    };
    NAMES
        .iter()
        .filter(|name| words.contains(&name.name))
        .map(|name| (name.name, value(name.name)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::NamespaceRules;

    fn policy(open: bool) -> Policy {
        let rules = NamespaceRules {
            name: String::from("project"),
            subscribe: Some(String::from("id in claims.projects")),
            publish: None,
        };
        Policy::new([rules], open).expect("good rules")
    }

    fn explain(policy: &Policy, roles: &[&str], action: Action, channel: &str) -> Explanation {
        let identity = Identity::supposed("ann", roles, r#"{"projects":["42"]}"#);
        policy.explain(
            &identity,
            action,
            &ChannelName::new(channel).expect("a name"),
        )
    }

    #[test]
    fn rule_is_shown_with_what_it_read_and_what_it_answered() {
        let policy = policy(false);
        let seen = explain(&policy, &[], Action::Subscribe, "project:42");
        assert!(seen.allowed);
        assert_eq!(seen.rule, "id in claims.projects");
        assert_eq!(seen.source, "namespace project");
        let expected = [("claims", json!({"projects": ["42"]})), ("id", json!("42"))];
        assert_eq!(seen.inputs, expected);
        assert!(!explain(&policy, &[], Action::History, "project:7").allowed);
    }

    #[test]
    fn source_says_why_where_no_rule_was_asked() {
        for (open, roles, action, channel, allowed, source) in [
            (
                false,
                &["admin"][..],
                Action::Publish,
                "project:1",
                true,
                "role admin",
            ),
            (
                false,
                &["viewer"],
                Action::Publish,
                "project:1",
                false,
                "role viewer",
            ),
            (
                true,
                &["viewer"],
                Action::Publish,
                "other",
                false,
                "role viewer",
            ),
            (
                false,
                &["viewer"],
                Action::History,
                "project:1",
                true,
                "role viewer",
            ),
            (
                false,
                &[],
                Action::Publish,
                "project:1",
                false,
                "namespace project",
            ),
            (
                false,
                &[],
                Action::Subscribe,
                "other",
                false,
                "no namespace other is declared",
            ),
            (true, &[], Action::Subscribe, "other", true, "--dev"),
            (
                false,
                &[],
                Action::Subscribe,
                "global",
                true,
                "built in for namespace global",
            ),
        ] {
            let seen = explain(&policy(open), roles, action, channel);
            assert_eq!(
                (seen.allowed, seen.source.as_str()),
                (allowed, source),
                "{channel}"
            );
        }
    }

    #[test]
    fn explanation_agrees_with_the_policy() {
        for open in [false, true] {
            let policy = policy(open);
            for roles in [&[][..], &["viewer"], &["service"], &["admin"], &["editor"]] {
                for channel in [
                    "project:42",
                    "project:7",
                    "user:ann",
                    "user:bob",
                    "other:1",
                    "global",
                ] {
                    let identity = Identity::supposed("ann", roles, r#"{"projects":["42"]}"#);
                    let name = ChannelName::new(channel).expect("a name");
                    let subscribe = policy.explain(&identity, Action::Subscribe, &name).allowed;
                    assert_eq!(
                        subscribe,
                        policy.may_subscribe(&identity, &name, None).is_ok()
                    );
                    let publish = policy.explain(&identity, Action::Publish, &name).allowed;
                    assert_eq!(publish, policy.may_publish(&identity, &name, None).is_ok());
                }
            }
        }
    }
}
