//! What other ranking settings would do: to the open list, and to the waits of the studies that came
//! in the last weeks.

use std::collections::HashMap;

use crate::simulation::{SiteCase, SiteGroup, site_load, site_waits};
use crate::triage::{Band, Evidence, OrderPriority, Ranking, TriageSettings, rank};

/// Studies that are looked at; of more, the newest.
pub const STUDIES_MAX: u64 = 20_000;
/// How far back the studies of the past go.
pub const DAYS_BACK: i64 = 30;
/// Rows of each table.
const ROWS_SHOWN: usize = 15;
/// Places that a row must move to be told as moved.
const MS_PER_MINUTE: f64 = 60_000.0;
/// Same seed, same answer, so that two tries differ by their settings only.
const SEED: u64 = 1;

/// A study as far as its place depends on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// (0020,000D)
    pub study_uid: String,
    /// For the row.
    pub patient_name: Option<String>,
    /// Receipt of the first object.
    pub arrived_ms: i64,
    /// What the ranking rests on, the order priority included.
    pub evidence: Evidence,
}

/// Where a study stands, and where it would.
#[derive(Debug, Clone, PartialEq)]
pub struct Moved {
    /// (0020,000D)
    pub study_uid: String,
    /// For the row.
    pub patient_name: Option<String>,
    /// Place now and then, from 1.
    pub place: [usize; 2],
    /// Band now and then.
    pub band: [Band; 2],
    /// Head start in minutes now and then.
    pub minutes: [f64; 2],
}

/// The open list under two settings.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenList {
    /// Studies compared.
    pub studies: usize,
    /// Of them with another place.
    pub moved: usize,
    /// Studies of each band now and then, most urgent first.
    pub bands: Vec<(Band, [usize; 2])>,
    /// The list as it would begin.
    pub first: Vec<Moved>,
    /// Those that would go up most.
    pub up: Vec<Moved>,
    /// Those that would go down most.
    pub down: Vec<Moved>,
}

/// A group of the studies of the past.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PastGroup {
    /// What it is called.
    pub name: &'static str,
    /// Its waits.
    pub waits: SiteGroup,
}

/// The studies of the past, read again.
#[derive(Debug, Clone, PartialEq)]
pub struct Past {
    /// Studies.
    pub studies: usize,
    /// Mean minutes for one study.
    pub read_minutes: f64,
    /// Share of the readers' time that they take.
    pub load: f64,
    /// Groups with studies in them.
    pub groups: Vec<PastGroup>,
}

const BANDS: [Band; 5] = [
    Band::Critical,
    Band::Urgent,
    Band::Elevated,
    Band::Routine,
    Band::Pending,
];

/// Groups of the past by what they are now: orders, then bands of routine orders.
const GROUPS: [&str; 8] = [
    "STAT orders",
    "ASAP orders",
    "Critical",
    "Urgent",
    "Elevated",
    "Not flagged",
    "Not analysed",
    "All studies",
];

/// Compares the open list under the settings in force and others.
#[must_use]
pub fn open_list(open: &[Candidate], now: &TriageSettings, then: &TriageSettings) -> OpenList {
    let ranked = [now, then].map(|settings| ranked(open, settings));
    let places = [0, 1].map(|at| places(open, &ranked[at]));
    let mut all: Vec<Moved> = (0..open.len())
        .map(|i| Moved {
            study_uid: open[i].study_uid.clone(),
            patient_name: open[i].patient_name.clone(),
            place: [places[0][i], places[1][i]],
            band: [ranked[0][i].band, ranked[1][i].band],
            minutes: [minutes(&ranked[0][i]), minutes(&ranked[1][i])],
        })
        .collect();
    all.sort_by_key(|m| m.place[1]);
    let count = |band: Band, at: usize| all.iter().filter(|m| m.band[at] == band).count();
    let bands = BANDS.map(|band| (band, [count(band, 0), count(band, 1)]));
    let mut moved: Vec<&Moved> = all.iter().filter(|m| m.place[0] != m.place[1]).collect();
    let total = moved.len();
    // most places up first; among equals in the order of the list
    moved.sort_by_key(|m| m.place[1].cast_signed() - m.place[0].cast_signed());
    let up = moved.iter().filter(|m| m.place[1] < m.place[0]);
    let down = moved.iter().rev().filter(|m| m.place[1] > m.place[0]);
    OpenList {
        studies: all.len(),
        moved: total,
        bands: bands.to_vec(),
        first: all.iter().take(ROWS_SHOWN).cloned().collect(),
        up: up.take(ROWS_SHOWN).map(|m| (*m).clone()).collect(),
        down: down.take(ROWS_SHOWN).map(|m| (*m).clone()).collect(),
    }
}

/// How the readers are taken to work when the past is read again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Minutes for one study on average.
    Minutes(f64),
    /// Share of the readers' time that the studies take; the minutes follow from it.
    Load(f64),
}

/// Reads the studies of the past again under first come, the settings in force, and others.
///
/// # Errors
/// When there are too few studies, or a number cannot be.
pub fn past(
    studies: &[Candidate],
    now: &TriageSettings,
    then: &TriageSettings,
    readers: usize,
    pace: Pace,
) -> Result<Past, String> {
    let ranked = [now, then].map(|settings| ranked(studies, settings));
    let first = studies.first().map_or(0, |s| s.arrived_ms);
    let cases: Vec<SiteCase> = (0..studies.len())
        .map(|i| SiteCase {
            arrival_minutes: (studies[i].arrived_ms - first) as f64 / MS_PER_MINUTE,
            now_minutes: minutes(&ranked[0][i]),
            then_minutes: minutes(&ranked[1][i]),
            groups: groups(&studies[i], &ranked[0][i]),
        })
        .collect();
    // the load of one minute a study
    let unit = site_load(&cases, readers.max(1), 1.0)
        .filter(|_| cases.len() >= 2)
        .ok_or("too few studies came in this time to say anything of waits")?;
    let read_minutes = match pace {
        Pace::Minutes(minutes) => minutes,
        Pace::Load(load) => (load / unit).min(1_440.0),
    };
    let waits = site_waits(&cases, GROUPS.len(), readers, read_minutes, SEED)?;
    let groups = GROUPS.into_iter().zip(waits);
    Ok(Past {
        studies: cases.len(),
        read_minutes,
        load: unit * read_minutes,
        groups: groups
            .filter_map(|(name, waits)| {
                Some(PastGroup {
                    name,
                    waits: waits?,
                })
            })
            .collect(),
    })
}

fn groups(study: &Candidate, ranking: &Ranking) -> u32 {
    let group = match (study.evidence.order, ranking.band) {
        (OrderPriority::Stat, _) => 0,
        (OrderPriority::Asap, _) => 1,
        (_, Band::Critical) => 2,
        (_, Band::Urgent) => 3,
        (_, Band::Elevated) => 4,
        (_, Band::Routine) => 5,
        (_, Band::Pending) => 6,
    };
    1 << group | 1 << (GROUPS.len() - 1)
}

fn ranked(studies: &[Candidate], settings: &TriageSettings) -> Vec<Ranking> {
    let ranked = studies.iter().map(|s| rank(&s.evidence, settings));
    ranked.collect()
}

fn minutes(ranking: &Ranking) -> f64 {
    ranking.head_start_ms as f64 / MS_PER_MINUTE
}

/// Place of each study, from 1: the order of the list.
fn places(studies: &[Candidate], ranked: &[Ranking]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..studies.len()).collect();
    order.sort_by_key(|i| {
        let study = &studies[*i];
        let effective = study.arrived_ms - ranked[*i].head_start_ms;
        (effective, study.arrived_ms, study.study_uid.as_str())
    });
    let place: HashMap<usize, usize> = order.into_iter().zip(1..).collect();
    (0..studies.len()).map(|i| place[&i]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::triage::Screening;

    fn study(n: i64, minute: i64, p: f64) -> Candidate {
        let screening = Screening {
            p_calibrated: p,
            prevalence_train: 0.1,
        };
        Candidate {
            study_uid: format!("1.{n:05}"),
            patient_name: None,
            arrived_ms: minute * 60_000,
            evidence: Evidence {
                screening: Some(screening),
                ..Evidence::default()
            },
        }
    }

    fn with_k(k_minutes_per_logit: f64) -> TriageSettings {
        TriageSettings {
            k_minutes_per_logit,
            ..TriageSettings::default()
        }
    }

    #[test]
    fn nothing_moves_under_the_same_settings() {
        let open: Vec<Candidate> = (0..50).map(|n| study(n, n, 0.3)).collect();
        let same = open_list(&open, &with_k(30.0), &with_k(30.0));
        assert_eq!((same.studies, same.moved), (50, 0));
        assert!(same.up.is_empty() && same.down.is_empty());
        assert_eq!(same.first[0].place, [1, 1]);
    }

    #[test]
    fn without_a_head_start_the_list_is_by_arrival() {
        // the last to come is the most conspicuous: it stands first until k is 0
        let open: Vec<Candidate> = (0..10)
            .map(|n| study(n, n, if n == 9 { 0.9 } else { 0.1 }))
            .collect();
        let changed = open_list(&open, &with_k(30.0), &with_k(0.0));
        assert_eq!(changed.moved, 10);
        assert_eq!(changed.down[0].study_uid, "1.00009");
        assert_eq!(changed.down[0].place, [1, 10]);
        assert_eq!(changed.up.len(), 9);
        let urgent = changed.bands.iter().find(|(b, _)| *b == Band::Urgent);
        let (_, [now, then]) = urgent.unwrap();
        assert_eq!(now - then, 1);
    }

    #[test]
    fn the_past_waits_as_its_settings_say() {
        // one study every 10 minutes, one in ten of them conspicuous
        let studies: Vec<Candidate> = (0..2_000)
            .map(|n| study(n, 10 * n, if n % 10 == 3 { 0.95 } else { 0.02 }))
            .collect();
        let past = |now: f64, then: f64| {
            past(&studies, &with_k(now), &with_k(then), 1, Pace::Load(0.95)).unwrap()
        };
        let changed = past(0.0, 60.0);
        assert!((changed.load - 0.95).abs() < 1e-9);
        assert!((changed.read_minutes - 9.5).abs() < 0.01);
        let all = changed.groups.iter().find(|g| g.name == "All studies");
        assert_eq!(all.unwrap().waits.count, 2_000);
        // no head start is first come, and a group that gains is told apart from chance
        let of = |past: &Past, name: &str| {
            let found = past.groups.iter().find(|g| g.name == name);
            found.unwrap().waits
        };
        let routine = of(&changed, "Not flagged");
        assert_eq!(routine.now, routine.first_come);
        let back = past(60.0, 0.0);
        let urgent = of(&back, "Urgent");
        assert!(urgent.change[1] > 0.0, "{urgent:?}");
        assert!(urgent.now.mean < urgent.then.mean);
        assert_eq!(urgent.then, urgent.first_come);
        let same = past(30.0, 30.0);
        assert_eq!(of(&same, "All studies").change, [0.0, 0.0, 0.0]);
    }

    #[test]
    fn too_few_studies_say_so() {
        let one = [study(1, 1, 0.1)];
        let settings = with_k(30.0);
        let told = past(&one, &settings, &settings, 1, Pace::Load(0.8)).unwrap_err();
        assert!(told.contains("too few"), "{told}");
        let none = past(&[], &settings, &settings, 1, Pace::Minutes(5.0));
        assert!(none.is_err());
    }
}
