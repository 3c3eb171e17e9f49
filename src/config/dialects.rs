//! Checks the declared dialects, and builds their definitions.

use std::collections::BTreeMap;

use super::declarations::duplicates;
use super::validate::{Check, is_plain_path, is_taken};
use super::{
    Config, DialectCommand, DialectConfig, DialectControl, DialectEvent, DialectProtocol,
    DialectRefusals,
};
use crate::event::json::Member;
use crate::protocol::{
    CommandWords, ControlMember, ControlWords, Definition, EventWords, Kind, Refusals,
    ServerMessage, Template,
};

/// The names of the built-in dialects.
pub(super) const BUILT_IN: [&str; 4] = ["tidings", "cloudevents", "tidings.v1.proto", "echo"];
/// The most dialects of one server.
const MAX_DIALECTS: usize = 32;
/// The most commands of one dialect, and names of one message.
const MAX_LISTED: usize = 64;
/// The longest name, in bytes.
const MAX_NAME: usize = 128;

impl DialectConfig {
    /// The dialect's definition. For a dialect that passed the checks, nothing is left out.
    #[must_use]
    pub fn definition(&self) -> Definition {
        let event = EventWords {
            data: self.event.data.clone(),
            members: self
                .event
                .members
                .iter()
                .filter_map(|m| member(m))
                .collect(),
        };
        let control = &self.control;
        let names = control.names.iter();
        let control = ControlWords {
            data: control.data.clone(),
            members: control.members.iter().filter_map(|m| beside(m)).collect(),
            refusals: match control.refusals {
                DialectRefusals::Subscribed => Refusals::Subscribed,
                DialectRefusals::Error => Refusals::Error,
            },
            names: names
                .map(|(ours, theirs)| (ours.clone(), theirs.list().to_vec()))
                .collect(),
        };
        Definition {
            event,
            control,
            commands: self
                .command
                .iter()
                .filter_map(DialectCommand::words)
                .collect(),
        }
    }
}

impl DialectCommand {
    fn words(&self) -> Option<CommandWords> {
        let members = self.members.iter();
        Some(CommandWords {
            name: self.name.clone(),
            does: Kind::of(&self.does)?,
            channels: match self.channels.as_str() {
                "" => None,
                text => Some(Template::parse(text).ok()?),
            },
            members: members
                .map(|(theirs, ours)| (theirs.clone(), ours.clone()))
                .collect(),
            echo: self.echo.clone(),
        })
    }
}

fn member(name: &str) -> Option<Member> {
    Member::KNOWN
        .into_iter()
        .find(|member| member.name() == name)
}

fn beside(name: &str) -> Option<ControlMember> {
    match name {
        "type" => Some(ControlMember::Type),
        "timestamp" => Some(ControlMember::Timestamp),
        _ => None,
    }
}

/// Reports every invalid dialect.
pub(super) fn check(config: &Config, check: &mut Check<'_>) {
    check.expect(
        config.dialect.len() <= MAX_DIALECTS,
        "dialect",
        format!("expected at most {MAX_DIALECTS} dialects"),
    );
    let names = config.dialect.iter().map(|dialect| dialect.name.as_str());
    duplicates(names, "dialect", check);
    for (index, dialect) in config.dialect.iter().enumerate() {
        let at = format!("dialect[{index}]");
        let own = !BUILT_IN.contains(&dialect.name.as_str());
        let key = format!("{at}.name");
        check.expect(
            own,
            &key,
            "this is the name of a dialect that is always there",
        );
        let text = "expected 1 to 128 of A-Z a-z 0-9 _ - .";
        check.expect(is_word(&dialect.name), &key, text);
        protocol(dialect, &at, check);
        event(&dialect.event, &format!("{at}.event"), check);
        control(&dialect.control, &format!("{at}.control"), check);
        commands(dialect, &at, check);
    }
    paths(config, check);
    spoken_by_default(config, check);
}

fn protocol(dialect: &DialectConfig, at: &str, check: &mut Check<'_>) {
    let socket_io = dialect.protocol == DialectProtocol::SocketIo;
    check.expect(
        !socket_io || !dialect.paths.is_empty(),
        &format!("{at}.paths"),
        "expected the paths of Engine.IO, such as [\"/socket.io/\"]",
    );
    let namespaces = &dialect.namespaces;
    let key = format!("{at}.namespaces");
    check.expect(
        socket_io || *namespaces == DialectConfig::default().namespaces,
        &key,
        "only Socket.IO has namespaces (protocol = \"socket.io\")",
    );
    let good = |name: &String| {
        name.starts_with('/')
            && name.len() <= MAX_NAME
            && !name.contains(',')
            && name.bytes().all(|b| b.is_ascii_graphic())
    };
    check.expect(
        !namespaces.is_empty() && namespaces.len() <= MAX_LISTED && namespaces.iter().all(good),
        &key,
        "expected 1 to 64 namespaces of Socket.IO, such as [\"/\", \"/chat\"]",
    );
}

fn event(event: &DialectEvent, at: &str, check: &mut Check<'_>) {
    let names: Vec<&str> = Member::KNOWN.iter().map(|member| member.name()).collect();
    listed(&event.members, &names, &format!("{at}.members"), check);
    // Members that an event may have besides its envelope's members.
    let taken = ["data_base64", "content_type", "tracestate"].contains(&event.data.as_str());
    check.expect(
        !taken && !event.members.contains(&event.data),
        &format!("{at}.data"),
        "another member has this name",
    );
    name_or_none(&event.data, &format!("{at}.data"), check);
}

fn control(control: &DialectControl, at: &str, check: &mut Check<'_>) {
    let members = format!("{at}.members");
    listed(&control.members, &["type", "timestamp"], &members, check);
    check.expect(
        !["type", "timestamp", "id"].contains(&control.data.as_str()),
        &format!("{at}.data"),
        "another member has this name",
    );
    name_or_none(&control.data, &format!("{at}.data"), check);
    for (ours, theirs) in &control.names {
        let key = format!("{at}.names.{ours}");
        let known = ServerMessage::NAMES.contains(&ours.as_str());
        let text = format!(
            "no such message: expected one of {}",
            ServerMessage::NAMES.join(", ")
        );
        check.expect(known, &key, text);
        let list = theirs.list();
        check.expect(
            list.len() <= MAX_LISTED && list.iter().all(|name| is_text(name)),
            &key,
            "expected names of 1 to 128 bytes, 64 of them at most",
        );
    }
}

fn commands(dialect: &DialectConfig, at: &str, check: &mut Check<'_>) {
    let table = format!("{at}.command");
    check.expect(
        dialect.command.len() <= MAX_LISTED,
        &table,
        "expected at most 64 commands",
    );
    let names = dialect.command.iter().map(|command| command.name.as_str());
    duplicates(names, &table, check);
    for (index, command) in dialect.command.iter().enumerate() {
        one_command(command, &format!("{table}[{index}]"), check);
    }
}

fn one_command(command: &DialectCommand, at: &str, check: &mut Check<'_>) {
    check.expect(
        is_text(&command.name),
        &format!("{at}.name"),
        "expected 1 to 128 bytes",
    );
    let reserved = ["type", "id", "timestamp"];
    check.expect(
        command
            .echo
            .iter()
            .all(|name| is_text(name) && !reserved.contains(&name.as_str())),
        &format!("{at}.echo"),
        "expected names of members other than type, id and timestamp",
    );
    let Some(kind) = Kind::of(&command.does) else {
        let text = format!("no such command: expected {}", Kind::list());
        check.expect(false, &format!("{at}.does"), text);
        return;
    };
    let secret = |name: &String| {
        let ours = command.members.get(name).unwrap_or(name);
        kind == Kind::Authenticate && ours == "token"
    };
    check.expect(
        !command.echo.iter().any(secret),
        &format!("{at}.echo"),
        "a token is not repeated",
    );
    if !command.channels.is_empty() {
        let key = format!("{at}.channels");
        check.expect(
            kind.names_channels(),
            &key,
            format!("{} is not about channels", kind.name()),
        );
        if let Err(text) = Template::parse(&command.channels) {
            check.expect(false, &key, text);
        }
    }
    for (theirs, ours) in &command.members {
        let known = kind.members().contains(&ours.as_str());
        let text = match kind.members() {
            [] => format!("{} has no members", kind.name()),
            members => format!(
                "{} has no such member: expected one of {}",
                kind.name(),
                members.join(", ")
            ),
        };
        check.expect(known, &format!("{at}.members.{theirs}"), text);
    }
}

/// Two endpoints can't share a path. Socket.IO may share the WebSocket's path, because its requests
/// are recognised by their query.
fn paths(config: &Config, check: &mut Check<'_>) {
    // A trailing slash makes no difference.
    let same = |path: &str| path.trim_end_matches('/').to_owned();
    let main = (same(&config.websocket.path), "websocket.path".to_owned());
    let mut of_websocket = BTreeMap::from([main]);
    let mut of_socket_io = BTreeMap::new();
    for (index, dialect) in config.dialect.iter().enumerate() {
        let taken = match dialect.protocol {
            DialectProtocol::WebSocket => &mut of_websocket,
            DialectProtocol::SocketIo => &mut of_socket_io,
        };
        let key = format!("dialect[{index}].paths");
        for path in &dialect.paths {
            let text = format!("expected paths such as \"/ws\", not {path:?}");
            check.expect(is_plain_path(path), &key, text);
            check.expect(!is_taken(path), &key, format!("{path} is taken"));
            if let Some(other) = taken.get(&same(path)).filter(|other| **other != key) {
                let text = format!("{path} is taken already by {other}");
                check.expect(false, &key, text);
            }
            taken.entry(same(path)).or_insert_with(|| key.clone());
        }
    }
}

fn spoken_by_default(config: &Config, check: &mut Check<'_>) {
    let name = config.websocket.dialect.as_str();
    if BUILT_IN.contains(&name) {
        return;
    }
    let key = "websocket.dialect";
    if let Some(dialect) = config.dialect.iter().find(|dialect| dialect.name == name) {
        check.expect(
            dialect.protocol == DialectProtocol::WebSocket,
            key,
            "expected a dialect of the WebSocket, and this one is of Socket.IO",
        );
        return;
    }
    let declared = config.dialect.iter().map(|dialect| dialect.name.as_str());
    let known: Vec<&str> = BUILT_IN.into_iter().chain(declared).collect();
    let text = format!("no such dialect: expected one of {}", known.join(", "));
    check.expect(false, key, text);
}

/// Reports names that are unknown or duplicate.
fn listed(names: &[String], known: &[&str], key: &str, check: &mut Check<'_>) {
    let all = names.iter().all(|name| known.contains(&name.as_str()));
    let text = format!("expected some of {}", known.join(", "));
    check.expect(all, key, text);
    let twice = names
        .iter()
        .enumerate()
        .any(|(at, name)| names.iter().skip(at + 1).any(|other| other == name));
    check.expect(!twice, key, "a member stands twice");
}

fn name_or_none(name: &str, key: &str, check: &mut Check<'_>) {
    check.expect(
        name.is_empty() || is_text(name),
        key,
        "expected at most 128 bytes",
    );
}

fn is_text(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && !name.chars().any(char::is_control)
}

fn is_word(name: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(word)
}

#[cfg(test)]
mod tests;
