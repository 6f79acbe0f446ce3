//! News between the processes of one server: a row that one changes moves in every open browser.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::store::Store;
use crate::store::spread::{SPREAD_MAX, Spread};
use crate::worklist::{News, NewsDesk};

/// News that come within so long are told together.
const GATHER: Duration = Duration::from_millis(100);
/// Wait before listening again where the database is away.
const AGAIN: Duration = Duration::from_secs(1);

/// Tells the other processes what changed here.
pub(super) async fn tell(store: Store, news: NewsDesk, stop: CancellationToken) {
    let mut ours = news.listen_to_ours();
    loop {
        let first = tokio::select! {
            () = stop.cancelled() => return,
            heard = ours.recv() => heard,
        };
        tokio::time::sleep(GATHER).await;
        let mut uids = BTreeSet::new();
        let mut everything = false;
        let mut heard = Some(first);
        while let Some(one) = heard {
            match one {
                Ok(News::Study(uid)) => _ = uids.insert(uid),
                Ok(News::Everything) | Err(RecvError::Lagged(_)) => everything = true,
                Err(RecvError::Closed) => return,
            }
            heard = ours.try_recv().ok().map(Ok);
        }
        let said = if everything || uids.len() > SPREAD_MAX {
            Spread::Everything
        } else {
            Spread::Studies(uids.into_iter().collect())
        };
        if let Err(e) = store.spread(&said).await {
            warn!(error = %e, "could not tell other processes what changed");
        }
    }
}

/// Tells the other processes that there is work, where none of it is done here.
pub(super) async fn tell_of_work(store: Store, work: Arc<Notify>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = work.notified() => {}
        }
        if let Err(e) = store.spread(&Spread::Work).await {
            warn!(error = %e, "could not tell other processes of work");
        }
    }
}

/// Listens to the other processes.
pub(super) async fn listen(
    store: Store,
    news: NewsDesk,
    work: Option<Arc<Notify>>,
    stop: CancellationToken,
) {
    let listening = async {
        loop {
            match store.ear().await {
                Ok(None) => return std::future::pending().await,
                Ok(Some(mut ear)) => loop {
                    match ear.hear().await {
                        Ok(Spread::Studies(uids)) => {
                            for uid in uids {
                                news.pass_on(News::Study(uid));
                            }
                        }
                        Ok(Spread::Everything) => news.pass_on(News::Everything),
                        Ok(Spread::Work) => {
                            if let Some(work) = &work {
                                work.notify_one();
                            }
                        }
                        Err(e) => {
                            warn!(error = %e, "does not hear other processes");
                            break;
                        }
                    }
                },
                Err(e) => warn!(error = %e, "could not listen to other processes"),
            }
            tokio::time::sleep(AGAIN).await;
            // Whatever was said meanwhile.
            news.pass_on(News::Everything);
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = listening => {}
    }
}
