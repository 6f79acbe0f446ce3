//! `firstread validate`: label maps against the truth, and against each of several raters.

mod gate;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::{BAD_INPUT, Failure, NOT_ANALYSED, say};
use crate::validation::{
    self, BlandAltman, Interval, Labels, LesionScores, STRUCTURES, Scheme, StructureScores,
    bland_altman, bootstrap_mean, correlation, icc_agreement, lesion_scores, mean, on_grid, plot,
};
use crate::volume::nifti;

/// Most voxels of a label map.
const VOXELS_MAX: usize = 512 * 512 * 512;
/// Largest file, in bytes.
const FILE_BYTES_MAX: u64 = 2 << 30;
/// What `firstread analyze` calls its label maps.
const SEGMENTATION: &str = "segmentation.nii.gz";
const LESIONS: &str = "lesions.nii.gz";

/// Arguments of `firstread validate`.
#[derive(Debug, Args)]
pub struct Validate {
    /// Folder of label maps taken as the truth: NAME.nii.gz, NAME.nii, or NAME/segmentation.nii.gz.
    #[arg(long)]
    truth: PathBuf,
    /// Folder of label maps to be judged, with the same names.
    #[arg(long)]
    prediction: PathBuf,
    /// A further rater of the same cases, NAME=DIR; the truth counts as one too. May be given several times.
    #[arg(long, value_parser = rater)]
    rater: Vec<(String, PathBuf)>,
    /// Codes of the truth and the raters: freesurfer, neuromorphometrics, or lesion (above 0 is lesion).
    #[arg(long, default_value = "freesurfer", value_parser = scheme)]
    scheme: Scheme,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Folder for plots (SVG): scores by structure, differences of volumes.
    #[arg(long)]
    plots: Option<PathBuf>,
    /// The present model's report (`validate --json`) on the same cases: exit code 4 unless the
    /// prediction beats it, or agrees with the raters as well as they do.
    #[arg(long)]
    gate: Option<PathBuf>,
}

fn scheme(text: &str) -> Result<Scheme, String> {
    Scheme::parse(text).ok_or_else(|| "must be freesurfer, neuromorphometrics or lesion".into())
}

fn rater(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, folder)) if !name.is_empty() && !folder.is_empty() => {
            Ok((name.to_owned(), folder.into()))
        }
        _ => Err("must be NAME=DIR".into()),
    }
}

#[derive(Serialize)]
struct Report {
    notice: &'static str,
    cases: Vec<String>,
    /// Over cases of the mean over structures (or of the lesion Dice).
    dice: Option<Interval>,
    /// The same of each case.
    dice_of_cases: BTreeMap<String, f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    structures: Vec<Row>,
    #[serde(skip_serializing_if = "Option::is_none")]
    volumes: Option<Agreement>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lesions: Vec<(String, LesionScores)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lesion_f1: Option<Interval>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raters: Option<Raters>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gate: Option<gate::Gate>,
    /// Names of files and what is in them.
    #[serde(skip)]
    plots: Vec<(&'static str, String)>,
}

/// One structure over all cases.
#[derive(Serialize)]
struct Row {
    name: &'static str,
    dice: Option<f64>,
    dice_worst: Option<f64>,
    surface_mean_mm: Option<f64>,
    surface_p95_mm: Option<f64>,
    /// Mean of |prediction - truth| / truth, percent.
    volume_error_percent: Option<f64>,
    agreement: Agreement,
}

/// Volumes of prediction against truth, mm3.
#[derive(Serialize)]
struct Agreement {
    icc: Option<f64>,
    correlation: Option<f64>,
    bland_altman: Option<BlandAltman>,
}

/// The prediction against each rater, beside the raters among themselves.
#[derive(Serialize)]
struct Raters {
    with_each: BTreeMap<String, Option<Interval>>,
    among_themselves: Option<Interval>,
    /// Per case: mean agreement with the raters less mean agreement among them.
    difference: Option<Interval>,
    /// The prediction agrees with the raters at least as well as they do.
    passes: bool,
}

/// Compares and prints.
///
/// # Errors
/// When a folder has no label maps, the names do not match, or a file cannot be read.
pub fn run(arguments: &Validate) -> Result<(), Failure> {
    let bad = |e: String| (BAD_INPUT, e);
    let mut report = compare(arguments).map_err(bad)?;
    if let Some(present) = &arguments.gate {
        let present = gate::read(present).map_err(bad)?;
        let new = serde_json::to_value(&report).and_then(serde_json::from_value);
        let new: gate::Scores = new.map_err(|e| (1, e.to_string()))?;
        let as_experts = report.raters.as_ref().is_some_and(|r| r.passes);
        report.gate = Some(gate::judge(&new, &present, as_experts).map_err(bad)?);
    }
    if let Some(folder) = &arguments.plots {
        let named = |e: std::io::Error| (BAD_INPUT, format!("{}: {e}", folder.display()));
        std::fs::create_dir_all(folder).map_err(named)?;
        for (name, svg) in &report.plots {
            std::fs::write(folder.join(name), svg).map_err(named)?;
        }
    }
    if arguments.json {
        let text = serde_json::to_string_pretty(&report).map_err(|e| (1, e.to_string()))?;
        say(&text);
    } else {
        say(&table(&report));
    }
    match &report.gate {
        Some(gate) if !gate.accepted => Err((NOT_ANALYSED, "the model is refused".into())),
        _ => Ok(()),
    }
}

fn compare(arguments: &Validate) -> Result<Report, String> {
    let lesion = arguments.scheme == Scheme::Lesion;
    let truths = maps_in(&arguments.truth, lesion)?;
    let predictions = maps_in(&arguments.prediction, lesion)?;
    let raters: Vec<(&str, BTreeMap<String, PathBuf>)> = (arguments.rater.iter())
        .map(|(name, folder)| Ok((name.as_str(), maps_in(folder, lesion)?)))
        .collect::<Result<_, String>>()?;
    let mut cases = Cases::default();
    for (name, path) in &truths {
        let Some(predicted) = predictions.get(name) else {
            let folder = arguments.prediction.display();
            return Err(format!("{folder}: no label map for {name}"));
        };
        let truth = read(path, arguments.scheme)?;
        // Ours are FreeSurfer's codes, whatever the truth has.
        let own = if lesion {
            Scheme::Lesion
        } else {
            Scheme::FreeSurfer
        };
        let prediction = placed(read(predicted, own)?, &truth, predicted)?;
        let mut others = Vec::new();
        for (rater, maps) in &raters {
            let path = maps
                .get(name)
                .ok_or_else(|| format!("rater {rater}: no label map for {name}"))?;
            others.push(placed(read(path, arguments.scheme)?, &truth, path)?);
        }
        cases.add(name, &truth, &prediction, &others, lesion)?;
    }
    Ok(cases.report(&raters.iter().map(|(name, _)| *name).collect::<Vec<_>>()))
}

fn placed(labels: Labels, reference: &Labels, path: &Path) -> Result<Labels, String> {
    on_grid(labels, reference).map_err(|e| format!("{}: {e}", path.display()))
}

#[derive(Default)]
struct Cases {
    names: Vec<String>,
    structures: Vec<Vec<StructureScores>>,
    lesions: Vec<LesionScores>,
    /// Of each case: with the truth and each rater; and of every pair of those.
    with_raters: Vec<Vec<f64>>,
    among: Vec<Vec<f64>>,
}

impl Cases {
    fn add(
        &mut self,
        name: &str,
        truth: &Labels,
        prediction: &Labels,
        others: &[Labels],
        lesion: bool,
    ) -> Result<(), String> {
        let named = |e: String| format!("{name}: {e}");
        self.names.push(name.to_owned());
        if lesion {
            self.lesions
                .push(lesion_scores(truth, prediction).map_err(named)?);
        } else {
            self.structures
                .push(validation::compare(truth, prediction).map_err(named)?);
        }
        if others.is_empty() {
            return Ok(());
        }
        let all: Vec<&Labels> = std::iter::once(truth).chain(others).collect();
        let overlap = |a: &Labels, b: &Labels| -> Result<f64, String> {
            let dice = if lesion {
                lesion_scores(a, b)?.dice
            } else {
                mean(validation::compare(a, b)?.iter().filter_map(|s| s.dice))
            };
            // Both empty: they agree.
            Ok(dice.unwrap_or(1.0))
        };
        let with: Result<Vec<f64>, String> = all.iter().map(|r| overlap(r, prediction)).collect();
        let mut among = Vec::new();
        for (n, a) in all.iter().enumerate() {
            for b in &all[n + 1..] {
                among.push(overlap(a, b).map_err(named)?);
            }
        }
        self.with_raters.push(with.map_err(named)?);
        self.among.push(among);
        Ok(())
    }

    fn report(self, raters: &[&str]) -> Report {
        let of_case = |s: &Vec<StructureScores>| mean(s.iter().filter_map(|s| s.dice));
        let dice: Vec<f64> = if self.structures.is_empty() {
            self.lesions.iter().filter_map(|l| l.dice).collect()
        } else {
            self.structures.iter().filter_map(of_case).collect()
        };
        let f1: Vec<f64> = self.lesions.iter().filter_map(|l| l.f1).collect();
        let rows = if self.structures.is_empty() {
            Vec::new()
        } else {
            (0..STRUCTURES.len()).map(|at| self.row(at)).collect()
        };
        let volumes: Vec<(f64, f64)> = if self.structures.is_empty() {
            let of = |l: &LesionScores| (l.truth_mm3, l.prediction_mm3);
            self.lesions.iter().map(of).collect()
        } else {
            let of = |s: &StructureScores| (s.truth_mm3, s.prediction_mm3);
            self.structures.iter().flatten().map(of).collect()
        };
        let plots = self.plots(&volumes);
        // A case without the structures in question has no score.
        let of_cases: Vec<Option<f64>> = if self.structures.is_empty() {
            self.lesions.iter().map(|l| l.dice).collect()
        } else {
            self.structures.iter().map(of_case).collect()
        };
        let named = self.names.iter().cloned().zip(of_cases);
        Report {
            notice: crate::RESEARCH_USE,
            plots,
            gate: None,
            dice_of_cases: named.filter_map(|(name, d)| Some((name, d?))).collect(),
            dice: bootstrap_mean(&dice),
            structures: rows,
            volumes: Some(agreement(&volumes)),
            lesion_f1: bootstrap_mean(&f1),
            raters: (!raters.is_empty()).then(|| self.raters(raters)),
            lesions: self.names.iter().cloned().zip(self.lesions).collect(),
            cases: self.names,
        }
    }

    fn plots(&self, volumes: &[(f64, f64)]) -> Vec<(&'static str, String)> {
        let (title, rows): (&str, Vec<(&str, Vec<f64>)>) = if self.structures.is_empty() {
            let cases = self.names.iter().zip(&self.lesions);
            let rows = cases.map(|(name, l)| (name.as_str(), l.dice.into_iter().collect()));
            ("Dice by case", rows.collect())
        } else {
            let row = |at: usize| {
                let scores = self.structures.iter().filter_map(|case| case[at].dice);
                (STRUCTURES[at].name, scores.collect())
            };
            (
                "Dice by structure",
                (0..STRUCTURES.len()).map(row).collect(),
            )
        };
        vec![
            ("dice.svg", plot::scores(title, &rows)),
            ("volumes.svg", plot::differences("Volumes", volumes)),
        ]
    }

    fn row(&self, at: usize) -> Row {
        let scores = || self.structures.iter().map(|case| &case[at]);
        let pairs: Vec<(f64, f64)> = scores()
            .filter(|s| s.truth_mm3 > 0.0)
            .map(|s| (s.truth_mm3, s.prediction_mm3))
            .collect();
        Row {
            name: STRUCTURES[at].name,
            dice: mean(scores().filter_map(|s| s.dice)),
            dice_worst: scores().filter_map(|s| s.dice).min_by(f64::total_cmp),
            surface_mean_mm: mean(scores().filter_map(|s| s.surface_mean_mm)),
            surface_p95_mm: mean(scores().filter_map(|s| s.surface_p95_mm)),
            volume_error_percent: mean(pairs.iter().map(|(t, p)| 100.0 * (p - t).abs() / t)),
            agreement: agreement(&pairs),
        }
    }

    fn raters(&self, names: &[&str]) -> Raters {
        let all = std::iter::once(&"truth").chain(names);
        let with_each = all
            .enumerate()
            .map(|(at, name)| {
                let values: Vec<f64> = self.with_raters.iter().map(|case| case[at]).collect();
                ((*name).to_owned(), bootstrap_mean(&values))
            })
            .collect();
        let average = |case: &Vec<f64>| mean(case.iter().copied()).unwrap_or(0.0);
        let among: Vec<f64> = self.among.iter().map(average).collect();
        let difference: Vec<f64> = (self.with_raters.iter())
            .zip(&among)
            .map(|(with, among)| average(with) - among)
            .collect();
        let difference = bootstrap_mean(&difference);
        Raters {
            with_each,
            among_themselves: bootstrap_mean(&among),
            passes: difference.is_some_and(|d| d.mean >= 0.0),
            difference,
        }
    }
}

fn agreement(pairs: &[(f64, f64)]) -> Agreement {
    Agreement {
        icc: icc_agreement(pairs),
        correlation: correlation(pairs),
        bland_altman: bland_altman(pairs),
    }
}

/// Label maps of a folder by name.
fn maps_in(folder: &Path, lesion: bool) -> Result<BTreeMap<String, PathBuf>, String> {
    let named = |e: std::io::Error| format!("{}: {e}", folder.display());
    let inside = if lesion { LESIONS } else { SEGMENTATION };
    let mut maps = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(named)? {
        let path = entry.map_err(named)?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let stem = name
            .strip_suffix(".nii.gz")
            .or_else(|| name.strip_suffix(".nii"));
        if let Some(stem) = stem {
            maps.insert(stem.to_owned(), path);
        } else if path.join(inside).is_file() {
            maps.insert(name, path.join(inside));
        }
    }
    if maps.is_empty() {
        return Err(format!(
            "{}: no NAME.nii.gz, NAME.nii or NAME/{inside}",
            folder.display()
        ));
    }
    Ok(maps)
}

fn read(path: &Path, scheme: Scheme) -> Result<Labels, String> {
    let named = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let size = std::fs::metadata(path).map_err(|e| named(&e))?.len();
    if size > FILE_BYTES_MAX {
        return Err(named(&format!("larger than {} MiB", FILE_BYTES_MAX >> 20)));
    }
    let bytes = std::fs::read(path).map_err(|e| named(&e))?;
    let volume = nifti::read(&bytes, VOXELS_MAX).map_err(|e| named(&e))?;
    Ok(Labels::new(&volume, scheme))
}

fn table(report: &Report) -> String {
    let number = |n: Option<f64>, digits: usize| n.map_or("-".into(), |n| format!("{n:.digits$}"));
    let interval = |i: &Option<Interval>| {
        i.map_or("-".into(), |i| {
            format!("{:.3} ({:.3}-{:.3})", i.mean, i.low, i.high)
        })
    };
    let mut out = format!(
        "{} cases; mean Dice {}\n",
        report.cases.len(),
        interval(&report.dice)
    );
    if !report.structures.is_empty() {
        let _ = writeln!(
            out,
            "{:<20}{:>7}{:>7}{:>11}{:>10}{:>10}{:>8}",
            "structure", "Dice", "worst", "surface mm", "p95 mm", "volume %", "ICC"
        );
    }
    for row in &report.structures {
        let _ = writeln!(
            out,
            "{:<20}{:>7}{:>7}{:>11}{:>10}{:>10}{:>8}",
            row.name,
            number(row.dice, 3),
            number(row.dice_worst, 3),
            number(row.surface_mean_mm, 2),
            number(row.surface_p95_mm, 2),
            number(row.volume_error_percent, 1),
            number(row.agreement.icc, 3)
        );
    }
    for (name, l) in &report.lesions {
        let _ = writeln!(
            out,
            "{name}: Dice {}, F1 {}, {} found, {} missed, {} invented, {:.1} ml against {:.1} ml",
            number(l.dice, 3),
            number(l.f1, 3),
            l.found,
            l.missed,
            l.invented,
            l.prediction_mm3 / 1000.0,
            l.truth_mm3 / 1000.0
        );
    }
    if report.lesion_f1.is_some() {
        let _ = writeln!(out, "lesion F1 {}", interval(&report.lesion_f1));
    }
    if let Some(v) = &report.volumes {
        let _ = writeln!(
            out,
            "volumes: correlation {}, ICC {}",
            number(v.correlation, 4),
            number(v.icc, 4)
        );
    }
    if let Some(raters) = &report.raters {
        for (name, with) in &raters.with_each {
            let _ = writeln!(out, "Dice with {name}: {}", interval(with));
        }
        let _ = writeln!(
            out,
            "Dice among raters: {}",
            interval(&raters.among_themselves)
        );
        let verdict = if raters.passes {
            "passes"
        } else {
            "does not pass"
        };
        let _ = writeln!(
            out,
            "difference: {}: {verdict}",
            interval(&raters.difference)
        );
    }
    if let Some(gate) = &report.gate {
        out += &gate::table(gate);
    }
    out + crate::RESEARCH_USE
}
