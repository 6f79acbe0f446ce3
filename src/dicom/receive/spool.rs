//! A data set on its way to disk.

use std::fs::{self, File};
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;

use dicom_object::FileMetaTableBuilder;
use sha2::{Digest, Sha256};

use crate::dicom::extract::{self, HeaderError};
use crate::dicom::header::ObjectHeader;
use crate::dicom::{IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME};

use super::buffer::{ObjectBuffer, Pool};
use super::settings::ReceiveSettings;
use super::status::Answer;
use super::{Body, ObjectSink};

/// Buffer for walking over a data set that is on disk, in bytes.
const WALK_BUFFER_BYTES: usize = 64 * 1024;
const PREAMBLE_BYTES: usize = 128;

/// The folder objects are received in.
#[derive(Debug)]
pub struct Spool {
    dir: PathBuf,
    disk_reserve_bytes: u64,
    object_bytes_max: u64,
    /// Whether sound objects that fit into memory stay there.
    in_memory: bool,
    pool: Arc<Pool>,
    /// Makes names unique across processes and restarts.
    run: u128,
}

impl Spool {
    pub fn open(settings: &ReceiveSettings, sink: &dyn ObjectSink) -> io::Result<Self> {
        fs::create_dir_all(&settings.spool_dir)?;
        let mut run = [0; 16];
        getrandom::fill(&mut run).map_err(io::Error::other)?;
        Ok(Self {
            dir: settings.spool_dir.clone(),
            disk_reserve_bytes: settings.disk_reserve_bytes,
            object_bytes_max: settings.object_bytes_max,
            in_memory: sink.takes_memory(),
            pool: Arc::default(),
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
        Ok(Self {
            temp: TempFile {
                path,
                file,
                handed_over: false,
            },
            hash: Sha256::new(),
        })
    }

    /// Appends bytes, of which the first `meta_bytes` are not of the data set.
    fn append(&mut self, bytes: &[u8], meta_bytes: usize) -> Result<(), Trouble> {
        self.hash.update(&bytes[meta_bytes..]);
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
    /// What is not on disk yet: while nothing is, file meta information first.
    buffer: ObjectBuffer,
    meta_bytes: usize,
    received_bytes: u64,
}

enum State {
    /// Nothing on disk yet.
    Small,
    Writing(Box<Writer>),
    /// What follows is thrown away, and this is the answer.
    Refused(Answer),
}

/// A data set that is complete.
pub struct Arrived {
    place: Place,
    label: Label,
    meta_bytes: usize,
    /// Length of the file.
    pub size_bytes: u64,
}

enum Place {
    /// Synced.
    File {
        temp: TempFile,
        digest: String,
    },
    Memory(ObjectBuffer),
    /// With whom it was handed to.
    Gone(Option<TempFile>),
}

impl Arrived {
    /// What the sink gets.
    pub fn body(&mut self) -> Body {
        match std::mem::replace(&mut self.place, Place::Gone(None)) {
            Place::File { temp, digest } => {
                let temp_path = temp.path.clone();
                self.place = Place::Gone(Some(temp));
                Body::File { temp_path, digest }
            }
            Place::Memory(object) => Body::Memory {
                object,
                meta_bytes: self.meta_bytes,
            },
            Place::Gone(_) => Body::File {
                temp_path: PathBuf::new(),
                digest: String::new(),
            },
        }
    }

    /// The file is someone else's now; one that is not handed over is deleted.
    pub fn hand_over(self) {
        if let Place::Gone(Some(mut temp)) = self.place {
            temp.handed_over = true;
        }
    }

    /// Where its file is, which is written now if it was in memory.
    pub async fn file(&mut self, spool: &Arc<Spool>) -> Result<PathBuf, Answer> {
        let object = match std::mem::replace(&mut self.place, Place::Gone(None)) {
            Place::Memory(object) => object,
            Place::File { temp, .. } => {
                let path = temp.path.clone();
                self.place = Place::Gone(Some(temp));
                return Ok(path);
            }
            Place::Gone(temp) => {
                let path = temp.as_ref().map(|temp| temp.path.clone());
                self.place = Place::Gone(temp);
                return Ok(path.unwrap_or_default());
            }
        };
        let (spool, label, meta_bytes) = (Arc::clone(spool), self.label.clone(), self.meta_bytes);
        let written = blocking(move || {
            let writer = append(&spool, &label, None, object.object(), meta_bytes)?;
            writer.temp.file.sync_data()?;
            Ok(writer.temp)
        });
        let temp = written.await.map_err(Trouble::answer)?;
        let path = temp.path.clone();
        self.place = Place::Gone(Some(temp));
        Ok(path)
    }
}

impl Arrival {
    pub fn new(spool: Arc<Spool>, label: Label) -> Self {
        let mut buffer = spool.pool.take();
        let (state, meta_bytes) = match file_meta(&label) {
            // some hundred bytes: UIDs and titles are bounded
            Ok(meta) if buffer.push(&meta).is_empty() => (State::Small, meta.len()),
            Ok(_) => (
                State::Refused(Trouble::Disk(io::ErrorKind::InvalidData.into()).answer()),
                0,
            ),
            Err(error) => (State::Refused(Trouble::Disk(error).answer()), 0),
        };
        Self {
            spool,
            label,
            state,
            buffer,
            meta_bytes,
            received_bytes: 0,
        }
    }

    /// For a data set that is refused before it comes.
    pub fn refused(spool: Arc<Spool>, label: Label, answer: Answer) -> Self {
        Self {
            state: State::Refused(answer),
            buffer: spool.pool.take(),
            spool,
            label,
            meta_bytes: 0,
            received_bytes: 0,
        }
    }

    /// Takes the next bytes. Trouble is told at the end: the sender cannot hear it before.
    pub async fn push(&mut self, mut bytes: &[u8]) {
        self.received_bytes += bytes.len() as u64;
        if matches!(self.state, State::Refused(_)) {
            return;
        }
        if self.received_bytes > self.spool.object_bytes_max {
            let mebibytes = self.spool.object_bytes_max >> 20;
            let reason = format!("object larger than {mebibytes} MiB");
            self.state = State::Refused(Answer::out_of_resources(&reason));
            return;
        }
        loop {
            bytes = self.buffer.push(bytes);
            if bytes.is_empty() {
                return;
            }
            if let Err(answer) = self.flush().await {
                self.state = State::Refused(answer);
                return;
            }
        }
    }

    /// Writes the buffer to the file and empties it.
    async fn flush(&mut self) -> Result<(), Answer> {
        let (writer, meta_bytes) = match std::mem::replace(&mut self.state, State::Small) {
            State::Writing(writer) => (Some(writer), 0),
            State::Small => (None, self.meta_bytes),
            State::Refused(answer) => return Err(answer),
        };
        let mut buffer = std::mem::replace(&mut self.buffer, self.spool.pool.take());
        let spool = Arc::clone(&self.spool);
        let label = self.label.clone();
        let written = blocking(move || {
            let writer = append(&spool, &label, writer, buffer.object(), meta_bytes)?;
            buffer.clear();
            Ok((writer, buffer))
        });
        let (writer, buffer) = written.await.map_err(Trouble::answer)?;
        self.state = State::Writing(writer);
        self.buffer = buffer;
        Ok(())
    }

    /// All of it is here: walks over it, and syncs it if it does not stay in memory.
    pub async fn finish(mut self) -> Result<(Arrived, Result<ObjectHeader, HeaderError>), Answer> {
        match self.state {
            State::Small if self.spool.in_memory => {
                let data = &self.buffer.object()[self.meta_bytes..];
                let syntax = &self.label.transfer_syntax_uid;
                let header = extract::header(Cursor::new(data), data.len() as u64, syntax);
                Ok((self.in_memory(), header))
            }
            State::Refused(answer) => Err(answer),
            State::Small | State::Writing(_) => {
                self.flush().await?;
                self.on_disk().await
            }
        }
    }

    fn in_memory(self) -> Arrived {
        Arrived {
            size_bytes: self.buffer.len() as u64,
            place: Place::Memory(self.buffer),
            label: self.label,
            meta_bytes: self.meta_bytes,
        }
    }

    async fn on_disk(self) -> Result<(Arrived, Result<ObjectHeader, HeaderError>), Answer> {
        let Self {
            state,
            label,
            meta_bytes,
            ..
        } = self;
        let State::Writing(writer) = state else {
            return Err(Trouble::Disk(io::Error::other("nothing was written")).answer());
        };
        let arrived = blocking(move || {
            let length = writer.temp.file.metadata()?.len();
            let file = reader(&writer.temp.file, meta_bytes as u64)?;
            let data_bytes = length - meta_bytes as u64;
            let header = extract::header(file, data_bytes, &label.transfer_syntax_uid);
            writer.temp.file.sync_data()?;
            let arrived = Arrived {
                size_bytes: length,
                place: Place::File {
                    digest: hex(&writer.hash.finalize()),
                    temp: writer.temp,
                },
                label,
                meta_bytes,
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
    meta_bytes: usize,
) -> Result<Box<Writer>, Trouble> {
    spool.check_space()?;
    let mut writer = match writer {
        Some(writer) => writer,
        None => Box::new(Writer::create(spool, label)?),
    };
    writer.append(bytes, meta_bytes)?;
    Ok(writer)
}

fn reader(mut file: &File, from: u64) -> io::Result<impl Read + Seek + '_> {
    file.seek(SeekFrom::Start(from))?;
    Ok(BufReader::with_capacity(WALK_BUFFER_BYTES, file))
}

/// Bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
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
