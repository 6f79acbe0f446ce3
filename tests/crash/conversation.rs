//! A whole connection of a DICOM peer, through the server's own listener: association, messages, objects.

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use firstread::dicom::receive::{
    self, AssociationId, BadObject, CommitmentReport, Kept, ObjectSink, ReceiveSettings,
    ReceivedObject, Refusal,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use super::{a_associate_rq, c_store_rq, element};

/// How long the server may take to end a connection whose peer says nothing more.
const LONGEST: Duration = Duration::from_secs(50);
/// Addresses that callers take in turns: ports rest for a minute after each connection.
const ADDRESSES: u32 = 1_000_000;

/// Takes every object and keeps none.
struct Nowhere;

#[async_trait]
impl ObjectSink for Nowhere {
    async fn keep(&self, _: ReceivedObject) -> Result<Kept, Refusal> {
        Ok(Kept::New)
    }

    async fn set_aside(&self, object: BadObject) {
        drop(std::fs::remove_file(object.temp_path));
    }

    async fn commitment(&self, _: CommitmentReport) -> Result<bool, Refusal> {
        Ok(true)
    }

    fn takes_memory(&self) -> bool {
        true
    }

    async fn association_ended(&self, _: AssociationId) {}
}

struct Door {
    runtime: Runtime,
    at: SocketAddr,
    callers: Cell<u32>,
    _spool: TempDir,
}

/// A task that panics ends no server, so nobody would hear of it.
static PANICS: AtomicU64 = AtomicU64::new(0);

fn open() -> Door {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        before(panic);
    }));
    let spool = tempfile::tempdir().unwrap();
    let settings = ReceiveSettings {
        spool_dir: spool.path().to_owned(),
        disk_reserve_bytes: 0,
        ..ReceiveSettings::default()
    };
    // Server and peer take turns on one thread: the same input goes the same way.
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let listener = listener.unwrap();
    let at = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    runtime.spawn(receive::serve(listener, settings, Arc::new(Nowhere), stop));
    Door {
        runtime,
        at,
        callers: Cell::new(0),
        _spool: spool,
    }
}

/// Says it all, then listens until the server has no more to say.
pub fn association(bytes: &[u8]) {
    thread_local! {
        static DOOR: Door = open();
    }
    let before = PANICS.load(Ordering::Relaxed);
    DOOR.with(|door| {
        let caller = door.callers.get();
        door.callers.set(caller + 1);
        let from = Ipv4Addr::from(0x7F00_0001 + caller % ADDRESSES);
        door.runtime.block_on(async {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind((from, 0).into()).unwrap();
            let mut stream = socket.connect(door.at).await.unwrap();
            // The server may have hung up meanwhile.
            let said = stream.write_all(bytes).await;
            let _ = said.and(stream.shutdown().await);
            let mut heard = Vec::new();
            let ended = tokio::time::timeout(LONGEST, stream.read_to_end(&mut heard)).await;
            assert!(ended.is_ok(), "the server waits for what cannot come");
        });
    });
    let panics = PANICS.load(Ordering::Relaxed) - before;
    assert_eq!(panics, 0, "a task of the server panicked");
}

/// P-DATA-TF (PS3.8 9.3.5) of one value.
fn p_data(context: u8, control: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    let mut pdu = vec![4, 0];
    pdu.extend((length + 6).to_be_bytes());
    pdu.extend((length + 2).to_be_bytes());
    pdu.extend([context, control]);
    pdu.extend(bytes);
    pdu
}

/// An explicit data set in little endian with what an object must have.
fn object() -> Vec<u8> {
    let values: [([u16; 2], &[u8; 2], &[u8]); 7] = [
        ([0x0008, 0x0016], b"UI", b"1.2.840.10008.5.1.4.1.1.4\0"),
        ([0x0008, 0x0018], b"UI", b"1.2.3.4\0"),
        ([0x0008, 0x0060], b"CS", b"MR"),
        ([0x0010, 0x0010], b"PN", b"Doe^Jane"),
        ([0x0010, 0x0020], b"LO", b"P1"),
        ([0x0020, 0x000D], b"UI", b"1.2.3.5\0"),
        ([0x0020, 0x000E], b"UI", b"1.2.3.6\0"),
    ];
    let mut all = Vec::new();
    for (tag, vr, value) in values {
        all.extend(tag.map(u16::to_le_bytes).concat());
        all.extend(vr);
        all.extend(u16::try_from(value.len()).unwrap().to_le_bytes());
        all.extend(value);
    }
    all
}

/// What peers say: an object, an echo, a report of commitment, and a rude end.
pub fn conversations() -> Vec<Vec<u8>> {
    let echo = [
        element(0x0002, b"1.2.840.10008.1.1\0"),
        element(0x0100, &[0x30, 0]),
        element(0x0110, &[1, 0]),
        element(0x0800, &[1, 1]),
    ];
    let report = [
        element(0x0002, b"1.2.840.10008.1.20.1\0"),
        element(0x0100, &[0, 1]),
        element(0x0110, &[2, 0]),
        element(0x0800, &[0, 0]),
        element(0x1000, b"1.2.840.10008.1.20.1.1\0\0"),
        element(0x1002, &[1, 0]),
    ];
    let transaction = [&[8, 0, 0x95, 0x11][..], b"UI\x06\x001.2.3\0"].concat();
    let (hello, bye) = (a_associate_rq(), vec![5, 0, 0, 0, 0, 4, 0, 0, 0, 0]);
    let data = object();
    let (front, back) = data.split_at(data.len() / 2);
    vec![
        [
            hello.clone(),
            p_data(1, 3, &c_store_rq()),
            p_data(1, 0, front),
            p_data(1, 2, back),
            bye.clone(),
        ]
        .concat(),
        [
            hello.clone(),
            p_data(3, 3, &echo.concat()),
            p_data(5, 3, &report.concat()),
            p_data(5, 2, &transaction),
            bye,
        ]
        .concat(),
        [hello, vec![7, 0, 0, 0, 0, 4, 0, 0, 0, 0]].concat(),
    ]
}
