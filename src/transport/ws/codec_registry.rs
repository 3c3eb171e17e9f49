//! Which dialects are spoken on the WebSocket, and where.

use std::collections::HashMap;
use std::sync::Arc;

use super::endpoint::WsSettings;
use super::protocol::{Echo, Speaking};
use crate::hub::{DialectId, Protocol};
use crate::protocol::{Binary, Definition, Dialect, Framer, Words};
use crate::session::Services;
use tidings_websocket::Compression;

/// Subprotocols with the dialects that they name.
const SUBPROTOCOLS: [(&str, &str); 3] = [
    ("tidings.v1.json", TIDINGS),
    ("cloudevents.json", CLOUD_EVENTS),
    (PROTO, PROTO),
];
/// The dialect that is spoken unless another is asked for.
const TIDINGS: &str = "tidings";
/// The same dialect with events as `CloudEvents`.
const CLOUD_EVENTS: &str = "cloudevents";
/// The same dialect in protobuf.
const PROTO: &str = "tidings.v1.proto";
/// Every message comes back as it went.
const ECHO: &str = "echo";

/// A dialect that is not built in.
#[derive(Debug, Clone)]
pub struct Declared {
    /// Its name.
    pub name: String,
    /// Where it is spoken, beside the endpoint's own path if that is its.
    pub paths: Vec<String>,
    /// What it calls things.
    pub definition: Arc<Definition>,
}

/// The first of the offered subprotocols that the server speaks.
pub(super) fn choose(offered: &[String]) -> Option<&'static str> {
    let known = || SUBPROTOCOLS.iter().map(|(subprotocol, _)| *subprotocol);
    offered
        .iter()
        .find_map(|name| known().find(|known| known == name))
}

/// What is spoken on a connection.
#[derive(Clone)]
pub(super) struct WsCodec {
    /// For the bus.
    pub(super) protocol: Arc<dyn Protocol>,
    /// What the client is greeted with; `None` for `echo`, which says nothing of itself.
    pub(super) framer: Option<Arc<dyn Framer>>,
}

/// The dialects by their names, and what is spoken where.
pub(super) struct CodecRegistry {
    by_name: HashMap<String, Arc<Tongue>>,
    by_path: HashMap<String, Arc<Tongue>>,
    /// What is spoken everywhere else.
    default: Arc<Tongue>,
}

/// A dialect, for each kind of compression.
struct Tongue {
    /// What it calls things; `None` for those that are built in.
    definition: Option<Arc<Definition>>,
    /// Its numbers, which it keeps over a reload as long as its frames stay the same.
    ids: [DialectId; 3],
    spoken: [WsCodec; 3],
}

impl CodecRegistry {
    /// The dialects of these settings; those that were there before keep their numbers.
    pub(super) fn new(
        services: &Arc<Services>,
        settings: &WsSettings,
        before: Option<&CodecRegistry>,
    ) -> Self {
        let built_in = [TIDINGS, CLOUD_EVENTS, PROTO, ECHO].map(|name| (name, None));
        let declared = settings.dialects.iter();
        let declared = declared.map(|own| (own.name.as_str(), Some(Arc::clone(&own.definition))));
        let mut all: Vec<_> = declared.chain(built_in).collect();
        // Who is spoken most asks first for a number.
        all.sort_by_key(|(name, _)| *name != settings.dialect);
        let make = |name: &str, definition: Option<Arc<Definition>>| {
            let known = before.and_then(|before| before.by_name.get(name));
            let known = known.filter(|known| known.definition == definition);
            let ids = known.map_or_else(
                || [(); 3].map(|()| services.hub.dialects().claim()),
                |known| known.ids,
            );
            Arc::new(Tongue::new(services, settings, name, definition, ids))
        };
        let by_name = all
            .into_iter()
            .map(|(name, definition)| (name.to_owned(), make(name, definition)));
        let by_name: HashMap<String, Arc<Tongue>> = by_name.collect();
        let paths = settings.dialects.iter().flat_map(|own| {
            let tongue = by_name.get(&own.name);
            let paths = own.paths.iter();
            paths.filter_map(move |path| Some((path.clone(), Arc::clone(tongue?))))
        });
        let default = by_name.get(&settings.dialect).map(Arc::clone);
        CodecRegistry {
            by_path: paths.collect(),
            // A configuration that names none was refused.
            default: default.unwrap_or_else(|| make(TIDINGS, None)),
            by_name,
        }
    }

    /// True if a dialect is spoken at this path, which is not the endpoint's own.
    pub(super) fn is_at(&self, path: &str) -> bool {
        self.by_path.contains_key(path)
    }

    /// What is spoken at a path: a subprotocol wins, for the client has asked for it.
    pub(super) fn spoken(
        &self,
        path: &str,
        subprotocol: Option<&str>,
        compression: Compression,
    ) -> WsCodec {
        let mut named = SUBPROTOCOLS.iter();
        let named = subprotocol
            .and_then(|chosen| named.find(|(subprotocol, _)| *subprotocol == chosen))
            .and_then(|(_, name)| self.by_name.get(*name));
        let at_path = || self.by_path.get(path).unwrap_or(&self.default);
        let tongue = named.unwrap_or_else(at_path);
        let [off, full, small] = &tongue.spoken;
        let spoken = match compression {
            Compression::Off => off,
            Compression::Full => full,
            Compression::Small => small,
        };
        spoken.clone()
    }
}

impl Tongue {
    fn new(
        services: &Arc<Services>,
        settings: &WsSettings,
        name: &str,
        definition: Option<Arc<Definition>>,
        ids: [DialectId; 3],
    ) -> Self {
        let dialect: Option<Arc<dyn Dialect>> = match (&definition, name) {
            (Some(definition), _) => Some(Arc::new(Words::new(Arc::clone(definition)))),
            (None, ECHO) => None,
            (None, PROTO) => Some(Arc::new(Binary)),
            (None, CLOUD_EVENTS) => Some(Arc::new(Words::cloud_events())),
            (None, _) => Some(Arc::new(Words::tidings())),
        };
        let [off, full, small] = ids;
        let kinds = [
            (Compression::Off, off),
            (Compression::Full, full),
            (Compression::Small, small),
        ];
        let spoken = kinds.map(|(compression, id)| {
            let (services, bytes) = (Arc::clone(services), settings.message_bytes);
            let Some(dialect) = &dialect else {
                return WsCodec {
                    protocol: Arc::new(Echo::new(services, compression, id, bytes)),
                    framer: None,
                };
            };
            let speaking = Speaking::new(services, Arc::clone(dialect), compression, id, bytes);
            WsCodec {
                framer: Some(Arc::clone(speaking.framer())),
                protocol: Arc::new(speaking),
            }
        });
        Tongue {
            definition,
            ids,
            spoken,
        }
    }
}
