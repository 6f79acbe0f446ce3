//! `backup` and `restore`.

use std::path::PathBuf;

use clap::Args;

use super::{BAD_INPUT, Failure, block_on, settings};
use crate::backup::{self, LeftOver};
use crate::clock::{Clock, SystemClock};

/// Copy database and files into a folder, while the server runs.
#[derive(Debug, Args)]
pub(super) struct Backup {
    /// A folder that is empty, or an earlier backup: what it has already is not copied again.
    folder: PathBuf,
    /// Remove from the folder what earlier backups had and the data folder has no more, as what retention removed;
    /// it is never restored, and stays otherwise.
    #[arg(long)]
    prune: bool,
    /// Data folder.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Settings file, in place of config/*.toml.
    #[arg(long)]
    config: Option<PathBuf>,
}

/// Put a backup into an empty data folder and an empty database.
#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The backup.
    folder: PathBuf,
    /// Data folder; not there yet, or empty.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Settings file, in place of config/*.toml.
    #[arg(long)]
    config: Option<PathBuf>,
}

pub(super) fn back_up(arguments: Backup) -> Result<(), Failure> {
    let config = settings(arguments.config.as_deref(), arguments.data)?;
    block_on(async {
        let now_ms = SystemClock.now_ms();
        let (data, into) = (&config.listen.data, &arguments.folder);
        let made = backup::back_up(config.database_url(), data, into, arguments.prune, now_ms);
        let made = made.await;
        let (manifest, copied, unnoted) = made.map_err(|e| (BAD_INPUT, e))?;
        say_unnoted(unnoted);
        println!(
            "backup of {}: {} files, {} MB, of which {} files were there already",
            manifest.made_at,
            copied.files,
            copied.bytes / 1_000_000,
            copied.kept
        );
        let LeftOver { files, bytes } = copied.left_over;
        if files > 0 {
            let megabytes = bytes.div_ceil(1_000_000);
            let what = format!("{files} files ({megabytes} MB) of earlier backups");
            if arguments.prune {
                println!("removed {what} that the data folder has no more");
            } else {
                println!(
                    "kept beside it: {what} that the data folder has no more; --prune removes them"
                );
            }
        }
        Ok(())
    })
}

pub(super) fn restore(arguments: Restore) -> Result<(), Failure> {
    let config = settings(arguments.config.as_deref(), arguments.data)?;
    block_on(async {
        let (data, now_ms) = (&config.listen.data, SystemClock.now_ms());
        let done = backup::restore(&arguments.folder, config.database_url(), data, now_ms);
        let done = done.await;
        let (manifest, checked, unnoted) = done.map_err(|e| (BAD_INPUT, e))?;
        say_unnoted(unnoted);
        if checked.missing > 0 {
            let named = checked.named.join(", ");
            let missing = checked.missing;
            return Err((
                1,
                format!("restored, but {missing} files are missing: {named}"),
            ));
        }
        println!(
            "restored the backup of {}: {} files that the database counts on are there",
            manifest.made_at, checked.files
        );
        Ok(())
    })
}

/// A database of an earlier version has no trail yet, and is backed up all the same before an upgrade.
fn say_unnoted(why: Option<String>) {
    if let Some(why) = why {
        eprintln!("firstread: the audit trail does not say so: {why}");
    }
}
