//! A dialect with its namespaces.

use std::sync::{Arc, OnceLock};

use super::packet::{Kind, head};
use super::packing::Packing;
use crate::hub::DialectId;
use crate::protocol::{Definition, JsonCodec};
use crate::session::Services;

/// A dialect over Socket.IO. Its connections hold it, so that they keep it after a reload.
pub(super) struct NamespaceSet {
    pub(super) services: Arc<Services>,
    pub(super) codec: Arc<JsonCodec>,
    definition: Arc<Definition>,
    /// The largest message of a client, and the largest payload of a POST, in bytes.
    pub(super) message_bytes: usize,
    namespaces: Vec<Namespace>,
    /// Codec numbers by slot, unconnected first, and packing. They are claimed on first use, so that the
    /// codecs in use get the cheapest slots of an event's frame table.
    ids: Vec<[OnceLock<DialectId>; Packing::COUNT]>,
}

/// A Socket.IO namespace with the prefixes of its packets.
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

/// The namespace of a connection, by its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// None yet.
    Unconnected,
    /// This one.
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

    /// Whether the two are equal for clients.
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

    /// The slot of a namespace, if clients may connect to it.
    pub(super) fn slot_of(&self, name: &str) -> Option<Slot> {
        let found = self.namespaces.iter().position(|n| *n.name == *name)?;
        Some(Slot::Namespace(found))
    }

    /// The namespace of a slot.
    pub(super) fn namespace(&self, slot: Slot) -> Option<&Namespace> {
        match slot {
            Slot::Unconnected => None,
            Slot::Namespace(at) => self.namespaces.get(at),
        }
    }

    /// The codec number for a slot and a packing.
    pub(super) fn id(&self, slot: Slot, packing: Packing) -> DialectId {
        let row = match slot {
            Slot::Unconnected => 0,
            Slot::Namespace(at) => at + 1,
        };
        let cell = self.ids.get(row).and_then(|row| row.get(packing.index()));
        let claim = || self.services.hub.dialects().claim();
        cell.map_or_else(claim, |cell| *cell.get_or_init(claim))
    }

    /// The slot and the packing of a codec number.
    pub(super) fn find(&self, id: DialectId) -> Option<(Slot, Packing)> {
        self.ids.iter().enumerate().find_map(|(row, cells)| {
            let at = cells.iter().position(|cell| cell.get() == Some(&id))?;
            let slot = row
                .checked_sub(1)
                .map_or(Slot::Unconnected, Slot::Namespace);
            Some((slot, *Packing::ALL.get(at)?))
        })
    }
}
