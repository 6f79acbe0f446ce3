//! Intake as reception sees it.

use std::sync::Arc;
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::{Backlog, Intake, IntakeParts, IntakeSettings};
use crate::alerts::AlertSettings;
use crate::clock::{Clock, UnixMillis};
use crate::dicom::header::ObjectHeader;
use crate::dicom::receive::{Body, Kept, ObjectSink as _, Pool, ReceivedObject};
use crate::store::Store;
use crate::store::files::Files;
use crate::store::overview::KeptAside;
use crate::store::ranks::Ranker;
use crate::triage::TriageSettings;
use crate::worklist::NewsDesk;

/// A clock that breaks whoever asks it elsewhere than in this thread: the recorder, at each object.
struct Breaking(ThreadId);

impl Clock for Breaking {
    fn now_ms(&self) -> UnixMillis {
        assert_eq!(thread::current().id(), self.0, "broken on purpose");
        1_795_435_200_000
    }
}

async fn kept_aside(store: &Store) -> Vec<KeptAside> {
    let began = Instant::now();
    loop {
        let all = store.kept_aside(10).await.unwrap();
        if !all.is_empty() || began.elapsed() > Duration::from_mins(1) {
            return all;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_breaks_the_recorder_is_kept_aside() {
    let (data, stop) = (tempfile::tempdir().unwrap(), CancellationToken::new());
    let store = Store::open(None, data.path()).await.unwrap();
    let rules = store.settle_settings(&TriageSettings::default(), 0).await;
    let policy = AlertSettings::default().policy(chrono_tz::UTC, 0);
    let backlog = Backlog::default();
    let parts = IntakeParts {
        store: store.clone(),
        files: Files::open(data.path()).unwrap(),
        clock: Arc::new(Breaking(thread::current().id())),
        settings: IntakeSettings::default(),
        reserve_bytes: 0,
        ranker: Arc::new(Ranker::new(rules.unwrap(), policy)),
        news: NewsDesk::default(),
        backlog: backlog.clone(),
        work: Arc::default(),
    };
    let (intake, _tasks) = Intake::start(parts, stop).await.unwrap();
    let mut bytes = Arc::<Pool>::default().take();
    assert!(bytes.push(b"a file").is_empty());
    let object = ReceivedObject {
        association: 1,
        calling_ae: "MR".into(),
        size_bytes: bytes.len() as u64,
        body: Body::Memory {
            object: bytes,
            meta_bytes: 2,
        },
        header: ObjectHeader {
            sop_instance_uid: "1.2.3.4".into(),
            study_uid: "1.2".into(),
            series_uid: "1.2.3".into(),
            ..ObjectHeader::default()
        },
    };
    assert_eq!(intake.keep(object).await, Ok(Kept::New));
    let aside = kept_aside(&store).await;
    assert_eq!(aside.len(), 1);
    assert_eq!(aside[0].sop_uid, "1.2.3.4");
    assert!(aside[0].kept, "with its bytes");
    assert!(aside[0].reason.contains("panic"), "{}", aside[0].reason);
    // recording goes on, and nobody waits for the studies
    intake.finish().await;
    assert_eq!(backlog.unrecorded().objects, 0);
    let turn = tokio::time::timeout(Duration::from_secs(5), store.hold_studies(["1.2"])).await;
    assert!(turn.is_ok_and(|turn| turn.is_ok()));
}
