//! Which buckets this node reads, and from which row on.

use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::Client;

use super::super::driver::Failure;
use super::queries::Queries;
use super::{BUCKETS, answered};

/// How often the buckets are shared out anew.
const EVERY: Duration = Duration::from_secs(2);

/// The buckets that a reader owns. Each has a session lock, so no other reader has it.
#[derive(Debug)]
pub(super) struct Buckets {
    owned: Vec<i32>,
    due: Instant,
    /// The fair share at the last look.
    share: usize,
    /// There is no row below this id, and none can appear.
    floor: i64,
    /// The highest id that was read.
    highest: i64,
    mark: Option<Mark>,
}

/// A moment at which the row `last` had been seen: every row up to it has a transaction before
/// `xmax`.
#[derive(Debug, Clone, Copy)]
struct Mark {
    last: i64,
    xmax: i64,
}

impl Default for Buckets {
    fn default() -> Self {
        Buckets {
            owned: Vec::new(),
            due: Instant::now(),
            share: 0,
            floor: 0,
            highest: 0,
            mark: None,
        }
    }
}

impl Buckets {
    /// The owned buckets.
    pub(super) fn owned(&self) -> Vec<i32> {
        self.owned.clone()
    }

    /// The lowest id that a row may have. It spares the index scan the rows that were deleted and not
    /// yet vacuumed.
    pub(super) fn floor(&self) -> i64 {
        self.floor
    }

    /// A row with this id was read.
    pub(super) fn saw(&mut self, id: i64) {
        self.highest = self.highest.max(id);
    }

    /// When to look next whether the buckets are shared fairly.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// True if it is time for that.
    pub(super) fn is_due(&self) -> bool {
        self.due <= Instant::now()
    }

    /// Looks how many readers there are. True if this one has too few or too many buckets.
    pub(super) async fn needs_change(
        &mut self,
        client: &Client,
        queries: &Queries,
    ) -> Result<bool, Failure> {
        self.due = Instant::now() + EVERY;
        let row = answered(client.query_one(&queries.readers, &[])).await?;
        let readers = usize::try_from(row.get::<_, i64>(0)).unwrap_or(1).max(1);
        self.share = usize::try_from(BUCKETS).unwrap_or(1).div_ceil(readers);
        self.raise_floor(client, queries).await?;
        Ok(self.owned.len() != self.share)
    }

    /// Gives buckets away, or takes free ones.
    pub(super) async fn change(
        &mut self,
        client: &Client,
        queries: &Queries,
    ) -> Result<(), Failure> {
        if self.owned.len() > self.share {
            let given = self.owned.split_off(self.share);
            answered(client.execute(&queries.give, &[&given])).await?;
            return Ok(());
        }
        let mut free: Vec<i32> = (0..BUCKETS).collect();
        free.retain(|bucket| !self.owned.contains(bucket));
        // Readers that look at the same time try different ones first.
        fastrand::shuffle(&mut free);
        let wanted = i64::try_from(self.share - self.owned.len()).unwrap_or(0);
        let rows = answered(client.query(&queries.take, &[&free, &wanted])).await?;
        self.owned
            .extend(rows.iter().map(|row| row.get::<_, i32>(0)));
        Ok(())
    }

    /// Raises the floor. Ids are assigned before their transactions commit, so a lower id may appear
    /// after a higher one. Once all transactions from before a mark have ended, every row of theirs is
    /// visible or will never be.
    async fn raise_floor(&mut self, client: &Client, queries: &Queries) -> Result<(), Failure> {
        // Seen before the snapshot is taken.
        let last = self.highest;
        let row = answered(client.query_one(&queries.floor, &[&self.floor])).await?;
        let (xmin, xmax) = (row.get::<_, i64>(0), row.get::<_, i64>(1));
        let lowest: Option<i64> = row.get(2);
        if let Some(mark) = self.mark {
            if mark.xmax > xmin {
                return Ok(());
            }
            let beyond = mark.last.saturating_add(1);
            self.floor = self
                .floor
                .max(lowest.map_or(beyond, |lowest| lowest.min(beyond)));
        }
        self.mark = Some(Mark { last, xmax });
        Ok(())
    }
}
