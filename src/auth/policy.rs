//! Authorization: what an identity may do.

use std::collections::HashMap;
use std::fmt;
use std::sync::OnceLock;

mod explain;

pub use explain::{Action, Explanation};

use super::Identity;
use crate::error::{Error, Result};
use crate::event::{ChannelName, ChannelPattern, ConnectionId, strict_json};
use crate::filter::expression::{self, Expression, Kind, Name, Steps, Value, Variables};

/// The variables that a rule may use.
const NAMES: [Name; 6] = [
    Name::new("user", Kind::Text),
    Name::new("roles", Kind::List),
    Name::new("claims", Kind::Any),
    Name::new("client", Kind::Text),
    Name::new("id", Kind::Text),
    Name::new("channel", Kind::Text),
];

/// The most steps of one evaluation. A rule only reads a token, which is small.
const STEPS: u64 = 100_000;

/// The built-in rules of namespaces with these names, used if the configuration has none.
const BUILT_IN: [(&str, &str); 2] = [("global", "true"), ("user", r#"user != "" && id == user"#)];

/// The configured rules of one namespace, in CEL. A missing rule allows only services and admins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespaceRules {
    /// The namespace, or `*` for all undeclared ones.
    pub name: String,
    /// Who may subscribe.
    pub subscribe: Option<String>,
    /// Who may publish.
    pub publish: Option<String>,
}

/// An invalid rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleError {
    /// The namespace of the rule.
    pub namespace: String,
    /// `subscribe` or `publish`.
    pub rule: &'static str,
    /// The problem.
    pub message: String,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "namespace {}: {}: {}",
            self.namespace, self.rule, self.message
        )
    }
}

impl std::error::Error for RuleError {}

/// The permissions of all identities in all channels. Services and admins may do everything, viewers
/// may follow everything and publish nothing.
#[derive(Debug)]
pub struct Policy {
    rules: HashMap<Box<str>, Rules>,
    /// The rules of undeclared namespaces.
    other: Rules,
    /// Whether the configuration has rules for them (a namespace named `*`).
    other_is_declared: bool,
}

#[derive(Debug, Default)]
struct Rules {
    subscribe: Rule,
    publish: Rule,
}

#[derive(Debug, Default)]
enum Rule {
    /// Only services and admins.
    #[default]
    Closed,
    Open,
    When(Expression),
}

impl Policy {
    /// Compiles the rules. `open` allows everybody in undeclared namespaces.
    ///
    /// # Errors
    /// Names the first invalid rule and its problem.
    pub fn new(
        rules: impl IntoIterator<Item = NamespaceRules>,
        open: bool,
    ) -> Result<Policy, RuleError> {
        let mut compiled: HashMap<Box<str>, Rules> = HashMap::new();
        for rules in rules {
            let entry = Rules {
                subscribe: compile(&rules.name, "subscribe", rules.subscribe.as_deref())?,
                publish: compile(&rules.name, "publish", rules.publish.as_deref())?,
            };
            compiled.insert(rules.name.into(), entry);
        }
        for (name, rule) in BUILT_IN {
            // Declaring a built-in namespace, for instance to set its history, must not close it.
            let declared = compiled.contains_key(name);
            if open && !declared {
                continue;
            }
            let entry = compiled.entry(Box::from(name)).or_default();
            if matches!(entry.subscribe, Rule::Closed) {
                entry.subscribe = compile(name, "subscribe", Some(rule))?;
            }
        }
        let undeclared = if open {
            Rules {
                subscribe: Rule::Open,
                publish: Rule::Open,
            }
        } else {
            Rules::default()
        };
        let declared = compiled.remove("*");
        Ok(Policy {
            rules: compiled,
            other_is_declared: declared.is_some(),
            other: declared.unwrap_or(undeclared),
        })
    }

    /// Authorizes a subscription to the channel, by the namespace's rule or by the token itself.
    ///
    /// # Errors
    /// `permission_denied`, with the channel.
    pub fn may_subscribe(
        &self,
        identity: &Identity,
        channel: &ChannelName,
        client: Option<ConnectionId>,
    ) -> Result<()> {
        let rule = &self.of(channel.namespace()).subscribe;
        if identity.sees_all()
            || identity.is_granted(channel.as_str())
            || rule.allows(identity, channel, client)
        {
            return Ok(());
        }
        Err(Error::denied(format!(
            "may not subscribe to {channel}: the rules don't allow it"
        )))
    }

    /// Authorizes a publish to the channel.
    ///
    /// # Errors
    /// `permission_denied`, with the channel.
    pub fn may_publish(
        &self,
        identity: &Identity,
        channel: &ChannelName,
        client: Option<ConnectionId>,
    ) -> Result<()> {
        if identity.is_read_only() {
            return Err(Error::denied(format!(
                "may not publish to {channel}: role viewer changes nothing"
            )));
        }
        let rule = &self.of(channel.namespace()).publish;
        if identity.is_service() || rule.allows(identity, channel, client) {
            return Ok(());
        }
        Err(Error::denied(format!(
            "may not publish to {channel}: the rules don't allow it"
        )))
    }

    /// Authorizes a subscription to everything that the pattern matches. A single channel is
    /// subject to its rule. Whole namespaces require a service or admin, unless they are open.
    ///
    /// # Errors
    /// `permission_denied`, with the pattern.
    pub fn may_subscribe_pattern(
        &self,
        identity: &Identity,
        pattern: &ChannelPattern,
    ) -> Result<()> {
        let allowed = match pattern {
            ChannelPattern::Exact(channel) => {
                return self.may_subscribe(identity, channel, None);
            }
            ChannelPattern::Namespace(name) => matches!(self.of(name).subscribe, Rule::Open),
            // Declared namespaces are never open, so `*` is allowed only if none is declared.
            ChannelPattern::All => {
                self.rules.is_empty() && matches!(self.other.subscribe, Rule::Open)
            }
        };
        if allowed || identity.sees_all() {
            return Ok(());
        }
        Err(Error::denied(format!(
            "may not subscribe to {pattern}: only services may"
        )))
    }

    fn of(&self, namespace: &str) -> &Rules {
        self.rules.get(namespace).unwrap_or(&self.other)
    }
}

fn compile(namespace: &str, rule: &'static str, source: Option<&str>) -> Result<Rule, RuleError> {
    let Some(source) = source else {
        return Ok(Rule::Closed);
    };
    Expression::compile(source, &NAMES)
        .map(Rule::When)
        .map_err(|error| RuleError {
            namespace: namespace.to_owned(),
            rule,
            message: error.description().to_owned(),
        })
}

impl Rule {
    fn allows(
        &self,
        identity: &Identity,
        channel: &ChannelName,
        client: Option<ConnectionId>,
    ) -> bool {
        match self {
            Rule::Closed => false,
            Rule::Open => true,
            Rule::When(expression) => {
                let request = Request::new(identity, channel, client);
                let steps = Steps::new(STEPS);
                expression.evaluate(&request, &steps).unwrap_or_else(|fault| {
                    let connection_id = client.map(tracing::field::display);
                    tracing::debug!(connection_id, %channel, %fault, "a rule failed, so access is denied");
                    false
                })
            }
        }
    }
}

/// The variables of a rule. Claims are parsed only if a rule reads them.
struct Request<'a> {
    identity: &'a Identity,
    channel: &'a ChannelName,
    client_id: String,
    claims: OnceLock<serde_json::Value>,
}

impl<'a> Request<'a> {
    fn new(identity: &'a Identity, channel: &'a ChannelName, client: Option<ConnectionId>) -> Self {
        Request {
            identity,
            channel,
            client_id: client.map(|id| id.to_string()).unwrap_or_default(),
            claims: OnceLock::new(),
        }
    }

    fn claims(&self) -> &serde_json::Value {
        self.claims.get_or_init(|| {
            // An id beyond 64 bits becomes a string of its digits: as a double it would equal
            // adjacent ids.
            strict_json::with_exact_numbers(self.identity.claims())
                .unwrap_or(serde_json::Value::Null)
        })
    }
}

impl Variables for Request<'_> {
    fn resolve(&self, name: &str) -> Option<Value<'_>> {
        Some(match name {
            "user" => expression::text(self.identity.user().map_or("", |user| user)),
            "roles" => expression::texts(self.identity.roles()),
            "claims" => expression::json(self.claims()),
            "client" => expression::text(&self.client_id),
            "id" => expression::text(self.channel.id()),
            "channel" => expression::text(self.channel.as_str()),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests;
