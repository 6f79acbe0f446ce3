//! What one series shows, from its header: first what rules it out, then its contrast.
//!
//! Words that people wrote come before times that the scanner wrote, except where a word is
//! ambiguous: "T1 FLAIR" is a T1 with suppressed fluid, told by its echo time.

use super::words::{self, Words};
use super::{Candidate, Kind};
use crate::dicom::header::SeriesTags;

/// The answer for one series.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Class {
    pub kind: Kind,
    /// What told: holds nothing of the header but known words and numbers.
    pub because: String,
    /// Contrast agent was given.
    pub contrast: bool,
    /// Aimed at the orbits, the pituitary and the like.
    pub part_of_head: bool,
    /// Processed after reconstruction (image type DERIVED), but a picture nevertheless.
    pub second_hand: bool,
}

/// MR Image Storage, Enhanced MR, Legacy Converted Enhanced MR (PS3.6 Annex A).
const MR_CLASSES: [&str; 3] = [
    "1.2.840.10008.5.1.4.1.1.4",
    "1.2.840.10008.5.1.4.1.1.4.1",
    "1.2.840.10008.5.1.4.1.1.4.4",
];

pub(super) fn classify(candidate: &Candidate) -> Class {
    let tags = &candidate.tags;
    let words = Words::of(
        tags.description
            .iter()
            .chain(&tags.protocol)
            .map(String::as_str),
    );
    let (kind, because) = ruled_out(candidate, &words).unwrap_or_else(|| contrast_of(tags, &words));
    Class {
        kind,
        because,
        contrast: has_contrast_agent(tags, &words),
        part_of_head: words.any(&words::PART_OF_HEAD),
        second_hand: tags.image_type.first().is_some_and(|t| t == "DERIVED"),
    }
}

/// A kind that is never chosen, and what told.
fn ruled_out(candidate: &Candidate, words: &Words) -> Option<(Kind, String)> {
    let tags = &candidate.tags;
    if candidate.own_result {
        return Some((Kind::OwnResult, "made by this server".into()));
    }
    by_object(candidate)
        .or_else(|| by_image_type(&tags.image_type))
        .or_else(|| by_words(words))
        .or_else(|| by_values(tags, words))
}

fn by_object(candidate: &Candidate) -> Option<(Kind, String)> {
    let modality = candidate.tags.modality.as_deref().unwrap_or("MR");
    if modality != "MR" {
        let known = [
            "CT", "PT", "NM", "US", "CR", "DX", "SR", "PR", "SEG", "DOC", "OT", "SC", "KO",
        ];
        let shown = known
            .into_iter()
            .find(|m| *m == modality)
            .unwrap_or("not MR");
        return Some((Kind::NotMr, format!("modality {shown}")));
    }
    let is_image = MR_CLASSES.contains(&candidate.sop_class_uid.as_str());
    (!is_image).then(|| {
        (
            Kind::NotMr,
            "not an MR image (report, capture, spectrum)".into(),
        )
    })
}

fn by_image_type(image_type: &[String]) -> Option<(Kind, String)> {
    const TOLD: [(Kind, &[&str]); 9] = [
        (Kind::Localiser, &["LOCALIZER", "SCOUT"]),
        (Kind::Functional, &["FMRI", "BOLD"]),
        (
            Kind::Perfusion,
            &[
                "PERFUSION",
                "PERFUSION_ASL",
                "ASL",
                "CBF",
                "CBV",
                "RCBF",
                "RCBV",
                "MTT",
                "TTP",
                "TMAX",
                "RELCBF",
                "RELCBV",
                "RELMTT",
            ],
        ),
        (
            Kind::Derived,
            &[
                "MPR",
                "MIP",
                "MINIP",
                "MNIP",
                "PROJECTION IMAGE",
                "REFORMATTED",
                "CURVED",
                "ADC",
                "EADC",
                "FA",
                "TRACE",
                "TRACEW",
                "EXP",
                "TENSOR",
                "SUBTRACTION",
                "SUBTRACT",
                "SUB",
                "T1 MAP",
                "T2 MAP",
                "T2_STAR MAP",
                "R2 MAP",
                "MOSAIC",
                "SCREEN SAVE",
                "SCREENSHOT",
                "CPR",
                "VOLREN",
                "SPECTROSCOPY",
                "METABOLITE",
            ],
        ),
        (Kind::Diffusion, &["DIFFUSION"]),
        (
            Kind::Angiography,
            &["ANGIO", "TOF", "PCA", "FLOW_ENCODED", "VELOCITY"],
        ),
        (
            Kind::Phase,
            &[
                "P",
                "PHASE",
                "PHASE MAP",
                "R",
                "REAL",
                "I",
                "IMAGINARY",
                "B0",
                "B1",
                "FIELD_MAP",
            ],
        ),
        (Kind::Calibration, &["CALIBRATION"]),
        (Kind::Swi, &["SWI"]),
    ];
    let (kind, value) = TOLD.into_iter().find_map(|(kind, values)| {
        let told = image_type
            .iter()
            .skip(1)
            .find(|t| values.contains(&t.as_str()))?;
        (kind != Kind::Swi).then(|| (kind, told.clone()))
    })?;
    Some((kind, format!("image type {value}")))
}

fn by_words(words: &Words) -> Option<(Kind, String)> {
    let told: [(Kind, &[&'static str]); 9] = [
        (Kind::Localiser, &words::LOCALISER),
        (Kind::Calibration, &words::CALIBRATION),
        (Kind::Functional, &words::FUNCTIONAL),
        (Kind::Derived, &words::DERIVED),
        (Kind::Diffusion, &words::DIFFUSION),
        (Kind::Perfusion, &words::PERFUSION),
        (Kind::Angiography, &words::ANGIOGRAPHY),
        (Kind::Phase, &words::PHASE),
        (Kind::OtherBodyPart, &words::OTHER_BODY),
    ];
    let told = told
        .into_iter()
        .find_map(|(kind, known)| Some((kind, words.find(known)?)));
    // A bare "FA" is a map of fractional anisotropy, but in a T1's name it is the flip angle.
    let map = words.find(&["fa"]).filter(|_| !words.any(&words::T1));
    let (kind, word) = told.or(map.map(|word| (Kind::Derived, word)))?;
    let of_the_head = words.any(&["head~", "brain~", "schaedel~", "cerebr~"]);
    (kind != Kind::OtherBodyPart || !of_the_head)
        .then(|| (kind, format!("its name says \"{word}\"")))
}

fn by_values(tags: &SeriesTags, words: &Words) -> Option<(Kind, String)> {
    if tags.b_value.is_some_and(|b| b > 0.0) {
        return Some((Kind::Diffusion, "has a b-value".into()));
    }
    let sequence = tags
        .sequence_name
        .as_deref()
        .unwrap_or_default()
        .to_lowercase();
    let sequence = sequence.trim_start_matches('*');
    for (start, kind) in [
        ("ep_b", Kind::Diffusion),
        ("epfid", Kind::Functional),
        ("fi3d", Kind::Angiography),
        ("tof", Kind::Angiography),
    ] {
        // Siemens' "fi3d" is time of flight, unless a name says otherwise.
        if sequence.starts_with(start) && !words.any(&words::T1) && !words.any(&words::SWI) {
            return Some((kind, "its pulse sequence says so".into()));
        }
    }
    let secondary = tags.image_type.get(1).is_some_and(|t| t == "SECONDARY");
    if secondary && tags.image_type.first().is_some_and(|t| t == "DERIVED") {
        return Some((Kind::Derived, "image type DERIVED, SECONDARY".into()));
    }
    let part = tags.body_part.as_deref().unwrap_or_default().to_uppercase();
    let elsewhere = [
        "SPINE", "NECK", "KNEE", "CHEST", "ABDOMEN", "PELVIS", "BREAST", "HEART", "SHOULDER",
    ];
    let elsewhere = elsewhere.into_iter().find(|name| part.contains(name));
    let head = part.contains("HEAD") || part.contains("BRAIN");
    let elsewhere = elsewhere.filter(|_| !head)?;
    Some((Kind::OtherBodyPart, format!("body part {elsewhere}")))
}

/// The contrast of a structural series, and what told.
fn contrast_of(tags: &SeriesTags, words: &Words) -> (Kind, String) {
    by_name(tags, words)
        .map(|(kind, word)| (kind, format!("its name says \"{word}\"")))
        .or_else(|| {
            by_times(tags).map(|kind| (kind, "by its echo, repetition and inversion times".into()))
        })
        .unwrap_or_else(|| (Kind::OtherMr, "contrast not recognised".into()))
}

fn by_name(tags: &SeriesTags, words: &Words) -> Option<(Kind, &'static str)> {
    if tags.image_type.iter().any(|t| t == "SWI") {
        return Some((Kind::Swi, "SWI"));
    }
    if let Some(word) = words.find(&words::SWI) {
        return Some((Kind::Swi, word));
    }
    if let Some(word) = words.find(&words::FLAIR) {
        /// A FLAIR's echo is long; "T1 FLAIR" has a short one, ms.
        const SHORT_ECHO_MS: f64 = 40.0;
        let named_t1 = words.find(&words::T1);
        let short_echo = tags.echo_time_ms.is_some_and(|te| te < SHORT_ECHO_MS);
        return Some(match named_t1 {
            Some(word) if short_echo || tags.echo_time_ms.is_none() => (Kind::T1, word),
            _ => (Kind::Flair, word),
        });
    }
    for (kind, known) in [
        (Kind::Stir, &words::STIR[..]),
        (Kind::T2Star, &words::T2_STAR),
        (Kind::T1, &words::T1),
        (Kind::T2, &words::T2),
        (Kind::Pd, &words::PD),
    ] {
        if let Some(word) = words.find(known) {
            return Some((kind, word));
        }
    }
    None
}

/// By the physics of the usual clinical protocols (1.5 and 3 T).
fn by_times(tags: &SeriesTags) -> Option<Kind> {
    let gradient_echo = tags.scanning_sequence.iter().any(|s| s == "GR");
    let echo = tags.echo_time_ms?;
    let repetition = tags.repetition_time_ms.unwrap_or(0.0);
    match tags.inversion_time_ms.filter(|ti| *ti > 0.0) {
        Some(inversion) if inversion >= 1500.0 && echo >= 60.0 => return Some(Kind::Flair),
        Some(inversion) if (80.0..=260.0).contains(&inversion) && !gradient_echo => {
            return Some(Kind::Stir);
        }
        Some(inversion) if (400.0..1500.0).contains(&inversion) && echo < 40.0 => {
            return Some(Kind::T1);
        }
        _ => {}
    }
    if gradient_echo {
        return match echo {
            te if te < 10.0 && tags.flip_angle_deg.is_some_and(|angle| angle >= 7.0) => {
                Some(Kind::T1)
            }
            te if te >= 12.0 => Some(Kind::T2Star),
            _ => None,
        };
    }
    match (repetition, echo) {
        (tr, te) if (1.0..1200.0).contains(&tr) && te < 30.0 => Some(Kind::T1),
        (tr, te) if tr >= 1800.0 && te >= 60.0 => Some(Kind::T2),
        (tr, te) if tr >= 1800.0 && te < 45.0 => Some(Kind::Pd),
        _ => None,
    }
}

fn has_contrast_agent(tags: &SeriesTags, words: &Words) -> bool {
    let agent = tags
        .contrast_agent
        .as_deref()
        .unwrap_or_default()
        .trim()
        .to_lowercase();
    let none = ["", "no", "none", "0", "n", "nein", "without", "false"];
    let denied = words.any(&[
        "without~",
        "non contrast~",
        "non-contrast~",
        "noncontrast~",
        "pre",
        "nativ~",
    ]);
    !none.contains(&agent.as_str()) || (!denied && words.any(&words::CONTRAST))
}
