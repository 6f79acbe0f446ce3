//! How the work goes: what waits, what is stuck, and what the network says of late.

use sea_orm::FromQueryResult;

use super::{Store, StoreError};
use crate::clock::UnixMillis;

/// A screening that has been due for longer is stuck, in milliseconds ...
const SCREEN_STUCK_MS: i64 = 15 * 60_000;
/// ... and any other job, of which there may be a long queue at night.
const JOB_STUCK_MS: i64 = 6 * 3_600_000;
/// A series whose images stopped coming so long ago and that nobody settled is stuck.
const SERIES_STUCK_MS: i64 = 10 * 60_000;
/// An object that lies in a log for longer without file and row is stuck: the recorder needs seconds, and no more than
/// a minute while objects come faster than it records.
const LOG_STUCK_MS: i64 = 5 * 60_000;
/// A delivery that waits for longer is stuck, unless someone paused its destination.
const DELIVERY_STUCK_MS: i64 = 3_600_000;

/// Jobs of one kind that are due.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct Queue {
    /// screen, volumetry, `follow_up` or results.
    pub kind: String,
    /// How many, those that run included.
    pub jobs: i64,
    /// Of those, which run.
    pub running: i64,
    /// Since when the oldest is due.
    pub oldest_due: UnixMillis,
}

/// Work that should be done by now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stuck {
    /// Jobs.
    pub jobs: u64,
    /// Series that are never complete.
    pub series: u64,
    /// Deliveries.
    pub deliveries: u64,
    /// Object logs, of the other processes.
    pub logs: u64,
    /// Object logs put aside because records in them are damaged: an administrator decides.
    pub damaged_logs: u64,
}

impl Stuck {
    /// All of it.
    #[must_use]
    pub fn all(&self) -> u64 {
        self.jobs + self.series + self.deliveries + self.logs + self.damaged_logs
    }
}

/// Whether an object that was received then should have its file and its row by now.
#[must_use]
pub fn lies_long(received_ms: UnixMillis, now_ms: UnixMillis) -> bool {
    received_ms < now_ms - LOG_STUCK_MS
}

/// What the network said of the studies screened since some moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Said {
    /// Studies.
    pub studies: u64,
    /// Mean probability at the site's prevalence.
    pub mean: Option<f64>,
}

#[derive(FromQueryResult)]
struct Count {
    n: i64,
}

#[derive(FromQueryResult)]
struct Mean {
    n: i64,
    mean: Option<f64>,
}

impl Store {
    /// Jobs that are due, by kind.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn queues(&self, now_ms: UnixMillis) -> Result<Vec<Queue>, StoreError> {
        let sql = "SELECT kind, COUNT(*) AS jobs, \
                   CAST(SUM(CASE WHEN leased_until >= $1 THEN 1 ELSE 0 END) AS BIGINT) AS running, \
                   MIN(run_after) AS oldest_due FROM job WHERE run_after <= $1 GROUP BY kind ORDER BY kind";
        Queue::find_by_statement(self.statement(sql, vec![now_ms.into()]))
            .all(self.read())
            .await
    }

    /// Work that should be done by now; of object logs those of other processes, as they last told.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn stuck(&self, now_ms: UnixMillis) -> Result<Stuck, StoreError> {
        let count = async |sql: &str, moments: &[i64]| {
            let values = moments.iter().map(|at| (*at).into()).collect();
            let found = Count::find_by_statement(self.statement(sql, values))
                .one(self.read())
                .await?;
            Ok::<u64, StoreError>(found.map_or(0, |c| u64::try_from(c.n).unwrap_or(0)))
        };
        let jobs = "SELECT COUNT(*) AS n FROM job \
                    WHERE (kind = 'screen' AND run_after < $1) OR run_after < $2";
        let series = "SELECT COUNT(*) AS n FROM series \
                      WHERE settled_images IS NULL AND last_received_at < $1 \
                      AND EXISTS (SELECT 1 FROM instance i WHERE i.series_id = series.id)";
        let deliveries = "SELECT COUNT(*) AS n FROM delivery d \
                          LEFT JOIN destination p ON p.name = d.destination \
                          WHERE d.state IN ('waiting', 'sending') AND d.created_at < $1 AND p.paused_at IS NULL";
        let logs = "SELECT COUNT(*) AS n FROM process WHERE log_oldest_at < $1 AND run <> $2";
        let logs = {
            let values = vec![
                (now_ms - LOG_STUCK_MS).into(),
                self.run().unwrap_or_default().into(),
            ];
            let found = Count::find_by_statement(self.statement(logs, values))
                .one(self.read())
                .await?;
            found.map_or(0, |c| u64::try_from(c.n).unwrap_or(0))
        };
        Ok(Stuck {
            jobs: count(jobs, &[now_ms - SCREEN_STUCK_MS, now_ms - JOB_STUCK_MS]).await?,
            series: count(series, &[now_ms - SERIES_STUCK_MS]).await?,
            deliveries: count(deliveries, &[now_ms - DELIVERY_STUCK_MS]).await?,
            logs,
            damaged_logs: 0, // who looks at the folder says
        })
    }

    /// What the network said of the studies screened since then.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn said_since(&self, since_ms: UnixMillis) -> Result<Said, StoreError> {
        let sql = "SELECT COUNT(p_abnormal) AS n, AVG(p_abnormal) AS mean FROM study \
                   WHERE screened_at >= $1 AND reading <> 'prior'";
        let found = Mean::find_by_statement(self.statement(sql, vec![since_ms.into()]))
            .one(self.read())
            .await?;
        Ok(found.map_or_else(Said::default, |m| Said {
            studies: u64::try_from(m.n).unwrap_or(0),
            mean: m.mean,
        }))
    }
}
