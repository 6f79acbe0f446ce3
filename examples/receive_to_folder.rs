//! Reception alone, for measuring it: objects go to a folder, synced, without a database.
//!
//! `receive_to_folder DIR ADDR:PORT`; prints a line when it listens, ends on SIGTERM.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use firstread::dicom::receive::{
    self, AssociationId, BadObject, Body, Kept, ObjectSink, ReceiveSettings, ReceivedObject,
    Refusal,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

struct Folder(PathBuf);

#[async_trait]
impl ObjectSink for Folder {
    async fn keep(&self, object: ReceivedObject) -> Result<Kept, Refusal> {
        let dir = self.0.clone();
        let moved = tokio::task::spawn_blocking(move || store(&dir, &object));
        match moved.await {
            Ok(Ok(())) => Ok(Kept::New),
            Ok(Err(error)) => Err(Refusal {
                status: 0xA700,
                comment: error.to_string(),
            }),
            Err(_) => Err(Refusal {
                status: 0xA700,
                comment: "storing failed".into(),
            }),
        }
    }

    async fn set_aside(&self, object: BadObject) {
        println!("set aside: {}", object.reason);
    }

    async fn association_ended(&self, _association: AssociationId) {}
}

fn store(dir: &Path, object: &ReceivedObject) -> io::Result<()> {
    let name = format!("{}.dcm", object.header.sop_instance_uid);
    let Body::File { temp_path, .. } = &object.body else {
        return Err(io::Error::other("this sink takes no memory"));
    };
    fs::rename(temp_path, dir.join(name))?;
    File::open(dir)?.sync_all()
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = || io::Error::other("usage: receive_to_folder DIR ADDR:PORT");
    let dir = PathBuf::from(arguments.next().ok_or_else(usage)?);
    let address = arguments.next().ok_or_else(usage)?;
    fs::create_dir_all(&dir)?;
    let settings = ReceiveSettings {
        spool_dir: dir.join("spool"),
        ..ReceiveSettings::default()
    };
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    let stop = CancellationToken::new();
    let stopper = stop.clone();
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::spawn(async move {
        terminate.recv().await;
        stopper.cancel();
    });
    receive::serve(listener, settings, Arc::new(Folder(dir)), stop).await
}
