//! Negotiates permessage-deflate (RFC 7692 §5 and §7.1).

use std::fmt::Write as _;

use http::header::{GetAll, HeaderValue};

use crate::deflate::{DeflateParams, MIN_WINDOW_BITS};

/// The first acceptable offer and its answer. Neither side uses context takeover, so that one
/// compressed frame serves every connection and no connection keeps an inflater (RFC 7692 §7.1.1
/// lets the server request it without an offer).
pub(super) fn accept(lines: &GetAll<'_, HeaderValue>) -> Option<(DeflateParams, HeaderValue)> {
    let lines = lines.iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| split(line, ',')).find_map(accept_one)
}

fn accept_one(offer: &str) -> Option<(DeflateParams, HeaderValue)> {
    let mut parts = split(offer, ';');
    if !parts.next()?.eq_ignore_ascii_case("permessage-deflate") {
        return None;
    }
    let offered = Offered::read(parts)?;
    let mut answer =
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover".to_owned();
    if let Some(bits) = offered.server_max_window_bits {
        write!(answer, "; server_max_window_bits={bits}").ok()?;
    }
    let params = DeflateParams {
        server_window_bits: offered.server_max_window_bits.unwrap_or(15),
    };
    Some((params, HeaderValue::try_from(answer).ok()?))
}

/// The parameters of one offer; each may occur once.
#[derive(Default)]
struct Offered {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    client_max_window_bits: bool,
}

impl Offered {
    /// `None` for any parameter that is unknown, repeated or has an invalid value: then the whole
    /// offer is declined (RFC 7692 §7.1).
    fn read<'o>(parts: impl Iterator<Item = &'o str>) -> Option<Self> {
        let mut offered = Offered::default();
        for part in parts {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name.trim_ascii(), Some(unquoted(value.trim_ascii())?)),
                None => (part, None),
            };
            let again = match (name, value) {
                ("server_no_context_takeover", None) => {
                    std::mem::replace(&mut offered.server_no_context_takeover, true)
                }
                ("client_no_context_takeover", None) => {
                    std::mem::replace(&mut offered.client_no_context_takeover, true)
                }
                ("server_max_window_bits", Some(value)) => {
                    let bits = window_bits(value).filter(|bits| *bits >= MIN_WINDOW_BITS)?;
                    offered.server_max_window_bits.replace(bits).is_some()
                }
                // Our inflater has the largest window and accepts every window of the client.
                ("client_max_window_bits", value) => {
                    if let Some(value) = value {
                        window_bits(value)?;
                    }
                    std::mem::replace(&mut offered.client_max_window_bits, true)
                }
                _ => return None,
            };
            if again {
                return None;
            }
        }
        Some(offered)
    }
}

/// 8 to 15, without leading zeros (RFC 7692 §7.1.2).
fn window_bits(value: &str) -> Option<u8> {
    match value {
        "8" | "9" | "10" | "11" | "12" | "13" | "14" | "15" => value.parse().ok(),
        _ => None,
    }
}

/// A value without its quotation marks (RFC 6455 §9.1 allows them around a token).
fn unquoted(value: &str) -> Option<&str> {
    match value.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"'),
        None => Some(value),
    }
}

/// Splits at a separator outside of quotation marks.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |letter| {
        let was_escaped = std::mem::take(&mut escaped);
        match letter {
            '"' if !was_escaped => quoted = !quoted,
            '\\' if quoted && !was_escaped => escaped = true,
            _ => return letter == separator && !quoted,
        }
        false
    })
    .map(str::trim_ascii)
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use http::header::SEC_WEBSOCKET_EXTENSIONS;

    use super::*;

    const BOTH: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

    /// The negotiated window and the part of the answer after [`BOTH`].
    fn agreed(lines: &[&str]) -> Option<(u8, String)> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(
                SEC_WEBSOCKET_EXTENSIONS,
                HeaderValue::try_from(*line).expect("valid"),
            );
        }
        let (params, answer) = accept(&headers.get_all(SEC_WEBSOCKET_EXTENSIONS))?;
        let rest = answer
            .to_str()
            .expect("text")
            .strip_prefix(BOTH)
            .expect("no takeover");
        Some((params.server_window_bits, rest.to_owned()))
    }

    #[test]
    fn acceptable_offers_are_answered_without_context_takeover() {
        let plain = Some((15, String::new()));
        for offer in [
            "permessage-deflate",
            "Permessage-Deflate",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; client_max_window_bits=8",
            "permessage-deflate;server_no_context_takeover;client_no_context_takeover",
            "x-webkit-deflate-frame, permessage-deflate",
            "other; a=\"permessage-deflate; b, c=\\\"\", permessage-deflate",
        ] {
            assert_eq!(agreed(&[offer]), plain, "{offer}");
        }
    }

    #[test]
    fn smaller_window_is_used_and_echoed() {
        for bits in 9..=15 {
            let wanted = Some((bits, format!("; server_max_window_bits={bits}")));
            let bare = format!("permessage-deflate; server_max_window_bits={bits}");
            let quoted = format!("permessage-deflate; server_max_window_bits = \"{bits}\"");
            assert_eq!(agreed(&[&bare]), wanted);
            assert_eq!(agreed(&[&quoted]), wanted);
        }
    }

    #[test]
    fn offers_with_invalid_parameters_are_declined() {
        for parameters in [
            "server_max_window_bits",
            "server_max_window_bits=8",
            "server_max_window_bits=7",
            "server_max_window_bits=16",
            "server_max_window_bits=010",
            "server_max_window_bits=\"10",
            "client_max_window_bits=16",
            "client_max_window_bits=",
            "server_no_context_takeover=1",
            "client_no_context_takeover; client_no_context_takeover",
            "client_max_window_bits; client_max_window_bits=10",
            "unknown",
            "",
        ] {
            assert_eq!(
                agreed(&[&format!("permessage-deflate; {parameters}")]),
                None
            );
        }
        assert_eq!(agreed(&["permessage-bzip2"]), None);
        assert_eq!(agreed(&[]), None);
    }

    #[test]
    fn first_acceptable_offer_wins() {
        let offers = "permessage-deflate; server_max_window_bits=8, \
                      permessage-deflate; server_max_window_bits=10, permessage-deflate";
        let wanted = Some((10, "; server_max_window_bits=10".to_owned()));
        assert_eq!(agreed(&[offers]), wanted);
        let lines: Vec<&str> = offers.split(", ").collect();
        assert_eq!(agreed(&lines), wanted);
    }
}
