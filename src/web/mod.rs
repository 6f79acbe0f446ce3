//! What people and other systems see: pages, JSON API, login, live updates.
//!
//! `routes` is the one table of what exists and who may use it; `gate` enforces it before any
//! handler runs. Handlers ask the store, `view` turns answers into words, templates escape them.
//! Pages work without JavaScript; with it, the list follows the news without losing the reader's place.

mod account;
mod accounts;
mod acknowledge;
mod answer;
mod api;
mod assets;
mod budget;
mod client;
mod deeds;
mod deliveries;
mod destinations;
mod fhir;
mod filters;
mod follow_up;
mod gate;
mod health;
mod intake;
mod listen;
mod live;
mod login;
mod measured;
mod messages;
mod opinion;
mod preview;
mod probes;
mod quality;
mod ranking;
mod reading;
mod reading_api;
mod report;
mod routes;
mod scopes;
mod settings;
mod shown;
mod simulate;
mod sso;
mod starting;
mod study;
mod subscriptions;
mod system;
mod throttle;
mod trail;
mod view;
mod words;
mod worklist;

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use actix_web::http::StatusCode;
use actix_web::web;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

pub use destinations::Desk;
pub use health::{Health, Watched};
pub use routes::{Access, Rule, rules};
pub use scopes::read_scopes;
pub use settings::WebSettings;
pub use sso::SignOn;
pub use starting::answer_while_starting;
pub use subscriptions::Subscribing;

use crate::alerts::Alerts;
use crate::clock::{SharedClock, UnixMillis};
use crate::dicom::send::DestinationSettings as ObjectDestination;
use crate::fhir::subscription::Subscription;
use crate::porch::Places;
use crate::report::Reporter;
use crate::store::Store;
use crate::store::filters::Choices;
use crate::store::ranks::Ranker;
use crate::tls::Live;
use crate::worklist::{Acting, NewsDesk};
use answer::Problem;
use shown::ShownLog;
use throttle::Throttle;
use trail::{Recent, TrailDesk};

/// Choices of the filters, and when they were looked up.
type LookedUp = Option<(UnixMillis, Arc<Choices>)>;

/// Everything a handler may need.
#[derive(Clone)]
pub struct WebState {
    /// The database.
    pub store: Store,
    /// Where changes are told.
    pub news: NewsDesk,
    /// What time it is.
    pub clock: SharedClock,
    /// Settings of the web side.
    pub settings: WebSettings,
    /// The data folder: pictures lie under `pictures/` in it.
    pub data: PathBuf,
    /// How an order priority that comes in re-ranks its studies.
    pub ranker: Arc<Ranker>,
    /// Whether the server is ready and its workers alive.
    pub health: Health,
    /// Who is told of what, and how links are checked.
    pub alerts: Arc<Alerts>,
    /// What makes reports; none where there are none.
    pub reporter: Option<Arc<Reporter>>,
    /// Destinations of DICOM objects, by name: where each is.
    pub objects_to: Arc<BTreeMap<String, String>>,
    /// Who may subscribe to what, and what keeps their secrets; none where nobody may.
    pub subscribing: Option<Arc<Subscribing>>,
    /// What is known of destinations beside the alerts'.
    pub desk: Arc<Desk>,
    /// Single sign-on, where there is one.
    pub sign_on: Option<Arc<SignOn>>,
    /// Where the audit trail is sent on to, where it is.
    pub records_to: Option<String>,
    /// Told when a destination came or went.
    pub roll_call: Arc<Notify>,
    throttle: Arc<Throttle>,
    /// Deeds under way.
    deeds: Arc<Places>,
    listeners: Arc<Semaphore>,
    /// Where requests hand in what the audit trail keeps.
    trail: TrailDesk,
    /// What was noted there lately.
    recent: Arc<Recent>,
    /// Where pages say what they showed.
    shown: ShownLog,
    /// The choices of the list's filters, and when they were looked up.
    choices: Arc<Mutex<LookedUp>>,
    /// One reckoning at a time: it takes a core for a second or so.
    heavy: Arc<Semaphore>,
    /// Pages and API are other processes' work.
    only_probes: bool,
    stop: CancellationToken,
}

impl WebState {
    /// Puts the parts together.
    #[must_use]
    #[expect(
        clippy::too_many_arguments,
        reason = "each part once, named where it is called"
    )]
    pub fn new(
        store: Store,
        news: NewsDesk,
        clock: SharedClock,
        settings: WebSettings,
        data: PathBuf,
        ranker: Arc<Ranker>,
        health: Health,
        alerts: Arc<Alerts>,
    ) -> Self {
        Self {
            throttle: Arc::new(Throttle::default()),
            deeds: Arc::new(Places::new(settings.connections_max)),
            listeners: Arc::new(Semaphore::new(settings.live_listeners_max)),
            trail: TrailDesk::default(),
            recent: Arc::default(),
            shown: ShownLog::default(),
            choices: Arc::default(),
            heavy: Arc::new(Semaphore::new(1)),
            only_probes: false,
            stop: CancellationToken::new(),
            store,
            news,
            clock,
            settings,
            data,
            ranker,
            health,
            alerts,
            reporter: None,
            objects_to: Arc::default(),
            subscribing: None,
            desk: Arc::default(),
            sign_on: None,
            records_to: None,
            roll_call: Arc::default(),
        }
    }

    /// Whether a destination gets results rather than alerts. One that nobody knows any more may have been alerted.
    fn gets_results(&self, name: &str) -> bool {
        self.objects_reached(name).is_some()
            || self.desk.hl7_destination(name).is_some()
            || Subscription::of_destination(name).is_some()
    }

    /// Where a destination of DICOM objects is, for people.
    fn objects_reached(&self, name: &str) -> Option<String> {
        let made = self.desk.made.objects.get();
        let made = made.iter().find(|to| to.name == name);
        let fixed = self.objects_to.get(name).cloned();
        fixed.or_else(|| made.map(ObjectDestination::reached))
    }

    /// The place for something that takes a core for a while; there is one.
    fn heavy(&self) -> Result<OwnedSemaphorePermit, Problem> {
        self.heavy.clone().try_acquire_owned().map_err(|_| {
            let detail = "Somebody else is trying numbers just now. Reload in a few seconds.";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail).retry_after(2)
        })
    }

    /// Only machines that watch are answered.
    #[must_use]
    pub fn answering_probes_only(mut self) -> Self {
        self.only_probes = true;
        self
    }

    /// Reports are made with this.
    #[must_use]
    pub fn reporting(mut self, reporter: Arc<Reporter>) -> Self {
        self.reporter = Some(reporter);
        self
    }

    /// Results go to these destinations of DICOM objects.
    #[must_use]
    pub fn sending_to(mut self, destinations: BTreeMap<String, String>) -> Self {
        self.objects_to = Arc::new(destinations);
        self
    }

    /// Programs may subscribe; `roll_call` is told of those that came or went.
    #[must_use]
    pub fn subscribed_by(mut self, subscribing: Subscribing, roll_call: Arc<Notify>) -> Self {
        self.subscribing = Some(Arc::new(subscribing));
        self.roll_call = roll_call;
        self
    }

    /// Destinations are made with what is known here.
    #[must_use]
    pub fn at_desk(mut self, desk: Desk) -> Self {
        self.desk = Arc::new(desk);
        self
    }

    /// People can come by single sign-on.
    #[must_use]
    pub fn signing_on(mut self, sign_on: Option<SignOn>) -> Self {
        self.sign_on = sign_on.map(Arc::new);
        self
    }

    /// The audit trail is sent on to this address.
    #[must_use]
    pub fn recording_to(mut self, address: Option<String>) -> Self {
        self.records_to = address;
        self
    }

    /// A reader who does something now.
    fn acting<'a>(&self, reader: &'a str) -> Acting<'a> {
        Acting {
            reader,
            now_ms: self.clock.now_ms(),
            held_since_ms: self.held_since_ms(),
        }
    }

    /// Claims that were active after this moment hold.
    fn held_since_ms(&self) -> i64 {
        self.settings.worklist.held_since_ms(self.clock.now_ms())
    }
}

/// Serves until `stop` is cancelled, with `https` by TLS alone. Bind port 0 to let the system choose.
///
/// # Errors
/// When the listener cannot be used.
pub async fn serve(
    listener: TcpListener,
    https: Option<Arc<Live>>,
    state: WebState,
    stop: CancellationToken,
) -> io::Result<()> {
    let state = WebState {
        stop: stop.clone(),
        ..state
    };
    let log = tokio::spawn(shown::write(state.clone(), stop.clone()));
    let answered = CancellationToken::new();
    let kept = tokio::spawn(trail::write(state.clone(), answered.clone()));
    let data = web::Data::new(state);
    let server = listen::server(listener, https.as_ref(), data, stop.clone())?;
    let handle = server.handle();
    let mut server = std::pin::pin!(server);
    tokio::select! {
        done = &mut server => {
            answered.cancel();
            return done;
        }
        () = stop.cancelled() => {}
    }
    let (done, (), _) = tokio::join!(server, handle.stop(true), log);
    answered.cancel();
    let _ = kept.await;
    done
}
