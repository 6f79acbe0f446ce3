//! Quality control before any number leaves: what is wrong with a picture or its segmentation,
//! each with its reason in words. A doubtful result is shown as doubtful, and moves no study.
//!
//! Motion is seen only through what it does to the network's confidence and to the shapes.

use super::measurement::{Asymmetry, Quality, Remark};
use super::volumetry::Segmented;
use crate::norms::structures::{INTRACRANIAL, name_of};
use crate::volume::components::largest;
use crate::volume::measuring_grid::GRID;
use crate::worklist::VolumeDetail;

/// Slices farther apart than this make small structures doubtful, mm.
const SPACING_MM_MAX: f64 = 3.0;
/// Brain that a border of the picture may cut, mm2: above, in front, behind and at the sides; and
/// below, where the brain-stem goes on.
const CUT_MM2_MAX: f64 = 150.0;
const CUT_BELOW_MM2_MAX: f64 = 900.0;
/// Mean probability of the labelled voxels below which all is doubtful, and of one structure
/// below which it is named.
const CONFIDENCE_MIN: f64 = 0.70;
const STRUCTURE_CONFIDENCE_MIN: f64 = 0.50;
/// Adult intracranial volumes lie well within this range, mm3.
const INTRACRANIAL_MM3: std::ops::RangeInclusive<f64> = 0.9e6..=2.2e6;
/// Brain without ventricles and fluid, part of the intracranial volume.
const BRAIN_PART: std::ops::RangeInclusive<f64> = 0.55..=0.99;
/// No adult brain lacks these; smaller means that the segmentation failed, mm3.
const NEEDED: [(&str, f64); 6] = [
    ("total cerebral white matter", 2e5),
    ("total cerebral cortex", 2e5),
    ("total cerebellum cortex", 3e4),
    ("total thalamus", 4e3),
    ("total hippocampus", 2e3),
    ("brain-stem", 5e3),
];
/// More lesions than this are hardly lesions, mm3.
const LESIONS_MM3_MAX: f64 = 2.5e5;
/// Difference of the sides (percent of their mean) that is hardly anatomy.
const SIDES_PERCENT_MAX: [(&str, f64); 4] = [
    ("cerebral white matter", 15.0),
    ("cerebral cortex", 15.0),
    ("cerebellum cortex", 20.0),
    ("thalamus", 30.0),
];
/// Of these, the largest connected piece must hold at least this part.
const ONE_PIECE: [u8; 13] = [10, 49, 11, 50, 12, 51, 17, 53, 16, 2, 41, 8, 47];
const ONE_PIECE_MIN: f64 = 0.85;

/// What a picture shows, told from its intensities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// White matter brighter than cortex, fluid dark.
    T1,
    /// Cortex at least as bright as white matter, fluid dark.
    Flair,
    /// Fluid bright.
    T2,
    /// None of these.
    Unclear,
}

impl Seen {
    /// As series choice names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::T1 => "T1",
            Self::Flair => "FLAIR",
            Self::T2 => "T2",
            Self::Unclear => "MR",
        }
    }
}

/// Tells the contrast from the median intensities of white matter, cortex and ventricles.
#[must_use]
pub fn contrast(segmented: &Segmented) -> Seen {
    let median = |codes: [u8; 2]| {
        let mut values: Vec<f32> = (segmented.codes.iter().zip(&segmented.image))
            .filter(|(code, _)| codes.contains(code))
            .map(|(_, value)| *value)
            .collect();
        let middle = values.len() / 2;
        (values.len() > 100)
            .then(|| *values.select_nth_unstable_by(middle, f32::total_cmp).1)
            .map(f64::from)
    };
    let (Some(white), Some(cortex), Some(fluid)) =
        (median([2, 41]), median([3, 42]), median([4, 43]))
    else {
        return Seen::Unclear;
    };
    if white <= 0.0 {
        return Seen::Unclear;
    }
    match (cortex / white, fluid / white) {
        (_, fluid) if fluid > 1.2 => Seen::T2,
        (cortex, fluid) if cortex < 0.92 && fluid < 0.75 => Seen::T1,
        (cortex, fluid) if cortex > 0.98 && fluid < 0.8 => Seen::Flair,
        _ => Seen::Unclear,
    }
}

/// What is known of the picture besides its voxels.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// `T1`, `FLAIR` or what else it was taken for; `MR` where nothing is known.
    pub kind: &'a str,
    /// Contrast agent was given.
    pub with_agent: bool,
}

/// Looks at a segmentation and its volumes.
#[must_use]
pub fn control(
    segmented: &Segmented,
    codes: &[i64],
    volumes: &[VolumeDetail],
    sides: &[Asymmetry],
    about: About,
) -> Quality {
    let mut remarks = Vec::new();
    picture(segmented, about, &mut remarks);
    cut_off(segmented, &mut remarks);
    let confidence = confidence(segmented, codes, &mut remarks);
    plausible(volumes, sides, &mut remarks);
    shapes(segmented, &mut remarks);
    Quality {
        doubtful: remarks.iter().any(|r| r.doubtful),
        remarks,
        confidence,
    }
}

/// What the FLAIR adds. Where it is another picture, its border and its contrast concern only the
/// lesions, so
/// they are said; more bright tissue than a head can well have makes all doubtful.
pub fn control_flair(quality: &mut Quality, flair: Option<&Segmented>, lesions_mm3: f64) {
    let mut remarks = Vec::new();
    if let Some(flair) = flair {
        cut_off(flair, &mut remarks);
    }
    let seen = flair.map(contrast);
    if let Some(seen @ (Seen::T1 | Seen::T2)) = seen {
        let text = format!("the picture looks like {}", seen.name());
        remark(&mut remarks, "other_contrast", false, text);
    }
    for mut found in remarks {
        found.text = format!("FLAIR: {}", found.text);
        found.doubtful = false;
        quality.remarks.push(found);
    }
    if lesions_mm3 > LESIONS_MM3_MAX {
        let text = format!("lesions of {:.0} ml on FLAIR", lesions_mm3 / 1000.0);
        remark(&mut quality.remarks, "implausible_volume", true, text);
        quality.doubtful = true;
    }
}

fn remark(remarks: &mut Vec<Remark>, code: &str, doubtful: bool, text: String) {
    remarks.push(Remark {
        code: code.into(),
        text,
        doubtful,
    });
}

fn picture(segmented: &Segmented, about: About, remarks: &mut Vec<Remark>) {
    let widest = segmented
        .placement
        .input_spacing_mm()
        .into_iter()
        .fold(0.0, f64::max);
    if widest > SPACING_MM_MAX {
        let text = format!("voxels are {widest:.1} mm long: small structures are doubtful");
        remark(remarks, "thick_slices", true, text);
    }
    if about.with_agent {
        let text = "contrast agent was given: cortex and vessels may be told apart badly";
        remark(remarks, "contrast_agent", true, text.into());
    }
    let seen = contrast(segmented);
    let known = ["T1", "FLAIR", "T2"].contains(&about.kind);
    if known && about.kind != seen.name() {
        let text = match seen {
            Seen::Unclear => format!("the picture does not look like a {}", about.kind),
            seen => format!(
                "called {}, but the picture looks like {}",
                about.kind,
                seen.name()
            ),
        };
        remark(remarks, "other_contrast", true, text);
    }
    let kind = if known { about.kind } else { seen.name() };
    if kind != "T1" {
        let text = format!("volumes were measured on {kind}; norms are made from T1");
        remark(remarks, "not_t1", true, text);
    }
}

/// Brain where the picture ends.
fn cut_off(segmented: &Segmented, remarks: &mut Vec<Remark>) {
    /// Words for the low and the high end of each axis.
    const ENDS: [[&str; 2]; 3] = [["left", "right"], ["back", "front"], ["below", "above"]];
    // Neither background nor fluid outside the brain.
    let brain = |at: usize| ![0, 24].contains(&segmented.codes[at]);
    let areas = segmented.placement.areas_at_ends(brain);
    let ends = ENDS.into_iter().flatten().zip(areas.into_iter().flatten());
    for (name, area) in ends {
        let most = if name == "below" {
            CUT_BELOW_MM2_MAX
        } else {
            CUT_MM2_MAX
        };
        if area > most {
            let text = match name {
                "below" | "above" => format!("the picture ends within the brain {name}"),
                "back" | "front" => format!("the picture ends within the brain in the {name}"),
                _ => format!("the picture ends within the brain on the {name}"),
            };
            remark(remarks, "cut_off", true, text);
        }
    }
}

/// Mean over the volume; structures that stand out are named.
fn confidence(segmented: &Segmented, codes: &[i64], remarks: &mut Vec<Remark>) -> f64 {
    let (mut sum, mut whole, mut low) = (0.0, 0.0, Vec::new());
    for (n, code) in codes.iter().enumerate().skip(1) {
        let (volume, mean) = (segmented.volumes_mm3[n], segmented.confidence[n]);
        if mean <= 0.0 {
            continue;
        }
        sum += volume * mean;
        whole += volume;
        if mean < STRUCTURE_CONFIDENCE_MIN {
            low.extend(name_of(*code));
        }
    }
    let mean = if whole > 0.0 { sum / whole } else { 0.0 };
    if mean < CONFIDENCE_MIN {
        let text = format!("the network is unsure: mean probability {mean:.2}");
        remark(remarks, "low_confidence", true, text);
    } else if !low.is_empty() {
        let text = format!("the network is unsure of {}", low.join(", "));
        remark(remarks, "low_confidence", false, text);
    }
    mean
}

fn plausible(volumes: &[VolumeDetail], sides: &[Asymmetry], remarks: &mut Vec<Remark>) {
    let of = |name: &str| {
        let found = volumes.iter().find(|v| v.structure == name);
        found.map_or(0.0, |v| v.volume_mm3)
    };
    let whole = of(INTRACRANIAL);
    if !INTRACRANIAL_MM3.contains(&whole) {
        let text = format!("intracranial volume of {:.0} ml", whole / 1000.0);
        remark(remarks, "implausible_volume", true, text);
    }
    let part = of("brain (no ventricles, no csf)") / whole.max(1.0);
    if !BRAIN_PART.contains(&part) {
        let text = format!(
            "brain fills {:.0} % of the intracranial volume",
            100.0 * part
        );
        remark(remarks, "implausible_volume", true, text);
    }
    for (name, least) in NEEDED {
        if of(name) < least {
            let text = format!("{name} of {:.1} ml", of(name) / 1000.0);
            remark(remarks, "implausible_volume", true, text);
        }
    }
    for (name, most) in SIDES_PERCENT_MAX {
        let side = sides.iter().find(|s| s.structure == name);
        if let Some(side) = side.filter(|s| s.percent.abs() > most) {
            let larger = if side.percent > 0.0 { "left" } else { "right" };
            let text = format!(
                "{name} differs by {:.0} % between the sides, larger on the {larger}",
                side.percent.abs()
            );
            remark(remarks, "sides_differ", true, text);
        }
    }
}

/// Left must lie left of right, and structures must be of one piece.
fn shapes(segmented: &Segmented, remarks: &mut Vec<Remark>) {
    let [_, ny, nz] = GRID;
    let (mut sums, mut counts) = ([0_usize; 256], [0_usize; 256]);
    for (at, code) in segmented.codes.iter().enumerate() {
        sums[usize::from(*code)] += at / (ny * nz);
        counts[usize::from(*code)] += 1;
    }
    #[expect(clippy::cast_precision_loss, reason = "counts of voxels")]
    let x_of = |code: usize| (counts[code] > 0).then(|| sums[code] as f64 / counts[code] as f64);
    let swapped = |left: usize, right: usize| match (x_of(left), x_of(right)) {
        (Some(left), Some(right)) => left >= right,
        _ => false,
    };
    if swapped(2, 41) || swapped(3, 42) || swapped(10, 49) {
        let text = "left and right are not where they belong";
        remark(remarks, "sides_swapped", true, text.into());
    }
    let mut broken = Vec::new();
    for code in ONE_PIECE {
        let all = counts[usize::from(code)];
        let piece = largest(GRID, |at| segmented.codes[at] == code).len();
        #[expect(clippy::cast_precision_loss, reason = "counts of voxels")]
        if all > 0 && (piece as f64) < ONE_PIECE_MIN * all as f64 {
            broken.extend(name_of(i64::from(code)));
        }
    }
    if !broken.is_empty() {
        let text = format!("in several pieces: {}", broken.join(", "));
        remark(remarks, "fragmented", true, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::Volume;
    use crate::volume::affine::IDENTITY;
    use crate::volume::measuring_grid::{Brain, Placement};

    fn at(x: usize, y: usize, z: usize) -> usize {
        (x * GRID[1] + y) * GRID[2] + z
    }

    /// A box of white matter within the picture, cortex around it, a ventricle in its middle;
    /// intensities of white matter, cortex and fluid as given.
    fn head([white, cortex, fluid]: [f32; 3]) -> Segmented {
        let count = GRID.iter().product();
        let volume = Volume {
            dims: GRID,
            affine: IDENTITY,
            data: vec![1.0; count],
        };
        let mut affine = IDENTITY.map(|row| row.map(|v| v * 2.0));
        for row in &mut affine {
            row[3] = 0.5;
        }
        let brain = Brain {
            labels: &vec![1; 80 * 96 * 80],
            codes: &[0, 2],
            dims: [80, 96, 80],
            affine,
        };
        let (mut codes, mut image) = (vec![0; count], vec![0.0; count]);
        for x in 20..140 {
            for y in 30..160 {
                for z in 20..140 {
                    let side = usize::from(x >= 80);
                    let edge = !(24..136).contains(&x);
                    let middle = (70..90).contains(&x) && (80..110).contains(&y);
                    let (code, value) = match (edge, middle) {
                        (true, _) => ([3, 42][side], cortex),
                        (_, true) => ([4, 43][side], fluid),
                        _ => ([2, 41][side], white),
                    };
                    (codes[at(x, y, z)], image[at(x, y, z)]) = (code, value);
                }
            }
        }
        Segmented {
            placement: Placement::new(&volume, &brain).unwrap(),
            image,
            codes,
            lesion: vec![0.0; count],
            volumes_mm3: vec![0.0, 1e6],
            confidence: vec![0.0, 0.95],
            grid_ms: 0,
            network_ms: 0,
        }
    }

    /// Codes of what is noticed in a T1's picture and segmentation.
    fn noticed(segmented: &Segmented, kind: &str) -> Vec<String> {
        let about = About {
            kind,
            with_agent: false,
        };
        let mut remarks = Vec::new();
        picture(segmented, about, &mut remarks);
        cut_off(segmented, &mut remarks);
        shapes(segmented, &mut remarks);
        remarks.into_iter().map(|r| r.code).collect()
    }

    const T1: [f32; 3] = [1.0, 0.7, 0.2];

    #[test]
    fn contrast_is_told_from_the_picture() {
        assert_eq!(contrast(&head(T1)), Seen::T1);
        assert_eq!(contrast(&head([0.6, 0.75, 0.2])), Seen::Flair);
        assert_eq!(contrast(&head([0.4, 0.6, 1.2])), Seen::T2);
        assert_eq!(contrast(&head([0.5, 0.5, 0.5])), Seen::Unclear);
        assert_eq!(contrast(&head([0.0; 3])), Seen::Unclear);
        assert_eq!(noticed(&head(T1), "T1"), Vec::<String>::new());
        let wrong = noticed(&head([0.4, 0.6, 1.2]), "T1");
        assert_eq!(wrong, ["other_contrast"]);
        assert_eq!(noticed(&head([0.6, 0.75, 0.2]), "FLAIR"), ["not_t1"]);
        assert_eq!(noticed(&head([0.6, 0.75, 0.2]), "MR"), ["not_t1"]);
    }

    #[test]
    fn thick_slices_and_a_contrast_agent_make_doubtful() {
        let mut thick = head(T1);
        let mut affine = IDENTITY;
        affine[2][2] = 5.0;
        let volume = Volume {
            dims: [GRID[0], GRID[1], 32],
            affine,
            data: vec![1.0; GRID[0] * GRID[1] * 32],
        };
        let mut coarse = IDENTITY.map(|row| row.map(|v| v * 2.0));
        for row in &mut coarse {
            row[3] = 0.5;
        }
        let labels = vec![1; 80 * 96 * 80];
        let brain = Brain {
            labels: &labels,
            codes: &[0, 2],
            dims: [80, 96, 80],
            affine: coarse,
        };
        thick.placement = Placement::new(&volume, &brain).unwrap();
        let told = |segmented: &Segmented, with_agent: bool| {
            let kind = "T1";
            let mut remarks = Vec::new();
            picture(segmented, About { kind, with_agent }, &mut remarks);
            remarks
        };
        let remarks = told(&thick, false);
        assert_eq!(remarks[0].code, "thick_slices");
        assert!(remarks[0].doubtful && remarks[0].text.contains("5.0 mm"));
        let remarks = told(&head(T1), true);
        assert_eq!(remarks[0].code, "contrast_agent");
        assert!(remarks[0].doubtful);
    }

    #[test]
    fn a_brain_at_the_border_is_cut_off() {
        let mut cut = head(T1);
        // The box begins 7 mm above the picture's first plane; its last one lies at 159 mm.
        let top = 152;
        for x in 60..100 {
            for y in 60..100 {
                for z in 120..=top {
                    cut.codes[at(x, y, z)] = if x < 80 { 3 } else { 42 };
                }
            }
        }
        assert!(noticed(&cut, "T1").contains(&"cut_off".to_owned()));
    }

    #[test]
    fn swapped_sides_and_pieces_are_noticed() {
        let mut swapped = head(T1);
        for code in &mut swapped.codes {
            *code = match *code {
                2 => 41,
                41 => 2,
                3 => 42,
                42 => 3,
                other => other,
            };
        }
        assert_eq!(noticed(&swapped, "T1"), ["sides_swapped"]);
        let mut pieces = head(T1);
        for (x, z) in [(40, 40), (50, 100)] {
            for n in 0..10 {
                pieces.codes[at(x, 100, z + n)] = 17;
            }
        }
        assert_eq!(noticed(&pieces, "T1"), ["fragmented"]);
    }

    #[test]
    fn an_unsure_network_and_implausible_numbers_make_doubtful() {
        let unsure = Segmented {
            confidence: vec![0.0, 0.3],
            ..head(T1)
        };
        let about = About {
            kind: "T1",
            with_agent: true,
        };
        let quality = control(&unsure, &[0, 2], &[], &[], about);
        assert!(quality.doubtful);
        assert!((quality.confidence - 0.3).abs() < 1e-9);
        let codes: Vec<&str> = quality.remarks.iter().map(|r| r.code.as_str()).collect();
        for code in ["low_confidence", "contrast_agent", "implausible_volume"] {
            assert!(codes.contains(&code), "{codes:?}");
        }
    }

    #[test]
    fn a_flair_adds_remarks_and_too_much_lesion_a_doubt() {
        let mut quality = Quality::default();
        control_flair(&mut quality, Some(&head(T1)), 1000.0);
        assert!(!quality.doubtful);
        assert_eq!(quality.remarks[0].text, "FLAIR: the picture looks like T1");
        control_flair(&mut quality, None, 3e5);
        assert!(quality.doubtful);
    }
}
