//! Backup and restore: the database as it is at one moment, then every file that it counts on.
//!
//! ```text
//! backup.json            what the backup holds; written last, a backup without it is unfinished
//! database/              a copy of SQLite, or a file a table
//! files/                 the data folder without spool and database, and what earlier backups had beside
//! files.list             files of this backup: nothing else is restored
//! left_over.list         files and folders of earlier backups that the data folder has no more
//! ```
//! Files are moved into place before the database knows them, so whoever copies the database first
//! has them all. Only the object log goes before the database: what was acknowledged is in it until its row is
//! written, so it is in the copy of the one or of the other. Who starts on a restored folder records what the log
//! has and the database lacks. What never changes is not copied again into a folder that has it already.
//!
//! A backup takes nothing away by itself: what retention removed since stays, beside, until somebody asks to prune.

mod copy;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::clock::{UnixMillis, rfc3339};
use crate::store::dump::{DumpFacts, Kept, SQLITE_FILE};
use crate::store::files::wait_alone;
use crate::store::trail::{ActorKind, Deed};
use crate::store::turns::Duty;
use crate::store::{Store, StoreError};
use copy::Copying;
pub use copy::{Copied, LeftOver};

/// Says what a backup holds.
const MANIFEST: &str = "backup.json";
/// Files of the backup, each with a zero byte behind it.
const LISTED: &str = "files.list";
/// What is there beside them.
const LEFT_OVER: &str = "left_over.list";
/// Layout of a backup; another is not read.
const FORMAT: u32 = 1;
/// Missing files that are named.
const NAMED_MAX: usize = 5;

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Layout.
    pub format: u32,
    /// Of the program.
    pub version: String,
    /// The moment of the database, RFC 3339.
    pub made_at: String,
    /// The database.
    pub database: DumpFacts,
    /// Files in `files/`.
    pub files: u64,
    /// Their length in all.
    pub bytes: u64,
    /// Whether they are listed, and only those restored; not in backups of earlier versions.
    #[serde(default)]
    pub listed: bool,
    /// What `files/` has beside them.
    #[serde(default)]
    pub left_over: LeftOver,
}

/// What was checked after a restore.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Files that the database counts on.
    pub files: u64,
    /// Of those, which are absent or of another length.
    pub missing: u64,
    /// Some of them.
    pub named: Vec<String>,
}

/// A failure with a file or folder, in words.
fn io(what: &Path) -> impl FnOnce(std::io::Error) -> String {
    let what = what.display().to_string();
    move |e| format!("{what}: {e}")
}

/// Does what blocks elsewhere.
async fn aside<T: Send + 'static>(
    folder: &Path,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| e.to_string())?.map_err(io(folder))
}

/// Backs up what `url` and `data` hold into a folder that is empty or an earlier backup of the same, and removes what
/// that has beside if `prune` asks for it. The server may run meanwhile. Gives, too, why the audit trail does not say
/// so, where it does not.
///
/// # Errors
/// In words.
pub async fn back_up(
    url: Option<&str>,
    data: &Path,
    into: &Path,
    prune: bool,
    now_ms: UnixMillis,
) -> Result<(Manifest, Copied, Option<String>), String> {
    check_target(data, into)?;
    let store = Store::open_as_it_is(url, data).await.map_err(database)?;
    // before the copy, which so holds it
    let detail = if prune {
        "and prune"
    } else {
        "beside what it has"
    };
    let unnoted = note(&store, "system.backup", into, detail, now_ms).await;
    // No file is removed while the backup counts on it.
    let turn = store.wait_for_turn(Duty::Retention).await;
    let turn = turn.map_err(database)?;
    let folder = data.to_path_buf();
    let _alone = aside(data, move || wait_alone(&folder, "retention.lock")).await?;
    let manifest = into.join(MANIFEST);
    if manifest.exists() {
        std::fs::remove_file(&manifest).map_err(io(&manifest))?;
    }
    let (tables, files) = (into.join("database"), into.join("files"));
    if tables.exists() {
        std::fs::remove_dir_all(&tables).map_err(io(&tables))?;
    }
    for folder in [&tables, &files] {
        std::fs::create_dir_all(folder).map_err(io(folder))?;
    }
    let lists = [into.join(LISTED), into.join(LEFT_OVER)];
    let mut copying = Copying::begin(data, &files, &lists[0], &lists[1]).map_err(io(into))?;
    let copying = aside(&files, move || copying.log().map(|()| copying)).await?;
    let facts = store.dump(&tables).await.map_err(database)?;
    let copied = aside(&files, move || copying.all_but_log()).await?;
    for list in &lists {
        let synced = std::fs::File::open(list).and_then(|f| f.sync_all());
        synced.map_err(io(list))?;
    }
    let mut made = Manifest {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        made_at: rfc3339(now_ms),
        database: facts,
        files: copied.files,
        bytes: copied.bytes,
        listed: true,
        left_over: copied.left_over,
    };
    write_manifest(&manifest, &made)?;
    if prune {
        if copied.left_over.files > 0 {
            let not = |e| format!("the backup is finished, but nothing was pruned: {e}");
            all_there(&store, data).await.map_err(not)?;
        }
        let (from, list) = (files.clone(), lists[1].clone());
        aside(&files, move || copy::remove(&from, &list)).await?;
        copy::write_durably(&lists[1], &[]).map_err(io(&lists[1]))?;
        made.left_over = LeftOver::default();
        write_manifest(&manifest, &made)?;
    }
    turn.end().await.map_err(database)?;
    Ok((made, copied, unnoted))
}

fn write_manifest(to: &Path, made: &Manifest) -> Result<(), String> {
    let text = serde_json::to_vec_pretty(made).map_err(|e| e.to_string())?;
    copy::write_durably(to, &text).map_err(io(to))
}

/// A data folder that lacks what its database counts on, as one whose disk is not mounted, must not cost the backup
/// what it has.
async fn all_there(store: &Store, data: &Path) -> Result<(), String> {
    let checked = check_files(store, data).await.map_err(database)?;
    if checked.missing == 0 {
        return Ok(());
    }
    Err(format!(
        "{} files that the database counts on are not in {}: {}",
        checked.missing,
        data.display(),
        checked.named.join(", ")
    ))
}

/// Keeps in the audit trail what is done with a copy of everything about everyone; gives why that failed.
async fn note(
    store: &Store,
    action: &str,
    folder: &Path,
    detail: &str,
    now_ms: UnixMillis,
) -> Option<String> {
    let place = folder.canonicalize().unwrap_or_else(|_| folder.into());
    let deed = Deed {
        at_ms: now_ms,
        actor: "command line".into(),
        kind: ActorKind::System,
        action: action.into(),
        subject: Some(place.display().to_string()),
        detail: Some(detail.into()),
        ..Deed::default()
    };
    store.keep_deeds(&[deed]).await.map_err(database).err()
}

/// Puts a backup into a data folder and a database that are empty, and checks that every file is there. Gives, too, why
/// the audit trail does not say so, where it does not.
///
/// # Errors
/// In words.
pub async fn restore(
    from: &Path,
    url: Option<&str>,
    data: &Path,
    now_ms: UnixMillis,
) -> Result<(Manifest, Checked, Option<String>), String> {
    let manifest = read_manifest(from)?;
    if has_entries(data)? {
        return Err(format!("data folder {} is not empty", data.display()));
    }
    let to_postgres = url.is_some_and(|url| url.starts_with("postgres"));
    if to_postgres != (manifest.database.database == "postgres") {
        return Err(format!(
            "the backup is of {}, database.url names another",
            manifest.database.database
        ));
    }
    if url.is_some_and(|url| url.starts_with("sqlite:")) {
        return Err(
            "database.url names a SQLite file: restore without it, then move the file".into(),
        );
    }
    std::fs::create_dir_all(data).map_err(|e| format!("{}: {e}", data.display()))?;
    let (files, target) = (from.join("files"), data.to_path_buf());
    let list = manifest.listed.then(|| from.join(LISTED));
    aside(data, move || match list {
        Some(list) => copy::listed(&files, &target, &list),
        None => copy::all(&files, &target),
    })
    .await?;
    let tables = from.join("database");
    if to_postgres {
        let store = Store::open_as_it_is(url, data).await.map_err(database)?;
        let loaded = store.load(&tables, &manifest.database).await;
        loaded.map_err(database)?;
    } else {
        let to = data.join(SQLITE_FILE);
        std::fs::copy(tables.join(SQLITE_FILE), &to)
            .and_then(|_| std::fs::File::open(&to)?.sync_all())
            .map_err(|e| format!("{}: {e}", to.display()))?;
    }
    // Opening brings the schema up to date.
    let store = Store::open(url, data).await.map_err(database)?;
    let checked = check_files(&store, data).await.map_err(database)?;
    let detail = format!("made {}", manifest.made_at);
    let unnoted = note(&store, "system.restore", from, &detail, now_ms).await;
    Ok((manifest, checked, unnoted))
}

/// Looks whether every file that the database counts on is there.
async fn check_files(store: &Store, data: &Path) -> Result<Checked, StoreError> {
    let mut checked = Checked::default();
    for kind in [Kept::Objects, Kept::Quarantine, Kept::Results] {
        let mut after = 0;
        while let Some((last, files)) = store.counted_on(kind, after).await? {
            after = last;
            for file in files {
                checked.files += 1;
                let there = std::fs::metadata(data.join(&file.path));
                let size = there.ok().and_then(|m| i64::try_from(m.len()).ok());
                let whole = size.is_some_and(|size| file.size_bytes.is_none_or(|n| n == size));
                if !whole {
                    checked.missing += 1;
                    if checked.named.len() < NAMED_MAX {
                        checked.named.push(file.path);
                    }
                }
            }
        }
    }
    Ok(checked)
}

fn read_manifest(from: &Path) -> Result<Manifest, String> {
    let place = from.join(MANIFEST);
    let bytes = std::fs::read(&place).map_err(|e| {
        format!(
            "{} holds no finished backup: {}: {e}",
            from.display(),
            place.display()
        )
    })?;
    let manifest: Manifest =
        serde_json::from_slice(&bytes).map_err(|e| format!("{}: {e}", place.display()))?;
    if manifest.format != FORMAT {
        return Err(format!(
            "{}: made by version {}, which lays backups out in another way",
            place.display(),
            manifest.version
        ));
    }
    Ok(manifest)
}

/// A backup must not go into what it backs up, nor over something else.
fn check_target(data: &Path, into: &Path) -> Result<(), String> {
    if !data.is_dir() {
        return Err(format!("data folder {} is not there", data.display()));
    }
    std::fs::create_dir_all(into).map_err(|e| format!("{}: {e}", into.display()))?;
    let real = |path: &Path| -> Result<PathBuf, String> {
        path.canonicalize()
            .map_err(|e| format!("{}: {e}", path.display()))
    };
    if real(into)?.starts_with(real(data)?) {
        return Err(format!("{} lies in the data folder", into.display()));
    }
    let ours = into.join(MANIFEST).exists() || into.join("database").is_dir();
    if !ours && has_entries(into)? {
        return Err(format!(
            "{} is neither empty nor an earlier backup",
            into.display()
        ));
    }
    Ok(())
}

fn has_entries(folder: &Path) -> Result<bool, String> {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(format!("{}: {e}", folder.display())),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "handed to map_err")]
fn database(e: StoreError) -> String {
    format!("database: {e}")
}
