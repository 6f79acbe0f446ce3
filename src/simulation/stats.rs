//! Waits of each group, and how sure they are.

use serde::Serialize;

use super::ReadTimes;
use super::Scenario;
use super::cases::{Case, LOGNORMAL_CV, mean_gap};

/// Share of the cases that fill the empty list and are not counted.
const WARM_UP: f64 = 0.05;
/// Most cases of the warm-up.
const WARM_UP_MAX: usize = 10_000;
/// Batches of the interval: long against the memory of the queue, many enough for a spread.
const BATCHES: usize = 40;
/// What each batch drew: service, gap, and their squares.
const CONTROLS: usize = 4;
/// Two-sided 95 % quantile of Student's t for 40 - 1 and 40 - 1 - 4 degrees of freedom.
const T_39: f64 = 2.0227;
const T_35: f64 = 2.0301;

/// Waits of one group, minutes. All null when the group is too small to say.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct GroupStats {
    /// Cases counted.
    pub count: usize,
    /// Mean.
    pub mean: Option<f64>,
    /// 95th percentile.
    pub p95: Option<f64>,
    /// Longest.
    pub max: Option<f64>,
    /// 95 % interval of the mean, by batch means.
    pub ci95: Option<[f64; 2]>,
}

/// Waits of all groups.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Groups {
    /// Score above the threshold.
    pub flagged: GroupStats,
    /// Score below it.
    pub unflagged: GroupStats,
    /// Diseased, flagged or not.
    pub diseased: GroupStats,
    /// Diseased and not flagged.
    pub missed: GroupStats,
    /// Not diseased, flagged or not.
    pub normal: GroupStats,
    /// Every case of the list.
    pub all: GroupStats,
}

/// Names of the groups, as in [`Groups`].
pub const GROUPS: [&str; 6] = [
    "flagged",
    "unflagged",
    "diseased",
    "missed",
    "normal",
    "all",
];

impl Groups {
    /// In the order of [`GROUPS`].
    #[must_use]
    pub fn each(&self) -> [&GroupStats; 6] {
        [
            &self.flagged,
            &self.unflagged,
            &self.diseased,
            &self.missed,
            &self.normal,
            &self.all,
        ]
    }
}

/// Means, percentiles and intervals of the waits. With a scenario, whose Poisson arrivals and read
/// times have known moments, those are used as control variates: the mean and its interval are
/// corrected for what each batch happened to draw (Lavenberg and Welch, Management Science 1981).
pub fn groups(cases: &[Case], waits: &[f64], scenario: Option<&Scenario>) -> Groups {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a small count"
    )]
    let warm_up = ((cases.len() as f64 * WARM_UP) as usize).min(WARM_UP_MAX);
    let batch = (cases.len() - warm_up).div_ceil(BATCHES);
    let controls = scenario.map(|s| controls(cases, warm_up, batch, s));
    let of = |member: &dyn Fn(&Case) -> bool| {
        let counted = |range: std::ops::Range<usize>| {
            range
                .filter(|i| !cases[*i].interrupt && member(&cases[*i]))
                .map(|i| waits[i])
        };
        let batches: Vec<Vec<f64>> = (0..BATCHES)
            .map(|b| {
                let from = warm_up + b * batch;
                counted(from.min(cases.len())..(from + batch).min(cases.len())).collect()
            })
            .collect();
        group(&batches, controls.as_deref())
    };
    Groups {
        flagged: of(&|c| c.flagged),
        unflagged: of(&|c| !c.flagged),
        diseased: of(&|c| c.diseased),
        missed: of(&|c| c.diseased && !c.flagged),
        normal: of(&|c| !c.diseased),
        all: of(&|_| true),
    }
}

/// What each batch drew, less what it should draw on average.
fn controls(cases: &[Case], warm_up: usize, batch: usize, s: &Scenario) -> Vec<[f64; CONTROLS]> {
    let gap = mean_gap(s);
    let square = s.read_minutes
        * s.read_minutes
        * match s.read_times {
            ReadTimes::Exponential => 2.0,
            ReadTimes::Lognormal => 1.0 + LOGNORMAL_CV * LOGNORMAL_CV,
            ReadTimes::Constant => 1.0,
        };
    let average = |values: &mut dyn Iterator<Item = f64>| {
        let (sum, count) = values.fold((0.0, 0.0), |(s, n), v| (s + v, n + 1.0));
        sum / f64::max(count, 1.0)
    };
    let of_batch = |b: usize| {
        let from = (warm_up + b * batch).min(cases.len());
        let part = &cases[from..(from + batch).min(cases.len())];
        let services = || part.iter().filter(|c| !c.interrupt).map(|c| c.service);
        let gaps = || part.windows(2).map(|w| w[1].arrival - w[0].arrival);
        [
            average(&mut services()) - s.read_minutes,
            average(&mut gaps()) - gap,
            average(&mut services().map(|v| v * v)) - square,
            average(&mut gaps().map(|v| v * v)) - 2.0 * gap * gap,
        ]
    };
    (0..BATCHES).map(of_batch).collect()
}

fn group(batches: &[Vec<f64>], controls: Option<&[[f64; CONTROLS]]>) -> GroupStats {
    let mut all: Vec<f64> = batches.concat();
    all.sort_by(f64::total_cmp);
    let full = batches.iter().all(|b| !b.is_empty());
    let (mean, ci95) = if full {
        let means: Vec<f64> = batches.iter().map(|b| mean(b)).collect();
        let (mean, half) = interval(&means, controls);
        (Some(mean), Some([mean - half, mean + half]))
    } else {
        ((!all.is_empty()).then(|| mean(&all)), None)
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a rank among the cases"
    )]
    let rank = (all.len() as f64 * 0.95) as usize;
    GroupStats {
        count: all.len(),
        mean,
        p95: all.get(rank).copied(),
        max: all.last().copied(),
        ci95,
    }
}

fn mean(values: &[f64]) -> f64 {
    crate::validation::mean(values.iter().copied()).unwrap_or(f64::NAN)
}

/// Mean of batch means and half its 95 % interval.
fn interval(means: &[f64], controls: Option<&[[f64; CONTROLS]]>) -> (f64, f64) {
    let average = mean(means);
    let residual_of = |at: usize, centre: f64, slopes: &[f64], x: &[[f64; CONTROLS]]| {
        let fitted: f64 = slopes.iter().zip(x[at]).map(|(s, x)| s * x).sum();
        means[at] - centre - fitted
    };
    let spread = |residuals: &[f64], free: usize| {
        #[expect(clippy::cast_precision_loss, reason = "at most 40")]
        let variance = residuals.iter().map(|r| r * r).sum::<f64>() / free as f64;
        variance.sqrt()
    };
    if let Some(x) = controls
        && let Some((centre, slopes, scale)) = regress(means, x)
    {
        let residuals: Vec<f64> = (0..means.len())
            .map(|at| residual_of(at, centre, &slopes, x))
            .collect();
        let half = T_35 * spread(&residuals, means.len() - 1 - CONTROLS) * scale.sqrt();
        return (centre, half);
    }
    let residuals: Vec<f64> = means.iter().map(|m| m - average).collect();
    #[expect(clippy::cast_precision_loss, reason = "at most 40")]
    let root = (means.len() as f64).sqrt();
    (average, T_39 * spread(&residuals, means.len() - 1) / root)
}

/// Least squares of `y` on a constant and the controls: the constant, the slopes, and the constant's
/// variance for a unit variance of the residuals. `None` when a control does not vary.
fn regress(y: &[f64], x: &[[f64; CONTROLS]]) -> Option<(f64, [f64; CONTROLS], f64)> {
    const N: usize = CONTROLS + 1;
    // Controls of very different size: each is scaled to a spread of one.
    let size: [f64; CONTROLS] =
        std::array::from_fn(|j| (x.iter().map(|row| row[j] * row[j]).sum::<f64>()).sqrt());
    if size.iter().any(|s| *s < 1e-9) {
        return None;
    }
    let row = |at: usize, j: usize| {
        if j == 0 {
            1.0
        } else {
            x[at][j - 1] / size[j - 1]
        }
    };
    // [X'X | X'y | I's first column], eliminated to [I | coefficients | first column of the inverse]
    let mut m = [[0.0; N + 2]; N];
    for (i, line) in m.iter_mut().enumerate() {
        for (j, cell) in line.iter_mut().take(N).enumerate() {
            *cell = (0..y.len()).map(|at| row(at, i) * row(at, j)).sum();
        }
        line[N] = (0..y.len()).map(|at| row(at, i) * y[at]).sum();
        line[N + 1] = if i == 0 { 1.0 } else { 0.0 };
    }
    for i in 0..N {
        let pivot = (i..N).max_by(|a, b| m[*a][i].abs().total_cmp(&m[*b][i].abs()))?;
        m.swap(i, pivot);
        if m[i][i].abs() < 1e-9 {
            return None;
        }
        let divisor = m[i][i];
        m[i].iter_mut().for_each(|cell| *cell /= divisor);
        let line = m[i];
        for (j, other) in m.iter_mut().enumerate() {
            if j != i {
                let times = other[i];
                other
                    .iter_mut()
                    .zip(line)
                    .for_each(|(o, l)| *o -= times * l);
            }
        }
    }
    let slopes = std::array::from_fn(|j| m[j + 1][N] / size[j]);
    Some((m[0][N], slopes, m[0][N + 1]))
}
