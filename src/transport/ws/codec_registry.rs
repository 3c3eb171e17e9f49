//! Selects the codec of a WebSocket connection by path and subprotocol.

use std::collections::HashMap;
use std::sync::Arc;

use super::endpoint::WsSettings;
use super::protocol::{Echo, WsProtocol};
use crate::hub::{DialectId, Protocol};
use crate::protocol::registry::{self, BUILT_IN, TIDINGS};
use crate::protocol::{Definition, MessageWriter};
use crate::session::Services;
use tidings_websocket::Compression;

/// A `[[dialect]]` of the configuration.
#[derive(Debug, Clone)]
pub struct Declared {
    /// Its name.
    pub name: String,
    /// Its paths, in addition to `websocket.path` if that names it.
    pub paths: Vec<String>,
    /// Its definition.
    pub definition: Arc<Definition>,
}

/// The codec of a connection.
#[derive(Clone)]
pub(super) struct WsCodec {
    /// For the hub.
    pub(super) protocol: Arc<dyn Protocol>,
    /// Writes the first message; `None` for `echo`, which sends nothing of its own.
    pub(super) writer: Option<MessageWriter>,
}

/// The codecs by name and by path.
pub(super) struct CodecRegistry {
    by_name: HashMap<String, Arc<WsDialect>>,
    by_path: HashMap<String, Arc<WsDialect>>,
    /// For all other paths.
    default: Arc<WsDialect>,
}

/// A codec, for each kind of compression.
struct WsDialect {
    /// Its definition; `None` for the built-in ones.
    definition: Option<Arc<Definition>>,
    /// Its numbers, which it keeps across a reload as long as its frames stay the same.
    ids: [DialectId; 3],
    codecs: [WsCodec; 3],
}

impl CodecRegistry {
    /// The codecs of these settings. Unchanged ones keep their numbers.
    pub(super) fn new(
        services: &Arc<Services>,
        settings: &WsSettings,
        before: Option<&CodecRegistry>,
    ) -> Self {
        let built_in = BUILT_IN.map(|name| (name, None));
        let declared = settings.dialects.iter();
        let declared = declared.map(|own| (own.name.as_str(), Some(Arc::clone(&own.definition))));
        let mut all: Vec<_> = declared.chain(built_in).collect();
        // The default codec claims its number first.
        all.sort_by_key(|(name, _)| *name != settings.dialect);
        let make = |name: &str, definition: Option<Arc<Definition>>| {
            let known = before.and_then(|before| before.by_name.get(name));
            let known = known.filter(|known| known.definition == definition);
            let ids = known.map_or_else(
                || [(); 3].map(|()| services.hub.dialects().claim()),
                |known| known.ids,
            );
            Arc::new(WsDialect::new(services, settings, name, definition, ids))
        };
        let by_name = all
            .into_iter()
            .map(|(name, definition)| (name.to_owned(), make(name, definition)));
        let by_name: HashMap<String, Arc<WsDialect>> = by_name.collect();
        let paths = settings.dialects.iter().flat_map(|own| {
            let dialect = by_name.get(&own.name);
            let paths = own.paths.iter();
            paths.filter_map(move |path| Some((path.clone(), Arc::clone(dialect?))))
        });
        let default = by_name.get(&settings.dialect).map(Arc::clone);
        CodecRegistry {
            by_path: paths.collect(),
            // An unknown name was refused when the configuration was read.
            default: default.unwrap_or_else(|| make(TIDINGS, None)),
            by_name,
        }
    }

    /// Whether this path, which is not `websocket.path`, has a codec of its own.
    pub(super) fn is_at(&self, path: &str) -> bool {
        self.by_path.contains_key(path)
    }

    /// The codec for a request: the subprotocol takes precedence over the path.
    pub(super) fn find(
        &self,
        path: &str,
        subprotocol: Option<&str>,
        compression: Compression,
    ) -> WsCodec {
        let named = subprotocol
            .and_then(registry::name_of)
            .and_then(|name| self.by_name.get(name));
        let at_path = || self.by_path.get(path).unwrap_or(&self.default);
        let dialect = named.unwrap_or_else(at_path);
        let [off, full, small] = &dialect.codecs;
        let codec = match compression {
            Compression::Off => off,
            Compression::Full => full,
            Compression::Small => small,
        };
        codec.clone()
    }
}

impl WsDialect {
    fn new(
        services: &Arc<Services>,
        settings: &WsSettings,
        name: &str,
        definition: Option<Arc<Definition>>,
        ids: [DialectId; 3],
    ) -> Self {
        let codec = registry::codec(name, definition.as_ref());
        let [off, full, small] = ids;
        let kinds = [
            (Compression::Off, off),
            (Compression::Full, full),
            (Compression::Small, small),
        ];
        let codecs = kinds.map(|(compression, id)| {
            let (services, bytes) = (Arc::clone(services), settings.message_bytes);
            let Some(codec) = codec.clone() else {
                return WsCodec {
                    protocol: Arc::new(Echo::new(services, compression, id, bytes)),
                    writer: None,
                };
            };
            let protocol = WsProtocol::new(services, name, codec, compression, id, bytes);
            WsCodec {
                writer: Some(protocol.writer().clone()),
                protocol: Arc::new(protocol),
            }
        });
        WsDialect {
            definition,
            ids,
            codecs,
        }
    }
}
