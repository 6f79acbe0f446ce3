//! How well two measurements of the same things agree.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde::Serialize;

use super::mean;

/// Resamples of a bootstrap.
const RESAMPLES: usize = 2_000;
/// Seed of a bootstrap: the same data give the same interval.
const SEED: u64 = 20_261_124;

/// A mean and its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// Mean.
    pub mean: f64,
    /// 2.5th percentile of the resampled means.
    pub low: f64,
    /// 97.5th percentile.
    pub high: f64,
}

/// Bias and limits of agreement (Bland and Altman, Lancet 1986).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BlandAltman {
    /// Mean of second minus first.
    pub bias: f64,
    /// Bias less 1.96 standard deviations.
    pub low: f64,
    /// Bias plus 1.96 standard deviations.
    pub high: f64,
}

/// Mean over cases with a percentile bootstrap interval; `None` of nothing.
#[must_use]
pub fn bootstrap_mean(values: &[f64]) -> Option<Interval> {
    let centre = mean(values.iter().copied())?;
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let mut means: Vec<f64> = (0..RESAMPLES)
        .filter_map(|_| {
            mean((0..values.len()).map(|_| {
                let drawn = (u64::from(rng.next_u32()) * values.len() as u64) >> 32;
                values[usize::try_from(drawn).unwrap_or(0)]
            }))
        })
        .collect();
    means.sort_by(f64::total_cmp);
    Some(Interval {
        mean: centre,
        low: means[RESAMPLES * 25 / 1000],
        high: means[RESAMPLES * 975 / 1000],
    })
}

/// Bias and limits of agreement of pairs; `None` for fewer than two.
#[must_use]
pub fn bland_altman(pairs: &[(f64, f64)]) -> Option<BlandAltman> {
    let differences: Vec<f64> = pairs.iter().map(|(a, b)| b - a).collect();
    let (bias, sd) = (mean(differences.iter().copied())?, deviation(&differences)?);
    Some(BlandAltman {
        bias,
        low: bias - 1.96 * sd,
        high: bias + 1.96 * sd,
    })
}

/// Intraclass correlation for absolute agreement of single measurements, two-way: ICC(A,1) of
/// `McGraw` and Wong (Psychological Methods 1996). `None` for fewer than two pairs or without spread.
#[must_use]
pub fn icc_agreement(pairs: &[(f64, f64)]) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "numbers of cases are small")]
    let n = pairs.len() as f64;
    if n < 2.0 {
        return None;
    }
    let k = 2.0;
    let first = mean(pairs.iter().map(|p| p.0))?;
    let second = mean(pairs.iter().map(|p| p.1))?;
    let grand = f64::midpoint(first, second);
    let square = |v: f64| v * v;
    let rows: f64 = pairs
        .iter()
        .map(|(a, b)| k * square(f64::midpoint(*a, *b) - grand))
        .sum();
    let columns = n * (square(first - grand) + square(second - grand));
    let total: f64 = pairs
        .iter()
        .map(|(a, b)| square(a - grand) + square(b - grand))
        .sum();
    let (msr, msc) = (rows / (n - 1.0), columns / (k - 1.0));
    let mse = (total - rows - columns) / ((n - 1.0) * (k - 1.0));
    let below = msr + (k - 1.0) * mse + k / n * (msc - mse);
    (below > 0.0).then(|| (msr - mse) / below)
}

/// Pearson's correlation; `None` without spread.
#[must_use]
pub fn correlation(pairs: &[(f64, f64)]) -> Option<f64> {
    let first = mean(pairs.iter().map(|p| p.0))?;
    let second = mean(pairs.iter().map(|p| p.1))?;
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in pairs {
        ab += (a - first) * (b - second);
        aa += (a - first) * (a - first);
        bb += (b - second) * (b - second);
    }
    (aa * bb > 0.0).then(|| ab / (aa * bb).sqrt())
}

fn deviation(values: &[f64]) -> Option<f64> {
    let centre = mean(values.iter().copied())?;
    #[expect(clippy::cast_precision_loss, reason = "numbers of cases are small")]
    let free = values.len() as f64 - 1.0;
    let sum: f64 = values.iter().map(|v| (v - centre) * (v - centre)).sum();
    (free > 0.0).then(|| (sum / free).sqrt())
}
