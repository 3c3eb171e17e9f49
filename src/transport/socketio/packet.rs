//! The packets of Engine.IO 4 and Socket.IO 5, as text and without any I/O.
//!
//! An Engine.IO packet is a digit and the rest; a Socket.IO packet is the rest of a `message`: its
//! own digit, the namespace unless that is `/`, a number to acknowledge by, and JSON. Over long
//! polling several packets make a payload, with [`SEPARATOR`] between them. Binary packets are
//! recognised, and nothing more.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

/// The separator between the packets of a payload. JSON never contains it.
pub(super) const SEPARATOR: u8 = 0x1e;

/// The longest name of a namespace, in bytes.
pub(super) const MAX_NAMESPACE: usize = 255;

/// The default namespace, which packets omit.
pub(super) const MAIN: &str = "/";

/// The largest acknowledgement id: JavaScript's largest safe integer.
const MAX_ACK: u64 = (1 << 53) - 1;

/// An Engine.IO packet of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Engine<'a> {
    /// The client closes.
    Close,
    /// A ping, sent by clients only to probe another transport.
    Ping(&'a str),
    /// The reply to the server's ping.
    Pong,
    /// A Socket.IO packet.
    Message(&'a str),
    /// The client completes the upgrade to this transport.
    Upgrade,
    /// Nothing.
    Noop,
    /// Binary data, in base64.
    Binary,
}

/// A Socket.IO packet of a client.
#[derive(Debug)]
pub(super) enum Socket<'a> {
    /// The client wants to connect to a namespace.
    Connect {
        /// The namespace.
        namespace: &'a str,
        /// The `auth` object as text; empty if there is none.
        auth: &'a str,
    },
    /// The client leaves a namespace.
    Disconnect {
        /// The namespace.
        namespace: &'a str,
    },
    /// An event of the client.
    Event {
        /// The namespace.
        namespace: &'a str,
        /// The acknowledgement id.
        ack: Option<u64>,
        /// The event's name.
        name: Cow<'a, str>,
        /// The arguments.
        arguments: Vec<&'a RawValue>,
    },
    /// An acknowledgement, which the server never requests.
    Ack,
    /// An event or an acknowledgement with binary parts.
    Binary {
        /// The namespace.
        namespace: &'a str,
        /// The acknowledgement id.
        ack: Option<u64>,
    },
}

/// Bytes that are not a packet: the violated rule. Never contains the client's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

/// Reads an Engine.IO packet.
///
/// # Errors
/// If its type is never sent by clients.
pub(super) fn engine(text: &str) -> Result<Engine<'_>, Malformed> {
    let mut letters = text.chars();
    let kind = letters.next();
    let rest = letters.as_str();
    match (kind, rest) {
        (Some('1'), "") => Ok(Engine::Close),
        (Some('2'), _) => Ok(Engine::Ping(rest)),
        (Some('3'), _) => Ok(Engine::Pong),
        (Some('4'), _) => Ok(Engine::Message(rest)),
        (Some('5'), "") => Ok(Engine::Upgrade),
        (Some('6'), "") => Ok(Engine::Noop),
        (Some('b'), _) => Ok(Engine::Binary),
        _ => Err(Malformed("expected an Engine.IO packet of a client")),
    }
}

/// True if every packet of a payload is one that [`engine`] reads.
#[must_use]
pub(super) fn is_payload(payload: &str) -> bool {
    payload
        .split(char::from(SEPARATOR))
        .all(|packet| engine(packet).is_ok())
}

/// Reads a Socket.IO packet.
///
/// # Errors
/// The first rule that it breaks.
pub(super) fn socket(text: &str) -> Result<Socket<'_>, Malformed> {
    let mut letters = text.chars();
    let kind = letters.next();
    let rest = letters.as_str();
    match kind {
        Some('0') => {
            let (namespace, auth) = namespace(rest)?;
            Ok(Socket::Connect { namespace, auth })
        }
        Some('1') => match namespace(rest)? {
            (namespace, "") => Ok(Socket::Disconnect { namespace }),
            _ => Err(Malformed("a disconnect carries nothing")),
        },
        Some('2') => event(rest),
        Some('3') => Ok(Socket::Ack),
        Some(kind @ ('5' | '6')) => {
            let (_, rest) = rest
                .split_once('-')
                .ok_or(Malformed("expected the number of attachments"))?;
            let (namespace, rest) = namespace(rest)?;
            let (number, _) = number(rest)?;
            let ack = number.filter(|_| kind == '5');
            Ok(Socket::Binary { namespace, ack })
        }
        _ => Err(Malformed("expected a Socket.IO packet of a client")),
    }
}

/// The namespace at the front, and the rest.
fn namespace(text: &str) -> Result<(&str, &str), Malformed> {
    if !text.starts_with('/') {
        return Ok((MAIN, text));
    }
    let (name, rest) = text.split_once(',').unwrap_or((text, ""));
    if name.len() > MAX_NAMESPACE {
        return Err(Malformed("a namespace has at most 255 bytes"));
    }
    Ok((name, rest))
}

fn event(text: &str) -> Result<Socket<'_>, Malformed> {
    let (namespace, rest) = namespace(text)?;
    let (ack, json) = number(rest)?;
    let malformed = |_| Malformed("expected a JSON list with an event's name first");
    let list: Vec<&RawValue> = serde_json::from_str(json).map_err(malformed)?;
    let (name, arguments) = list
        .split_first()
        .ok_or(Malformed("expected an event's name"))?;
    let name: Text<'_> = serde_json::from_str(name.get()).map_err(malformed)?;
    Ok(Socket::Event {
        namespace,
        ack,
        name: name.0,
        arguments: arguments.to_vec(),
    })
}

/// The acknowledgement id at the front, if any, and the rest.
fn number(text: &str) -> Result<(Option<u64>, &str), Malformed> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(digits);
    if number.is_empty() {
        return Ok((None, rest));
    }
    let number = number.parse().ok().filter(|number| *number <= MAX_ACK);
    let wrong = Malformed("an acknowledgement is by a number up to 2^53");
    Ok((Some(number.ok_or(wrong)?), rest))
}

/// A string, borrowed from the JSON where that has no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Event names that Socket.IO reserves: a client treats a packet with one as malformed and closes.
pub(super) const RESERVED: [&str; 6] = [
    "connect",
    "connect_error",
    "disconnect",
    "disconnecting",
    "newListener",
    "removeListener",
];

/// The prefix of a Socket.IO packet within an Engine.IO message: the two digits and the namespace.
#[must_use]
pub(super) fn head(kind: Kind, namespace: &str) -> String {
    let digit = kind.digit();
    if namespace == MAIN {
        format!("4{digit}")
    } else {
        format!("4{digit}{namespace},")
    }
}

/// The kinds of packets that the server sends in a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The client is connected.
    Connect,
    /// The server disconnects the client.
    Disconnect,
    /// An event.
    Event,
    /// An acknowledgement.
    Ack,
    /// `CONNECT_ERROR`.
    ConnectError,
}

impl Kind {
    const fn digit(self) -> char {
        match self {
            Kind::Connect => '0',
            Kind::Disconnect => '1',
            Kind::Event => '2',
            Kind::Ack => '3',
            Kind::ConnectError => '4',
        }
    }
}

/// For `fuzz/`: reads any text as a packet of both protocols.
///
/// # Panics
/// If a single packet and the same packet in a payload have different results.
#[cfg(feature = "fuzzing")]
pub fn read_all(text: &str) {
    let alone = !text.contains(char::from(SEPARATOR));
    assert!(!alone || engine(text).is_ok() == is_payload(text));
    drop(socket(text));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn broken(text: &str) -> &'static str {
        socket(text).expect_err("it is no packet").0
    }

    #[test]
    fn packets_of_the_specification_are_parsed() {
        assert_eq!(engine("1"), Ok(Engine::Close));
        assert_eq!(engine("2probe"), Ok(Engine::Ping("probe")));
        assert_eq!(engine("3"), Ok(Engine::Pong));
        assert_eq!(engine("4hello"), Ok(Engine::Message("hello")));
        assert_eq!(engine("5"), Ok(Engine::Upgrade));
        assert_eq!(engine("bAQIDBA=="), Ok(Engine::Binary));
        for text in ["", "0{}", "7", "x", "11", "é"] {
            assert!(engine(text).is_err(), "{text}");
        }
        let connect = socket(r#"0/admin,{"token":"123"}"#).unwrap();
        assert!(
            matches!(connect, Socket::Connect { namespace: "/admin", auth } if auth == r#"{"token":"123"}"#)
        );
        assert!(matches!(
            socket("0").unwrap(),
            Socket::Connect {
                namespace: "/",
                auth: ""
            }
        ));
        assert!(matches!(
            socket("1/admin,").unwrap(),
            Socket::Disconnect {
                namespace: "/admin"
            }
        ));
        assert!(matches!(
            socket(r#"51-/ws,9["a",{"_placeholder":true,"num":0}]"#).unwrap(),
            Socket::Binary {
                namespace: "/ws",
                ack: Some(9)
            }
        ));
    }

    #[test]
    fn event_has_name_arguments_and_optional_ack_id() {
        let packet = socket(r#"2/ws,17["sub\u0073cribe",{"room":"a"},2]"#).unwrap();
        let Socket::Event {
            namespace,
            ack,
            name,
            arguments,
        } = packet
        else {
            panic!("{packet:?}");
        };
        assert_eq!(
            (namespace, ack, &*name),
            ("/ws", Some(17), "subscribe"),
            "escapes are undone"
        );
        let arguments: Vec<&str> = arguments.iter().map(|argument| argument.get()).collect();
        assert_eq!(arguments, [r#"{"room":"a"}"#, "2"]);
    }

    #[test]
    fn malformed_packet_names_the_violated_rule() {
        assert_eq!(broken("2[]"), "expected an event's name");
        for text in ["2", "2{}", "2[1]", "2[\"a\"", "2/ws,", "2[\"a\u{1e}\"]"] {
            assert!(broken(text).starts_with("expected a JSON list"), "{text}");
        }
        assert!(broken("29007199254740992[\"a\"]").contains("2^53"));
        assert!(broken(&format!("299{}[\"a\"]", "9".repeat(40))).contains("2^53"));
        assert!(broken(&format!("0/{}", "n".repeat(255))).contains("255"));
        assert!(broken("5[]").contains("attachments"));
        for text in ["", "4", "7[]", "x"] {
            assert!(broken(text).starts_with("expected a Socket.IO"), "{text}");
        }
    }

    #[test]
    fn packet_prefix_omits_the_default_namespace() {
        assert_eq!(head(Kind::Event, "/"), "42");
        assert_eq!(head(Kind::Event, "/ws"), "42/ws,");
        assert_eq!(head(Kind::ConnectError, "/ws"), "44/ws,");
    }

    proptest! {
        #[test]
        fn no_text_panics_the_packet_parser(text in "\\PC{0,80}") {
            let read = engine(&text);
            prop_assert_eq!(read.is_ok(), is_payload(&text));
            drop(socket(&text));
        }

        #[test]
        fn no_event_panics_the_packet_parser(text in "2(/[a-z,]{0,6})?[0-9]{0,20}[\\[\\]{}\"a,:1]{0,20}") {
            drop(socket(&text));
        }

        #[test]
        fn event_packet_round_trips(
            namespace in "/[a-z0-9_-]{0,20}",
            ack in proptest::option::of(0..=MAX_ACK),
            name in "\\PC{0,20}",
            argument in "\\PC{0,20}",
        ) {
            let list = serde_json::json!([name, { "room": argument }]).to_string();
            let number = ack.map(|ack| ack.to_string()).unwrap_or_default();
            let text = format!("{}{number}{list}", head(Kind::Event, &namespace));
            let Engine::Message(message) = engine(&text).unwrap() else { panic!("a message") };
            let Socket::Event { namespace: read, ack: by, name: event_name, arguments } =
                socket(message).unwrap() else { panic!("an event") };
            prop_assert_eq!((read, by, &*event_name), (&*namespace, ack, &*name));
            prop_assert_eq!(arguments.len(), 1);
        }
    }
}
