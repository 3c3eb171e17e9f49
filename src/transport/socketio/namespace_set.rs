//! A dialect with the namespaces in which it is spoken.

use std::sync::{Arc, OnceLock};

use super::packet::{Kind, head};
use super::packing::Packing;
use crate::hub::DialectId;
use crate::protocol::{Definition, JsonCodec};
use crate::session::Services;

/// A dialect over Socket.IO. Its connections hold it, so that they go on in it where the
/// configuration changes.
pub(super) struct NamespaceSet {
    pub(super) services: Arc<Services>,
    pub(super) codec: Arc<JsonCodec>,
    definition: Arc<Definition>,
    /// The largest message of a client, and the largest payload of a POST, in bytes.
    pub(super) message_bytes: usize,
    namespaces: Vec<Namespace>,
    /// By namespace, the lobby first, and packing: numbered when they are first spoken, so that
    /// those in use get the cheapest places in every event.
    ids: Vec<[OnceLock<DialectId>; Packing::COUNT]>,
}

/// A Socket.IO namespace, with the beginnings of its packets.
pub(super) struct Namespace {
    pub(super) name: Box<str>,
    pub(super) connect: Box<str>,
    pub(super) disconnect: Box<str>,
    pub(super) event: Box<str>,
    pub(super) ack: Box<str>,
}

impl Namespace {
    fn new(name: &str) -> Self {
        Namespace {
            name: name.into(),
            connect: head(Kind::Connect, name).into(),
            disconnect: head(Kind::Disconnect, name).into(),
            event: head(Kind::Event, name).into(),
            ack: head(Kind::Ack, name).into(),
        }
    }
}

/// Where a connection is: in a namespace, or in none yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It has not connected to a namespace.
    Lobby,
    /// In this one.
    Namespace(usize),
}

impl NamespaceSet {
    pub(super) fn new(
        services: &Arc<Services>,
        definition: Arc<Definition>,
        namespaces: &[String],
        message_bytes: usize,
    ) -> Self {
        let namespaces: Vec<Namespace> = namespaces.iter().map(|n| Namespace::new(n)).collect();
        let ids = (0..=namespaces.len()).map(|_| Default::default());
        NamespaceSet {
            services: Arc::clone(services),
            codec: Arc::new(JsonCodec::new(Arc::clone(&definition))),
            definition,
            message_bytes,
            ids: ids.collect(),
            namespaces,
        }
    }

    /// True if nobody could tell it from the other.
    pub(super) fn is_like(&self, other: &NamespaceSet) -> bool {
        let names = |namespace_set: &NamespaceSet| -> Vec<Box<str>> {
            namespace_set
                .namespaces
                .iter()
                .map(|n| n.name.clone())
                .collect()
        };
        self.definition == other.definition
            && self.message_bytes == other.message_bytes
            && names(self) == names(other)
    }

    /// The place of a namespace, if clients may connect to it.
    pub(super) fn place_of(&self, name: &str) -> Option<Place> {
        let found = self.namespaces.iter().position(|n| *n.name == *name)?;
        Some(Place::Namespace(found))
    }

    /// The namespace at a place.
    pub(super) fn namespace(&self, place: Place) -> Option<&Namespace> {
        match place {
            Place::Lobby => None,
            Place::Namespace(at) => self.namespaces.get(at),
        }
    }

    /// The number of what is spoken there.
    pub(super) fn id(&self, place: Place, packing: Packing) -> DialectId {
        let row = match place {
            Place::Lobby => 0,
            Place::Namespace(at) => at + 1,
        };
        let cell = self.ids.get(row).and_then(|row| row.get(packing.place()));
        let claim = || self.services.hub.dialects().claim();
        cell.map_or_else(claim, |cell| *cell.get_or_init(claim))
    }

    /// Where those who speak it are, and how their packets leave.
    pub(super) fn find(&self, id: DialectId) -> Option<(Place, Packing)> {
        self.ids.iter().enumerate().find_map(|(row, cells)| {
            let at = cells.iter().position(|cell| cell.get() == Some(&id))?;
            let place = row.checked_sub(1).map_or(Place::Lobby, Place::Namespace);
            Some((place, *Packing::ALL.get(at)?))
        })
    }
}
