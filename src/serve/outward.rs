//! Starts what speaks to others: the outbox with its couriers, alerts, questions for priors.

use std::sync::Arc;

use tokio::sync::watch;

use super::guests::{Comers, Guests};
use super::recipients::results_to;
use super::{Server, database};
use crate::alerts::{self, Alerts, Announcer};
use crate::clock::SharedClock;
use crate::config::Config;
use crate::fhir::FhirCourier;
use crate::hl7::courier::Hl7Courier;
use crate::outbox::{Outbox, Routes};
use crate::priors::Priors;
use crate::results::ObjectCourier;
use crate::web::Health;

impl Server {
    /// Starts what asks the PACS for earlier studies, where one is named.
    pub(super) fn start_priors(&mut self, config: &Config, clock: &SharedClock) {
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

    /// Starts what escalates alerts and listens to pagers.
    fn start_alerts(
        &mut self,
        announcer: &Arc<Announcer>,
        clock: &SharedClock,
        alerts: &Arc<Alerts>,
        health: &Health,
    ) {
        let (store, stop) = (self.store.clone(), self.stop.clone());
        let unreached = health.unreached_alerts.clone();
        let escalation = alerts::escalate(store, alerts.clone(), clock.clone(), unreached, stop);
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
    }

    /// Starts what tells people and systems.
    pub(super) fn start_outbox(
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
        let announcer = Arc::new(Announcer::new(alerts.clone(), &config.smtp)?);
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
            announcer: announcer.clone(),
            made: made.clone(),
            seen: -1,
            names,
        };
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            guests.run(stop).await;
            Ok(())
        });
        if !config.process.role.works() {
            return Ok(());
        }
        self.start_alerts(&announcer, clock, alerts, health);
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
}
