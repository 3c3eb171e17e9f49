//! A slab: values in numbered slots that are reused.

/// Values in numbered slots. It grows by blocks, so that no value moves.
#[derive(Debug)]
pub(super) struct Slab<T> {
    blocks: Vec<Box<[Option<T>]>>,
    free: Vec<u32>,
    len: usize,
}

const BLOCK: u32 = 128;

impl<T> Slab<T> {
    /// An empty slab.
    #[must_use]
    pub(super) const fn new() -> Self {
        Slab {
            blocks: Vec::new(),
            free: Vec::new(),
            len: 0,
        }
    }

    /// True if no slot is used.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One past the highest slot so far.
    #[must_use]
    pub(super) fn end(&self) -> u32 {
        u32::try_from(self.blocks.len())
            .unwrap_or(u32::MAX)
            .saturating_mul(BLOCK)
    }

    /// Puts a value into a free slot.
    pub(super) fn insert(&mut self, value: T) -> u32 {
        if self.free.is_empty() {
            let start = self.end();
            self.blocks.push((0..BLOCK).map(|_| None).collect());
            self.free.extend((start..start + BLOCK).rev());
        }
        let place = self.free.pop().unwrap_or_default();
        if let Some(slot) = self.slot(place) {
            *slot = Some(value);
            self.len += 1;
        }
        place
    }

    /// Frees a slot.
    pub(super) fn remove(&mut self, place: u32) -> Option<T> {
        let value = self.slot(place)?.take()?;
        self.free.push(place);
        self.len -= 1;
        Some(value)
    }

    /// The value of a slot.
    #[inline]
    #[must_use]
    pub(super) fn get(&self, place: u32) -> Option<&T> {
        let (block, at) = split(place);
        self.blocks.get(block)?.get(at)?.as_ref()
    }

    /// The value of a slot, mutably.
    #[inline]
    pub(super) fn get_mut(&mut self, place: u32) -> Option<&mut T> {
        self.slot(place)?.as_mut()
    }

    /// All used slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..)
            .zip(self.blocks.iter().flatten())
            .filter_map(|(at, slot)| Some((at, slot.as_ref()?)))
    }

    #[inline]
    fn slot(&mut self, place: u32) -> Option<&mut Option<T>> {
        let (block, at) = split(place);
        self.blocks.get_mut(block)?.get_mut(at)
    }
}

#[inline]
fn split(place: u32) -> (usize, usize) {
    let wide = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
    (wide(place / BLOCK), wide(place % BLOCK))
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freed_slot_is_reused() {
        let mut slots = Slab::new();
        let (a, b) = (slots.insert('a'), slots.insert('b'));
        assert_eq!(
            (slots.get(a), slots.get(b), slots.len),
            (Some(&'a'), Some(&'b'), 2)
        );
        assert_eq!(slots.remove(a), Some('a'));
        assert_eq!(slots.remove(a), None);
        assert_eq!(slots.insert('c'), a);
        assert_eq!(
            slots.iter().map(|(_, c)| *c).collect::<Vec<_>>(),
            ['c', 'b']
        );
    }

    #[test]
    fn thousand_values_keep_their_slots() {
        let mut slots = Slab::new();
        let places: Vec<u32> = (0..1000).map(|n| slots.insert(n)).collect();
        assert!(
            places
                .iter()
                .zip(0..)
                .all(|(place, n)| slots.get(*place) == Some(&n))
        );
    }
}
