//! Soft volumes of a network to structures, sums and ratios, compared with healthy people.

use std::collections::BTreeMap;

use super::card::NormOffsets;
use super::measurement::{Asymmetry, Index};
use crate::norms::structures::{INTRACRANIAL, STRUCTURES, name_of, total_of};
use crate::norms::{Correction, Norms, ScannerCalibration, Sex};
use crate::worklist::VolumeDetail;

/// Ventricles, by code.
const VENTRICLES: [i64; 6] = [4, 43, 5, 44, 14, 15];
/// Cerebrospinal fluid outside the ventricles.
const CSF: i64 = 24;
/// Names of further sums in the norm table.
const ALL_VENTRICLES: &str = "all ventricles";
const BRAIN: &str = "brain (no ventricles, no csf)";

/// z of the 95th percentile of a normal distribution.
const HEALTHY_Z: f64 = 1.644_853_627;

/// What volumes are compared with.
#[derive(Clone, Copy)]
pub struct Comparing<'a> {
    /// Norm table.
    pub norms: &'a Norms,
    /// The network's fixed offsets, where they were measured.
    pub offsets: Option<&'a NormOffsets>,
    /// The scanner's calibration, where there is one.
    pub scanner: Option<&'a ScannerCalibration>,
    /// Years.
    pub age_years: Option<f64>,
    /// Sex.
    pub sex: Option<Sex>,
    /// Why there is no z where an offset is not measured.
    pub no_offset: &'static str,
}

/// Volumes (mm3) of `codes`, the first of which is background: intracranial volume first, then
/// sums, then structures.
#[must_use]
pub fn compare(codes: &[i64], volumes_mm3: &[f64], with: &Comparing) -> Vec<VolumeDetail> {
    let mut sums: BTreeMap<&str, f64> = BTreeMap::new();
    let mut named = Vec::new();
    let mut intracranial = 0.0;
    for (code, volume) in codes.iter().zip(volumes_mm3).skip(1) {
        intracranial += volume;
        if let Some(name) = name_of(*code) {
            named.push((name, Some(*code), *volume));
        }
        if let Some(total) = total_of(*code) {
            *sums.entry(total).or_default() += volume;
        }
        let further = if VENTRICLES.contains(code) {
            Some(ALL_VENTRICLES)
        } else {
            (*code != CSF).then_some(BRAIN)
        };
        if let Some(sum) = further {
            *sums.entry(sum).or_default() += volume;
        }
    }
    let head = std::iter::once((INTRACRANIAL, None, intracranial));
    let totals = sums.into_iter().map(|(name, volume)| (name, None, volume));
    head.chain(totals)
        .chain(named)
        .map(|(structure, label, volume)| with.detail(structure, label, volume, intracranial))
        .collect()
}

/// What the comparison of a structure is corrected by, and the head size as the norms count it.
/// `None` where the network's offset for the structure is not measured.
#[must_use]
pub fn correction(
    structure: &str,
    offsets: &NormOffsets,
    scanner: Option<&ScannerCalibration>,
    intracranial_mm3: f64,
) -> Option<(Correction, f64)> {
    let known = offsets.structures.get(structure)?;
    // Head size enters corrected by its own offsets.
    let size_offset = offsets
        .structures
        .get(INTRACRANIAL)
        .map_or(0.0, |o| o.offset);
    let shift = |name: &str| scanner.and_then(|s| s.structures.get(name));
    let size_delta = shift(INTRACRANIAL).map_or(0.0, |s| s.delta);
    let correction = Correction {
        offset: known.offset,
        delta: shift(structure).map_or(0.0, |s| s.delta),
        local_scans: Some(shift(structure).map_or(0, |s| s.scans)),
        sd_at_least: known.sd,
    };
    Some((
        correction,
        intracranial_mm3 / (size_offset + size_delta).exp(),
    ))
}

impl Comparing<'_> {
    /// One volume, with z and percentile or why there are none.
    #[must_use]
    pub fn detail(
        &self,
        structure: &str,
        label: Option<i64>,
        volume_mm3: f64,
        intracranial_mm3: f64,
    ) -> VolumeDetail {
        let compared = self
            .offsets
            .and_then(|offsets| correction(structure, offsets, self.scanner, intracranial_mm3))
            .ok_or_else(|| self.no_offset.to_owned())
            .and_then(|(correction, tiv)| {
                let compared = self
                    .norms
                    .compare(
                        structure,
                        self.age_years,
                        self.sex,
                        volume_mm3,
                        tiv,
                        correction,
                    )
                    .map_err(|e| e.to_string())?;
                Ok((compared, self.healthy_mm3(structure, tiv, correction)))
            });
        let numbers = compared.as_ref().ok();
        VolumeDetail {
            structure: structure.to_owned(),
            label,
            volume_mm3,
            percent_icv: (intracranial_mm3 > 0.0).then(|| 100.0 * volume_mm3 / intracranial_mm3),
            z: numbers.map(|(c, _)| c.z),
            percentile: numbers.map(|(c, _)| c.percentile),
            healthy_mm3: numbers.and_then(|(_, healthy)| *healthy),
            no_norm: compared.err(),
        }
    }

    /// The volumes at [`HEALTHY_Z`]: from one to the other are nine of ten healthy people like this one.
    fn healthy_mm3(&self, structure: &str, tiv: f64, correction: Correction) -> Option<[f64; 2]> {
        let (age, sex) = (self.age_years?, self.sex?);
        let at = |z| {
            self.norms
                .volume_at(structure, age, sex, tiv, correction, z)
        };
        Some([at(-HEALTHY_Z)?, at(HEALTHY_Z)?])
    }
}

/// Left against right of every structure that has two sides.
#[must_use]
pub fn asymmetry(volumes: &[VolumeDetail]) -> Vec<Asymmetry> {
    let of = |name: &str| volumes.iter().find(|v| v.structure == name);
    STRUCTURES
        .iter()
        .filter_map(|(_, name, _)| name.strip_prefix("left "))
        .filter_map(|name| {
            let left_mm3 = of(&format!("left {name}"))?.volume_mm3;
            let right_mm3 = of(&format!("right {name}"))?.volume_mm3;
            let both = left_mm3 + right_mm3;
            (both > 0.0).then(|| Asymmetry {
                structure: name.to_owned(),
                left_mm3,
                right_mm3,
                percent: 200.0 * (left_mm3 - right_mm3) / both,
            })
        })
        .collect()
}

/// Brain parenchymal fraction and ventricle ratios.
#[must_use]
pub fn ratios(volumes: &[VolumeDetail]) -> Vec<Index> {
    let of = |name: &str| {
        let found = volumes.iter().find(|v| v.structure == name);
        found.map_or(0.0, |v| v.volume_mm3)
    };
    let whole = of(INTRACRANIAL);
    let index = |code: &str, name: &str, part: f64, of: f64| {
        (of > 0.0).then(|| Index {
            code: code.into(),
            name: name.into(),
            value: part / of,
        })
    };
    [
        index(
            "brain_parenchymal_fraction",
            "brain parenchymal fraction",
            of(BRAIN),
            whole,
        ),
        index(
            "ventricles_to_intracranial",
            "ventricles to intracranial volume",
            of(ALL_VENTRICLES),
            whole,
        ),
        index(
            "ventricles_to_brain",
            "ventricles to brain volume",
            of(ALL_VENTRICLES),
            of(BRAIN),
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Evans-like index of a label map (codes, z fastest): the greatest width of the frontal horns,
/// over the greatest inner width of the skull in the same plane. Frontal horns are what lies of
/// the lateral ventricles in front of the middle of the caudate nuclei.
#[must_use]
pub fn evans_like(codes: &[u8], dims: [usize; 3]) -> Option<Index> {
    let [nx, ny, nz] = dims;
    let (mut sum, mut count) = (0, 0);
    for (at, code) in codes.iter().enumerate() {
        if [11, 50].contains(code) {
            sum += at / nz % ny;
            count += 1;
        }
    }
    let front = sum.checked_div(count)?;
    // Per plane: ends of the horns over all rows, and the widest row of the skull's inside.
    let mut best: Option<(usize, usize)> = None;
    for z in 0..nz {
        let (mut low, mut high, mut inner) = (nx, 0, 0);
        for y in 0..ny {
            let (mut first, mut last) = (nx, 0);
            for x in 0..nx {
                let code = codes[(x * ny + y) * nz + z];
                if code != 0 {
                    first = first.min(x);
                    last = last.max(x);
                }
                if y > front && [4, 43].contains(&code) {
                    low = low.min(x);
                    high = high.max(x);
                }
            }
            inner = inner.max((last + 1).saturating_sub(first));
        }
        let horns = (high + 1).saturating_sub(low);
        if best.is_none_or(|(widest, _)| horns > widest) {
            best = Some((horns, inner));
        }
    }
    let (horns, inner) = best.filter(|(horns, inner)| *horns > 0 && *inner > 0)?;
    #[expect(clippy::cast_precision_loss, reason = "widths in voxels")]
    let value = horns as f64 / inner as f64;
    Some(Index {
        code: "evans_like_index".into(),
        name: "Evans-like index".into(),
        value,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::card::StructureOffset;
    use crate::norms::structures::STRUCTURES;

    fn with(norms: &Norms) -> Comparing<'_> {
        Comparing {
            norms,
            offsets: None,
            scanner: None,
            age_years: Some(50.0),
            sex: Some(Sex::F),
            no_offset: "not measured",
        }
    }

    #[test]
    fn sums_ratios_and_asymmetry_follow_from_the_structures() {
        let norms = Norms::parse(crate::serve::NORM_TABLE).unwrap();
        let codes = [0, 17, 53, 4, 24, 3];
        let volumes = compare(
            &codes,
            &[9e6, 3000.0, 5000.0, 20_000.0, 2000.0, 170_000.0],
            &with(&norms),
        );
        let of = |name: &str| {
            let found = volumes.iter().find(|v| v.structure == name);
            found.map(|v| v.volume_mm3)
        };
        assert_eq!(volumes[0].structure, INTRACRANIAL);
        assert_eq!(of(INTRACRANIAL), Some(200_000.0));
        assert_eq!(of("total hippocampus"), Some(8000.0));
        assert_eq!(of(ALL_VENTRICLES), Some(20_000.0));
        assert_eq!(of(BRAIN), Some(178_000.0));
        assert_eq!(volumes[0].percent_icv, Some(100.0));
        assert!(volumes.iter().all(|v| v.no_norm.is_some()));
        let sides = asymmetry(&volumes);
        assert_eq!(sides.len(), 1);
        assert_eq!(sides[0].structure, "hippocampus");
        assert!((sides[0].percent + 50.0).abs() < 1e-9);
        let ratios = ratios(&volumes);
        assert!((ratios[0].value - 0.89).abs() < 1e-9);
        assert!((ratios[1].value - 0.1).abs() < 1e-9);
    }

    #[test]
    fn nine_of_ten_healthy_people_are_within_the_range() {
        let norms = Norms::parse(crate::serve::NORM_TABLE).unwrap();
        let offset = |name: &str| {
            let known = StructureOffset {
                offset: 0.1,
                sd: 0.02,
            };
            (name.to_owned(), known)
        };
        let offsets = NormOffsets {
            structures: [INTRACRANIAL, "left hippocampus"].map(offset).into(),
            model_sha256: String::new(),
            scans: 10,
        };
        let with = Comparing {
            offsets: Some(&offsets),
            ..with(&norms)
        };
        let detail = |volume| with.detail("left hippocampus", Some(17), volume, 1_400_000.0);
        let [low, high] = detail(3_500.0).healthy_mm3.unwrap();
        assert!(2_000.0 < low && low < 4_500.0 && low < high, "{low} {high}");
        for (volume, expected) in [(low, 5.0), (high, 95.0)] {
            let percentile = detail(volume).percentile.unwrap();
            assert!((percentile - expected).abs() < 0.01, "{percentile}");
        }
        let unknown = Comparing { sex: None, ..with };
        let volume = unknown.detail("left hippocampus", Some(17), 3_500.0, 1_400_000.0);
        assert_eq!(volume.healthy_mm3, None);
    }

    #[test]
    fn a_child_and_a_person_of_unknown_age_or_sex_have_volumes_and_no_z() {
        let norms = Norms::parse(crate::serve::NORM_TABLE).unwrap();
        let offsets: NormOffsets = toml::from_str(
            "model_sha256 = \"a\"\nscans = 9\n[structures]\n\
             \"total hippocampus\" = { offset = 0.1, sd = 0.1 }\n",
        )
        .unwrap();
        let check = |age_years: Option<f64>, sex: Option<Sex>, why: Option<&str>| {
            let who = Comparing {
                offsets: Some(&offsets),
                age_years,
                sex,
                ..with(&norms)
            };
            let told = who.detail("total hippocampus", None, 7000.0, 1.4e6);
            assert_eq!(told.no_norm.as_deref(), why);
            assert_eq!(told.z.is_none(), why.is_some());
            assert!((told.volume_mm3 - 7000.0).abs() < 1e-9);
        };
        check(Some(50.0), Some(Sex::F), None);
        let outside = Some("outside validated ages (18-90 years)");
        check(Some(10.0), Some(Sex::F), outside);
        check(Some(91.0), Some(Sex::F), outside);
        // What "***", "42" (no unit) and sex "0000" in a header come to.
        check(None, Some(Sex::F), Some("age unknown"));
        check(Some(50.0), Sex::parse("0000"), Some("sex unknown"));
    }

    #[test]
    fn every_sided_structure_has_its_counterpart() {
        for (_, name, _) in STRUCTURES {
            if let Some(bare) = name.strip_prefix("left ") {
                let right = format!("right {bare}");
                assert!(STRUCTURES.iter().any(|s| s.1 == right), "{right}");
            }
        }
    }

    #[test]
    fn the_evans_like_index_is_a_ratio_of_widths() {
        let dims = [20, 10, 3];
        let at = |x: usize, y: usize, z: usize| (x * 10 + y) * 3 + z;
        let mut codes = vec![0; 600];
        for x in 0..20 {
            for y in 0..10 {
                codes[at(x, y, 1)] = 3;
            }
        }
        codes[at(4, 5, 1)] = 11;
        codes[at(15, 5, 1)] = 50;
        codes[at(7, 8, 1)] = 4;
        codes[at(12, 9, 1)] = 43;
        // Behind the caudate: no frontal horn.
        codes[at(0, 2, 1)] = 4;
        let index = evans_like(&codes, dims).unwrap();
        assert!((index.value - 6.0 / 20.0).abs() < 1e-9, "{index:?}");
        assert!(evans_like(&[0; 600], dims).is_none());
    }
}
