//! A data set on its way to disk.

use std::fs::{self, File};
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dicom_object::FileMetaTableBuilder;
use sha2::{Digest, Sha256};

use crate::dicom::extract::{self, HeaderError};
use crate::dicom::header::ObjectHeader;
use crate::dicom::{IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME};

use super::settings::ReceiveSettings;
use super::status::Answer;

/// How much of a data set is held in memory before it is written, in bytes.
const CHUNK_BYTES: usize = 256 * 1024;
/// Buffer for walking over a data set that is on disk, in bytes.
const WALK_BUFFER_BYTES: usize = 64 * 1024;
const PREAMBLE_BYTES: usize = 128;

/// The folder objects are received in.
#[derive(Debug)]
pub struct Spool {
    dir: PathBuf,
    disk_reserve_bytes: u64,
    object_bytes_max: u64,
    /// Whether sound objects are synced here, not by the sink.
    sync_objects: bool,
    /// Makes names unique across processes and restarts.
    run: u128,
}

impl Spool {
    pub fn open(settings: &ReceiveSettings, sync_objects: bool) -> io::Result<Self> {
        fs::create_dir_all(&settings.spool_dir)?;
        let mut run = [0; 16];
        getrandom::fill(&mut run).map_err(io::Error::other)?;
        Ok(Self {
            dir: settings.spool_dir.clone(),
            disk_reserve_bytes: settings.disk_reserve_bytes,
            object_bytes_max: settings.object_bytes_max,
            sync_objects,
            run: u128::from_ne_bytes(run),
        })
    }

    fn check_space(&self) -> Result<(), Trouble> {
        let disk = rustix::fs::statvfs(&self.dir).map_err(io::Error::from)?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < self.disk_reserve_bytes {
            return Err(Trouble::Full);
        }
        Ok(())
    }
}

/// What the file is called and what its file meta information says.
#[derive(Debug, Clone)]
pub struct Label {
    pub association: u64,
    pub message: u64,
    pub sop_class_uid: String,
    pub sop_instance_uid: String,
    pub transfer_syntax_uid: String,
    pub calling_ae: String,
}

/// Why an object cannot be written.
#[derive(Debug)]
enum Trouble {
    Full,
    Disk(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Disk(error),
        }
    }
}

impl Trouble {
    fn answer(self) -> Answer {
        match self {
            Self::Full => {
                tracing::error!("spool disk is full: objects are refused until there is space");
                Answer::out_of_resources("disk full, try again later")
            }
            Self::Disk(error) => {
                tracing::error!(%error, "could not write to the spool");
                Answer::out_of_resources("could not write to disk, try again later")
            }
        }
    }
}

/// A temporary file, deleted when dropped unless it was handed over.
#[derive(Debug)]
struct TempFile {
    path: PathBuf,
    file: File,
    handed_over: bool,
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if !self.handed_over {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The file, and what was computed while it was written. Used on blocking threads only.
#[derive(Debug)]
struct Writer {
    temp: TempFile,
    hash: Sha256,
    meta_bytes: u64,
}

impl Writer {
    fn create(spool: &Spool, label: &Label) -> Result<Self, Trouble> {
        let name = format!("{}-{}-{}.part", spool.run, label.association, label.message);
        let path = spool.dir.join(name);
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        let mut temp = TempFile {
            path,
            file,
            handed_over: false,
        };
        let meta = file_meta(label)?;
        temp.file.write_all(&meta)?;
        Ok(Self {
            temp,
            hash: Sha256::new(),
            meta_bytes: meta.len() as u64,
        })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        self.hash.update(bytes);
        self.temp.file.write_all(bytes)?;
        Ok(())
    }
}

/// Preamble and file meta information (PS3.10 7.1).
fn file_meta(label: &Label) -> io::Result<Vec<u8>> {
    let meta = FileMetaTableBuilder::new()
        .media_storage_sop_class_uid(&label.sop_class_uid)
        .media_storage_sop_instance_uid(&label.sop_instance_uid)
        .transfer_syntax(&label.transfer_syntax_uid)
        .implementation_class_uid(IMPLEMENTATION_CLASS_UID)
        .implementation_version_name(IMPLEMENTATION_VERSION_NAME)
        .source_application_entity_title(&label.calling_ae)
        .build()
        .map_err(io::Error::other)?;
    let mut bytes = vec![0; PREAMBLE_BYTES];
    bytes.extend_from_slice(b"DICM");
    meta.write(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

/// A data set while it arrives.
pub struct Arrival {
    spool: Arc<Spool>,
    label: Label,
    state: State,
    buffer: Vec<u8>,
    received_bytes: u64,
}

enum State {
    /// Nothing on disk yet.
    Small,
    Writing(Box<Writer>),
    /// What follows is thrown away, and this is the answer.
    Refused(Answer),
}

/// A data set that is complete and synced.
pub struct Arrived {
    temp: TempFile,
    /// Length of the file.
    pub size_bytes: u64,
    /// SHA-256 of the data set.
    pub digest: String,
}

impl Arrived {
    pub fn path(&self) -> &Path {
        &self.temp.path
    }

    /// The file is someone else's now.
    pub fn hand_over(mut self) {
        self.temp.handed_over = true;
    }
}

impl Arrival {
    pub fn new(spool: Arc<Spool>, label: Label) -> Self {
        Self {
            spool,
            label,
            state: State::Small,
            buffer: Vec::new(),
            received_bytes: 0,
        }
    }

    /// For a data set that is refused before it comes.
    pub fn refused(spool: Arc<Spool>, label: Label, answer: Answer) -> Self {
        Self {
            state: State::Refused(answer),
            ..Self::new(spool, label)
        }
    }

    /// Takes the next bytes. Trouble is told at the end: the sender cannot hear it before.
    pub async fn push(&mut self, bytes: &[u8]) {
        self.received_bytes += bytes.len() as u64;
        if matches!(self.state, State::Refused(_)) {
            return;
        }
        if self.received_bytes > self.spool.object_bytes_max {
            let mebibytes = self.spool.object_bytes_max >> 20;
            let reason = format!("object larger than {mebibytes} MiB");
            self.refuse(Answer::out_of_resources(&reason));
            return;
        }
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK_BYTES {
            self.flush().await;
        }
    }

    fn refuse(&mut self, answer: Answer) {
        self.state = State::Refused(answer);
        self.buffer = Vec::new();
    }

    async fn flush(&mut self) {
        let writer = match std::mem::replace(&mut self.state, State::Small) {
            State::Writing(writer) => Some(writer),
            State::Small => None,
            State::Refused(_) => return,
        };
        let mut buffer = std::mem::take(&mut self.buffer);
        let spool = Arc::clone(&self.spool);
        let label = self.label.clone();
        let written = blocking(move || {
            let writer = append(&spool, &label, writer, &buffer)?;
            buffer.clear();
            Ok((writer, buffer))
        });
        match written.await {
            Ok((writer, buffer)) => {
                self.state = State::Writing(writer);
                self.buffer = buffer;
            }
            Err(trouble) => self.refuse(trouble.answer()),
        }
    }

    /// All of it is here: writes the rest, walks over it, and syncs.
    pub async fn finish(self) -> Result<(Arrived, Result<ObjectHeader, HeaderError>), Answer> {
        let Self {
            spool,
            label,
            state,
            buffer,
            ..
        } = self;
        let writer = match state {
            State::Refused(answer) => return Err(answer),
            State::Small => None,
            State::Writing(writer) => Some(writer),
        };
        let arrived = blocking(move || {
            let in_memory = writer.is_none();
            let writer = append(&spool, &label, writer, &buffer)?;
            let length = writer.temp.file.metadata()?.len();
            let data_bytes = length - writer.meta_bytes;
            let syntax = &label.transfer_syntax_uid;
            let header = if in_memory {
                extract::header(Cursor::new(&buffer), data_bytes, syntax)
            } else {
                let file = reader(&writer.temp.file, writer.meta_bytes)?;
                extract::header(file, data_bytes, syntax)
            };
            if spool.sync_objects || header.is_err() {
                writer.temp.file.sync_data()?;
            }
            let arrived = Arrived {
                size_bytes: length,
                digest: hex(&writer.hash.finalize()),
                temp: writer.temp,
            };
            Ok((arrived, header))
        });
        arrived.await.map_err(Trouble::answer)
    }
}

fn append(
    spool: &Spool,
    label: &Label,
    writer: Option<Box<Writer>>,
    bytes: &[u8],
) -> Result<Box<Writer>, Trouble> {
    spool.check_space()?;
    let mut writer = match writer {
        Some(writer) => writer,
        None => Box::new(Writer::create(spool, label)?),
    };
    writer.append(bytes)?;
    Ok(writer)
}

fn reader(mut file: &File, from: u64) -> io::Result<impl Read + Seek + '_> {
    file.seek(SeekFrom::Start(from))?;
    Ok(BufReader::with_capacity(WALK_BUFFER_BYTES, file))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Trouble> + Send + 'static,
) -> Result<T, Trouble> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(Trouble::Disk(io::Error::other("the writing task failed"))),
    }
}
