//! Connected clients by their registered type.
//!
//! Clients may invent types. Each is counted exactly while such a client is connected, so there are
//! never more types than connections. Only the most common ones are exported.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::names::OTHER;

/// The number of types that are exported by name.
const SHOWN: usize = 100;
/// The type of connections that registered none.
const UNKNOWN: &str = "unknown";

/// Clients by type.
#[derive(Debug, Default)]
pub(super) struct ClientTypes(Mutex<HashMap<Box<str>, u64>>);

impl ClientTypes {
    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one. `None` means not registered.
    pub(super) fn add(&self, name: Option<&str>) {
        let name = name.unwrap_or(UNKNOWN);
        let mut clients = self.lock();
        match clients.get_mut(name) {
            Some(clients) => *clients += 1,
            None => drop(clients.insert(Box::from(name), 1)),
        }
    }

    /// Removes one.
    pub(super) fn remove(&self, name: Option<&str>) {
        let name = name.unwrap_or(UNKNOWN);
        let mut clients = self.lock();
        let Some(left) = clients.get_mut(name) else {
            return;
        };
        *left -= 1;
        if *left == 0 {
            clients.remove(name);
            if clients.is_empty() {
                clients.shrink_to_fit();
            }
        }
    }

    /// The most common types, sorted by name. The others are summed up as [`OTHER`].
    pub(super) fn all(&self) -> Vec<(String, u64)> {
        let clients = self.lock();
        let mut all: Vec<(&str, u64)> = clients.iter().map(|(name, n)| (&**name, *n)).collect();
        all.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        let mut other: u64 = all.iter().skip(SHOWN).map(|(_, clients)| clients).sum();
        let mut shown: Vec<(String, u64)> = Vec::with_capacity(SHOWN + 1);
        for (name, clients) in all.into_iter().take(SHOWN) {
            if name == OTHER {
                other += clients;
            } else {
                shown.push((name.to_owned(), clients));
            }
        }
        drop(clients);
        shown.sort_unstable();
        if other > 0 {
            shown.push((OTHER.to_owned(), other));
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_client_types_survive_flood() {
        let types = ClientTypes::default();
        for n in 0..150 {
            types.add(Some(&format!("junk{n:03}")));
        }
        for name in [Some("web"), Some("web"), None, None, Some(OTHER)] {
            types.add(name);
        }
        let all = types.all();
        let of = |name: &str| all.iter().find(|(known, _)| known == name).map(|(_, n)| *n);
        assert_eq!(
            (of("web"), of(UNKNOWN), all.len()),
            (Some(2), Some(2), SHOWN + 1)
        );
        assert_eq!(all.iter().map(|(_, n)| n).sum::<u64>(), 155);
        for n in 0..150 {
            types.remove(Some(&format!("junk{n:03}")));
        }
        types.remove(Some("never"));
        assert_eq!(types.all().len(), 3, "nothing is kept of who has left");
    }
}
