//! `audit`: is the trail whole, and what does it say.

use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

use super::{Failure, block_on, open_store, settings};
use crate::clock::{Clock as _, SystemClock};
use crate::store::Store;
use crate::store::trail::{ActorKind, Deed, Entry, PAGE_ENTRIES, Verdict, Wanted};

/// Exit code of a trail that is not whole.
const BROKEN: u8 = 4;

#[derive(Debug, Subcommand)]
pub(super) enum Audit {
    /// Reckons the whole chain again; exit code 4 where it does not hold.
    Verify {
        /// A place and digest that were noted elsewhere, as `1234:ab12...`: it must still be in the chain.
        #[arg(long, value_parser = noted)]
        noted: Option<(i64, String)>,
        /// Data folder.
        #[arg(long)]
        data: Option<PathBuf>,
        /// Settings file, in place of config/*.toml.
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Writes the trail to standard output, oldest first.
    Export {
        /// How.
        #[arg(long, value_enum, default_value_t = Format::Jsonl)]
        format: Format,
        /// Only what concerns this patient id.
        #[arg(long)]
        patient: Option<String>,
        /// Only what this person or token did.
        #[arg(long)]
        actor: Option<String>,
        /// Only entries after this place.
        #[arg(long, default_value_t = 0)]
        after: i64,
        /// Data folder.
        #[arg(long)]
        data: Option<PathBuf>,
        /// Settings file, in place of config/*.toml.
        #[arg(long)]
        config: Option<PathBuf>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Csv,
    Jsonl,
}

fn noted(text: &str) -> Result<(i64, String), String> {
    let bad = || "must be a place and a digest, like 1234:ab12...".to_owned();
    let (seq, digest) = text.split_once(':').ok_or_else(bad)?;
    let seq = seq.parse().map_err(|_| bad())?;
    let hex = digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit());
    hex.then(|| (seq, digest.to_lowercase())).ok_or_else(bad)
}

pub(super) fn run(arguments: Audit) -> Result<(), Failure> {
    match arguments {
        Audit::Verify {
            noted,
            data,
            config,
        } => {
            let config = settings(config.as_deref(), data)?;
            block_on(async { verify(&open_store(&config).await?, noted).await })
        }
        Audit::Export {
            format,
            patient,
            actor,
            after,
            data,
            config,
        } => {
            let config = settings(config.as_deref(), data)?;
            let wanted = Wanted {
                patient_id: patient,
                actor,
                ..Wanted::default()
            };
            block_on(async { export(&open_store(&config).await?, &wanted, after, format).await })
        }
    }
}

async fn verify(store: &Store, noted: Option<(i64, String)>) -> Result<(), Failure> {
    let noted = noted.as_ref().map(|(seq, digest)| (*seq, digest.as_str()));
    let verdict = store.verify_trail(noted).await.map_err(database)?;
    let (said, outcome) = match &verdict {
        Verdict::Whole { entries, head } => {
            println!("whole: {entries} entries, head {entries}:{head}");
            (format!("whole, {entries} entries"), Ok(()))
        }
        Verdict::Broken { seq, why } => {
            let said = format!("broken at entry {seq}: {why}");
            (said.clone(), Err((BROKEN, said)))
        }
    };
    keep(store, "trail.verify", None, said).await?;
    outcome
}

async fn export(
    store: &Store,
    wanted: &Wanted,
    mut after: i64,
    format: Format,
) -> Result<(), Failure> {
    keep(store, "trail.export", None, format!("{format:?}")).await?;
    let mut out = io::stdout().lock();
    let failed = |e: io::Error| (1, format!("could not write: {e}"));
    if format == Format::Csv {
        out.write_all(Entry::csv_head().as_bytes())
            .map_err(failed)?;
    }
    loop {
        let entries = store.trail_after(wanted, after).await.map_err(database)?;
        for entry in &entries {
            let line = match format {
                Format::Csv => entry.csv(),
                Format::Jsonl => entry.json_line(),
            };
            out.write_all(line.as_bytes()).map_err(failed)?;
            after = entry.seq;
        }
        if (entries.len() as u64) < PAGE_ENTRIES {
            return out.flush().map_err(failed);
        }
    }
}

/// What the command line did is part of the trail.
pub(super) async fn keep(
    store: &Store,
    action: &str,
    subject: Option<&str>,
    detail: String,
) -> Result<(), Failure> {
    let deed = Deed {
        at_ms: SystemClock.now_ms(),
        actor: "command line".into(),
        kind: ActorKind::System,
        action: action.into(),
        subject: subject.map(str::to_owned),
        detail: Some(detail),
        ..Deed::default()
    };
    store.keep_deeds(&[deed]).await.map_err(database)
}

#[expect(clippy::needless_pass_by_value, reason = "handed to map_err")]
pub(super) fn database(e: crate::store::StoreError) -> Failure {
    (1, format!("database: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_read_or_refused() {
        let digest = "AB".repeat(32);
        let found = noted(&format!("12:{digest}")).unwrap();
        assert_eq!(found, (12, digest.to_lowercase()));
        for bad in [
            "",
            "12",
            "x:ab",
            "12:ab",
            &format!("12:{}", "zz".repeat(32)),
        ] {
            assert!(noted(bad).is_err(), "{bad}");
        }
    }
}
