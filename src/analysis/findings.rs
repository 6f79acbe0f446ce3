//! From the network's volumes and abnormality map to volumes compared with healthy people and
//! findings in words. Names no disease.

use super::card::{ModelCard, NormOffsets};
use super::screening::Screened;
use super::volumes::{Comparing, compare};
use crate::norms::structures::name_of;
use crate::norms::{Norms, Sex};
use crate::triage::Finding;
use crate::worklist::VolumeDetail;

/// A voxel counts as differing from this probability on.
const ABNORMAL_FROM: f32 = 0.5;
/// A region counts only if its voxels' mean probability reaches this.
const REGION_MEAN_FROM: f32 = 0.65;
/// Smallest region that counts at 2 mm, ml.
const REGION_ML_MIN: f64 = 1.0;
/// A region from this size on is a large region, ml.
const LARGE_REGION_ML: f64 = 15.0;
/// What a large region earns: at its smallest, for each further ml, and at most, minutes.
const LARGE_REGION_MINUTES: (f64, f64, f64) = (30.0, 0.5, 60.0);
/// What smaller regions earn together: for each ml, and at most, minutes.
const SMALL_REGIONS_MINUTES: (f64, f64) = (1.5, 20.0);
/// Structures whose enlargement is looked for, with words and minutes. Loss of cortex is not looked
/// for at 2 mm: the network's cortex spills into the scalp on whole heads (see its card).
const LARGE_STRUCTURES: [(&str, &str, f64); 2] = [
    ("total lateral ventricle", "lateral ventricles", 36.0),
    ("3rd ventricle", "third ventricle", 20.0),
];
/// Chance that a healthy person gets any of these findings.
const FAMILY_ERROR: f64 = 0.02;

/// Volumes and findings of one screened series.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Measured {
    /// Structures, sums and intracranial volume.
    pub volumes: Vec<VolumeDetail>,
    /// What earns minutes.
    pub findings: Vec<Finding>,
    /// Centre of the largest region that differs, RAS mm.
    pub focus_mm: Option<[f64; 3]>,
}

/// Measures. `age_years` and `sex` as far as they are known.
#[must_use]
pub fn measure(
    screened: &Screened,
    card: &ModelCard,
    offsets: Option<&NormOffsets>,
    norms: &Norms,
    age_years: Option<f64>,
    sex: Option<Sex>,
) -> Measured {
    let with = Comparing {
        norms,
        offsets,
        scanner: None,
        age_years,
        sex,
        no_offset: NO_OFFSET,
    };
    let volumes = compare(&card.codes, &screened.volumes_mm3, &with);
    // The map marks some ml of healthy tissue too (see the model card): it is believed only where
    // the study as a whole is at least as suspicious as an average one.
    let suspicious = screened.p_calibrated >= card.prevalence_train;
    let regions = if suspicious {
        regions(screened)
    } else {
        Vec::new()
    };
    let mut findings = structure_findings(&volumes);
    findings.extend(region_findings(&regions, screened, card));
    let focus_mm = regions.first().map(|r| r.centre_mm);
    Measured {
        volumes,
        findings,
        focus_mm,
    }
}

const NO_OFFSET: &str = "coarse volume: this network's offset for it is not measured";

/// Thresholds are corrected for how many structures are tested (Bonferroni).
fn structure_findings(volumes: &[VolumeDetail]) -> Vec<Finding> {
    #[expect(clippy::cast_precision_loss, reason = "a handful of structures")]
    let tests = LARGE_STRUCTURES.len() as f64;
    let threshold = 100.0 - 100.0 * FAMILY_ERROR / tests;
    let percentile = |name: &str| volumes.iter().find(|v| v.structure == name)?.percentile;
    LARGE_STRUCTURES
        .iter()
        .filter(|(name, ..)| percentile(name).is_some_and(|p| p > threshold))
        .map(|(_, words, minutes)| Finding {
            code: format!("{}_large", code_of(words)),
            group: "ventricles".into(),
            text: format!("{words} above the 99th percentile"),
            minutes: *minutes,
            critical: false,
        })
        .collect()
}

fn code_of(words: &str) -> String {
    words.replace(' ', "_")
}

struct Region {
    ml: f64,
    centre_mm: [f64; 3],
}

/// Connected regions (6 neighbours) of the abnormality map, largest first.
fn regions(screened: &Screened) -> Vec<Region> {
    let [nx, ny, nz] = screened.dims;
    let map = &screened.abnormality;
    let mut seen: Vec<bool> = map.iter().map(|p| *p < ABNORMAL_FROM).collect();
    let mut regions = Vec::new();
    let mut stack = Vec::new();
    for start in 0..map.len() {
        if std::mem::replace(&mut seen[start], true) {
            continue;
        }
        stack.push(start);
        let (mut sum, mut n, mut centre) = (0.0_f32, 0_u32, [0.0_f64; 3]);
        while let Some(at) = stack.pop() {
            let (x, y, z) = (at / (ny * nz), at / nz % ny, at % nz);
            sum += map[at];
            n += 1;
            #[expect(clippy::cast_precision_loss, reason = "grid indices")]
            for (c, i) in centre.iter_mut().zip([x, y, z]) {
                *c += i as f64;
            }
            let mut visit = |ok: bool, next: usize| {
                if ok && !std::mem::replace(&mut seen[next], true) {
                    stack.push(next);
                }
            };
            visit(x > 0, at.wrapping_sub(ny * nz));
            visit(x + 1 < nx, (at + ny * nz).min(map.len() - 1));
            visit(y > 0, at.wrapping_sub(nz));
            visit(y + 1 < ny, (at + nz).min(map.len() - 1));
            visit(z > 0, at.wrapping_sub(1));
            visit(z + 1 < nz, (at + 1).min(map.len() - 1));
        }
        let ml = f64::from(n) * voxel_ml(screened);
        #[expect(clippy::cast_precision_loss, reason = "a count of voxels")]
        let mean = sum / n as f32;
        if ml >= REGION_ML_MIN && mean >= REGION_MEAN_FROM {
            let index = centre.map(|c| c / f64::from(n));
            regions.push(Region {
                ml,
                centre_mm: crate::volume::affine::apply(&screened.affine, index),
            });
        }
    }
    regions.sort_by(|a, b| b.ml.total_cmp(&a.ml));
    regions
}

fn voxel_ml(screened: &Screened) -> f64 {
    crate::volume::affine::determinant(&screened.affine).abs() / 1000.0
}

fn region_findings(regions: &[Region], screened: &Screened, card: &ModelCard) -> Vec<Finding> {
    let Some(largest) = regions.first() else {
        return Vec::new();
    };
    if largest.ml >= LARGE_REGION_ML {
        let (least, per_ml, most) = LARGE_REGION_MINUTES;
        let half = half_of(largest.centre_mm[0], screened, card);
        return vec![Finding {
            code: "large_region".into(),
            group: "region".into(),
            text: format!(
                "a region of {:.0} ml in the {half} differs from what is expected",
                largest.ml
            ),
            minutes: (least + per_ml * (largest.ml - LARGE_REGION_ML)).min(most),
            critical: false,
        }];
    }
    let (per_ml, most) = SMALL_REGIONS_MINUTES;
    let total: f64 = regions.iter().map(|r| r.ml).sum();
    let words = match regions.len() {
        1 => "1 region".to_owned(),
        n => format!("{n} regions"),
    };
    vec![Finding {
        code: "regions".into(),
        group: "region".into(),
        text: format!("{words}, {total:.0} ml together, differ from what is expected"),
        minutes: (per_ml * total).min(most),
        critical: false,
    }]
}

/// Left or right of the plane between the two sides as the network segmented them, so that a
/// head that lies aside of the scanner's middle is told right.
fn half_of(x_mm: f64, screened: &Screened, card: &ModelCard) -> &'static str {
    let [_, ny, nz] = screened.dims;
    let (mut sum, mut n) = ([0.0_f64; 2], [0_u32; 2]);
    for (at, label) in screened.labels.iter().enumerate() {
        let name = card
            .codes
            .get(usize::from(*label))
            .and_then(|c| name_of(*c))
            .unwrap_or("");
        let side = usize::from(name.starts_with("right "));
        if side == 1 || name.starts_with("left ") {
            #[expect(clippy::cast_precision_loss, reason = "grid index")]
            let x = (at / (ny * nz)) as f64;
            sum[side] += screened.affine[0][0] * x + screened.affine[0][3];
            n[side] += 1;
        }
    }
    if n[0] == 0 || n[1] == 0 {
        return "head";
    }
    let middle = f64::midpoint(sum[0] / f64::from(n[0]), sum[1] / f64::from(n[1]));
    if x_mm > middle {
        "right half"
    } else {
        "left half"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::card::{Calibration, InputCard};
    use crate::norms::structures::INTRACRANIAL;

    const DIMS: [usize; 3] = [24, 20, 16];

    fn card() -> ModelCard {
        ModelCard {
            name: "screening".into(),
            version: "1".into(),
            file: "screening.onnx".into(),
            sha256: "00".into(),
            codes: vec![0, 2, 41],
            prevalence_train: 0.5,
            head_threshold: 0.0,
            calibration: Calibration {
                scale: 1.0,
                offset: 0.0,
            },
            input: InputCard {
                grid: DIMS,
                spacing_mm: 2.0,
            },
        }
    }

    /// Left hemisphere in the lower half of x, as in RAS; a block that differs from x = `from`.
    fn screened(from: usize, width: usize, p_calibrated: f64) -> Screened {
        let [nx, ny, nz] = DIMS;
        let voxels = nx * ny * nz;
        let x_of = |at: usize| at / (ny * nz);
        let block = |at: usize| {
            let (x, y, z) = (x_of(at), at / nz % ny, at % nz);
            (from..from + width).contains(&x) && (4..16).contains(&y) && (2..14).contains(&z)
        };
        Screened {
            dims: DIMS,
            affine: [
                [2.0, 0.0, 0.0, 100.0],
                [0.0, 2.0, 0.0, 0.0],
                [0.0, 0.0, 2.0, 0.0],
            ],
            image: vec![0.0; voxels],
            labels: (0..voxels)
                .map(|at| if x_of(at) < nx / 2 { 1 } else { 2 })
                .collect(),
            codes: vec![0, 2, 41],
            abnormality: (0..voxels)
                .map(|at| if block(at) { 0.9 } else { 0.0 })
                .collect(),
            volumes_mm3: vec![0.0, 400_000.0, 400_000.0],
            p_logit: 0.0,
            head_logit: 9.0,
            p_calibrated,
            resample_ms: 0,
            network_ms: 0,
        }
    }

    fn findings(from: usize, width: usize, p: f64) -> Vec<Finding> {
        let norms = Norms::parse(crate::serve::NORM_TABLE).unwrap();
        measure(
            &screened(from, width, p),
            &card(),
            None,
            &norms,
            Some(50.0),
            Some(Sex::F),
        )
        .findings
    }

    #[test]
    fn a_region_is_told_with_its_size_and_on_its_side() {
        // 16 x 12 x 12 voxels of 8 mm3 are 18 ml; the head lies far aside of the scanner's middle.
        let left = findings(0, 16, 0.9);
        assert!(
            left[0]
                .text
                .starts_with("a region of 18 ml in the left half"),
            "{left:?}"
        );
        let right = findings(8, 16, 0.9);
        assert!(right[0].text.contains("right half"), "{right:?}");
        assert!((30.0..=60.0).contains(&right[0].minutes));
    }

    #[test]
    fn small_regions_earn_little_and_none_where_the_study_is_unsuspicious() {
        let small = findings(2, 2, 0.9);
        assert_eq!(small[0].code, "regions");
        assert!(small[0].minutes < 5.0);
        assert_eq!(findings(8, 16, 0.3), vec![]);
    }

    #[test]
    fn without_measured_offsets_there_is_no_z_and_it_says_so() {
        let norms = Norms::parse(crate::serve::NORM_TABLE).unwrap();
        let m = measure(
            &screened(0, 1, 0.1),
            &card(),
            None,
            &norms,
            Some(50.0),
            Some(Sex::F),
        );
        assert!(
            m.volumes
                .iter()
                .all(|v| v.z.is_none() && v.no_norm.is_some())
        );
        assert_eq!(m.volumes[0].structure, INTRACRANIAL);
    }
}
