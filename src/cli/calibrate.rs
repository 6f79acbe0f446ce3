//! `firstread calibrate`: a scanner's shift against the norm table, from local healthy scans.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::{BAD_INPUT, Failure, block_on, cores, exit_code, say, settings};
use crate::analysis::analyze::{self, Person, Tools};
use crate::analysis::{Engine, Measurement, NormOffsets, Runtime};
use crate::clock::{Clock, SystemClock, rfc3339};
use crate::config::Config;
use crate::dicom::decode::DecodeLimits;
use crate::norms::{LocalPerson, Norms, ScannerCalibration, Sex, calibrate};
use crate::store::Store;

/// Scans that one calibration may rest on.
const SCANS_MAX: usize = 1000;
/// Who is noted as the maker: the command line knows no accounts.
const BY: &str = "command line";

/// Arguments of `firstread calibrate`.
#[derive(Debug, Subcommand)]
pub enum Calibrate {
    /// Measures local healthy people and keeps the scanner's shift as a new version.
    Add(Add),
    /// Lists calibrations, newest first.
    List(Place),
    /// Takes a version out of force; results that used it keep naming it.
    Revoke {
        /// Version, as `list` prints it.
        version: i64,
        #[command(flatten)]
        place: Place,
    },
}

/// Where calibrations are kept.
#[derive(Debug, Args)]
pub struct Place {
    /// Data folder.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Settings file, in place of config/*.toml.
    #[arg(long)]
    config: Option<PathBuf>,
}

/// Arguments of `firstread calibrate add`.
#[derive(Debug, Args)]
pub struct Add {
    /// Scanner, as the study page and `analyze` name it.
    #[arg(long)]
    scanner: String,
    /// Healthy people's scans: a CSV file with the columns id, age, sex; ID and the suffix give
    /// the NIfTI files beside it.
    #[arg(long)]
    index: Option<PathBuf>,
    /// What follows an id in the name of its file.
    #[arg(long, default_value = "_t1.nii.gz")]
    suffix: String,
    /// A healthy person's study that was measured already. May be given several times.
    #[arg(long)]
    study: Vec<String>,
    /// Only show before and after.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    place: Place,
}

/// Runs the command.
///
/// # Errors
/// Says which scan cannot be used, or which version does not exist.
pub fn run(command: Calibrate) -> Result<(), Failure> {
    match command {
        Calibrate::Add(add) => {
            let mut config = settings(add.place.config.as_deref(), add.place.data.clone())?;
            config.analysis.threads = cores();
            block_on(add_version(config, add))
        }
        Calibrate::List(place) => {
            let config = settings(place.config.as_deref(), place.data)?;
            block_on(list(config))
        }
        Calibrate::Revoke { version, place } => {
            let config = settings(place.config.as_deref(), place.data)?;
            block_on(revoke(config, version))
        }
    }
}

async fn open(config: &Config) -> Result<Store, Failure> {
    let data = &config.listen.data;
    if config.database_url().is_none() && !data.is_dir() {
        let why = format!("data folder {} is not there", data.display());
        return Err((BAD_INPUT, why));
    }
    Store::open(config.database_url(), data)
        .await
        .map_err(database)
}

#[expect(clippy::needless_pass_by_value, reason = "handed to map_err")]
fn database(e: crate::store::StoreError) -> Failure {
    (1, format!("database: {e}"))
}

async fn add_version(config: Config, add: Add) -> Result<(), Failure> {
    let internal = |e: String| (1, e);
    let store = open(&config).await?;
    let runtime = Runtime::load(&config.analysis).map_err(internal)?;
    let engine = runtime
        .measuring_engine()
        .map_err(|e| (BAD_INPUT, format!("volumetry: {e}")))?;
    let Some(offsets) = &engine.norms else {
        let why = "this network's own offsets against the norm table are not measured";
        return Err((BAD_INPUT, why.into()));
    };
    let norms = Norms::parse(crate::serve::NORM_TABLE).map_err(internal)?;
    let mut people = Vec::new();
    if let Some(index) = &add.index {
        let screening = runtime.engine("screening").map_err(internal)?;
        let limits = DecodeLimits::default();
        for row in rows(index, &add.suffix).map_err(|e| (BAD_INPUT, e))? {
            let tools = Tools {
                screening: &screening,
                measuring: Ok(&engine),
                norms: &norms,
                calibration: None,
            };
            let person = Person {
                age_years: Some(row.age_years),
                sex: Some(row.sex),
            };
            let input = analyze::read(&row.file, None, None, &limits)
                .await
                .map_err(exit_code)?;
            let measured = analyze::measurement(tools, &input, person).map_err(exit_code)?;
            people.push(local_person(&row.id, &measured)?);
        }
    }
    for uid in &add.study {
        people.push(stored_person(&store, uid, &engine).await?);
    }
    let calibration = calibrate(&norms, &by_name(offsets), &people).map_err(|e| (BAD_INPUT, e))?;
    say(&table(&calibration));
    if add.dry_run {
        return Ok(());
    }
    let scans = i64::try_from(people.len()).unwrap_or(i64::MAX);
    let version = store
        .keep_calibration(
            &add.scanner,
            &engine.card.sha256,
            scans,
            &calibration,
            (BY, SystemClock.now_ms()),
        )
        .await
        .map_err(database)?;
    say(&format!(
        "version {version} of {}: {scans} scans; studies measured from now on use it",
        add.scanner
    ));
    Ok(())
}

async fn list(config: Config) -> Result<(), Failure> {
    let mut text = String::new();
    for c in open(&config)
        .await?
        .calibrations()
        .await
        .map_err(database)?
    {
        let revoked = c.revoked_at.map(|at| {
            let by = c.revoked_by.as_deref().unwrap_or("unknown");
            format!(", revoked {} by {by}", rfc3339(at))
        });
        let _ = writeln!(
            text,
            "{}: {}, {} scans, made {} by {}, network {}{}",
            c.version,
            c.scanner,
            c.scans,
            rfc3339(c.made_at),
            c.made_by,
            &c.model_sha256[..12.min(c.model_sha256.len())],
            revoked.unwrap_or_default()
        );
    }
    say(text.trim_end());
    Ok(())
}

async fn revoke(config: Config, version: i64) -> Result<(), Failure> {
    let store = open(&config).await?;
    let done = store.revoke_calibration(version, BY, SystemClock.now_ms());
    if done.await.map_err(database)? {
        say(&format!("version {version} is revoked"));
        Ok(())
    } else {
        let why = format!("there is no calibration {version} in force");
        Err((BAD_INPUT, why))
    }
}

fn by_name(offsets: &NormOffsets) -> BTreeMap<String, f64> {
    let all = offsets.structures.iter();
    all.map(|(name, o)| (name.clone(), o.offset)).collect()
}

fn local_person(id: &str, measured: &Measurement) -> Result<LocalPerson, Failure> {
    let bad = |why: &str| (BAD_INPUT, format!("{id}: {why}"));
    let age_years = measured.age_years.ok_or_else(|| bad("age unknown"))?;
    let sex = measured.sex.as_deref().and_then(Sex::parse);
    let doubt = measured.quality.remarks.iter().find(|r| r.doubtful);
    if let Some(remark) = doubt.filter(|r| r.code != "thick_slices") {
        return Err(bad(&format!("doubtful: {}", remark.text)));
    }
    let volumes = measured.volumes.iter();
    Ok(LocalPerson {
        age_years,
        sex: sex.ok_or_else(|| bad("sex unknown"))?,
        volumes_mm3: volumes
            .map(|v| (v.structure.clone(), v.volume_mm3))
            .collect(),
    })
}

async fn stored_person(store: &Store, uid: &str, engine: &Engine) -> Result<LocalPerson, Failure> {
    let bad = |why: &str| (BAD_INPUT, format!("study {uid}: {why}"));
    let detail = store.study_detail(uid, 0).await.map_err(database)?;
    let detail = detail.ok_or_else(|| bad("was never received"))?;
    let measured = detail.measurement.ok_or_else(|| bad("was not measured"))?;
    if measured.model != engine.card.label() {
        return Err(bad("was measured by another network"));
    }
    local_person(uid, &measured)
}

struct ScanRow {
    id: String,
    age_years: f64,
    sex: Sex,
    file: PathBuf,
}

/// Rows of an index; columns are found by their names.
fn rows(index: &Path, suffix: &str) -> Result<Vec<ScanRow>, String> {
    let named = |e: String| format!("{}: {e}", index.display());
    let text = std::fs::read_to_string(index).map_err(|e| named(e.to_string()))?;
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let column = |name: &str| {
        let at = header.iter().position(|h| h.trim() == name);
        at.ok_or_else(|| named(format!("no column {name}")))
    };
    let [id, age, sex] = [column("id")?, column("age")?, column("sex")?];
    let folder = index.parent().unwrap_or(Path::new("."));
    let mut all = Vec::new();
    for (number, line) in lines.enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let bad = |what: &str| named(format!("line {}: {what}", number + 2));
        let field = |at: usize| fields.get(at).copied().unwrap_or_default();
        let name = field(id);
        if name.is_empty() || name.contains(['/', '\\']) {
            return Err(bad("id is no name of a file"));
        }
        if all.len() == SCANS_MAX {
            return Err(named(format!("more than {SCANS_MAX} scans")));
        }
        all.push(ScanRow {
            id: name.to_owned(),
            age_years: field(age).parse().map_err(|_| bad("age is no number"))?,
            sex: Sex::parse(field(sex)).ok_or_else(|| bad("sex must be F or M"))?,
            file: folder.join(format!("{name}{suffix}")),
        });
    }
    Ok(all)
}

/// Before and after, structure by structure.
fn table(calibration: &ScannerCalibration) -> String {
    let mut out = format!(
        "{:<36}{:>6}{:>9}{:>9}{:>10}{:>9}\n",
        "structure", "scans", "shift %", "used %", "z before", "z after"
    );
    let percent = |ln: f64| 100.0 * ln.exp_m1();
    for (name, s) in &calibration.structures {
        let _ = writeln!(
            out,
            "{name:<36}{:>6}{:>9.1}{:>9.1}{:>10.2}{:>9.2}",
            s.scans,
            percent(s.mean),
            percent(s.delta),
            s.z_before,
            s.z_after
        );
    }
    out + crate::RESEARCH_USE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<ScanRow>, String> {
        let folder = tempfile::tempdir().unwrap();
        let index = folder.path().join("index.csv");
        std::fs::write(&index, text).unwrap();
        rows(&index, "_t1.nii.gz")
    }

    #[test]
    fn an_index_is_read_by_its_column_names() {
        let all = read("id,person,sex,age\n7,x,F,20\n\n8,y,M,71.5\n").unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!((all[1].age_years, all[1].sex), (71.5, Sex::M));
        assert!(all[1].file.ends_with("8_t1.nii.gz"));
    }

    #[track_caller]
    fn check_fails(text: &str, words: &str) {
        let error = read(text).err().unwrap();
        assert!(error.contains(words), "{error}");
    }

    #[test]
    fn a_wrong_index_is_told_with_its_line() {
        check_fails("id,age\n1,2\n", "no column sex");
        check_fails("id,age,sex\n1,old,F\n", "line 2: age");
        check_fails("id,age,sex\n1,20,F\n2,20,X\n", "line 3: sex");
        check_fails("id,age,sex\n../1,20,F\n", "line 2: id");
    }
}
