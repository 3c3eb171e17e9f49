use crate::error::Code;

use super::*;

fn catalog(mode: Mode) -> Catalog {
    let name = EventType::new("job.progress").unwrap();
    let schema = r#"{"properties": {"items": {"items": {"type": "integer"}}}}"#;
    Catalog::new(
        mode,
        [KnownType {
            name,
            namespace: "jobs".into(),
            broadcast: false,
            control: false,
            description: String::new(),
            roles: Vec::new(),
            conflate_key: Some("data.job.id".into()),
            schema: Some(Schema::compile(schema).unwrap()),
            example: None,
        }],
    )
}

fn known() -> EventType {
    EventType::new("job.progress").unwrap()
}

fn payload(json: &str) -> Payload {
    Payload::new(Bytes::copy_from_slice(json.as_bytes()), "").unwrap()
}

#[test]
fn strict_mode_refuses_unknown_types_and_foreign_namespaces() {
    let catalog = catalog(Mode::Strict);
    let home = ChannelName::new("jobs:1").unwrap();
    let foreign = ChannelName::new("other:1").unwrap();
    assert!(catalog.check(&known(), Some(&home)).is_ok());
    let unknown = EventType::new("x").unwrap();
    for (event_type, channel) in [(known(), foreign), (unknown, home)] {
        let error = catalog.check(&event_type, Some(&channel)).unwrap_err();
        assert_eq!(error.field_name(), Some("type"));
    }
}

#[test]
fn strict_mode_refuses_invalid_payloads_with_pointers() {
    let catalog = catalog(Mode::Strict);
    let good = payload(r#"{"items": [1]}"#);
    assert!(catalog.check_payload(&known(), &good).is_ok());

    let bad = payload(r#"{"items": ["hunter2", 1, true]}"#);
    let error = catalog.check_payload(&known(), &bad).unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert_eq!(error.field_name(), Some("data"));
    assert_eq!(
        error.description(),
        "data/items/0: expected the type integer; data/items/2: expected the type integer"
    );

    let image = Payload::new(Bytes::from_static(b"{}"), "image/png").unwrap();
    let error = catalog.check_payload(&known(), &image).unwrap_err();
    assert_eq!(error.field_name(), Some("data"));
    assert!(error.description().starts_with("expected JSON"), "{error}");
}

#[test]
fn open_mode_accepts_everything() {
    let catalog = catalog(Mode::Open);
    let bad = payload(r#"{"items": [true]}"#);
    let unknown = EventType::new("x").unwrap();
    for event_type in [known(), unknown] {
        assert!(catalog.check(&event_type, None).is_ok());
        assert!(catalog.check_payload(&event_type, &bad).is_ok());
    }
}

#[test]
fn payload_can_be_validated_in_any_mode() {
    for mode in [Mode::Open, Mode::Strict] {
        let catalog = catalog(mode);
        let validate = |data: &str| catalog.validate("job.progress", data.as_bytes());
        assert_eq!(validate(r#"{"items": []}"#).unwrap(), []);
        let violations = validate(r#"{"items": [true]}"#).unwrap();
        assert_eq!(violations[0].path, "/items/0");
        let deep = "[".repeat(65) + &"]".repeat(65);
        for broken in ["", "{", deep.as_str()] {
            assert_eq!(validate(broken).unwrap().len(), 1, "{broken}");
        }
        for unknown in ["x", "not a name"] {
            let error = catalog.validate(unknown, b"{}").unwrap_err();
            assert_eq!(error.code(), Code::NotFound);
        }
    }
}

#[test]
fn conflation_key_is_read_from_payload() {
    let catalog = catalog(Mode::Open);
    let key = catalog.conflation_key(&known(), &payload(r#"{"job":{"id":7}}"#));
    assert_eq!(key.as_deref(), Some("7"));
    let key = catalog.conflation_key(&known(), &payload(r#"{"job":[]}"#));
    assert_eq!(key, None);
}
