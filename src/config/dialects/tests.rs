use crate::config::tests::problems;

/// A dialect's keys, and the expected error.
const MISTAKES: &[(&str, &str)] = &[
    (
        "name = \"echo\"",
        "dialect[0].name: this is the name of a dialect that is always there",
    ),
    (
        "name = \"a b\"",
        "dialect[0].name: expected 1 to 128 of A-Z a-z 0-9 _ - .",
    ),
    (
        "protocol = \"socket.io\"",
        "dialect[0].paths: expected the paths of Engine.IO",
    ),
    (
        "namespaces = [\"/a\"]",
        "dialect[0].namespaces: only Socket.IO has namespaces",
    ),
    (
        "paths = [\"x\"]",
        "dialect[0].paths: expected paths such as \"/ws\", not \"x\"",
    ),
    ("paths = [\"/sse\"]", "dialect[0].paths: /sse is taken"),
    (
        "protocol = \"socket.io\"\npaths = [\"/healthz/\"]",
        "dialect[0].paths: /healthz/ is taken",
    ),
    ("paths = [\"//\"]", "dialect[0].paths: // is taken"),
    (
        "paths = [\"/websocket/stats\"]",
        "dialect[0].paths: /websocket/stats is taken",
    ),
    (
        "[[dialect.command]]\nname = \"a\"\ndoes = \"authenticate\"\necho = [\"token\"]",
        "dialect[0].command[0].echo: a token is not repeated",
    ),
    (
        "[[dialect.command]]\nname = \"a\"\ndoes = \"authenticate\"\n\
            members = { jwt = \"token\" }\necho = [\"jwt\"]",
        "dialect[0].command[0].echo: a token is not repeated",
    ),
    (
        "paths = [\"/ws/\"]",
        "dialect[0].paths: /ws/ is taken already by websocket.path",
    ),
    (
        "event.members = [\"typ\"]",
        "dialect[0].event.members: expected some of type, channel, id,",
    ),
    (
        "event.members = [\"id\", \"id\"]",
        "dialect[0].event.members: a member stands twice",
    ),
    (
        "event.data = \"type\"",
        "dialect[0].event.data: another member has this name",
    ),
    (
        "event.data = \"content_type\"",
        "dialect[0].event.data: another member has this name",
    ),
    (
        "control.members = [\"id\"]",
        "dialect[0].control.members: expected some of type, timestamp",
    ),
    (
        "control.data = \"id\"",
        "dialect[0].control.data: another member has this name",
    ),
    (
        "control.refusals = \"x\"",
        "dialect[0].control.refusals: expected one of",
    ),
    (
        "control.names.pang = \"x\"",
        "dialect[0].control.names.pang: no such message: expected one of",
    ),
    (
        "control.names.pong = \"\"",
        "dialect[0].control.names.pong: expected names of 1 to 128 bytes",
    ),
    (
        "control.names.pong = 5",
        "dialect[0].control.names.pong: expected a text in quotes, or an array of texts",
    ),
    (
        "command = [{ name = \"\", does = \"ping\" }]",
        "dialect[0].command[0].name: expected 1 to 128 bytes",
    ),
    (
        "command = [{ name = \"a\", does = \"pang\" }]",
        "dialect[0].command[0].does: no such command: expected authenticate,",
    ),
    (
        "command = [{ name = \"a\", does = \"ping\", channels = \"x\" }]",
        "dialect[0].command[0].channels: ping is not about channels",
    ),
    (
        "command = [{ name = \"a\", does = \"subscribe\", channels = \"x{\" }]",
        "dialect[0].command[0].channels: expected a } for each {",
    ),
    (
        "command = [{ name = \"a\", does = \"register\", members = { x = \"y\" } }]",
        "dialect[0].command[0].members.x: register has no such member: expected one of client_type, client_name",
    ),
    (
        "command = [{ name = \"a\", does = \"register\", members = { x = 1 } }]",
        "dialect[0].command[0].members.x: expected a text in quotes",
    ),
    (
        "command = [{ name = \"a\", does = \"ping\", echo = [\"id\"] }]",
        "dialect[0].command[0].echo: expected names of members",
    ),
    (
        "command = [{ name = \"a\", does = \"ping\" }, { name = \"a\", does = \"ping\" }]",
        "dialect[0].command[1].name: \"a\" is declared twice",
    ),
];

#[test]
fn each_mistake_names_its_key() {
    for (text, says) in MISTAKES {
        let name = if text.starts_with("name =") {
            ""
        } else {
            "name = \"own\"\n"
        };
        let found = problems(&format!("[[dialect]]\n{name}{text}"));
        assert!(found.contains(says), "{text}: {found}");
        assert_eq!(found.lines().count(), 1, "{text}: {found}");
    }
}

#[test]
fn dialects_do_not_meet() {
    let two = "[[dialect]]\nname = \"a\"\npaths = [\"/x\"]\n\
        [[dialect]]\nname = \"b\"\npaths = [\"/x/\"]";
    let says = problems(two);
    assert!(
        says.ends_with("dialect[1].paths: /x/ is taken already by dialect[0].paths"),
        "{says}"
    );
    let same = "[[dialect]]\nname = \"a\"\n[[dialect]]\nname = \"a\"";
    let says = problems(same);
    assert!(
        says.ends_with("dialect[1].name: \"a\" is declared twice"),
        "{says}"
    );
    let one = |n| {
        format!(
            "[[dialect]]
name = \"d{n}\"
"
        )
    };
    let many = (0..33).map(one).collect::<Vec<String>>().concat();
    let says = problems(&many);
    assert!(
        says.ends_with("dialect: expected at most 32 dialects"),
        "{says}"
    );
}

#[test]
fn default_dialect_must_use_websocket() {
    let says = problems("websocket.dialect = \"own\"");
    assert!(
        says.contains("websocket.dialect: no such dialect: expected one of tidings,"),
        "{says}"
    );
    let io = "websocket.dialect = \"io\"\n[[dialect]]\nname = \"io\"\n\
        protocol = \"socket.io\"\npaths = [\"/socket.io/\"]";
    assert!(
        problems(io).contains("this one is of Socket.IO"),
        "{}",
        problems(io)
    );
    let own = "websocket.dialect = \"own\"\n[[dialect]]\nname = \"own\"";
    assert_eq!(problems(own), "");
}
