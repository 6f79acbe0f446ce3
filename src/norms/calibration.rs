//! What one scanner adds: its shift from n local healthy scans, shrunk towards none. Pure.
//!
//! `delta = mean(r - offset) * n / (n + sigma^2 / site_sd^2)`: few scans move little, and the
//! spread that a comparison expects is widened by what stays unknown ([`super::Residual::spread`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::structures::INTRACRANIAL;
use super::{Norms, Residual, Sex};

/// A healthy person scanned on the scanner.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalPerson {
    /// Years.
    pub age_years: f64,
    /// Sex.
    pub sex: Sex,
    /// mm3 of each structure by its name in the norm table, intracranial volume included.
    pub volumes_mm3: BTreeMap<String, f64>,
}

/// Shift of one structure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ScannerShift {
    /// Scans it rests on.
    pub scans: u32,
    /// Mean of `r - offset`, before shrinking, ln mm3.
    pub mean: f64,
    /// What is taken off, ln mm3.
    pub delta: f64,
    /// Mean z of those people before, and after.
    pub z_before: f64,
    /// See `z_before`.
    pub z_after: f64,
}

/// Shifts of a scanner.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ScannerCalibration {
    /// Structures by their name in the norm table.
    pub structures: BTreeMap<String, ScannerShift>,
}

/// Measures a scanner's shifts. `offsets` are the segmenter's own, per structure.
///
/// # Errors
/// When a person cannot be compared: age or sex outside the table, or no intracranial volume.
pub fn calibrate(
    norms: &Norms,
    offsets: &BTreeMap<String, f64>,
    people: &[LocalPerson],
) -> Result<ScannerCalibration, String> {
    if people.is_empty() {
        return Err("no local scans".into());
    }
    let mut structures = BTreeMap::new();
    let head_offset = offsets.get(INTRACRANIAL).copied().unwrap_or(0.0);
    let mut head_delta = 0.0;
    // Intracranial volume first: the others are corrected for head size.
    let others = offsets.keys().filter(|name| *name != INTRACRANIAL);
    let head = offsets.get_key_value(INTRACRANIAL).map(|(name, _)| name);
    for name in head.into_iter().chain(others) {
        let mut residuals = Vec::new();
        for person in people {
            let whole = person
                .volumes_mm3
                .get(INTRACRANIAL)
                .ok_or("a scan has no intracranial volume")?;
            let Some(volume) = person.volumes_mm3.get(name) else {
                continue;
            };
            let tiv = whole / (head_offset + head_delta).exp();
            residuals.push(
                norms
                    .residual(name, Some(person.age_years), Some(person.sex), *volume, tiv)
                    .map_err(|e| e.to_string())?,
            );
        }
        if let Some(shift) = shift(&residuals, offsets[name]) {
            if name == INTRACRANIAL {
                head_delta = shift.delta;
            }
            structures.insert(name.clone(), shift);
        }
    }
    Ok(ScannerCalibration { structures })
}

fn shift(residuals: &[Residual], offset: f64) -> Option<ScannerShift> {
    let scans = u32::try_from(residuals.len()).ok().filter(|n| *n > 0)?;
    let n = f64::from(scans);
    let average = |of: &dyn Fn(&Residual) -> f64| residuals.iter().map(of).sum::<f64>() / n;
    let mean = average(&|r| r.r - offset);
    let sigma2 = average(&|r| r.sigma.powi(2));
    let site2 = residuals[0].site_sd.powi(2);
    let delta = if site2 > 0.0 {
        mean * n / (n + sigma2 / site2)
    } else {
        0.0
    };
    Some(ScannerShift {
        scans,
        mean,
        delta,
        z_before: average(&|r| (r.r - offset) / r.spread(0)),
        z_after: average(&|r| (r.r - offset - delta) / r.spread(scans)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HIPPOCAMPUS: &str = "total hippocampus";

    /// People whose hippocampus is larger by a factor than the median.
    fn people(count: usize, factor: f64) -> Vec<LocalPerson> {
        let norms = Norms::parse(crate::serve::NORM_TABLE).unwrap();
        let tiv = 1.5e6;
        let mut person = LocalPerson {
            age_years: 50.0,
            sex: Sex::F,
            volumes_mm3: BTreeMap::new(),
        };
        let r = |structure: &str, volume: f64, tiv: f64| {
            norms
                .residual(structure, Some(50.0), Some(Sex::F), volume, tiv)
                .unwrap()
                .r
        };
        // Exactly the median, then shifted.
        let tiv = tiv / r(INTRACRANIAL, tiv, tiv).exp();
        let median = 7000.0 / r(HIPPOCAMPUS, 7000.0, tiv).exp();
        person.volumes_mm3.insert(INTRACRANIAL.into(), tiv);
        person
            .volumes_mm3
            .insert(HIPPOCAMPUS.into(), median * factor);
        vec![person; count]
    }

    fn delta(count: usize, factor: f64, offset: f64) -> ScannerShift {
        let norms = Norms::parse(crate::serve::NORM_TABLE).unwrap();
        let offsets = BTreeMap::from([(INTRACRANIAL.into(), 0.0), (HIPPOCAMPUS.into(), offset)]);
        calibrate(&norms, &offsets, &people(count, factor))
            .unwrap()
            .structures[HIPPOCAMPUS]
    }

    #[test]
    fn few_scans_move_little_and_many_move_almost_all() {
        let all = 1.05_f64.ln();
        let (one, many) = (delta(1, 1.05, 0.0), delta(2000, 1.05, 0.0));
        assert!(one.delta > 0.0 && one.delta < 0.1 * all, "{one:?}");
        assert!((many.delta - all).abs() < 0.05 * all, "{many:?}");
        assert!((many.mean - all).abs() < 1e-9);
        assert!(many.z_after.abs() < 0.1 * many.z_before);
    }

    #[test]
    fn the_formula_of_the_design() {
        let norms = Norms::parse(crate::serve::NORM_TABLE).unwrap();
        let r = norms
            .residual(HIPPOCAMPUS, Some(50.0), Some(Sex::F), 7000.0, 1.5e6)
            .unwrap();
        let got = delta(12, 1.05, 0.01);
        let want = (1.05_f64.ln() - 0.01) * 12.0 / (12.0 + (r.sigma / r.site_sd).powi(2));
        assert!((got.delta - want).abs() < 1e-12, "{got:?} {want}");
    }

    #[test]
    fn people_outside_the_table_are_refused() {
        let norms = Norms::parse(crate::serve::NORM_TABLE).unwrap();
        let mut child = people(1, 1.0);
        child[0].age_years = 12.0;
        let offsets = BTreeMap::from([(HIPPOCAMPUS.to_owned(), 0.0)]);
        let error = calibrate(&norms, &offsets, &child).unwrap_err();
        assert!(error.contains("18-90"), "{error}");
        assert!(calibrate(&norms, &offsets, &[]).is_err());
    }
}
