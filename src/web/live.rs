//! `/events`: tells an open list which studies changed, by server-sent events.

use std::collections::BTreeSet;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpResponse, web};
use bytes::Bytes;
use futures_util::stream;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::WebState;
use super::answer::Problem;
use super::gate::Visitor;
use crate::worklist::News;

/// Changes that come within so long are told together.
const GATHER: Duration = Duration::from_millis(200);
/// Studies named in one event; beyond it the page is told to look at everything.
const NAMED_MAX: usize = 100;
/// A sign of life, so that neither side keeps a dead connection; the session is looked at each time.
const BEAT: Duration = Duration::from_secs(15);
/// When a browser that was turned away may ask again.
const RETRY_SECONDS: i64 = 30;

struct Listener {
    state: web::Data<WebState>,
    secret: String,
    news: Receiver<News>,
    beat: Interval,
    greeted: bool,
    _place: OwnedSemaphorePermit,
}

pub(super) async fn events(
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
) -> HttpResponse {
    let Ok(place) = state.listeners.clone().try_acquire_owned() else {
        let detail = "All live connections are taken; the list reloads by itself instead.";
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail)
            .retry_after(RETRY_SECONDS)
            .page();
    };
    let mut beat = tokio::time::interval_at(Instant::now() + BEAT, BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let listener = Listener {
        secret: visitor.secret.clone(),
        news: state.news.listen(),
        beat,
        greeted: false,
        _place: place,
        state,
    };
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/event-stream"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(stream::unfold(listener, |mut listener| async {
            let told = listener.next().await?;
            Some((Ok::<_, actix_web::Error>(told), listener))
        }))
}

impl Listener {
    /// What to tell next; `None` ends the stream.
    async fn next(&mut self) -> Option<Bytes> {
        if !self.greeted {
            self.greeted = true;
            return Some(Bytes::from_static(
                b"retry: 3000\nevent: hello\ndata: {}\n\n",
            ));
        }
        let stop = self.state.stop.clone();
        tokio::select! {
            () = stop.cancelled() => None,
            heard = self.news.recv() => match heard {
                Ok(news) => Some(self.gather(news).await),
                Err(RecvError::Lagged(_)) => Some(everything()),
                Err(RecvError::Closed) => None,
            },
            _ = self.beat.tick() => self.still_signed_in().await,
        }
    }

    async fn gather(&mut self, first: News) -> Bytes {
        let mut heard = vec![first];
        tokio::time::sleep(GATHER).await;
        while let Ok(news) = self.news.try_recv() {
            heard.push(news);
        }
        let named = heard.into_iter().map(|news| match news {
            News::Study(uid) => Some(uid),
            News::Everything => None,
        });
        let Some(changed) = named.collect::<Option<BTreeSet<String>>>() else {
            return everything();
        };
        if changed.len() > NAMED_MAX {
            return everything();
        }
        let data = json!({ "study_uids": changed });
        Bytes::from(format!("event: studies\ndata: {data}\n\n"))
    }

    async fn still_signed_in(&self) -> Option<Bytes> {
        let limits = self.state.settings.session_limits();
        let now_ms = self.state.clock.now_ms();
        let session = self
            .state
            .store
            .session(&self.secret, limits, false, now_ms)
            .await;
        match session {
            Ok(None) => None,
            // a database that does not answer signs nobody out
            Ok(Some(_)) | Err(_) => Some(Bytes::from_static(b": beat\n\n")),
        }
    }
}

fn everything() -> Bytes {
    Bytes::from_static(b"event: everything\ndata: {}\n\n")
}
