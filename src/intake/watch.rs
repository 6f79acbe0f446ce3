//! Watches series until they are complete, and says so.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::sink::IntakeParts;
use super::{IntakeSettings, Settle, SettleRules};
use crate::store::StoreError;

/// How often complete series are looked for.
const SETTLE_EVERY: Duration = Duration::from_millis(250);
/// How often series are looked for whose receiver is gone.
const ADOPT_EVERY: Duration = Duration::from_secs(5);
/// How much longer than any series of its own a receiver leaves another's alone, in milliseconds.
const ADOPTED_AFTER_MS: i64 = 10_000;
/// Older ones are taken up by the next start, in milliseconds.
const ADOPTED_WITHIN_MS: i64 = 900_000;

/// Watches series that an earlier process left unsettled.
pub async fn unsettled(parts: &IntakeParts) -> Result<Settle, StoreError> {
    let mut settle = Settle::new(SettleRules {
        quiet_ms_max: parts.settings.quiet_ms_max,
        open_association_quiet_ms: parts.settings.open_association_quiet_ms,
    });
    let now = parts.clock.now_ms();
    let alone = parts.store.processes().await?.len() <= 1;
    // Beside other receivers only what nobody else is getting images of.
    let since = (!alone).then(|| left_alone(&parts.settings, now, i64::MAX));
    for s in parts.store.unsettled_series(since).await? {
        let images = u64::try_from(s.images).unwrap_or(0);
        settle.watch(
            s.series_id,
            s.study_id,
            images,
            parts.settings.quiet_ms,
            now,
        );
    }
    Ok(settle)
}

/// Looks for series that are complete, until told to stop.
pub async fn settle_loop(parts: IntakeParts, settle: Arc<Mutex<Settle>>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(SETTLE_EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let now = parts.clock.now_ms();
        let complete = settle.lock().await.take_complete(now);
        for (series_id, study_id) in complete {
            let quiet_ms_max = parts.settings.quiet_ms_max;
            match parts
                .store
                .settle_series(series_id, study_id, quiet_ms_max, now)
                .await
            {
                Ok(images) => {
                    info!(
                        series.id = series_id,
                        study.id = study_id,
                        images,
                        "series is complete"
                    );
                    parts.work.notify_one();
                }
                Err(e) => {
                    error!(error = %e, series.id = series_id, "could not settle a series, trying again");
                    settle.lock().await.unsettle(series_id);
                }
            }
        }
    }
}

/// Between which moments the last image came of series that whoever received them should have settled.
fn left_alone(settings: &IntakeSettings, now: i64, within_ms: i64) -> (i64, i64) {
    let before = now - settings.open_association_quiet_ms - ADOPTED_AFTER_MS;
    (before.saturating_sub(within_ms), before)
}

/// Takes up series whose receiver is gone. A process that is alone has none but its own.
pub async fn adopt_loop(parts: IntakeParts, settle: Arc<Mutex<Settle>>, stop: CancellationToken) {
    while parts.store.is_postgres() {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(ADOPT_EVERY) => {}
        }
        let now = parts.clock.now_ms();
        let range = left_alone(&parts.settings, now, ADOPTED_WITHIN_MS);
        match parts.store.unsettled_series(Some(range)).await {
            Ok(found) => {
                let mut settle = settle.lock().await;
                for s in found {
                    if settle.knows(s.series_id) {
                        continue;
                    }
                    let images = u64::try_from(s.images).unwrap_or(0);
                    info!(
                        series.id = s.series_id,
                        study.id = s.study_id,
                        "takes up a series"
                    );
                    settle.watch(
                        s.series_id,
                        s.study_id,
                        images,
                        parts.settings.quiet_ms,
                        now,
                    );
                }
            }
            Err(e) => error!(error = %e, "could not look for series whose receiver is gone"),
        }
    }
    stop.cancelled().await;
}
