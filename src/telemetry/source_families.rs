//! The metrics of sources by their public names.

use super::families::{Family, counters, float, gauges, histogram};
use super::sources::{SourceMetrics, SourcesMetrics};

/// The label of the source's name, which the configuration bounds.
const LABEL: &str = "source";

/// The metrics of all sources; none if none is configured.
pub(super) fn read(sources: &SourcesMetrics) -> Vec<Family> {
    let all = sources.all();
    if all.is_empty() {
        return Vec::new();
    }
    let count = |value: fn(&SourceMetrics) -> u64| {
        let values = all.iter().map(|source| (source.name(), value(source)));
        values.collect::<Vec<_>>()
    };
    let level = |value: fn(&SourceMetrics) -> Option<f64>| {
        let values = all
            .iter()
            .filter_map(|source| Some((source.name(), value(source)?)));
        values.collect::<Vec<_>>()
    };
    vec![
        gauges(
            "tidings_source_connected",
            "Whether the source is connected",
            LABEL,
            level(|source| Some(float(u64::from(source.is_connected())))),
        ),
        counters(
            "tidings_source_events",
            "Records of the source that were published",
            LABEL,
            count(|source| source.events.get()),
        ),
        counters(
            "tidings_source_duplicates",
            "Records of the source that were dropped because they had been published before",
            LABEL,
            count(|source| source.duplicates.get()),
        ),
        counters(
            "tidings_source_dead_letters",
            "Records of the source that can't be published",
            LABEL,
            count(|source| source.dead_letters.get()),
        ),
        counters(
            "tidings_source_failures",
            "Lost or refused connections of the source, and publishes that had to be repeated",
            LABEL,
            count(|source| source.failures.get()),
        ),
        gauges(
            "tidings_source_lag",
            "Records that wait in the source",
            LABEL,
            level(|source| u64::try_from(source.lag.get()).ok().map(float)),
        ),
        gauges(
            "tidings_source_lag_seconds",
            "Age of the oldest record in the batch that was read last",
            LABEL,
            level(|source| Some(source.lag_age().as_secs_f64())),
        ),
        histogram(
            "tidings_source_seconds",
            "Time from the creation of a record to its publish, over all sources",
            sources.seconds.snapshot(),
        ),
    ]
}
