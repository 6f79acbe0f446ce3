//! Puts the parts together and runs them until told to stop.

mod doors;
mod guests;
mod outward;
mod presence;
mod recipients;
mod record;
mod relay;
mod retention;
mod role;
mod watch;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::alerts::Alerts;
use crate::analysis::{self, Analyst, Engine, Runtime};
use crate::clock::SharedClock;
use crate::config::Config;
use crate::dicom::decode::DecodeLimits;
use crate::dicom::receive;
use crate::hl7::{self, Receiver};
use crate::intake::{Intake, IntakeParts};
use crate::jobs::Worker;
use crate::made::MadeResults;
use crate::norms::Norms;
use crate::report::Reporter;
use crate::results::Results;
use crate::secrets::Vault;
use crate::store::accounts::FirstUser;
use crate::store::jobs::{FOLLOW_UP, RESULTS, SCREEN, VOLUMETRY};
use crate::store::ranks::Ranker;
use crate::store::turns::Duty;
use crate::store::{Files, Store};
use crate::telemetry;
use crate::tls::Live;
use crate::web::{self, Health, Subscribing, WebState};
use crate::worklist::NewsDesk;
use doors::Doors;
use presence::Presence;
use recipients::{desk, know_ris, objects_to, results};
use retention::Retention;
pub use retention::RetentionSettings;
pub(crate) use retention::used_percent;
pub use role::{Part, ProcessSettings};
use watch::Watch;

pub use doors::Addresses;

/// The norm table, in the binary.
pub const NORM_TABLE: &str = include_str!("../norms/norms_synthseg_v0.json");
/// The last words of a server that stops may take so long each.
const LEAVING: Duration = Duration::from_secs(2);

/// A running server.
pub struct Server {
    /// Where others connect.
    pub at: Addresses,
    /// The database.
    pub store: Store,
    clock: SharedClock,
    stop: CancellationToken,
    tasks: JoinSet<Result<(), String>>,
    /// Interrupted when the server stops.
    networks: Vec<Arc<Engine>>,
}

impl Server {
    /// Starts all parts. Port 0 lets the system choose.
    ///
    /// # Errors
    /// In words: which part did not start, and why.
    pub async fn start(mut config: Config, clock: SharedClock) -> Result<Self, String> {
        let data = config.listen.data.clone();
        let files =
            Files::open(&data).map_err(|e| format!("data folder {}: {e}", data.display()))?;
        config.dicom.spool_dir = files.spool();
        let (http, https) = Doors::open_http(&config)?;
        let started = CancellationToken::new();
        let door = http.try_clone().map_err(|e| format!("http: {e}"))?;
        let answering = web::answer_while_starting(door, https.clone(), started.clone());
        let answering = tokio::spawn(answering);
        let opened = Box::pin(Self::start_after(config, clock, files, (http, https))).await;
        started.cancel();
        let _ = answering.await;
        opened
    }

    async fn start_after(
        config: Config,
        clock: SharedClock,
        files: Files,
        http: doors::Http,
    ) -> Result<Self, String> {
        let part = config.process.role;
        let data = config.listen.data.clone();
        let connections = config.database.connections_max;
        let store = Store::open_with(config.database_url(), &data, connections)
            .await
            .map_err(database)?;
        if part != Part::All && !store.is_postgres() {
            return Err(format!(
                "process.role is {part}: sharing the work needs PostgreSQL, set database.url"
            ));
        }
        let doors = Doors::open(&config, http).await?;
        let health = Health::default();
        let presence = Presence::join(&store, &files, &clock, &health, part)
            .await
            .map_err(database)?;
        let at = doors.addresses()?;
        let mut server = Self {
            at,
            store: store.clone(),
            clock: clock.clone(),
            stop: CancellationToken::new(),
            tasks: JoinSet::new(),
            networks: Vec::new(),
        };
        let stop = server.stop.clone();
        server.tasks.spawn(async move {
            presence.run(stop).await;
            Ok(())
        });
        telemetry::start_counting();
        let stop = server.stop.clone();
        let watch = Watch {
            store: store.clone(),
            clock: clock.clone(),
            health: health.clone(),
            logs: files.log(),
            takes_over: part.receives(),
        };
        let watch = watch.run(stop);
        server.tasks.spawn(async move {
            watch.await;
            Ok(())
        });
        know_ris(&store, &config).await?;
        server
            .start_parts(config, clock, files, doors, health)
            .await?;
        info!(http = %at.http, dicom = ?at.dicom, role = %part, run = store.run(), "ready");
        Ok(server)
    }

    async fn start_parts(
        &mut self,
        config: Config,
        clock: SharedClock,
        files: Files,
        doors: Doors,
        health: Health,
    ) -> Result<(), String> {
        let store = self.store.clone();
        let part = config.process.role;
        let Agreed {
            alerts,
            ranker,
            vault,
        } = agree(&store, &config, &clock).await?;
        let (news, work) = (NewsDesk::default(), Arc::new(Notify::new()));
        self.start_relay(part, &news, &work);
        let analyst = if part.works() {
            let made = analyst(&config, &store, &files, &clock, &ranker, &news)?;
            Some(made)
        } else {
            None
        };
        let reporter = Arc::new(reporter(&config, analyst.as_ref())?);
        let roll_call = Arc::new(Notify::new());
        let made = MadeResults::default();
        let subscribing = Subscribing {
            settings: config.fhir.clone(),
            vault: vault.clone(),
        };
        let mut state = WebState::new(
            store.clone(),
            news.clone(),
            clock.clone(),
            config.web.clone(),
            config.listen.data.clone(),
            ranker.clone(),
            health.clone(),
            alerts.clone(),
        )
        .reporting(reporter.clone())
        .sending_to(objects_to(&config))
        .subscribed_by(subscribing, roll_call.clone())
        .at_desk(desk(&config, &made))
        .signing_on(doors::sign_on(&config, &vault)?)
        .recording_to(config.atna.on().then(|| config.atna.address()));
        if !part.shows() {
            state = state.answering_probes_only();
        }
        let comers = (&vault, &roll_call, &made);
        self.start_outbox(&config, &clock, &alerts, &health, comers)?;
        self.start_atna(&config, &clock)?;
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            web::serve(doors.http, doors.https, state, stop)
                .await
                .map_err(|e| format!("web: {e}"))
        });
        if let Some(dicom) = doors.dicom {
            let parts = IntakeParts {
                store: store.clone(),
                files: files.clone(),
                clock: clock.clone(),
                settings: config.intake.clone(),
                reserve_bytes: config.dicom.disk_reserve_bytes,
                ranker: ranker.clone(),
                news: news.clone(),
                backlog: health.backlog.clone(),
                work: work.clone(),
            };
            self.start_dicom(dicom, parts, &config).await?;
        }
        self.start_hl7(doors.hl7, &config, &clock, ranker, news);
        if let Some(analyst) = analyst {
            self.start_priors(&config, &clock);
            let retention = Retention {
                store: store.clone(),
                files: files.clone(),
                clock: clock.clone(),
                settings: config.retention.clone(),
            };
            let stop = self.stop.clone();
            self.tasks.spawn(async move {
                retention.run(stop).await;
                Ok(())
            });
            let results = results(&config, &store, &files, &clock, &reporter, &made);
            self.start_workers(files.run(), &clock, analyst, results, work, &health);
        }
        record::started(&store, &clock, part).await?;
        health.set_ready();
        Ok(())
    }

    /// Starts what takes objects.
    async fn start_dicom(
        &mut self,
        dicom: receive::Doors,
        parts: IntakeParts,
        config: &Config,
    ) -> Result<(), String> {
        let (intake, mut tasks) = Intake::start(parts, self.stop.clone()).await?;
        let (settings, stop) = (config.dicom.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                served = receive::serve(dicom, settings, intake.clone(), stop.clone()) => {
                    intake.finish().await;
                    served.map_err(|e| format!("dicom: {e}"))
                }
                // As when the process is killed: what was acknowledged stays in the log for the next one.
                how = tasks.ended_early(&stop) => Err(format!("reception: {how}")),
            }
        });
        Ok(())
    }

    /// Starts what keeps several processes in step.
    fn start_relay(&mut self, part: Part, news: &NewsDesk, work: &Arc<Notify>) {
        if !self.store.is_postgres() {
            return;
        }
        let tell = relay::tell(self.store.clone(), news.clone(), self.stop.clone());
        let heard = part.works().then(|| work.clone());
        let listen = relay::listen(self.store.clone(), news.clone(), heard, self.stop.clone());
        let tell_of_work = relay::tell_of_work(self.store.clone(), work.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            if part.works() {
                tokio::join!(tell, listen);
            } else {
                tokio::join!(tell, listen, tell_of_work);
            }
            Ok(())
        });
    }

    /// One screens, one measures, one compares, one makes results and hands them over.
    fn start_workers(
        &mut self,
        name: &str,
        clock: &SharedClock,
        analyst: Analyst,
        results: Results,
        work: Arc<Notify>,
        health: &Health,
    ) {
        health.set_works_here();
        self.networks.push(analyst.engine.clone());
        self.networks.extend(analyst.measuring.clone());
        let (analyst, results) = (Arc::new(analyst), Arc::new(results));
        let (measuring, sending) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let comparing = Arc::new(Notify::new());
        let beat_ms = health.last_worker_beat_ms.clone();
        let kinds = [
            (
                SCREEN,
                format!("{name}:{SCREEN}"),
                work,
                measuring.clone(),
                beat_ms,
            ),
            (
                VOLUMETRY,
                format!("{name}:{VOLUMETRY}"),
                measuring,
                comparing.clone(),
                Arc::default(),
            ),
            (
                FOLLOW_UP,
                format!("{name}:{FOLLOW_UP}"),
                comparing,
                sending.clone(),
                Arc::default(),
            ),
            (
                RESULTS,
                format!("{name}:{RESULTS}"),
                sending.clone(),
                sending,
                Arc::default(),
            ),
        ];
        for (kind, name, work, done, beat_ms) in kinds {
            let worker = Worker {
                name,
                kind,
                store: self.store.clone(),
                clock: clock.clone(),
                analyst: analyst.clone(),
                results: results.clone(),
                work,
                done,
                beat_ms,
            };
            let stop = self.stop.clone();
            self.tasks.spawn(async move {
                Box::pin(worker.run(stop)).await;
                Ok(())
            });
        }
    }

    /// Starts what takes messages of the RIS, where it is wanted.
    fn start_hl7(
        &mut self,
        door: Option<(TcpListener, Option<Arc<Live>>)>,
        config: &Config,
        clock: &SharedClock,
        ranker: Arc<Ranker>,
        news: NewsDesk,
    ) {
        let Some((listener, tls)) = door else {
            return;
        };
        let receiver = Receiver {
            store: self.store.clone(),
            clock: clock.clone(),
            ranker,
            news,
            settings: Arc::new(config.hl7.clone()),
        };
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            hl7::listen::serve(listener, receiver, tls, stop).await;
            Ok(())
        });
    }

    /// Serves until a part fails or [`Server::stop`] was asked for by `stopping`.
    ///
    /// # Errors
    /// The part that failed, and why.
    pub async fn run(mut self, stopping: impl Future<Output = ()>) -> Result<(), String> {
        let (outcome, a_job_can_be_it) = tokio::select! {
            () = stopping => (Ok(()), false),
            ended = self.tasks.join_next() => match ended {
                // a listener, a page, reception: none of them runs jobs
                Some(Ok(Err(e))) => (Err(e), false),
                Some(Err(e)) => (Err(format!("a part of the server broke: {e}")), true),
                _ => (Err("a part of the server ended".into()), false),
            },
        };
        if let Err(e) = &outcome {
            error!(error = %e, "stopping");
        }
        let why = outcome.as_ref().err().map(String::as_str);
        self.end(why, a_job_can_be_it).await;
        outcome
    }

    /// Lets what is under way finish for a bounded time.
    pub async fn stop(self) {
        self.end(None, false).await;
    }

    /// `why`: what broke, if anything did; `a_job_can_be_it`: whether that may have been a job's work.
    async fn end(mut self, why: Option<&str>, a_job_can_be_it: bool) {
        self.stop.cancel();
        for network in &self.networks {
            network.interrupt();
        }
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(Duration::from_secs(20), all).await;
        // first what others wait for, each in a time of its own
        let leave = Presence::leave(&self.store, &self.clock, !a_job_can_be_it);
        let _ = tokio::time::timeout(LEAVING, leave).await;
        let say = record::stopped(&self.store, &self.clock, why);
        let _ = tokio::time::timeout(LEAVING, say).await;
    }
}

/// What all processes must agree on before they begin.
struct Agreed {
    alerts: Arc<Alerts>,
    ranker: Arc<Ranker>,
    vault: Arc<Vault>,
}

/// First user, keys and ranking settings: of processes that start at once one makes them.
async fn agree(store: &Store, config: &Config, clock: &SharedClock) -> Result<Agreed, String> {
    let turn = store.wait_for_turn(Duty::Start).await.map_err(database)?;
    first_user(store, &config.listen.data, clock).await?;
    let rules = store
        .settle_settings(&config.triage, clock.now_ms())
        .await
        .map_err(database)?;
    let policy = config
        .alerts
        .policy(config.web.time_zone, config.worklist.claim_idle_ms());
    let alerts = Alerts::new(
        &config.alerts,
        policy.clone(),
        &config.site.name,
        &config.listen.data,
    )?;
    let alerts = Arc::new(alerts);
    let version = rules.version;
    if rules.settings != config.triage {
        info!(
            version,
            "ranking settings applied on the page stay in force; the file's have not changed since"
        );
    }
    let ranker = Arc::new(Ranker::new(rules, policy));
    let rekeyed = store
        .rekey_open_studies(&ranker, clock.now_ms())
        .await
        .map_err(database)?;
    if rekeyed > 0 {
        info!(
            rekeyed,
            version, "re-ranked open studies under new settings"
        );
    }
    let vault = open_vault(config)?;
    guests::check(store, &config.alerts.counts_on()).await?;
    turn.end().await.map_err(database)?;
    Ok(Agreed {
        alerts,
        ranker,
        vault,
    })
}

fn open_vault(config: &Config) -> Result<Arc<Vault>, String> {
    let vault = Vault::open(&config.listen.data);
    vault
        .map(Arc::new)
        .map_err(|e| format!("key of secrets: {e}"))
}

fn analyst(
    config: &Config,
    store: &Store,
    files: &Files,
    clock: &SharedClock,
    ranker: &Arc<Ranker>,
    news: &NewsDesk,
) -> Result<Analyst, String> {
    let runtime = Runtime::load(&config.analysis)?;
    Ok(Analyst {
        store: store.clone(),
        files: files.clone(),
        clock: clock.clone(),
        engine: Arc::new(runtime.engine("screening")?),
        measuring: runtime.measuring_engine().map(Arc::new),
        norms: Arc::new(Norms::parse(NORM_TABLE)?),
        ranker: ranker.clone(),
        news: news.clone(),
        limits: DecodeLimits {
            memory_mib: config.analysis.decode_memory_mib,
            ..DecodeLimits::default()
        },
        attempts: config.analysis.attempts_max,
    })
}

fn reporter(config: &Config, analyst: Option<&Analyst>) -> Result<Reporter, String> {
    let of = |engine: &Engine| engine.norms.clone().map(|n| (engine.card.label(), n));
    let cards = &config.analysis;
    let (screening, measuring) = match analyst {
        Some(analyst) => (
            of(&analyst.engine),
            analyst.measuring.as_deref().ok().and_then(of),
        ),
        // Where nothing is analysed no network is loaded: its card says the same.
        None => (
            analysis::norms_of(cards, "screening"),
            analysis::norms_of(cards, "volumetry"),
        ),
    };
    Ok(Reporter {
        settings: config.report.clone(),
        norms: Arc::new(Norms::parse(NORM_TABLE)?),
        time_zone: config.web.time_zone,
        screening,
        measuring,
    })
}

async fn first_user(store: &Store, data: &Path, clock: &SharedClock) -> Result<(), String> {
    let wanted = std::env::var("FIRSTREAD_ADMIN_PASSWORD")
        .ok()
        .filter(|p| !p.is_empty());
    let hand_over = |user: &FirstUser| crate::cli::hand_over(user, data);
    store
        .ensure_first_user(wanted, clock.now_ms(), hand_over)
        .await
        .map(drop)
        .map_err(|e| e.to_string())
}

#[expect(clippy::needless_pass_by_value, reason = "handed to map_err")]
fn database(e: crate::store::StoreError) -> String {
    format!("database: {e}")
}
