use std::sync::Arc;

use super::*;
use crate::auth::identity::IdentityExtras;

fn rules(name: &str, subscribe: Option<&str>, publish: Option<&str>) -> NamespaceRules {
    NamespaceRules {
        name: name.to_owned(),
        subscribe: subscribe.map(str::to_owned),
        publish: publish.map(str::to_owned),
    }
}

fn identity(user: &str, roles: &[&str], claims: &str) -> Identity {
    Identity {
        user: Some(Arc::from(user)),
        roles: roles.iter().map(|role| Arc::from(*role)).collect(),
        claims: Box::from(claims),
        ..Identity::anonymous()
    }
}

fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}

fn project() -> NamespaceRules {
    rules(
        "project",
        Some(r#"id in claims.projects || "admin-of-all" in roles"#),
        Some(r#""editor" in roles"#),
    )
}

#[test]
fn permission_table_holds() {
    let policy = Policy::new([project(), rules("locked", None, None)], false).unwrap();
    let ann = identity("ann", &[], r#"{"projects":["42"]}"#);
    let bob = identity("bob", &["editor"], "{}");
    let chief = identity("eve", &["admin-of-all"], "{}");
    let (service, admin) = (
        identity("s", &["service"], ""),
        identity("a", &["admin"], ""),
    );
    let nobody = Identity::anonymous();
    // user, channel, may subscribe, may publish
    for (who, name, subscribe, publish) in [
        (&ann, "project:42", true, false),
        (&ann, "project:43", false, false),
        (&ann, "project:42:7", false, false),
        (&bob, "project:42", false, true),
        (&chief, "project:42", true, false),
        (&nobody, "project:42", false, false),
        (&ann, "global", true, false),
        (&nobody, "global", true, false),
        (&ann, "user:ann", true, false),
        (&ann, "user:bob", false, false),
        (&nobody, "user", false, false),
        (&nobody, "user:", false, false),
        (&ann, "locked:1", false, false),
        (&ann, "undeclared:1", false, false),
        (&service, "locked:1", true, true),
        (&service, "undeclared:1", true, true),
        (&admin, "project:42", true, true),
    ] {
        let name = channel(name);
        assert_eq!(
            policy.may_subscribe(who, &name, None).is_ok(),
            subscribe,
            "{who:?} {name}"
        );
        assert_eq!(
            policy.may_publish(who, &name, None).is_ok(),
            publish,
            "{who:?} {name}"
        );
    }
}

#[test]
fn refusal_names_channel_but_not_rule() {
    let policy = Policy::new([project()], false).unwrap();
    let error = policy
        .may_subscribe(&Identity::anonymous(), &channel("project:9"), None)
        .unwrap_err();
    assert_eq!(error.code(), crate::error::Code::PermissionDenied);
    assert!(error.message().contains("project:9"));
    assert!(!error.message().contains("claims") && !error.message().contains("admin-of-all"));
}

#[test]
fn rule_sees_client_channel_and_claims() {
    let id = ConnectionId::new(1, 2, 3);
    let source = format!(
        r#"client == "{id}" && channel == "room:a:b" && id == "a:b" && claims.level >= 3 && user == "ann""#
    );
    let policy = Policy::new([rules("room", Some(&source), None)], false).unwrap();
    let ann = identity("ann", &[], r#"{"level":3}"#);
    assert!(
        policy
            .may_subscribe(&ann, &channel("room:a:b"), Some(id))
            .is_ok()
    );
    assert!(
        policy
            .may_subscribe(&ann, &channel("room:a:b"), None)
            .is_err()
    );
}

#[test]
fn star_rule_covers_undeclared_namespaces() {
    let policy = Policy::new([rules("*", Some("user != ''"), None), project()], false).unwrap();
    let ann = identity("ann", &[], "{}");
    assert!(
        policy
            .may_subscribe(&ann, &channel("anything:1"), None)
            .is_ok()
    );
    assert!(
        policy
            .may_publish(&ann, &channel("anything:1"), None)
            .is_err()
    );
    assert!(
        policy
            .may_subscribe(&ann, &channel("project:1"), None)
            .is_err()
    );
    assert!(
        policy
            .may_subscribe(&Identity::anonymous(), &channel("anything:1"), None)
            .is_err()
    );
}

#[test]
fn built_in_rules_survive_declaration() {
    let policy = Policy::new(
        [
            rules("global", Some("false"), None),
            rules("user", None, Some("true")),
        ],
        false,
    )
    .unwrap();
    let ann = identity("ann", &[], "{}");
    assert!(
        policy
            .may_subscribe(&ann, &channel("global"), None)
            .is_err()
    );
    assert!(
        policy
            .may_subscribe(&ann, &channel("user:ann"), None)
            .is_ok()
    );
    assert!(policy.may_publish(&ann, &channel("user:bob"), None).is_ok());
}

#[test]
fn open_applies_to_undeclared_namespaces_only() {
    let policy = Policy::new([project()], true).unwrap();
    let nobody = Identity::anonymous();
    for name in ["chat:1", "global", "user:ann"] {
        assert!(
            policy.may_subscribe(&nobody, &channel(name), None).is_ok(),
            "{name}"
        );
        assert!(
            policy.may_publish(&nobody, &channel(name), None).is_ok(),
            "{name}"
        );
    }
    assert!(
        policy
            .may_subscribe(&nobody, &channel("project:1"), None)
            .is_err()
    );
}

#[test]
fn token_grants_allow_subscribing_only() {
    let policy = Policy::new([project()], false).unwrap();
    let guest = Identity {
        extras: Some(Box::new(IdentityExtras {
            channels: Box::new([Box::from("project:7*"), Box::from("news")]),
            ..IdentityExtras::default()
        })),
        ..identity("guest", &[], "{}")
    };
    assert!(
        policy
            .may_subscribe(&guest, &channel("project:7"), None)
            .is_ok()
    );
    assert!(
        policy
            .may_subscribe(&guest, &channel("project:71"), None)
            .is_ok()
    );
    assert!(policy.may_subscribe(&guest, &channel("news"), None).is_ok());
    assert!(
        policy
            .may_subscribe(&guest, &channel("project:8"), None)
            .is_err()
    );
    assert!(
        policy
            .may_publish(&guest, &channel("project:7"), None)
            .is_err()
    );
}

#[test]
fn whole_namespace_requires_service_or_open() {
    let (ann, service) = (
        identity("ann", &[], "{}"),
        identity("s", &["service"], "{}"),
    );
    let parse = |text| ChannelPattern::parse(text).unwrap();
    let closed = Policy::new([rules("project", Some("true"), None)], false).unwrap();
    for pattern in ["project:*", "chat:*", "*"] {
        assert!(
            closed.may_subscribe_pattern(&ann, &parse(pattern)).is_err(),
            "{pattern}"
        );
        assert!(
            closed
                .may_subscribe_pattern(&service, &parse(pattern))
                .is_ok(),
            "{pattern}"
        );
    }
    assert!(
        closed
            .may_subscribe_pattern(&ann, &parse("project:1"))
            .is_ok()
    );
    let open = Policy::new([rules("project", Some("true"), None)], true).unwrap();
    assert!(open.may_subscribe_pattern(&ann, &parse("chat:*")).is_ok());
    assert!(
        open.may_subscribe_pattern(&ann, &parse("project:*"))
            .is_err()
    );
    assert!(open.may_subscribe_pattern(&ann, &parse("*")).is_err());
    let all_open = Policy::new([], true).unwrap();
    assert!(all_open.may_subscribe_pattern(&ann, &parse("*")).is_ok());
}

#[test]
fn invalid_rule_is_named() {
    let error = Policy::new([rules("chat", Some("true"), Some("usr == 1"))], false).unwrap_err();
    assert_eq!((error.namespace.as_str(), error.rule), ("chat", "publish"));
    assert!(error.message.contains("usr"), "{error}");
}

#[test]
fn non_bool_rule_is_refused_with_location() {
    for (rule, kind) in [
        (r#""a""#, "string"),
        ("1 + 2", "int"),
        ("roles", "list"),
        ("id", "string"),
    ] {
        let error = Policy::new([rules("room", Some(rule), None)], false).unwrap_err();
        assert_eq!((&*error.namespace, error.rule), ("room", "subscribe"));
        assert!(
            error.message.contains("condition") && error.message.ends_with(kind),
            "{rule}: {error}"
        );
        let error = Policy::new([rules("room", None, Some(rule))], false).unwrap_err();
        assert_eq!(error.rule, "publish");
    }
    // Claims are parsed only when the rule needs them.
    assert!(Policy::new([rules("room", Some("claims.admin"), None)], false).is_ok());
}
