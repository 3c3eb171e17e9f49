//! The filters of subscribers.

use crate::payload::PARTS;

/// All events, or all but the events of one part: nine in ten. A filtered run therefore has about
/// as many deliveries as one without filters, and every filter has something to exclude.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TypeFilter {
    number: u32,
    kept_back: Option<u32>,
}

impl TypeFilter {
    /// The filter of subscriber number `subscriber`, with this many distinct filters: at most
    /// [`PARTS`]; 0 is none.
    #[must_use]
    pub fn of(subscriber: usize, filters: u32) -> Self {
        let wide = usize::try_from(filters).unwrap_or(usize::MAX);
        let number = subscriber.checked_rem(wide).unwrap_or(0);
        let number = u32::try_from(number).unwrap_or(0);
        TypeFilter {
            number,
            kept_back: (filters > 0).then_some(number),
        }
    }

    /// The number of the filter; 0 if there are none.
    #[must_use]
    pub fn number(self) -> usize {
        usize::try_from(self.number).unwrap_or(0)
    }

    /// The filter's expression for the server.
    #[must_use]
    pub fn expression(self) -> Option<String> {
        self.kept_back.map(|part| format!("data.part != {part}"))
    }

    /// The index of event number `n` among those that pass; `None` for one that is excluded.
    #[must_use]
    pub fn rank(self, n: u32) -> Option<u32> {
        (self.kept_back != Some(n % PARTS)).then(|| self.of_first(n))
    }

    /// How many of the first `sent` events pass.
    #[must_use]
    pub fn of_first(self, sent: u32) -> u32 {
        let kept = |part| sent / PARTS + u32::from(sent % PARTS > part);
        sent - self.kept_back.map_or(0, kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passing_events_are_numbered_contiguously() {
        for subscriber in 0..20 {
            let filter = TypeFilter::of(subscriber, 10);
            let ranks: Vec<u32> = (0..95).filter_map(|n| filter.rank(n)).collect();
            let expected: Vec<u32> = (0..filter.of_first(95)).collect();
            assert_eq!(ranks, expected, "{filter:?}");
        }
    }

    #[test]
    fn filter_excludes_one_part() {
        let filter = TypeFilter::of(13, 10);
        assert_eq!(filter.expression().as_deref(), Some("data.part != 3"));
        assert_eq!(filter.rank(3), None);
        assert_eq!((filter.of_first(3), filter.of_first(4)), (3, 3));
        assert_eq!(filter.of_first(100), 90);
    }

    #[test]
    fn without_filters_everything_passes() {
        let filter = TypeFilter::of(13, 0);
        assert_eq!(filter, TypeFilter::default());
        assert_eq!(filter.expression(), None);
        assert_eq!((filter.rank(3), filter.of_first(100)), (Some(3), 100));
    }
}
