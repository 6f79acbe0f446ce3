//! Retention: images of studies that were read go when they are old, or when the disk is nearly full.
//! What was found stays, and so does every study that nobody has read. What a process forgot and had not removed
//! when it died is removed at the next start, whatever the settings are then.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::clock::{SharedClock, UnixMillis};
use crate::store::retention::Removable;
use crate::store::turns::Duty;
use crate::store::{Files, Store, StoreError};

/// How often it is looked whether something may go.
const LOOK: Duration = Duration::from_mins(5);
/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;
/// A study that was read so short a time ago stays even on a full disk: its reader may want it back.
const READ_AGO_MS_MIN: i64 = 3_600_000;

/// Settings of retention. Off by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionSettings {
    /// `retention.read_days`: images of studies go so long after they were read; 0 keeps them.
    pub read_days: i64,
    /// `retention.disk_percent_max`: above it images of read studies go, the longest read first; 0 is off.
    pub disk_percent_max: u8,
}

impl RetentionSettings {
    /// Checks every value.
    ///
    /// # Errors
    /// Names the setting that is out of range.
    pub fn check(&self) -> Result<(), String> {
        if !(0..=36_500).contains(&self.read_days) {
            return Err(format!(
                "retention.read_days is {}, must be between 0 and 36500",
                self.read_days
            ));
        }
        let percent = self.disk_percent_max;
        if percent != 0 && !(50..=99).contains(&percent) {
            return Err(format!(
                "retention.disk_percent_max is {percent}, must be between 50 and 99, or 0"
            ));
        }
        Ok(())
    }
}

/// Who removes.
pub(super) struct Retention {
    pub store: Store,
    pub files: Files,
    pub clock: SharedClock,
    pub settings: RetentionSettings,
}

impl Retention {
    /// Removes until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            match self.look(&stop).await {
                Ok(0) => {}
                Ok(n) => info!(studies = n, "removed images of studies that were read"),
                Err(e) => error!(error = e, "could not remove images"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Removes what may go now, study by study until told to stop; gives of how many studies.
    async fn look(&self, stop: &CancellationToken) -> Result<u64, String> {
        let turn = self.store.turn(Duty::Retention).await.map_err(database)?;
        let Some(turn) = turn else { return Ok(0) };
        // A backup of this machine has it while it copies.
        let alone = self.files.alone("retention.lock");
        let Some(_alone) = alone.map_err(|e| e.to_string())? else {
            return Ok(0);
        };
        self.finish_forgotten(stop).await?;
        let now_ms = self.clock.now_ms();
        let mut removed = 0;
        if self.settings.read_days > 0 {
            let until = now_ms - self.settings.read_days * DAY_MS;
            removed += self.remove_while(until, || !stop.is_cancelled()).await?;
        }
        let percent = self.settings.disk_percent_max;
        if percent > 0 {
            let too_full = || used_percent(self.files.root()).is_some_and(|used| used > percent);
            removed += self
                .remove_while(now_ms - READ_AGO_MS_MIN, || {
                    !stop.is_cancelled() && too_full()
                })
                .await?;
            if !stop.is_cancelled() && too_full() {
                warn!(
                    percent,
                    "the disk is fuller than retention.disk_percent_max, and every image left is of a study nobody has read"
                );
            }
        }
        turn.end().await.map_err(database)?;
        Ok(removed)
    }

    async fn remove_while(
        &self,
        until_ms: UnixMillis,
        wanted: impl Fn() -> bool,
    ) -> Result<u64, String> {
        let mut removed = 0;
        while wanted() {
            let found = self.store.removable_studies(until_ms).await;
            let found = found.map_err(database)?;
            if found.is_empty() {
                break;
            }
            let before = removed;
            for study in found {
                if !wanted() {
                    return Ok(removed);
                }
                removed += u64::from(self.remove(&study, until_ms).await?);
            }
            // none of them may go any more: next time
            if removed == before {
                break;
            }
        }
        Ok(removed)
    }

    /// Removes files of images that were forgotten by who could not remove them: it died, or the disk failed.
    async fn finish_forgotten(&self, stop: &CancellationToken) -> Result<(), String> {
        let (mut after, mut removed) = (0, 0_u64);
        loop {
            let found = self
                .store
                .forgotten_studies(after)
                .await
                .map_err(database)?;
            let Some(last) = found.last() else { break };
            after = last.id;
            for study in &found {
                if stop.is_cancelled() {
                    return Ok(());
                }
                let uid = study.study_uid.as_str();
                let held = self.store.hold_studies([uid]).await.map_err(database)?;
                removed += u64::from(self.clear(uid).await?);
                held.end().await.map_err(database)?;
            }
        }
        if removed > 0 {
            info!(
                studies = removed,
                "removed what was left of images that had been forgotten"
            );
        }
        Ok(())
    }

    /// Removes the images of one study, unless it is waited for again. Nobody records one of its images
    /// meanwhile.
    async fn remove(&self, study: &Removable, until_ms: UnixMillis) -> Result<bool, String> {
        let held = self.store.hold_studies([study.study_uid.as_str()]);
        let held = held.await.map_err(database)?;
        let now_ms = self.clock.now_ms();
        let forgotten = self.store.forget_images(study.id, until_ms, now_ms).await;
        let removed = forgotten.map_err(database)? && self.clear(&study.study_uid).await?;
        held.end().await.map_err(database)?;
        Ok(removed)
    }

    /// Removes the files of a study that no row names; `false` where there were none, or they cannot be removed
    /// now. Whoever calls holds the study.
    async fn clear(&self, study_uid: &str) -> Result<bool, String> {
        let keep = self
            .store
            .recorded_paths(study_uid)
            .await
            .map_err(database)?;
        let (files, uid) = (self.files.clone(), study_uid.to_owned());
        let cleared = tokio::task::spawn_blocking(move || files.clear_study(&uid, &keep)).await;
        match cleared.map_err(|e| e.to_string())? {
            Ok(were_there) => {
                let gone = self.store.forgotten_are_gone(study_uid).await;
                gone.map_err(database)?;
                Ok(were_there)
            }
            Err(e) => {
                warn!(study.uid = study_uid, error = %e, "could not remove all of a study's images: tried again later");
                Ok(false)
            }
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "handed to map_err")]
fn database(e: StoreError) -> String {
    format!("database: {e}")
}

/// How full the disk is that a folder lies on, in percent; `None` where the system does not say.
pub(crate) fn used_percent(folder: &Path) -> Option<u8> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    // As df says it: what is kept for root counts neither as used nor as free.
    let used = disk.f_blocks.saturating_sub(disk.f_bfree);
    let all = used.saturating_add(disk.f_bavail).max(1);
    u8::try_from(used.saturating_mul(100).div_ceil(all)).ok()
}
