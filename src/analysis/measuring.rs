//! Stage two of one study: the network on the T1 and on the FLAIR, put together to what is told.

use std::collections::BTreeMap;
use std::time::Instant;

use super::engine::Engine;
use super::lesions::{self, LesionMap};
use super::measurement::Measurement;
use super::quality::{self, About, Seen};
use super::volumes::{self, Comparing};
use super::volumetry::{Segmented, segment};
use super::{Screened, screen, volumetry_findings};
use crate::norms::structures::name_of;
use crate::norms::{Norms, ScannerCalibration, Sex};
use crate::volume::Volume;
use crate::volume::measuring_grid::GRID;

/// Why there is no z.
const NO_OFFSET: &str = "this network's offset for it is not measured";
/// Why there are no lesions.
const NO_FLAIR: &str = "no FLAIR";

/// The two networks.
#[derive(Clone, Copy)]
pub struct Networks<'a> {
    /// Finds the brain.
    pub screening: &'a Engine,
    /// Measures.
    pub measuring: &'a Engine,
}

/// Where a picture comes from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Source {
    /// Empty for a NIfTI file.
    pub series_uid: String,
    /// `T1`, `FLAIR`, ...; `MR` where nothing is known.
    pub kind: String,
    /// Contrast agent was given.
    pub with_agent: bool,
}

/// What the networks saw in one picture.
#[derive(Debug, Clone)]
pub struct Look {
    /// The picture.
    pub source: Source,
    /// Labels, volumes, lesions.
    pub segmented: Segmented,
    /// Milliseconds of the screening network.
    pub screening_ms: u64,
}

/// Who was measured, and what is known of healthy people and of the scanner.
#[derive(Clone, Copy)]
pub struct Reference<'a> {
    /// Norm table.
    pub norms: &'a Norms,
    /// The scanner's calibration and its version.
    pub scanner: Option<(i64, &'a ScannerCalibration)>,
    /// Years.
    pub age_years: Option<f64>,
    /// Sex.
    pub sex: Option<Sex>,
}

/// A measured study: what is told, and the label maps it rests on.
#[derive(Debug, Clone)]
pub struct Measured {
    /// What is told.
    pub measurement: Measurement,
    /// FreeSurfer codes on the main picture's own grid, first axis fastest.
    pub segmentation: Vec<u8>,
    /// 1 where there is a lesion, on the FLAIR's own grid; without a FLAIR none.
    pub lesions: Option<Vec<u8>>,
    /// Codes of the main picture on the network's grid, lesions marked: for outlines.
    pub codes: Vec<u8>,
}

/// Runs both networks on a picture. Blocking and heavy. The inner error says why the picture
/// cannot be measured.
///
/// # Errors
/// When the runtime fails.
pub fn look(
    networks: Networks,
    volume: &Volume,
    source: Source,
) -> Result<Result<Look, String>, String> {
    let screened = screen(networks.screening, volume)?;
    if screened.head_logit < networks.screening.card.head_threshold {
        return Ok(Err("does not look like a head".into()));
    }
    look_screened(networks.measuring, volume, &screened, source)
}

/// As [`look`], where screening has run already.
///
/// # Errors
/// As [`look`].
pub fn look_screened(
    measuring: &Engine,
    volume: &Volume,
    screened: &Screened,
    source: Source,
) -> Result<Result<Look, String>, String> {
    let segmented = segment(measuring, volume, screened)?;
    Ok(segmented.map(|segmented| Look {
        source,
        segmented,
        screening_ms: screened.resample_ms + screened.network_ms,
    }))
}

impl Look {
    /// What the picture was taken for, or what it looks like where nothing is known.
    #[must_use]
    pub fn kind(&self) -> &str {
        if self.source.kind == "MR" {
            quality::contrast(&self.segmented).name()
        } else {
            &self.source.kind
        }
    }

    fn is_flair(&self) -> bool {
        self.kind() == Seen::Flair.name()
    }
}

/// Puts together what was seen in the main picture (the T1 where there is one) and in the FLAIR.
/// Where the main picture is the FLAIR itself, it serves as both.
#[must_use]
pub fn combine(main: &Look, flair: Option<&Look>, engine: &Engine, with: Reference) -> Measured {
    let started = Instant::now();
    let comparing = Comparing {
        norms: with.norms,
        offsets: engine.norms.as_ref(),
        scanner: with.scanner.map(|(_, scanner)| scanner),
        age_years: with.age_years,
        sex: with.sex,
        no_offset: NO_OFFSET,
    };
    let segmented = &main.segmented;
    let mut all = volumes::compare(&engine.card.codes, &segmented.volumes_mm3, &comparing);
    let intracranial_mm3 = all.first().map_or(0.0, |v| v.volume_mm3);
    let asymmetry = volumes::asymmetry(&all);
    let about = About {
        kind: main.kind(),
        with_agent: main.source.with_agent,
    };
    let mut quality = quality::control(segmented, &engine.card.codes, &all, &asymmetry, about);
    let flair = flair.or_else(|| main.is_flair().then_some(main));
    let found_in = flair.unwrap_or(main);
    let map = lesion_map(found_in, intracranial_mm3);
    if let Some(flair) = flair {
        let lesions_mm3 = map.lesions.volume_mm3;
        let another = (!std::ptr::eq(flair, main)).then_some(&flair.segmented);
        quality::control_flair(&mut quality, another, lesions_mm3);
    }
    let mut codes = segmented.codes.clone();
    let place = &segmented.placement;
    lesions::mark(&mut codes, place, &map, &found_in.segmented.placement);
    if flair.is_some() {
        let code = i64::from(lesions::LESION_CODE);
        let name = name_of(code).unwrap_or_default();
        let found = &map.lesions;
        for (side, label, mm3) in [
            ("", Some(code), found.volume_mm3),
            ("left ", None, found.left_mm3),
            ("right ", None, found.right_mm3),
        ] {
            let structure = format!("{side}{name}");
            all.push(comparing.detail(&structure, label, mm3, intracranial_mm3));
        }
    }
    let mut indices = volumes::ratios(&all);
    indices.extend(volumes::evans_like(&segmented.codes, GRID));
    let mut measurement = Measurement {
        series_uid: main.source.series_uid.clone(),
        contrast: main.kind().to_owned(),
        lesion_series_uid: flair.map(|f| f.source.series_uid.clone()),
        age_years: with.age_years,
        sex: with.sex.map(|sex| format!("{sex:?}")),
        intracranial_mm3,
        volumes: all,
        asymmetry,
        indices,
        lesions: flair.map(|_| map.lesions.clone()),
        no_lesions: flair.is_none().then(|| NO_FLAIR.to_owned()),
        quality,
        findings: Vec::new(),
        model: engine.card.label(),
        provider: engine.provider.to_owned(),
        software: concat!("firstread ", env!("CARGO_PKG_VERSION")).to_owned(),
        norms: norms_in_words(engine, with.scanner.map(|(version, _)| version)),
        calibration_version: with.scanner.map(|(version, _)| version),
        pictures: Vec::new(),
        timings_ms: BTreeMap::new(),
        memory_peak_mib: None,
    };
    measurement.findings = volumetry_findings::findings(&measurement);
    let lesions = flair.map(|_| map.on_picture);
    measurement.timings_ms = timings(main, flair.filter(|f| !std::ptr::eq(*f, main)), started);
    Measured {
        segmentation: place.labels_on_input(&codes),
        lesions,
        codes,
        measurement,
    }
}

fn lesion_map(look: &Look, intracranial_mm3: f64) -> LesionMap {
    let Segmented {
        codes,
        lesion,
        placement,
        ..
    } = &look.segmented;
    lesions::find(codes, lesion, placement, intracranial_mm3)
}

fn norms_in_words(engine: &Engine, calibration: Option<i64>) -> String {
    let offsets = engine.norms.as_ref().map_or_else(
        || "segmenter offsets not measured".to_owned(),
        |o| format!("segmenter offsets from {} healthy scans", o.scans),
    );
    let scanner = calibration.map_or_else(
        || "scanner uncalibrated".to_owned(),
        |version| format!("scanner calibration {version}"),
    );
    format!("norms_synthseg_v0, {offsets}, {scanner}")
}

fn timings(main: &Look, flair: Option<&Look>, started: Instant) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::from([("measure".to_owned(), millis(started))]);
    let mut add = |look: &Look, prefix: &str| {
        let stages = [
            ("screening", look.screening_ms),
            ("grid", look.segmented.grid_ms),
            ("network", look.segmented.network_ms),
        ];
        for (stage, ms) in stages {
            all.insert(format!("{prefix}{stage}"), ms);
        }
    };
    add(main, "");
    if let Some(flair) = flair {
        add(flair, "flair_");
    }
    all
}

/// Most memory this process ever held, MiB: `VmHWM` of `/proc/self/status`.
#[must_use]
pub fn memory_peak_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024)
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
