//! Telling the on-call that a study waits: what is alerted, to whom, in which words, by which channel.
//!
//! This folder decides and words. It sends nothing by itself: the outbox calls it when a delivery is due.
//! Messages go to the reading room or the on-call reader and ask to look soon; they report no finding.

pub mod links;
mod message;
pub mod policy;
mod settings;
mod smtp;

pub use settings::{
    AlertSettings, ChannelKind, DestinationSettings, Secret, Security, SmtpSettings, StepSettings,
};

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::clock::{SharedClock, UnixMillis};
use crate::outbox::Courier;
use crate::outbox::machine::{Outcome, StormLimits};
use crate::store::Store;
use crate::store::outbox::Batch;
use links::Links;
use message::Notice;
use policy::Policy;
use smtp::{Form, SmtpChannel};

/// How often the next step of an escalation is looked for.
const ESCALATION_TICK: Duration = Duration::from_millis(500);

/// What the rest of the server needs to know of alerts.
#[derive(Debug)]
pub struct Alerts {
    /// What is alerted.
    pub policy: Policy,
    /// Who can be told.
    pub destinations: Vec<DestinationSettings>,
    /// When messages are bundled.
    pub storm: StormLimits,
    /// Makes and checks links.
    pub links: Links,
    /// How long a link acknowledges.
    pub link_valid_ms: i64,
    base_url: String,
    site: String,
}

impl Alerts {
    /// Reads the settings; the key of links lies in the data folder.
    ///
    /// # Errors
    /// When the key can be neither read nor made.
    pub fn new(
        settings: &AlertSettings,
        policy: Policy,
        site: &str,
        data: &Path,
    ) -> Result<Self, String> {
        let links = Links::open(data).map_err(|e| format!("key of links: {e}"))?;
        Ok(Self {
            policy,
            destinations: settings.destinations.clone(),
            storm: settings.storm(),
            links,
            link_valid_ms: i64::from(settings.link_valid_hours) * 3_600_000,
            base_url: settings.base_url.trim_end_matches('/').to_owned(),
            site: site.to_owned(),
        })
    }

    fn notice(&self, batch: &Batch, now_ms: UnixMillis) -> Notice {
        let acknowledge = (!batch.alerts.is_empty())
            .then(|| format!("{}/a/{}", self.base_url, self.links.token(batch.id)));
        Notice::new(
            &self.site,
            &self.base_url,
            &batch.alerts,
            acknowledge,
            now_ms,
        )
    }
}

/// Words a due delivery and hands it to its channel.
pub struct Announcer {
    alerts: std::sync::Arc<Alerts>,
    smtp: Option<SmtpChannel>,
}

impl Announcer {
    /// With the mail server of these settings, where there is one.
    ///
    /// # Errors
    /// Names the setting that does not fit.
    pub fn new(alerts: std::sync::Arc<Alerts>, smtp: &SmtpSettings) -> Result<Self, String> {
        let smtp = (!smtp.host.is_empty()).then(|| SmtpChannel::new(smtp));
        Ok(Self {
            alerts,
            smtp: smtp.transpose()?,
        })
    }
}

#[async_trait]
impl Courier for Announcer {
    async fn deliver(&self, destination: &str, batch: &Batch, now_ms: UnixMillis) -> Outcome {
        let known = self
            .alerts
            .destinations
            .iter()
            .find(|d| d.name == destination);
        let (Some(destination), Some(smtp)) = (known, &self.smtp) else {
            return Outcome::Later("is not in the settings any more".into());
        };
        let notice = self.alerts.notice(batch, now_ms);
        let form = match destination.channel {
            ChannelKind::Mail => match notice.mail() {
                Ok(mail) => Form::Twins(mail),
                Err(e) => return Outcome::Never(format!("could not write the message: {e}")),
            },
            ChannelKind::Pager => Form::Line(notice.pager()),
        };
        smtp.send(&destination.to, &batch.dedup_key, form, now_ms)
            .await
    }
}

/// Hands each next step to the outbox when it is due, until someone acknowledged or the study was read.
pub async fn escalate(store: Store, policy: Policy, clock: SharedClock, stop: CancellationToken) {
    loop {
        match store.escalate(&policy, clock.now_ms()).await {
            Ok(0) => {}
            Ok(n) => info!(alerts = n, "went on to the next step: nobody acknowledged"),
            Err(e) => error!(error = %e, "could not look for alerts to escalate"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(ESCALATION_TICK) => {}
        }
    }
}
