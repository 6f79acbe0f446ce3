//! By how much two scans of the same, unchanged person differ: what is less than that is no change.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Coefficient of variation, percent, that stands in for what is not measured of our own network: the
/// largest of J. Maclaren et al., "Reliability of brain volume measurements: A test-retest dataset",
/// Scientific Data 1:140037, 2014 (3 people, 40 scans each, `FreeSurfer` 5.1: 1.6 % caudate to 6.1 % thalamus).
const DEFAULT_VARIATION_PERCENT: f64 = 6.1;
/// Of 100 differences between two scans without change 95 are smaller than so many coefficients of
/// variation: 1.96 times the square root of 2.
const DIFFERENCE_OF_VARIATION: f64 = 2.771_858;
/// From so many pairs of scans on the measured limit stands alone; below, it only ever widens the default.
const PAIRS_MIN: u32 = 10;

/// `models/NAME.repeat.toml`: differences of the network's volumes between two scans of the same
/// people within days. It belongs to one model file and is ignored beside another.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repeats {
    /// The model it was measured with.
    pub model_sha256: String,
    /// How many people.
    pub pairs: u32,
    /// What was scanned, in words.
    pub scans: String,
    /// Per structure of the norm table: 200 |a - b| / (a + b), root mean square over the pairs.
    pub difference_percent: BTreeMap<String, f64>,
}

/// Limits of change, per structure.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    measured: BTreeMap<String, f64>,
    pairs: u32,
}

impl Limits {
    /// Limits of a network: what was measured of it, or the default.
    #[must_use]
    pub fn new(repeats: Option<&Repeats>) -> Self {
        Self {
            measured: repeats.map_or_else(BTreeMap::new, |r| r.difference_percent.clone()),
            pairs: repeats.map_or(0, |r| r.pairs),
        }
    }

    /// Change of a structure, percent, below which two scans say nothing.
    #[must_use]
    pub fn percent(&self, structure: &str) -> f64 {
        let default = DIFFERENCE_OF_VARIATION * DEFAULT_VARIATION_PERCENT;
        // The root mean square of differences is already the square root of 2 times the variation.
        let measured = self.measured.get(structure).map(|rms| 1.96 * rms);
        match measured.filter(|percent| percent.is_finite()) {
            Some(percent) if self.pairs >= PAIRS_MIN => percent,
            Some(percent) => percent.max(default),
            None => default,
        }
    }

    /// Pairs of scans that were measured with this network.
    #[must_use]
    pub fn pairs(&self) -> u32 {
        self.pairs
    }

    /// Whether the default of the literature stands in, wholly or in part.
    #[must_use]
    pub fn rest_on_default(&self) -> bool {
        self.pairs < PAIRS_MIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repeats(pairs: u32, percent: f64) -> Repeats {
        Repeats {
            model_sha256: "00".into(),
            pairs,
            scans: "made up".into(),
            difference_percent: BTreeMap::from([("total hippocampus".to_owned(), percent)]),
        }
    }

    #[track_caller]
    fn check(pairs: u32, percent: f64, want: f64) {
        let limits = Limits::new(Some(&repeats(pairs, percent)));
        let got = limits.percent("total hippocampus");
        assert!((got - want).abs() < 0.01, "{got}");
        assert!((limits.percent("brain-stem") - 16.91).abs() < 0.01);
    }

    #[test]
    fn few_pairs_only_widen_the_default() {
        check(1, 2.0, 16.91);
        check(1, 12.0, 23.52);
        check(10, 2.0, 3.92);
        assert!((Limits::new(None).percent("total hippocampus") - 16.91).abs() < 0.01);
    }
}
