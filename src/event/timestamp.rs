//! Points in time.

use std::fmt;
use std::num::NonZeroU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Microseconds since 1970-01-01T00:00:00Z.
///
/// Stored with the sign bit flipped. This keeps the order and is never zero, so an `Option` of it
/// takes no extra space.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(NonZeroU64);

/// Flips the sign bit.
const SIGN: u64 = 1 << 63;

impl Timestamp {
    /// The end of year 9999, minus 26 hours, so that it is still year 9999 in every time zone. RFC
    /// 3339, `google.protobuf.Timestamp` and the calendar can represent it.
    const MAX: i64 = 253_402_207_199_999_999;
    /// The start of year 1.
    const MIN: i64 = -62_135_596_800_000_000;

    /// The system's time. A step of the system's clock counts once it has lasted
    /// ([`wall_micros`](crate::clock::wall_micros)).
    #[must_use]
    pub fn now() -> Self {
        Timestamp::from_micros(crate::clock::wall_micros())
    }

    /// This many microseconds after 1970, or before it if negative, clamped to the years 1 to 9999.
    #[must_use]
    pub fn from_micros(micros: i64) -> Self {
        let flipped = micros.clamp(Self::MIN, Self::MAX).cast_unsigned() ^ SIGN;
        // Only `i64::MIN` would become zero, and it is below year 1.
        Timestamp(NonZeroU64::new(flipped).unwrap_or(NonZeroU64::MIN))
    }

    /// Microseconds since 1970.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        (self.0.get() ^ SIGN).cast_signed()
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.as_micros().div_euclid(1000)
    }

    /// Later by this duration, clamped to year 9999.
    #[must_use]
    pub fn later(self, by: Duration) -> Self {
        let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(self.as_micros().saturating_add(by))
    }

    /// Parses RFC 3339.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let time: jiff::Timestamp = text.parse().ok()?;
        Some(Timestamp::from_micros(time.as_microsecond()))
    }

    /// Formats RFC 3339 in UTC with milliseconds: `2026-11-21T10:00:00.123Z`.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        match jiff::Timestamp::from_millisecond(self.as_millis()) {
            Ok(time) => format!("{time:.3}"),
            Err(_) => String::from("1970-01-01T00:00:00.000Z"),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Timestamp").field(&self.as_micros()).finish()
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let micros = match time.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |m| -m),
        };
        Timestamp::from_micros(micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_keep_order_and_have_a_niche() {
        let times = [i64::MIN, -1_000, -1, 0, 1, 999, i64::MAX].map(Timestamp::from_micros);
        assert!(times.is_sorted());
        for micros in [-62_135_596_800_000_000, -1, 0, 1, 253_402_207_199_999_999] {
            assert_eq!(Timestamp::from_micros(micros).as_micros(), micros);
        }
        assert_eq!(Timestamp::from_micros(-1).as_millis(), -1);
        assert_eq!(size_of::<Option<Timestamp>>(), 8);
    }

    #[test]
    fn extreme_timestamps_are_formatted() {
        let written = |micros| Timestamp::from_micros(micros).to_rfc3339();
        assert_eq!(written(i64::MAX), "9999-12-30T21:59:59.999Z");
        assert_eq!(written(i64::MIN), "0001-01-01T00:00:00.000Z");
        for farthest in [i64::MAX, i64::MIN] {
            assert!(Timestamp::parse(&written(farthest)).is_some());
        }
    }
}
