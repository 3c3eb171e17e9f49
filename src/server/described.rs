//! The published descriptions of events: the catalog and the AsyncAPI document.

use std::sync::Arc;

use super::StartError;
use crate::catalog::{Catalog, Definition, KnownType, Mode, Schema};
use crate::config::{CatalogMode, Config, DialectConfig, DialectProtocol, EventTypeConfig};
use crate::event::EventType;
use crate::transport::http::AsyncApiSettings;

/// The event types, with compiled schemas.
///
/// # Errors
/// Names the type whose schema or example is unusable.
pub fn catalog(config: &Config) -> Result<Catalog, StartError> {
    let mode = match config.catalog.mode {
        CatalogMode::Open => Mode::Open,
        CatalogMode::Known => Mode::Known,
        CatalogMode::Strict => Mode::Strict,
    };
    let known = config.event_type.iter().map(known_type);
    Ok(Catalog::new(
        mode,
        known.collect::<Result<Vec<_>, StartError>>()?,
    ))
}

fn known_type(kind: &EventTypeConfig) -> Result<KnownType, StartError> {
    // Types that are only described may have names of control messages. They are checked with the
    // rest.
    let name = EventType::described(&kind.name).map_err(StartError::new)?;
    let Definition { schema, example } = Definition::load(kind.sources())
        .map_err(|error| StartError::new(format!("event type {name}: {error}")))?;
    let described = schema.as_ref().and_then(Schema::description);
    let description = match (kind.description.as_str(), described) {
        ("", Some(described)) => described.to_owned(),
        (configured, _) => configured.to_owned(),
    };
    Ok(KnownType {
        name,
        namespace: kind.namespace.clone(),
        broadcast: kind.broadcast,
        control: kind.control,
        description,
        roles: kind
            .roles
            .iter()
            .map(|role| Arc::from(role.as_str()))
            .collect(),
        conflate_key: kind.conflate_key.clone(),
        schema,
        example,
    })
}

/// The codec of each endpoint.
#[must_use]
pub fn asyncapi_settings(config: &Config) -> AsyncApiSettings {
    let name = &config.websocket.dialect;
    let declared = config.dialect.iter().find(|own| own.name == *name);
    let socket_io = config
        .dialect
        .iter()
        .filter(|own| own.protocol == DialectProtocol::SocketIo)
        .flat_map(|own| own.paths.iter().map(|path| (path.clone(), argument(own))));
    AsyncApiSettings {
        path: config.websocket.path.clone(),
        dialect: name.clone(),
        words: Arc::new(declared.map(DialectConfig::definition).unwrap_or_default()),
        socket_io: socket_io.collect(),
    }
}

/// A short form of an event's argument in Socket.IO: `{type, timestamp, data}`.
fn argument(dialect: &DialectConfig) -> String {
    let event = &dialect.event;
    let data = match event.data.as_str() {
        "" => "…the data's own members",
        name => name,
    };
    let members = event.members.iter().map(String::as_str);
    let members: Vec<&str> = members.chain([data]).collect();
    format!("{{{}}}", members.join(", "))
}
