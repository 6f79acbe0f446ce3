//! A site's own arrivals, queued again: what other head starts would have done to their waits.
//!
//! Only reading is drawn, several times over; each draw is the same for every order, so that the
//! difference between two orders is surer than either wait.

use super::cases::{Case, Draw, Key};
use super::queue::{self, Room};
use super::{CASES_MAX, READERS_MAX, ReadTimes};

/// Draws of all read times.
pub const REPEATS: usize = 20;
/// Two-sided 95 % quantile of Student's t for `REPEATS` - 1 degrees of freedom.
const T_19: f64 = 2.093;
/// Orders that are compared.
const ORDERS: usize = 3;

/// A study as it arrived. Times in minutes.
#[derive(Debug, Clone, PartialEq)]
pub struct SiteCase {
    /// Since any moment; cases come in this order.
    pub arrival_minutes: f64,
    /// Head start by the settings in force.
    pub now_minutes: f64,
    /// Head start by those that are tried.
    pub then_minutes: f64,
    /// Groups that it is counted in: bit 0 is group 0.
    pub groups: u32,
}

/// Waits of a group under one order, minutes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SiteWait {
    /// Mean.
    pub mean: f64,
    /// 95th percentile, the mean over all draws.
    pub p95: f64,
    /// Longest of all draws.
    pub max: f64,
}

/// Waits of a group under each order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SiteGroup {
    /// Cases in it.
    pub count: usize,
    /// First come, first served.
    pub first_come: SiteWait,
    /// By the settings in force.
    pub now: SiteWait,
    /// By those that are tried.
    pub then: SiteWait,
    /// Mean of then less now, and its 95 % interval.
    pub change: [f64; 3],
}

/// Readers' time that these cases take, as a share of what there is.
#[must_use]
pub fn site_load(cases: &[SiteCase], readers: usize, read_minutes: f64) -> Option<f64> {
    let (first, last) = (cases.first()?, cases.last()?);
    let span = last.arrival_minutes - first.arrival_minutes;
    (span > 0.0).then(|| cases.len() as f64 * read_minutes / (readers as f64 * span))
}

/// Waits of each of `groups` groups; `None` for a group without cases. Read times are lognormal.
///
/// # Errors
/// When a number cannot be, or the cases do not come in order.
pub fn site_waits(
    cases: &[SiteCase],
    groups: usize,
    readers: usize,
    read_minutes: f64,
    seed: u64,
) -> Result<Vec<Option<SiteGroup>>, String> {
    if !(1..=READERS_MAX).contains(&readers) {
        return Err(format!("readers must be from 1 to {READERS_MAX}"));
    }
    if !(read_minutes > 0.0 && read_minutes <= 1_440.0) {
        return Err("minutes for one study must be above 0 and at most 1440".into());
    }
    if cases.len() > CASES_MAX / REPEATS {
        return Err(format!("more than {} studies", CASES_MAX / REPEATS));
    }
    if !cases.is_sorted_by(|a, b| a.arrival_minutes <= b.arrival_minutes) {
        return Err("the studies are not in order of arrival".into());
    }
    let room = Room {
        readers,
        preemptive: false,
        cap: None,
    };
    let mut queued: Vec<Case> = cases.iter().enumerate().map(first_come).collect();
    let mut waits: [Vec<Vec<f64>>; ORDERS] = Default::default();
    for repeat in 0..REPEATS as u64 {
        let mut draw = Draw::new(seed.wrapping_add(repeat));
        for case in &mut queued {
            case.service = draw.read(read_minutes, ReadTimes::Lognormal);
        }
        for (order, into) in waits.iter_mut().enumerate() {
            for (case, of) in queued.iter_mut().zip(cases) {
                let head_start = [0.0, of.now_minutes, of.then_minutes][order];
                case.key.value = of.arrival_minutes - head_start;
            }
            into.push(queue::waits(&queued, room));
        }
    }
    Ok((0..groups).map(|g| group(cases, &waits, g)).collect())
}

fn first_come((index, case): (usize, &SiteCase)) -> Case {
    Case {
        arrival: case.arrival_minutes,
        service: 0.0,
        diseased: false,
        flagged: false,
        interrupt: false,
        key: Key {
            class: 2,
            value: case.arrival_minutes,
            index,
        },
    }
}

fn group(cases: &[SiteCase], waits: &[Vec<Vec<f64>>; ORDERS], group: usize) -> Option<SiteGroup> {
    let members: Vec<usize> = (0..cases.len())
        .filter(|i| cases[*i].groups >> group & 1 == 1)
        .collect();
    if members.is_empty() {
        return None;
    }
    // of each draw: mean, 95th percentile, longest
    let of_draw = |waits: &Vec<f64>| {
        let mut of_members: Vec<f64> = members.iter().map(|i| waits[*i]).collect();
        of_members.sort_by(f64::total_cmp);
        let last = of_members.len() - 1;
        let mean = of_members.iter().sum::<f64>() / of_members.len() as f64;
        (mean, of_members[last * 95 / 100], of_members[last])
    };
    let draws = waits
        .each_ref()
        .map(|order| order.iter().map(of_draw).collect::<Vec<_>>());
    let average = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / REPEATS as f64;
    let wait = |order: usize| SiteWait {
        mean: average(&mut draws[order].iter().map(|d| d.0)),
        p95: average(&mut draws[order].iter().map(|d| d.1)),
        max: draws[order].iter().map(|d| d.2).fold(0.0, f64::max),
    };
    let differences = || {
        draws[2]
            .iter()
            .zip(&draws[1])
            .map(|(then, now)| then.0 - now.0)
    };
    let change = average(&mut differences());
    let squares = differences()
        .map(|d| (d - change) * (d - change))
        .sum::<f64>();
    let half = T_19 * (squares / (REPEATS - 1) as f64 / REPEATS as f64).sqrt();
    Some(SiteGroup {
        count: members.len(),
        first_come: wait(0),
        now: wait(1),
        then: wait(2),
        change: [change, change - half, change + half],
    })
}
