//! Puts the parts together and runs them until told to stop.

mod doors;
mod guests;
mod recipients;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::alerts::{self, Alerts, Announcer};
use crate::analysis::{Analyst, Engine, Runtime};
use crate::clock::SharedClock;
use crate::config::Config;
use crate::dicom::decode::DecodeLimits;
use crate::dicom::receive;
use crate::fhir::FhirCourier;
use crate::hl7::courier::Hl7Courier;
use crate::hl7::{self, Receiver};
use crate::intake::{Intake, IntakeParts};
use crate::jobs::Worker;
use crate::made::MadeResults;
use crate::norms::Norms;
use crate::outbox::{Outbox, Routes};
use crate::priors::Priors;
use crate::report::Reporter;
use crate::results::{ObjectCourier, Results};
use crate::secrets::Vault;
use crate::store::jobs::{FOLLOW_UP, RESULTS, SCREEN, VOLUMETRY};
use crate::store::ranks::Ranker;
use crate::store::{Files, Store};
use crate::tls::Live;
use crate::web::{self, Health, Subscribing, WebState};
use crate::worklist::NewsDesk;
use doors::Doors;
use guests::{Comers, Guests};
use recipients::{desk, know_ris, objects_to, results, results_to};

pub use doors::Addresses;

/// The norm table, in the binary.
pub const NORM_TABLE: &str = include_str!("../norms/norms_synthseg_v0.json");

/// A running server.
pub struct Server {
    /// Where others connect.
    pub at: Addresses,
    /// The database.
    pub store: Store,
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
    pub async fn start(config: Config, clock: SharedClock) -> Result<Self, String> {
        let data = config.listen.data.clone();
        let files =
            Files::open(&data).map_err(|e| format!("data folder {}: {e}", data.display()))?;
        let left = files.empty_spool().map_err(|e| format!("spool: {e}"))?;
        let store = Store::open(config.database_url(), &data)
            .await
            .map_err(database)?;
        let doors = Doors::open(&config).await?;
        let at = doors.addresses()?;
        let mut server = Self {
            at,
            store: store.clone(),
            stop: CancellationToken::new(),
            tasks: JoinSet::new(),
            networks: Vec::new(),
        };
        if left > 0 {
            info!(
                left,
                "removed objects that an earlier process had not acknowledged"
            );
        }
        know_ris(&store, &config).await?;
        server.start_parts(config, clock, files, doors).await?;
        info!(http = %at.http, dicom = %at.dicom, "ready");
        Ok(server)
    }

    async fn start_parts(
        &mut self,
        config: Config,
        clock: SharedClock,
        files: Files,
        doors: Doors,
    ) -> Result<(), String> {
        let store = self.store.clone();
        first_user(&store, &clock).await?;
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
        let (news, work, health) = (
            NewsDesk::default(),
            Arc::new(Notify::new()),
            Health::default(),
        );
        let analyst = analyst(&config, &store, &files, &clock, &ranker, &news)?;
        let reporter = Arc::new(reporter(&config, &analyst));
        let (vault, roll_call) = (open_vault(&config)?, Arc::new(Notify::new()));
        let made = MadeResults::default();
        let results = results(&config, &store, &files, &clock, &reporter, &made);
        guests::check(&store, &config.alerts.counts_on()).await?;
        let subscribing = Subscribing {
            settings: config.fhir.clone(),
            vault: vault.clone(),
        };
        let state = WebState::new(
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
        .signing_on(doors::sign_on(&config, &vault)?);
        let comers = (&vault, &roll_call, &made);
        self.start_outbox(&config, &clock, &alerts, &health, comers)?;
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            web::serve(doors.http, doors.https, state, stop)
                .await
                .map_err(|e| format!("web: {e}"))
        });
        let parts = IntakeParts {
            store: store.clone(),
            files: files.clone(),
            clock: clock.clone(),
            settings: config.intake.clone(),
            ranker: ranker.clone(),
            news: news.clone(),
            work: work.clone(),
        };
        let intake = Intake::start(parts, self.stop.clone())
            .await
            .map_err(database)?;
        let (settings, stop) = (config.dicom.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            receive::serve(doors.dicom, settings, intake, stop)
                .await
                .map_err(|e| format!("dicom: {e}"))
        });
        self.start_hl7(doors.hl7, &config, &clock, ranker, news);
        self.start_priors(&config, &clock);
        let name = worker_name(&config);
        self.start_workers(&name, &clock, analyst, results, work, &health)
            .await?;
        health.set_ready();
        Ok(())
    }

    /// One screens, one measures, one compares, one makes results and hands them over.
    async fn start_workers(
        &mut self,
        name: &str,
        clock: &SharedClock,
        analyst: Analyst,
        results: Results,
        work: Arc<Notify>,
        health: &Health,
    ) -> Result<(), String> {
        self.networks.push(analyst.engine.clone());
        self.networks.extend(analyst.measuring.clone());
        let (analyst, results) = (Arc::new(analyst), Arc::new(results));
        let (measuring, sending) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let comparing = Arc::new(Notify::new());
        let beat_ms = health.last_worker_beat_ms.clone();
        let kinds = [
            (SCREEN, name.to_owned(), work, measuring.clone(), beat_ms),
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
            self.store
                .release_leases(&worker.name)
                .await
                .map_err(database)?;
            let stop = self.stop.clone();
            self.tasks.spawn(async move {
                Box::pin(worker.run(stop)).await;
                Ok(())
            });
        }
        Ok(())
    }

    /// Starts what asks the PACS for earlier studies, where one is named.
    fn start_priors(&mut self, config: &Config, clock: &SharedClock) {
        if !config.priors.on() {
            return;
        }
        let priors = Priors {
            store: self.store.clone(),
            clock: clock.clone(),
            settings: config.priors.clone(),
            ae_title: config.dicom.ae_title.clone(),
        };
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            priors.run(stop).await;
            Ok(())
        });
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

    /// Starts what escalates alerts and listens to pagers; gives who sends them.
    fn start_alerts(
        &mut self,
        config: &Config,
        clock: &SharedClock,
        alerts: &Arc<Alerts>,
        health: &Health,
    ) -> Result<Arc<Announcer>, String> {
        let (store, stop) = (self.store.clone(), self.stop.clone());
        let unreached = health.unreached_alerts.clone();
        let escalation = alerts::escalate(store, alerts.clone(), clock.clone(), unreached, stop);
        let announcer = Arc::new(Announcer::new(alerts.clone(), &config.smtp)?);
        let (store, stop) = (self.store.clone(), self.stop.clone());
        let pagers = alerts::listen_to_pagers(announcer.clone(), store, clock.clone(), stop);
        self.tasks.spawn(async move {
            escalation.await;
            Ok(())
        });
        self.tasks.spawn(async move {
            pagers.await;
            Ok(())
        });
        Ok(announcer)
    }

    /// Starts what tells people and systems.
    fn start_outbox(
        &mut self,
        config: &Config,
        clock: &SharedClock,
        alerts: &Arc<Alerts>,
        health: &Health,
        (vault, roll_call, made): Comers<'_>,
    ) -> Result<(), String> {
        let mut routes = Routes::default();
        let objects = ObjectCourier {
            store: self.store.clone(),
            root: config.listen.data.clone(),
            destinations: config.dicom.destinations.clone(),
            made: made.objects.clone(),
            ae_title: config.dicom.ae_title.clone(),
            clock: clock.clone(),
        };
        let names = config.dicom.destinations.iter().map(|d| d.name.clone());
        routes.add(names.collect(), Arc::new(objects));
        for destination in &config.hl7.destinations {
            destination.connector()?;
        }
        let ris = Arc::new(Hl7Courier {
            store: self.store.clone(),
            settings: config.hl7.clone(),
            made: made.hl7.clone(),
        });
        let names = config.hl7.destinations.iter().map(|d| d.name.clone());
        routes.add(names.collect(), ris);
        let names = alerts.destinations.iter().map(|d| d.name.clone()).collect();
        let announcer = self.start_alerts(config, clock, alerts, health)?;
        routes.add(names, announcer.clone());
        let vault = vault.clone();
        let subscribers = FhirCourier::new(self.store.clone(), config.fhir.clone(), vault)?;
        routes.add(Vec::new(), Arc::new(subscribers));
        let (names, coming) = watch::channel(Vec::new());
        let guests = Guests {
            store: self.store.clone(),
            clock: clock.clone(),
            roll_call: roll_call.clone(),
            data: config.listen.data.clone(),
            fixed: results_to(config),
            announcer,
            made: made.clone(),
            seen: -1,
            names,
        };
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            guests.run(stop).await;
            Ok(())
        });
        let outbox = Outbox {
            store: self.store.clone(),
            clock: clock.clone(),
            destinations: routes.destinations(),
            coming,
            storm: alerts.storm,
            courier: Arc::new(routes),
            retry: config.outbox.retry_limits(),
            attempt_timeout: config.outbox.attempt_timeout(),
            failing: health.failing_destinations.clone(),
        };
        let stop = self.stop.clone();
        self.tasks
            .spawn(async move { outbox.run(stop).await.map_err(database) });
        Ok(())
    }

    /// Serves until a part fails or [`Server::stop`] was asked for by `stopping`.
    ///
    /// # Errors
    /// The part that failed, and why.
    pub async fn run(mut self, stopping: impl Future<Output = ()>) -> Result<(), String> {
        let outcome = tokio::select! {
            () = stopping => Ok(()),
            ended = self.tasks.join_next() => match ended {
                Some(Ok(Err(e))) => Err(e),
                Some(Err(e)) => Err(format!("a part of the server broke: {e}")),
                _ => Err("a part of the server ended".into()),
            },
        };
        if let Err(e) = &outcome {
            error!(error = %e, "stopping");
        }
        self.stop().await;
        outcome
    }

    /// Lets what is under way finish for a bounded time.
    pub async fn stop(mut self) {
        self.stop.cancel();
        for network in &self.networks {
            network.interrupt();
        }
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(Duration::from_secs(20), all).await;
    }
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

fn reporter(config: &Config, analyst: &Analyst) -> Reporter {
    let offsets = |engine: &Engine| engine.norms.clone().map(|n| (engine.card.label(), n));
    Reporter {
        settings: config.report.clone(),
        norms: analyst.norms.clone(),
        time_zone: config.web.time_zone,
        screening: offsets(&analyst.engine),
        measuring: analyst.measuring.as_deref().ok().and_then(offsets),
    }
}

/// The same after a restart, so that what the earlier process had claimed is free at once.
fn worker_name(config: &Config) -> String {
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let data = std::fs::canonicalize(&config.listen.data).unwrap_or_default();
    format!("{host}:{}", data.display())
}

async fn first_user(store: &Store, clock: &SharedClock) -> Result<(), String> {
    let wanted = std::env::var("FIRSTREAD_ADMIN_PASSWORD")
        .ok()
        .filter(|p| !p.is_empty());
    let made = store
        .ensure_first_user(wanted, clock.now_ms())
        .await
        .map_err(|e| e.to_string())?;
    if let Some(user) = made {
        crate::cli::say_first_user(&user);
    }
    Ok(())
}

#[expect(clippy::needless_pass_by_value, reason = "handed to map_err")]
fn database(e: crate::store::StoreError) -> String {
    format!("database: {e}")
}
