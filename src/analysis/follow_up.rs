//! A measured study against earlier ones of its patient: which of them, and their label maps.

use std::path::{Path, PathBuf};

use tracing::info;

use super::pipeline::Analyst;
use super::stage_two::{LESIONS, SEGMENTATION};
use crate::followup::{
    EarlierScan, FollowUp, LabelMap, Limits, NoLesions, NotCompared, Scan, compare_lesions,
    compare_volumes, days_between,
};
use crate::store::StoreError;
use crate::store::follow_up::{Compared, MeasuredStudy};
use crate::volume::nifti;

/// An earlier scan at least so old is preferred to a newer one: what changed needs time to.
const DAYS_PREFERRED_MIN: i64 = 90;
/// Earlier scans that are kept for curves, the newest ones.
const EARLIER_MAX: usize = 12;
/// Largest label map that is read, in voxels and in bytes as kept.
const VOXELS_MAX: usize = 512 * 512 * 512;
const BYTES_MAX: u64 = 64 << 20;

impl Analyst {
    /// Compares a measured study with the earlier ones of its patient, and keeps what came of it.
    ///
    /// # Errors
    /// In words, when something failed that may work another time.
    pub async fn compare_with_prior(&self, study_id: i64) -> Result<(), String> {
        let text = |e: StoreError| format!("database: {e}");
        let mut all = self.store.measured_studies(study_id).await.map_err(text)?;
        let Some(at) = all.iter().position(|s| s.study_id == study_id) else {
            return Ok(());
        };
        let present = all.swap_remove(at);
        let mut compared = Compared::default();
        match choose(&present, all) {
            Choice::None => {}
            Choice::Not(why) => compared.not_compared = Some(why),
            Choice::Prior {
                prior,
                days,
                earlier,
            } => {
                let limits = Limits::new(
                    self.measuring
                        .as_ref()
                        .ok()
                        .and_then(|e| e.repeats.as_ref()),
                );
                let mut follow_up =
                    compare_volumes(scan(&present), scan(&prior), days, &self.norms, &limits);
                follow_up.earlier = earlier;
                self.add_lesions(&present, &prior, &mut follow_up).await?;
                compared.follow_up = Some(follow_up);
            }
        }
        self.store
            .keep_follow_up(study_id, &compared, self.clock.now_ms())
            .await
            .map_err(text)?;
        info!(
            study.id = study_id,
            compared = compared.follow_up.is_some(),
            "study is compared with earlier ones"
        );
        self.news.tell(&present.study_uid);
        Ok(())
    }

    async fn add_lesions(
        &self,
        present: &MeasuredStudy,
        prior: &MeasuredStudy,
        follow_up: &mut FollowUp,
    ) -> Result<(), String> {
        let measured = present.measurement.lesions.clone();
        let missing = match (&measured, &prior.measurement.lesions) {
            (None, _) => Some(NoLesions::NoFlair),
            (_, None) => Some(NoLesions::NoFlairBefore),
            _ => None,
        };
        let folders = [present, prior].map(|s| self.files.measurement_folder(&s.study_uid));
        let (None, [Some(now), Some(before)]) = (missing, folders) else {
            follow_up.no_lesions = missing.or(Some(NoLesions::NotKept));
            return Ok(());
        };
        let heavy = move || {
            let (Some(now), Some(before)) = (maps(&now), maps(&before)) else {
                return Err(NoLesions::NotKept);
            };
            compare_lesions((&now.0, &now.1), (&before.0, &before.1), measured.as_ref())
                .map_err(|_| NoLesions::NotRegistered)
        };
        let outcome = tokio::task::spawn_blocking(heavy)
            .await
            .map_err(|_| "comparing broke off".to_owned())?;
        match outcome {
            Ok(change) => follow_up.lesions = Some(change),
            Err(why) => follow_up.no_lesions = Some(why),
        }
        Ok(())
    }
}

/// Structures and lesions of a study, where both are kept.
fn maps(folder: &Path) -> Option<(LabelMap, LabelMap)> {
    Some((
        label_map(folder.join(SEGMENTATION))?,
        label_map(folder.join(LESIONS))?,
    ))
}

fn label_map(path: PathBuf) -> Option<LabelMap> {
    let size = std::fs::metadata(&path).ok()?.len();
    if size > BYTES_MAX {
        return None;
    }
    let bytes = std::fs::read(path).ok()?;
    Some(nifti::read(&bytes, VOXELS_MAX).ok()?.into())
}

fn scan(study: &MeasuredStudy) -> Scan<'_> {
    Scan {
        study_uid: &study.study_uid,
        date: &study.date,
        scanner: &study.scanner,
        measurement: &study.measurement,
    }
}

/// What a study is compared with.
#[derive(Debug, PartialEq)]
enum Choice {
    /// Nothing earlier is known.
    None,
    /// There is something, but it cannot be compared.
    Not(NotCompared),
    /// This one.
    Prior {
        prior: Box<MeasuredStudy>,
        days: i64,
        earlier: Vec<EarlierScan>,
    },
}

/// The newest earlier study that the same network measured, one of at least [`DAYS_PREFERRED_MIN`]
/// first. A study without a date is before and after nothing.
fn choose(present: &MeasuredStudy, others: Vec<MeasuredStudy>) -> Choice {
    let before = |s: &MeasuredStudy| days_between(&s.date, &present.date).filter(|days| *days > 0);
    let mut earlier: Vec<(i64, MeasuredStudy)> = others
        .into_iter()
        .filter_map(|s| Some((before(&s)?, s)))
        .collect();
    if earlier.is_empty() {
        return Choice::None;
    }
    earlier.retain(|(_, s)| same_person(present, s));
    if earlier.is_empty() {
        return Choice::Not(NotCompared::OtherPerson);
    }
    earlier.retain(|(_, s)| s.measurement.model == present.measurement.model);
    earlier.sort_by(|a, b| (a.0, &a.1.study_uid).cmp(&(b.0, &b.1.study_uid)));
    earlier.truncate(EARLIER_MAX);
    let curve = earlier.iter().rev().map(|(_, s)| earlier_scan(s)).collect();
    let old_enough = earlier
        .iter()
        .position(|(days, _)| *days >= DAYS_PREFERRED_MIN);
    if earlier.is_empty() {
        return Choice::Not(NotCompared::OtherNetwork);
    }
    let (days, prior) = earlier.swap_remove(old_enough.unwrap_or(0));
    Choice::Prior {
        prior: Box::new(prior),
        days,
        earlier: curve,
    }
}

/// A number that was given to two people must not make one of them.
fn same_person(one: &MeasuredStudy, other: &MeasuredStudy) -> bool {
    fn agree(a: Option<&str>, b: Option<&str>) -> bool {
        match (a.map(str::trim), b.map(str::trim)) {
            (Some(a), Some(b)) => a.is_empty() || b.is_empty() || a == b,
            _ => true,
        }
    }
    agree(one.birth_date.as_deref(), other.birth_date.as_deref())
        && agree(one.sex.as_deref(), other.sex.as_deref())
}

fn earlier_scan(study: &MeasuredStudy) -> EarlierScan {
    let volumes = study.measurement.volumes.iter();
    EarlierScan {
        study_uid: study.study_uid.clone(),
        date: study.date.clone(),
        age_years: study.measurement.age_years,
        volumes: volumes
            .map(|v| (v.structure.clone(), v.volume_mm3))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::Measurement;

    fn study(id: i64, date: &str) -> MeasuredStudy {
        MeasuredStudy {
            study_id: id,
            study_uid: format!("1.2.{id}"),
            date: date.into(),
            birth_date: Some("19500101".into()),
            sex: Some("F".into()),
            scanner: String::new(),
            measurement: Measurement {
                model: "volumetry 1".into(),
                ..Measurement::default()
            },
        }
    }

    #[track_caller]
    fn check(others: &[(i64, &str)], prior: Option<(i64, i64)>) {
        let present = study(9, "20240601");
        let others = others.iter().map(|(id, date)| study(*id, date)).collect();
        let got = match choose(&present, others) {
            Choice::Prior { prior, days, .. } => Some((prior.study_id, days)),
            Choice::None => None,
            Choice::Not(why) => panic!("{why:?}"),
        };
        assert_eq!(got, prior);
    }

    #[test]
    fn the_newest_one_that_is_old_enough() {
        check(&[], None);
        check(&[(1, "20250101"), (2, "20240601"), (3, "")], None);
        check(&[(1, "20200601"), (2, "20230602")], Some((2, 365)));
        check(&[(1, "20230602"), (2, "20240501")], Some((1, 365)));
        check(&[(2, "20240501"), (1, "20240401")], Some((2, 31)));
    }

    #[test]
    fn earlier_ones_are_kept_oldest_first() {
        let others = vec![
            study(1, "20230101"),
            study(2, "20200101"),
            study(3, "20220101"),
        ];
        let Choice::Prior { earlier, .. } = choose(&study(9, "20240601"), others) else {
            panic!("no prior");
        };
        let dates: Vec<&str> = earlier.iter().map(|e| e.date.as_str()).collect();
        assert_eq!(dates, ["20200101", "20220101", "20230101"]);
    }

    #[test]
    fn another_person_or_network_is_not_compared() {
        let present = study(9, "20240601");
        let mut other = study(1, "20200101");
        other.birth_date = Some("19660606".into());
        assert_eq!(
            choose(&present, vec![other.clone()]),
            Choice::Not(NotCompared::OtherPerson)
        );
        other.birth_date = None;
        other.measurement.model = "volumetry 0".into();
        assert_eq!(
            choose(&present, vec![other.clone()]),
            Choice::Not(NotCompared::OtherNetwork)
        );
        let Choice::Prior { prior, .. } = choose(&present, vec![other, study(2, "20190101")])
        else {
            panic!("no prior");
        };
        assert_eq!(prior.study_id, 2);
    }
}
