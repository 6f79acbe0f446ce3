//! Which series of a study are looked at: one T1 and one FLAIR, by header alone.
//!
//! A localiser, a derived map or a diffusion series is never chosen, whatever else is missing.
//! Everything is deterministic, and every series gets its reason in words.
//! Whether the chosen series really holds a head is seen only after decoding
//! ([`super::content`], and the network's own check); then the caller asks again without it.

mod classify;
mod words;

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::dicom::header::SeriesTags;
use classify::{Class, classify};

/// Fewer images than this are no volume.
const IMAGES_MIN: usize = 10;

/// A series as far as its headers tell.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// (0020,000E)
    pub series_uid: String,
    /// (0008,0016) of its objects.
    pub sop_class_uid: String,
    /// Header of one of its images.
    pub tags: SeriesTags,
    /// Images in it: frames of an enhanced object, files otherwise.
    pub images: usize,
    /// We made it ourselves.
    pub own_result: bool,
}

/// What a series shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// T1-weighted
    T1,
    /// T2-weighted with fluid suppressed
    Flair,
    /// T2-weighted
    T2,
    /// Proton density
    Pd,
    /// T2*-weighted gradient echo
    T2Star,
    /// Fat suppressed by inversion
    Stir,
    /// Susceptibility-weighted
    Swi,
    /// Magnetic resonance, and no more is known
    OtherMr,
    /// A plan for the scans that follow
    Localiser,
    /// Made from other images: reformats, projections, maps
    Derived,
    /// Diffusion-weighted
    Diffusion,
    /// Functional
    Functional,
    /// Perfusion
    Perfusion,
    /// Vessels
    Angiography,
    /// Phase, real or imaginary part
    Phase,
    /// Coil and field calibration
    Calibration,
    /// Another part of the body
    OtherBodyPart,
    /// Our own result coming back
    OwnResult,
    /// Another modality, a report, a screen capture
    NotMr,
}

impl Kind {
    /// For the list: `T1`, `FLAIR`, `localiser`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::T1 => "T1",
            Self::Flair => "FLAIR",
            Self::T2 => "T2",
            Self::Pd => "PD",
            Self::T2Star => "T2*",
            Self::Stir => "STIR",
            Self::Swi => "SWI",
            Self::OtherMr => "MR",
            Self::Localiser => "localiser",
            Self::Derived => "derived",
            Self::Diffusion => "diffusion",
            Self::Functional => "functional",
            Self::Perfusion => "perfusion",
            Self::Angiography => "angiography",
            Self::Phase => "phase map",
            Self::Calibration => "calibration",
            Self::OtherBodyPart => "other body part",
            Self::OwnResult => "own result",
            Self::NotMr => "not MR",
        }
    }

    /// Whether the screening network can be asked about it, and after which others:
    /// T1 and FLAIR have rank 0 and 1.
    fn rank(self) -> Option<u8> {
        match self {
            Self::T1 => Some(0),
            Self::Flair => Some(1),
            Self::T2 => Some(2),
            Self::Pd => Some(3),
            Self::OtherMr => Some(4),
            Self::Stir => Some(5),
            Self::T2Star => Some(6),
            Self::Swi => Some(7),
            _ => None,
        }
    }
}

/// What was decided about one series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// (0020,000E)
    pub series_uid: String,
    /// What it shows.
    pub kind: Kind,
    /// Whether it is looked at.
    pub chosen: bool,
    /// Contrast agent was given.
    #[serde(default)]
    pub with_agent: bool,
    /// Why, or why not. Holds no text from the header, only what was found in it.
    pub reason: String,
}

/// The record of a choice.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Choice {
    /// Every series, in the order they were handed in.
    pub series: Vec<Judged>,
}

impl Choice {
    /// UIDs of the series to look at, the first one first: T1, FLAIR; without either one other.
    pub fn chosen(&self) -> impl Iterator<Item = &str> {
        let mut chosen: Vec<&Judged> = self.series.iter().filter(|s| s.chosen).collect();
        chosen.sort_by_key(|s| s.kind.rank());
        chosen.into_iter().map(|s| s.series_uid.as_str())
    }

    /// Name of what a series shows.
    #[must_use]
    pub fn kind_of(&self, series_uid: &str) -> Option<&'static str> {
        self.judged(series_uid).map(|s| s.kind.name())
    }

    /// Why a series was chosen or passed over.
    #[must_use]
    pub fn reason_of(&self, series_uid: &str) -> Option<&str> {
        self.judged(series_uid).map(|s| s.reason.as_str())
    }

    /// Whether contrast agent was given before a series.
    #[must_use]
    pub fn with_agent(&self, series_uid: &str) -> bool {
        self.judged(series_uid).is_some_and(|s| s.with_agent)
    }

    fn judged(&self, series_uid: &str) -> Option<&Judged> {
        self.series.iter().find(|s| s.series_uid == series_uid)
    }
}

/// Judges every series of a study and chooses.
#[must_use]
pub fn choose(candidates: &[Candidate]) -> Choice {
    let classes: Vec<Class> = candidates.iter().map(classify).collect();
    let mut usable: Vec<usize> = (0..candidates.len())
        .filter(|&n| classes[n].kind.rank().is_some() && candidates[n].images >= IMAGES_MIN)
        .collect();
    usable.sort_by(|&a, &b| better(candidates, &classes, a, b));
    let best = |kind: Kind| usable.iter().copied().find(|&n| classes[n].kind == kind);
    let mut chosen: Vec<usize> = [Kind::T1, Kind::Flair]
        .into_iter()
        .filter_map(best)
        .collect();
    if chosen.is_empty() {
        chosen.extend(usable.first());
    }
    let series = (0..candidates.len())
        .map(|n| Judged {
            series_uid: candidates[n].series_uid.clone(),
            kind: classes[n].kind,
            chosen: chosen.contains(&n),
            with_agent: classes[n].contrast,
            reason: reason(n, candidates, &classes, &chosen),
        })
        .collect();
    Choice { series }
}

fn reason(n: usize, candidates: &[Candidate], classes: &[Class], chosen: &[usize]) -> String {
    let (candidate, class) = (&candidates[n], &classes[n]);
    let name = class.kind.name();
    if class.kind.rank().is_none() {
        return format!("{name}: {}", class.because);
    }
    if chosen.contains(&n) {
        return format!("{name} ({}): {}", class.because, merits(candidate, class));
    }
    if candidate.images < IMAGES_MIN {
        return format!("{name}: too few images ({})", candidate.images);
    }
    match chosen.iter().find(|&&c| classes[c].kind == class.kind) {
        Some(&better) => format!(
            "{name}: another {name} is preferred ({} to {})",
            merits(&candidates[better], &classes[better]),
            merits(candidate, class)
        ),
        None => format!("{name}: T1 and FLAIR are looked at first"),
    }
}

/// What counts for a series, in words.
fn merits(candidate: &Candidate, class: &Class) -> String {
    let mut merits = Vec::new();
    if is_3d(&candidate.tags) {
        merits.push("3D".to_owned());
    }
    if let Some(spacing) = slice_spacing(&candidate.tags) {
        merits.push(format!("slices every {spacing:.1} mm"));
    }
    merits.push(format!("{} images", candidate.images));
    for (holds, words) in [
        (class.contrast, "with contrast agent"),
        (class.part_of_head, "only a part of the head"),
        (class.second_hand, "processed"),
    ] {
        if holds {
            merits.push(words.to_owned());
        }
    }
    merits.join(", ")
}

fn is_3d(tags: &SeriesTags) -> bool {
    tags.acquisition_type.as_deref() == Some("3D")
}

/// mm from slice to slice, where the header says.
fn slice_spacing(tags: &SeriesTags) -> Option<f64> {
    let plausible = |mm: &f64| (0.1..=50.0).contains(&mm.abs());
    let between = tags.spacing_between_slices_mm.filter(plausible);
    between
        .or(tags.slice_thickness_mm.filter(plausible))
        .map(f64::abs)
}

/// Fine enough for every measurement, for screening, or coarser; unknown is coarser.
fn coarseness(tags: &SeriesTags) -> u8 {
    match slice_spacing(tags) {
        Some(mm) if mm <= 2.0 => 0,
        Some(mm) if mm <= 4.0 => 1,
        _ => 2,
    }
}

/// mm3 of a voxel in tenths, unknown last.
fn voxel_size(tags: &SeriesTags) -> u64 {
    let volume = slice_spacing(tags)
        .zip(tags.pixel_spacing_mm)
        .map(|(depth, [rows, columns])| depth * rows * columns * 10.0);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates, and only compares"
    )]
    volume.map_or(u64::MAX, |v| v.abs().round() as u64)
}

/// `Less` where `a` is to be preferred. A total order, so that a choice never depends on chance.
fn better(candidates: &[Candidate], classes: &[Class], a: usize, b: usize) -> Ordering {
    let key = |n: usize| {
        let (candidate, class) = (&candidates[n], &classes[n]);
        (
            class.kind.rank(),
            class.part_of_head,
            coarseness(&candidate.tags),
            class.contrast,
            class.second_hand,
            !is_3d(&candidate.tags),
            voxel_size(&candidate.tags),
            std::cmp::Reverse(candidate.images),
        )
    };
    let last = |n: usize| {
        let candidate = &candidates[n];
        let uncorrected = candidate.tags.image_type.iter().any(|t| t == "ND");
        let number = candidate.tags.number.unwrap_or(i64::MAX);
        (uncorrected, number, candidate.series_uid.as_str())
    };
    key(a).cmp(&key(b)).then_with(|| last(a).cmp(&last(b)))
}

#[cfg(test)]
mod tests;
