//! Telling the on-call that a study waits: what is alerted, to whom, in which words, by which channel.
//!
//! This folder decides and words. It sends nothing by itself: the outbox calls it when a delivery is due.
//! Messages go to the reading room or the on-call reader and ask to look soon; they report no finding.

pub mod budget;
pub mod links;
mod message;
pub mod policy;
mod settings;
mod smtp;
mod snpp;
mod template;
mod webhook;

pub use settings::{
    AlertSettings, ChannelKind, DestinationSettings, OverrideSettings, Preset, RotationSettings,
    RuleSettings, ScheduleSettings, Secret, Security, SmtpSettings, StepSettings,
};

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::clock::{SharedClock, UnixMillis};
use crate::outbox::machine::{Outcome, StormLimits};
use crate::outbox::{Attempt, Courier, Shared};
use crate::store::outbox::{ALARM, Batch};
use crate::store::turns::Duty;
use crate::store::{Store, StoreError};
use links::Links;
use message::Notice;
use policy::Policy;
use smtp::{Form, SmtpChannel};
use snpp::{PagerReply, SnppChannel};
use webhook::Webhook;

/// How often the next step of an escalation is looked for.
const ESCALATION_TICK: Duration = Duration::from_millis(500);
/// Looks for the next step between two looks for alerts that reached nobody.
const RESCUE_TICKS: u32 = 4;
/// How often two-way pagers are asked for their answers.
const REPLY_TICK: Duration = Duration::from_secs(10);
/// A paging server that takes longer to say what a pager answered is asked again later.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);
/// An answer is waited for so long.
const REPLY_AWAITED_MS: i64 = 4 * 3_600_000;

/// What the rest of the server needs to know of alerts.
#[derive(Debug)]
pub struct Alerts {
    /// What is alerted.
    pub policy: Policy,
    /// Who can be told.
    pub destinations: Vec<DestinationSettings>,
    /// When messages are bundled.
    pub storm: StormLimits,
    /// Who is told when an alert reached nobody.
    pub alarm_to: Vec<String>,
    /// Those that were made on the page.
    pub made: Shared<DestinationSettings>,
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
            alarm_to: settings.alarm_to.clone(),
            made: Shared::default(),
            links,
            link_valid_ms: i64::from(settings.link_valid_hours) * 3_600_000,
            base_url: settings.base_url.trim_end_matches('/').to_owned(),
            site: site.to_owned(),
        })
    }

    /// Who is told when an alert needs nobody any more.
    #[must_use]
    pub fn told_of_answers(&self) -> Vec<String> {
        let made = self.made.get();
        let all = self.destinations.iter().chain(made.iter());
        all.filter(|d| d.channel == ChannelKind::Webhook)
            .filter(|d| Webhook::is_told_of_answers(d.preset))
            .map(|d| d.name.clone())
            .collect()
    }

    fn notice(&self, batch: &Batch, now_ms: UnixMillis) -> Notice {
        let acknowledge = (!batch.alerts.is_empty())
            .then(|| format!("{}/a/{}", self.base_url, self.links.token(batch.id)));
        let mut notice = Notice::new(
            &self.site,
            &self.base_url,
            &batch.alerts,
            acknowledge,
            now_ms,
        );
        notice.alarm = batch.kind == ALARM;
        notice
    }
}

/// Words a due delivery and hands it to its channel.
pub struct Announcer {
    alerts: Arc<Alerts>,
    server: Option<Arc<SmtpChannel>>,
    channels: HashMap<String, Channel>,
    /// Of destinations that were made on the page; or why one does not work.
    made: Shared<(String, Result<Arc<Channel>, String>)>,
}

/// One who is told, with what telling needs.
enum Channel {
    Mail(Arc<SmtpChannel>, String),
    Pager(Arc<SmtpChannel>, String),
    Snpp(SnppChannel),
    Webhook(Box<Webhook>),
}

impl Announcer {
    /// With the destinations of the alerts, and the mail server of these settings, where there is one.
    ///
    /// # Errors
    /// Names the setting that does not fit.
    pub fn new(alerts: Arc<Alerts>, smtp: &SmtpSettings) -> Result<Self, String> {
        let server = (!smtp.host.is_empty()).then(|| SmtpChannel::new(smtp));
        let server = server.transpose()?.map(Arc::new);
        let mut channels = HashMap::new();
        for settings in &alerts.destinations {
            if settings.channel.is_mail() && server.is_none() {
                continue;
            }
            channels.insert(settings.name.clone(), channel(settings, server.as_ref())?);
        }
        Ok(Self {
            alerts,
            server,
            channels,
            made: Shared::default(),
        })
    }

    /// Serves these from now on, beside those of the settings.
    pub fn take_made(&self, all: Vec<DestinationSettings>) {
        let channels = all.iter().map(|settings| {
            let made = channel(settings, self.server.as_ref());
            (settings.name.clone(), made.map(Arc::new))
        });
        self.made.set(channels.collect());
        self.alerts.made.set(all);
    }
}

fn channel(
    settings: &DestinationSettings,
    server: Option<&Arc<SmtpChannel>>,
) -> Result<Channel, String> {
    let to = settings.to.clone();
    Ok(match (settings.channel, server) {
        (ChannelKind::Mail, Some(server)) => Channel::Mail(server.clone(), to),
        (ChannelKind::Pager, Some(server)) => Channel::Pager(server.clone(), to),
        (ChannelKind::Mail | ChannelKind::Pager, None) => {
            return Err("there is no mail server: set [smtp]".into());
        }
        (ChannelKind::Snpp, _) => Channel::Snpp(SnppChannel::new(settings)?),
        (ChannelKind::Webhook, _) => Channel::Webhook(Box::new(Webhook::new(settings)?)),
    })
}

#[async_trait]
impl Courier for Announcer {
    fn serves(&self, destination: &str) -> bool {
        self.made.get().iter().any(|(name, _)| name == destination)
    }

    async fn deliver(&self, destination: &str, batch: &Batch, now_ms: UnixMillis) -> Attempt {
        let made = self.made.get();
        let made = made.iter().find(|(name, _)| name == destination);
        let channel = match (self.channels.get(destination), made) {
            (Some(channel), _) => channel,
            (None, Some((_, Ok(channel)))) => channel,
            (None, Some((_, Err(why)))) => return Outcome::Later(why.clone()).into(),
            (None, None) => return Outcome::Later("is not in the settings any more".into()).into(),
        };
        let notice = self.alerts.notice(batch, now_ms);
        let key = &batch.dedup_key;
        match channel {
            Channel::Mail(server, to) => match notice.mail() {
                Ok(mail) => server.send(to, key, Form::Twins(mail), now_ms).await,
                Err(e) => Outcome::Never(format!("could not write the message: {e}")).into(),
            },
            Channel::Pager(server, to) => {
                server
                    .send(to, key, Form::Line(notice.pager()), now_ms)
                    .await
            }
            Channel::Snpp(pager) => pager.send(&notice).await,
            Channel::Webhook(webhook) => webhook.send(&notice, batch, now_ms).await,
        }
    }
}

impl Announcer {
    /// Asks paging servers for answers, and does what they say: whoever looks acknowledges, whoever
    /// cannot makes the next step come at once.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn ask_pagers(&self, store: &Store, now_ms: UnixMillis) -> Result<u64, StoreError> {
        let mut answered = 0;
        for asked in store.unanswered_pages(now_ms - REPLY_AWAITED_MS).await? {
            let made = self.made.get();
            let made = made.iter().find(|(name, _)| *name == asked.destination);
            let made = made.and_then(|(_, channel)| channel.as_deref().ok());
            let Some(Channel::Snpp(pager)) = self.channels.get(&asked.destination).or(made) else {
                continue;
            };
            let asking = tokio::time::timeout(REPLY_TIMEOUT, pager.reply(&asked.receipt));
            let reply = match asking.await {
                Ok(Ok(reply)) => reply,
                Ok(Err(why)) => {
                    warn!(
                        destination = asked.destination,
                        error = why,
                        "could not ask for an answer"
                    );
                    continue;
                }
                Err(_) => {
                    warn!(
                        destination = asked.destination,
                        "the paging server did not answer"
                    );
                    continue;
                }
            };
            let id = asked.delivery_id;
            match reply {
                PagerReply::None => continue,
                PagerReply::Looks(said) => {
                    let by = format!("{}'s pager: {said}", asked.destination);
                    store.acknowledge(id, &by, now_ms).await?;
                }
                PagerReply::Cannot(_) => {
                    store.hurry(id, now_ms).await?;
                }
                PagerReply::Never(_) => {}
            }
            store.page_answered(id).await?;
            info!(
                destination = asked.destination,
                delivery.id = id,
                "a pager answered"
            );
            answered += 1;
        }
        Ok(answered)
    }
}

/// Asks for answers of pagers until told to stop.
pub async fn listen_to_pagers(
    announcer: Arc<Announcer>,
    store: Store,
    clock: SharedClock,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let asked = match store.turn(Duty::Pagers).await {
            Ok(Some(_turn)) => announcer.ask_pagers(&store, clock.now_ms()).await,
            Ok(None) => Ok(0),
            Err(e) => Err(e),
        };
        if let Err(e) = asked {
            error!(error = %e, "could not look for pages without an answer");
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(REPLY_TICK) => {}
        }
    }
    stop.cancelled().await;
}

/// Hands each next step to the outbox when it is due, until someone acknowledged or the study was
/// read; and goes on at once where nobody was reached. `unreached` counts what no step is left for.
pub async fn escalate(
    store: Store,
    alerts: Arc<Alerts>,
    clock: SharedClock,
    unreached: Arc<AtomicU64>,
    stop: CancellationToken,
) {
    let mut ticks = 0_u32;
    loop {
        // Of several processes one goes on with alerts at a time.
        match store.turn(Duty::Escalation).await {
            Ok(Some(turn)) => {
                let rescue = ticks.is_multiple_of(RESCUE_TICKS);
                go_on(&store, &alerts, clock.now_ms(), &unreached, rescue).await;
                if let Err(e) = turn.end().await {
                    warn!(error = %e, "could not end a turn");
                }
            }
            Ok(None) => {}
            Err(e) => error!(error = %e, "could not look for alerts to escalate"),
        }
        ticks = ticks.wrapping_add(1);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(ESCALATION_TICK) => {}
        }
    }
}

async fn go_on(
    store: &Store,
    alerts: &Alerts,
    now_ms: UnixMillis,
    unreached: &AtomicU64,
    rescue: bool,
) {
    match store.escalate(&alerts.policy, now_ms).await {
        Ok(0) => {}
        Ok(n) => info!(alerts = n, "went on to the next step: nobody acknowledged"),
        Err(e) => error!(error = %e, "could not look for alerts to escalate"),
    }
    if !rescue {
        return;
    }
    let told = alerts.told_of_answers();
    if let Err(e) = store.take_back(&told, now_ms).await {
        error!(error = %e, "could not look for alerts that need nobody any more");
    }
    match store.rescue(&alerts.alarm_to, now_ms).await {
        Ok(n) => {
            let before = unreached.swap(n, Ordering::Relaxed);
            if n > before {
                error!(alerts = n, "alerts reached nobody, and no step is left");
            }
        }
        Err(e) => error!(error = %e, "could not look for alerts that reached nobody"),
    }
}
