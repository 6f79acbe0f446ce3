//! Volumes compared with healthy people of the same age and sex. Pure.
//!
//! `r = ln V - ln p50(age, sex) - beta * (ln TIV - ln tiv_p50(age, sex))`, `z = (r - offset) / s`,
//! percentile = Phi(z). `ln p50`, `ln tiv_p50` and `sigma` are interpolated linearly in age.
//! The table and its provenance are in `norms/`.

mod calibration;
pub mod structures;

pub use calibration::{LocalPerson, ScannerCalibration, ScannerShift, calibrate};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Youngest and oldest age, in years, for which a z is given; 18-20 use the 20-year column.
pub const AGES_YEARS: std::ops::RangeInclusive<f64> = 18.0..=90.0;

/// A patient's sex as the table knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sex {
    /// Female.
    F,
    /// Male.
    M,
}

impl Sex {
    /// (0010,0040): `F` or `M`; anything else has no norm.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "F" => Some(Self::F),
            "M" => Some(Self::M),
            _ => None,
        }
    }
}

/// Why there is no z.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NoNorm {
    /// Age unknown.
    #[error("age unknown")]
    AgeUnknown,
    /// Sex unknown.
    #[error("sex unknown")]
    SexUnknown,
    /// Age outside the table.
    #[error("outside validated ages (18-90 years)")]
    AgeOutside,
    /// The table does not know the structure.
    #[error("no norm for {0}")]
    UnknownStructure(String),
    /// A volume that cannot be compared.
    #[error("volume of {0} is not a positive number")]
    NotPositive(String),
}

/// One comparison.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Standard deviations from the median of healthy people.
    pub z: f64,
    /// Percentile, 0-100.
    pub percentile: f64,
}

#[derive(Debug, Clone, Deserialize)]
struct Structure {
    #[serde(rename = "p50_F")]
    p50_f: Vec<f64>,
    #[serde(rename = "p50_M")]
    p50_m: Vec<f64>,
    beta: Option<f64>,
    sigma: Vec<f64>,
    site_sd: f64,
}

#[derive(Debug, Clone, Deserialize)]
struct TivMedian {
    #[serde(rename = "F")]
    f: Vec<f64>,
    #[serde(rename = "M")]
    m: Vec<f64>,
}

/// How far a volume is from the median of healthy people, before any correction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Residual {
    /// `ln V - ln p50 - beta * (ln TIV - ln tiv_p50)`.
    pub r: f64,
    /// Spread of healthy people at that age, in ln mm3.
    pub sigma: f64,
    /// Spread between scanners, in ln mm3.
    pub site_sd: f64,
}

/// The norm table.
#[derive(Debug, Clone, Deserialize)]
pub struct Norms {
    ages: Vec<f64>,
    tiv_p50: TivMedian,
    structures: BTreeMap<String, Structure>,
}

/// What is known of the segmenter and the scanner.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Correction {
    /// Fixed offset of our segmenter against the table, in ln mm3.
    pub offset: f64,
    /// Shift of this scanner, in ln mm3, shrunk.
    pub delta: f64,
    /// Local healthy scans that the shift rests on: widens the spread by what is not known of the
    /// scanner. 0 for a scanner that was not calibrated; `None` for the table's own spread.
    pub local_scans: Option<u32>,
    /// Spread of our segmenter over healthy scans as measured: s is never narrower.
    pub sd_at_least: f64,
}

impl Norms {
    /// Reads the table.
    ///
    /// # Errors
    /// Says what is malformed: JSON, or columns of unequal length.
    pub fn parse(json: &str) -> Result<Self, String> {
        let norms: Self = serde_json::from_str(json).map_err(|e| format!("norm table: {e}"))?;
        let n = norms.ages.len();
        let whole = n > 1
            && norms.ages.is_sorted()
            && norms.tiv_p50.f.len() == n
            && norms.tiv_p50.m.len() == n
            && norms
                .structures
                .values()
                .all(|s| s.p50_f.len() == n && s.p50_m.len() == n && s.sigma.len() == n);
        if whole {
            Ok(norms)
        } else {
            Err("norm table: columns of unequal length".into())
        }
    }

    /// z and percentile of `volume_mm3` of `structure` for a head of `tiv_mm3`.
    ///
    /// # Errors
    /// [`NoNorm`] where no honest comparison can be made.
    pub fn compare(
        &self,
        structure: &str,
        age_years: Option<f64>,
        sex: Option<Sex>,
        volume_mm3: f64,
        tiv_mm3: f64,
        correction: Correction,
    ) -> Result<Comparison, NoNorm> {
        let residual = self.residual(structure, age_years, sex, volume_mm3, tiv_mm3)?;
        let spread = match correction.local_scans {
            Some(scans) => residual.spread(scans),
            None => residual.sigma,
        };
        let shifted = residual.r - correction.offset - correction.delta;
        let z = shifted / spread.max(correction.sd_at_least);
        Ok(Comparison {
            z,
            percentile: 100.0 * phi(z),
        })
    }

    /// How far a volume is from the median for a head of `tiv_mm3`.
    ///
    /// # Errors
    /// [`NoNorm`] where no honest comparison can be made.
    pub fn residual(
        &self,
        structure: &str,
        age_years: Option<f64>,
        sex: Option<Sex>,
        volume_mm3: f64,
        tiv_mm3: f64,
    ) -> Result<Residual, NoNorm> {
        let age = age_years.ok_or(NoNorm::AgeUnknown)?;
        let sex = sex.ok_or(NoNorm::SexUnknown)?;
        if !AGES_YEARS.contains(&age) {
            return Err(NoNorm::AgeOutside);
        }
        let table = self
            .structures
            .get(structure)
            .ok_or_else(|| NoNorm::UnknownStructure(structure.to_owned()))?;
        for volume in [volume_mm3, tiv_mm3] {
            if !(volume.is_finite() && volume > 0.0) {
                return Err(NoNorm::NotPositive(structure.to_owned()));
            }
        }
        let (p50, tiv_p50) = match sex {
            Sex::F => (&table.p50_f, &self.tiv_p50.f),
            Sex::M => (&table.p50_m, &self.tiv_p50.m),
        };
        let head_size = tiv_mm3.ln() - self.at_age(age, tiv_p50, f64::ln);
        Ok(Residual {
            r: volume_mm3.ln()
                - self.at_age(age, p50, f64::ln)
                - table.beta.unwrap_or(0.0) * head_size,
            sigma: self.at_age(age, &table.sigma, |s| s),
            site_sd: table.site_sd,
        })
    }

    /// The volume, mm3, at which a healthy person of this age, sex and head size has this z: the
    /// inverse of [`Norms::compare`]. `None` for a structure that the table does not know, or a head of no size.
    #[must_use]
    pub fn volume_at(
        &self,
        structure: &str,
        age_years: f64,
        sex: Sex,
        tiv_mm3: f64,
        correction: Correction,
        z: f64,
    ) -> Option<f64> {
        let table = self.structures.get(structure)?;
        if !(tiv_mm3.is_finite() && tiv_mm3 > 0.0) {
            return None;
        }
        let (p50, tiv_p50) = match sex {
            Sex::F => (&table.p50_f, &self.tiv_p50.f),
            Sex::M => (&table.p50_m, &self.tiv_p50.m),
        };
        let head_size = tiv_mm3.ln() - self.at_age(age_years, tiv_p50, f64::ln);
        let spread = Residual {
            r: 0.0,
            sigma: self.at_age(age_years, &table.sigma, |s| s),
            site_sd: table.site_sd,
        };
        let spread = correction
            .local_scans
            .map_or(spread.sigma, |n| spread.spread(n));
        let ln_volume = self.at_age(age_years, p50, f64::ln)
            + table.beta.unwrap_or(0.0) * head_size
            + correction.offset
            + correction.delta
            + z * spread.max(correction.sd_at_least);
        Some(ln_volume.exp())
    }

    fn at_age(&self, age: f64, column: &[f64], scale: impl Fn(f64) -> f64) -> f64 {
        let last = self.ages.len() - 1;
        let age = age.clamp(self.ages[0], self.ages[last]);
        let right = self.ages.partition_point(|a| *a < age).clamp(1, last);
        let (a0, a1) = (self.ages[right - 1], self.ages[right]);
        let t = (age - a0) / (a1 - a0);
        scale(column[right - 1]) * (1.0 - t) + scale(column[right]) * t
    }
}

/// Cumulative normal distribution, through the rational approximation of the error function in
/// Abramowitz & Stegun 7.1.26: absolute error below 1.5e-7.
#[must_use]
pub fn phi(z: f64) -> f64 {
    0.5 * (1.0 + erf(z / std::f64::consts::SQRT_2))
}

impl Residual {
    /// Spread to expect on a scanner of which `scans` local healthy scans are known:
    /// `sqrt(sigma^2 + site_sd^2 sigma^2 / (n site_sd^2 + sigma^2))`.
    #[must_use]
    pub fn spread(&self, scans: u32) -> f64 {
        let (sigma, site) = (self.sigma.powi(2), self.site_sd.powi(2));
        (sigma + site * sigma / (f64::from(scans) * site + sigma)).sqrt()
    }
}

fn erf(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.327_591_1 * x.abs());
    let poly = t
        * (0.254_829_592
            + t * (-0.284_496_736
                + t * (1.421_413_741 + t * (-1.453_152_027 + t * 1.061_405_429))));
    (1.0 - poly * (-x * x).exp()).copysign(x)
}

/// A number with so many decimals, never "-0.0".
#[must_use]
pub fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    match text.strip_prefix('-') {
        Some(zero) if zero.bytes().all(|b| matches!(b, b'0' | b'.')) => zero.to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn norms() -> Norms {
        Norms::parse(include_str!("../../norms/norms_synthseg_v0.json")).unwrap()
    }

    #[track_caller]
    fn check(structure: &str, age: f64, sex: Sex, volume: f64, tiv: f64, z: f64, percentile: f64) {
        let got = norms()
            .compare(
                structure,
                Some(age),
                Some(sex),
                volume,
                tiv,
                Correction::default(),
            )
            .unwrap();
        assert!((got.z - z).abs() < 0.0006, "{got:?}");
        assert!((got.percentile - percentile).abs() < 0.06, "{got:?}");
    }

    #[test]
    fn design_test_vectors() {
        check(
            "total hippocampus",
            72.0,
            Sex::F,
            6200.0,
            1.38e6,
            -2.147,
            1.6,
        );
        check(
            "total hippocampus",
            45.0,
            Sex::M,
            8900.0,
            1.70e6,
            -0.210,
            41.7,
        );
    }

    #[test]
    fn no_norm_without_age_or_sex_or_outside_the_table() {
        let n = norms();
        let try_age = |age, sex| {
            n.compare(
                "total hippocampus",
                age,
                sex,
                8000.0,
                1.5e6,
                Correction::default(),
            )
        };
        assert_eq!(try_age(None, Some(Sex::F)), Err(NoNorm::AgeUnknown));
        assert_eq!(try_age(Some(50.0), None), Err(NoNorm::SexUnknown));
        assert_eq!(try_age(Some(17.9), Some(Sex::F)), Err(NoNorm::AgeOutside));
        assert_eq!(try_age(Some(90.1), Some(Sex::M)), Err(NoNorm::AgeOutside));
        assert_eq!(
            try_age(Some(18.0), Some(Sex::M)),
            try_age(Some(20.0), Some(Sex::M))
        );
        assert!(
            n.compare(
                "nose",
                Some(50.0),
                Some(Sex::F),
                1.0,
                1.5e6,
                Correction::default()
            )
            .is_err()
        );
        assert!(
            n.compare(
                "total hippocampus",
                Some(50.0),
                Some(Sex::F),
                0.0,
                1.5e6,
                Correction::default()
            )
            .is_err()
        );
    }

    #[test]
    fn a_volume_at_a_z_has_that_z() {
        let correction = Correction {
            offset: 0.28,
            delta: -0.03,
            local_scans: Some(4),
            sd_at_least: 0.08,
        };
        for z in [-2.0, 0.0, 1.5] {
            let volume = norms()
                .volume_at("total hippocampus", 61.5, Sex::M, 1.6e6, correction, z)
                .unwrap();
            let back = norms()
                .compare(
                    "total hippocampus",
                    Some(61.5),
                    Some(Sex::M),
                    volume,
                    1.6e6,
                    correction,
                )
                .unwrap();
            assert!((back.z - z).abs() < 1e-9, "{z} {back:?}");
        }
        assert_eq!(
            norms().volume_at("nose", 50.0, Sex::F, 1.5e6, correction, 0.0),
            None
        );
    }

    #[test]
    fn an_uncalibrated_scanner_widens_the_spread() {
        let n = norms();
        let z = |local_scans| {
            let c = Correction {
                local_scans,
                ..Correction::default()
            };
            n.compare(
                "total hippocampus",
                Some(72.0),
                Some(Sex::F),
                6200.0,
                1.38e6,
                c,
            )
            .unwrap()
            .z
        };
        assert!(z(Some(0)).abs() < z(Some(10)).abs());
        assert!(z(Some(10)).abs() < z(None).abs());
    }
}
