//! The limit on all stored bytes.

use super::*;

fn bounded(disk_bytes: u64) -> TestDisk {
    let mut disk = TestDisk::new(bounds());
    disk.settings.disk_bytes = disk_bytes;
    disk.reopen()
}

impl TestDisk {
    async fn kept(&self, channel: &str) -> usize {
        let page = self.page(channel).await;
        page.events.iter().map(|event| event.weight()).sum()
    }

    async fn sweep(&self) {
        self.disk.sweep();
        self.settle().await;
    }
}

#[tokio::test]
async fn excess_is_evicted_from_largest_channel() {
    const MOST: usize = 40_000;
    let disk = bounded(40_000);
    let small = disk.publish("brief:small", 0).await.position.unwrap();
    let before = disk.publish("brief:flood", 0).await.position.unwrap();
    let mut n = 0;
    while disk.kept("brief:small").await + disk.kept("brief:flood").await < MOST / 2 {
        n += 1;
        disk.publish("brief:flood", n).await;
    }
    assert_eq!(disk.offsets("brief:flood").await.len(), n + 1, "it fits");
    for n in 0..3 * n {
        disk.publish("brief:flood", n).await;
    }
    let kept = disk.kept("brief:small").await + disk.kept("brief:flood").await;
    assert!((MOST / 2..MOST + 1000).contains(&kept), "{kept}");
    assert!(disk.page("brief:small").await.covers(small));
    let page = disk.page("brief:flood").await;
    assert!(!page.covers(before), "its position has expired");
    assert_eq!(page.top.epoch, before.epoch);
    let text = disk.metrics.text(crate::telemetry::TextFormat::Prometheus);
    let reached = r#"tidings_limit_reached_total{limit="history.disk_bytes"} "#;
    assert!(text.contains(reached), "{text}");
    assert!(text.contains("tidings_store_kept_bytes "), "{text}");
}

#[tokio::test]
async fn lower_limit_applies_after_restart() {
    let disk = bounded(0);
    for n in 0..100 {
        disk.publish("brief:a", n).await;
        disk.publish("brief:b", n).await;
    }
    let all = disk.kept("brief:a").await + disk.kept("brief:b").await;
    let mut disk = disk;
    disk.settings.disk_bytes = u64::try_from(all / 2).unwrap();
    let disk = disk.reopen();
    disk.sweep().await;
    let kept = disk.kept("brief:a").await + disk.kept("brief:b").await;
    assert!(kept <= all / 2 && kept > all / 4, "{kept} of {all}");
    // Deleted events stay deleted, and the limit is no longer reached.
    let disk = disk.reopen();
    assert_eq!(disk.disk.shared.level.get(), u64::MAX);
}
