//! The server under test, with a sink that can be told to misbehave.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use firstread::dicom::header::ObjectHeader;
use firstread::dicom::receive::{
    AssociationId, BadObject, Doors, Kept, ObjectSink, ReceiveSettings, ReceivedObject, Refusal,
    serve,
};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// What the sink was told, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    Kept(Box<ObjectHeader>, String),
    SetAside(String),
    Ended,
}

type Reply = Box<dyn Fn(&ReceivedObject) -> Result<Kept, Refusal> + Send + Sync>;

struct Recorder {
    dir: PathBuf,
    events: Mutex<Vec<Event>>,
    reply: Reply,
}

/// Moves a file, across disks if need be.
fn take(from: &Path, to: &Path) {
    if fs::rename(from, to).is_err() {
        fs::copy(from, to).unwrap();
        fs::remove_file(from).unwrap();
    }
}

#[async_trait]
impl ObjectSink for Recorder {
    async fn keep(&self, object: ReceivedObject) -> Result<Kept, Refusal> {
        let kept = (self.reply)(&object)?;
        let name = format!("{}.dcm", object.header.sop_instance_uid);
        assert_eq!(
            fs::metadata(&object.temp_path).unwrap().len(),
            object.size_bytes
        );
        take(&object.temp_path, &self.dir.join(name));
        let event = Event::Kept(Box::new(object.header), object.digest);
        self.events.lock().unwrap().push(event);
        Ok(kept)
    }

    async fn set_aside(&self, object: BadObject) {
        let name = format!("aside-{}", object.temp_path.file_name().unwrap().display());
        fs::rename(&object.temp_path, self.dir.join(name)).unwrap();
        self.events
            .lock()
            .unwrap()
            .push(Event::SetAside(object.reason));
    }

    async fn association_ended(&self, _association: AssociationId) {
        self.events.lock().unwrap().push(Event::Ended);
    }
}

/// A running server; stops when dropped.
pub struct Server {
    pub address: SocketAddr,
    /// By TLS, where the settings have a certificate.
    pub tls: Option<SocketAddr>,
    pub stop: CancellationToken,
    recorder: Arc<Recorder>,
    dir: TempDir,
    runtime: Option<Runtime>,
    task: Option<tokio::task::JoinHandle<std::io::Result<()>>>,
}

impl Server {
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut ReceiveSettings)) -> Self {
        Self::replying(change, |_| Ok(Kept::New))
    }

    pub fn replying(
        change: impl FnOnce(&mut ReceiveSettings),
        reply: impl Fn(&ReceivedObject) -> Result<Kept, Refusal> + Send + Sync + 'static,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = ReceiveSettings {
            spool_dir: dir.path().join("spool"),
            disk_reserve_bytes: 0,
            ..ReceiveSettings::default()
        };
        change(&mut settings);
        let recorder = Arc::new(Recorder {
            dir: dir.path().join("kept"),
            events: Mutex::default(),
            reply: Box::new(reply),
        });
        fs::create_dir(&recorder.dir).unwrap();
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let by_tls = settings.tls().unwrap().map(|live| {
            let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"));
            (listener.unwrap(), live)
        });
        let tls = by_tls.as_ref().map(|(l, _)| l.local_addr().unwrap());
        let doors = Doors {
            plain: listener,
            tls: by_tls,
        };
        let task = runtime.spawn(serve(doors, settings, recorder.clone(), stop.clone()));
        Self {
            address,
            tls,
            stop,
            recorder,
            dir,
            runtime: Some(runtime),
            task: Some(task),
        }
    }

    pub fn events(&self) -> Vec<Event> {
        self.recorder.events.lock().unwrap().clone()
    }

    pub fn kept(&self) -> Vec<ObjectHeader> {
        let kept = |event| match event {
            Event::Kept(header, _) => Some(*header),
            _ => None,
        };
        self.events().into_iter().filter_map(kept).collect()
    }

    /// Reasons of the objects that were set aside.
    pub fn set_aside(&self) -> Vec<String> {
        let reason = |event| match event {
            Event::SetAside(reason) => Some(reason),
            _ => None,
        };
        self.events().into_iter().filter_map(reason).collect()
    }

    pub fn file(&self, sop_instance_uid: &str) -> PathBuf {
        self.recorder.dir.join(format!("{sop_instance_uid}.dcm"))
    }

    /// Files that are still in the spool.
    pub fn spooled(&self) -> usize {
        fs::read_dir(self.dir.path().join("spool")).map_or(0, Iterator::count)
    }

    /// Until `condition` holds; panics after ten seconds.
    #[track_caller]
    pub fn wait(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !condition(self) {
            assert!(began.elapsed() < Duration::from_secs(10), "never: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops, and waits until the server is gone.
    pub fn finish(&mut self) {
        self.stop.cancel();
        if let (Some(runtime), Some(task)) = (&self.runtime, self.task.take()) {
            runtime.block_on(task).unwrap().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
