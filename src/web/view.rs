//! What every page shows around its content, and a row of the list in words.

use std::sync::atomic::Ordering;

use super::WebState;
use super::assets;
use super::gate::Visitor;
use super::words;
use crate::alerts::links::short_code;
use crate::triage::Band;
use crate::worklist::WorklistItem;

/// The frame of a page: title, who is signed in, warnings.
pub(super) struct Frame {
    pub title: String,
    /// Which entry of the navigation is this page: `worklist`, `intake`, `deliveries` or none.
    pub here: &'static str,
    pub visitor: Option<Signed>,
    /// Said above everything else.
    pub banner: Option<String>,
    /// Seconds after which a browser without JavaScript loads the page again; 0 for never.
    pub reload_seconds: u32,
    /// What belongs to this build, so that browsers may keep the files for ever.
    pub assets: &'static str,
    pub research_use: &'static str,
}

/// Who is signed in, as the frame shows it.
pub(super) struct Signed {
    pub name: String,
    pub role: &'static str,
    pub csrf: String,
    pub may_read: bool,
    /// Claims, reads, says what they think.
    pub may_work: bool,
    /// Whether the pages of deliveries and of what was shown are for this role.
    pub may_see_deliveries: bool,
}

impl Frame {
    /// A page for someone who is not signed in, or when nothing else is known.
    pub fn bare(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            here: "",
            visitor: None,
            banner: None,
            reload_seconds: 0,
            assets: assets::version(),
            research_use: crate::RESEARCH_USE,
        }
    }

    /// A page of a signed-in person.
    pub fn new(title: &str, here: &'static str, visitor: &Visitor, state: &WebState) -> Self {
        use crate::store::accounts::Role::{Admin, Auditor, Integration, Technologist};
        let may_see_deliveries = matches!(visitor.user.role, Admin | Auditor);
        Self {
            here,
            visitor: Some(Signed {
                name: visitor.user.name.clone(),
                role: visitor.user.role.as_str(),
                csrf: visitor.csrf.clone(),
                may_read: !matches!(visitor.user.role, Technologist | Integration),
                may_work: visitor.may_work(),
                may_see_deliveries,
            }),
            banner: banner(state, may_see_deliveries),
            ..Self::bare(title)
        }
    }
}

impl Frame {
    /// Whether the visitor works through the list.
    pub fn may_work(&self) -> bool {
        self.visitor.as_ref().is_some_and(|v| v.may_work)
    }
}

fn banner(state: &WebState, may_see_deliveries: bool) -> Option<String> {
    let failing = state.health.failing_destinations.get();
    let (results, alerts): (Vec<&str>, Vec<&str>) = failing
        .iter()
        .map(String::as_str)
        .partition(|name| state.gets_results(name));
    let said: Vec<String> = [
        nobody_reached(state),
        workers_stopped(state),
        alerts_fail(alerts.len()),
        // readers can do nothing about those
        may_see_deliveries.then(|| results_fail(&results)).flatten(),
        work_is_stuck(state),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!said.is_empty()).then(|| said.join(" "))
}

/// The last channel failed: whoever reads this page is the only one who can know.
fn nobody_reached(state: &WebState) -> Option<String> {
    let n = state.health.unreached_alerts.load(Ordering::Relaxed);
    (n > 0).then(|| {
        let alerts = words::counted(n, "alert");
        format!("{alerts} reached nobody: look at the top of the list now.")
    })
}

/// That a channel fails is itself an alarm: those who wait for its messages would never know.
fn alerts_fail(n: usize) -> Option<String> {
    (n > 0).then(|| {
        let places = words::counted(n as u64, "destination");
        format!(
            "Alerts do not reach {places}: watch the list. Administrators see which under Deliveries."
        )
    })
}

/// Which systems do not take results: nobody waits at a pager for those.
fn results_fail(names: &[&str]) -> Option<String> {
    let names = names.join(", ");
    (!names.is_empty()).then(|| {
        format!("Results and notifications do not reach {names}. Why stands under Deliveries.")
    })
}

/// What should be done by now and is not: whoever waits for it would not know.
fn work_is_stuck(state: &WebState) -> Option<String> {
    let stuck = super::system::stuck(&state.health.watched().stuck);
    (!stuck.is_empty()).then(|| {
        format!(
            "Work is stuck: {}. Administrators see more under System.",
            stuck.join("; ")
        )
    })
}

fn workers_stopped(state: &WebState) -> Option<String> {
    let now_ms = state.clock.now_ms();
    let limit_ms = i64::from(state.settings.worker_silence_seconds) * 1000;
    let since = state.health.silent_since(now_ms, limit_ms)?;
    let since = if since == 0 {
        "has not started".to_owned()
    } else {
        let at = words::clock_time(since, now_ms, state.settings.time_zone);
        format!("has not answered since {at}")
    };
    Some(format!(
        "Analysis {since}. New studies are not screened: among themselves they stand by \
         order priority, then arrival."
    ))
}

/// Who has a study in hand, in words.
pub(super) struct Hand {
    pub reader: String,
    pub since: String,
    /// When it ends, if nothing is done on the study until then.
    pub ends_ms: i64,
    /// It is the visitor.
    pub mine: bool,
}

/// Until when a study is to be read.
pub(super) struct Due {
    pub at_ms: i64,
    /// From when on it is soon.
    pub soon_ms: i64,
    pub text: String,
    /// late, soon or ample.
    pub class: &'static str,
}

impl Due {
    /// A quarter of the time is left: soon.
    fn new(item: &WorklistItem, arrived_ms: i64, state: &WebState) -> Option<Self> {
        let settings = &state.settings.worklist;
        let minutes = settings.due_minutes(item.band, item.order_priority == "stat")?;
        let whole_ms = i64::from(minutes) * 60_000;
        let (at_ms, soon_ms) = (arrived_ms + whole_ms, arrived_ms + whole_ms / 4 * 3);
        let now_ms = state.clock.now_ms();
        Some(Self {
            at_ms,
            soon_ms,
            text: words::due(at_ms - now_ms),
            class: match now_ms {
                now if now > at_ms => "late",
                now if now >= soon_ms => "soon",
                _ => "ample",
            },
        })
    }
}

/// A row of the list, in words.
pub(super) struct Row {
    pub study_uid: String,
    /// What messages call the study.
    pub code: String,
    pub rank: u64,
    pub band: Band,
    pub band_text: &'static str,
    pub priority: Option<&'static str>,
    pub name: String,
    pub about: String,
    pub patient_id: String,
    pub description: String,
    pub accession: String,
    pub looked_at: Option<String>,
    pub arrived_ms: i64,
    pub arrived: String,
    pub waiting: String,
    /// When it arrived and was read, where it was.
    pub read: Option<[String; 2]>,
    pub due: Option<Due>,
    /// The series whose picture stands in the row, where something stands out.
    pub thumbnail: Option<String>,
    pub why: String,
    pub state: String,
    pub state_class: &'static str,
    pub volumetry: Option<String>,
    pub note: Option<String>,
    pub hand: Option<Hand>,
    /// mine, theirs or free.
    pub hand_class: &'static str,
}

impl Row {
    /// As this account sees it.
    pub fn new(item: &WorklistItem, me: &str, state: &WebState) -> Self {
        let (now_ms, zone) = (state.clock.now_ms(), state.settings.time_zone);
        let arrived_ms = words::millis(&item.arrived_at);
        let mine = item.assigned_to.as_deref() == Some(me);
        let hand = item.assigned_to.clone().map(|reader| {
            let since = item.claimed_at.as_deref().map_or(now_ms, words::millis);
            Hand {
                reader,
                since: words::since(since, now_ms, zone),
                ends_ms: item.claim_active_at.as_deref().map_or(now_ms, |at| {
                    state.settings.worklist.ends_ms(words::millis(at))
                }),
                mine,
            }
        });
        let text = |t: &Option<String>| t.as_deref().map(str::trim).unwrap_or_default().to_owned();
        Self {
            study_uid: item.study_uid.clone(),
            code: short_code(&item.study_uid),
            rank: item.rank,
            band: item.band,
            band_text: band_text(item),
            priority: words::priority(&item.order_priority),
            name: Some(text(&item.patient_name))
                .filter(|n| !n.is_empty())
                .unwrap_or_else(|| "No name".to_owned()),
            about: words::age_and_sex(item.age_years, item.sex.as_deref()),
            patient_id: text(&item.patient_id),
            description: Some(text(&item.description))
                .filter(|d| !d.is_empty())
                .unwrap_or_else(|| "No description".to_owned()),
            accession: text(&item.accession),
            looked_at: item.looked_at.clone().filter(|l| !l.is_empty()),
            arrived_ms,
            arrived: words::since(arrived_ms, now_ms, zone),
            waiting: words::waiting(now_ms - arrived_ms),
            read: item.read_at.as_deref().map(|at| {
                let read = words::clock_time(words::millis(at), now_ms, zone);
                let arrived = words::clock_time(arrived_ms, now_ms, zone);
                [arrived, format!("Read {read}")]
            }),
            due: Some(())
                .filter(|()| item.rank > 0)
                .and_then(|()| Due::new(item, arrived_ms, state)),
            thumbnail: item
                .pictured_series
                .clone()
                .filter(|_| item.band >= Band::Elevated),
            why: words::why(item),
            state: words::state(item, now_ms, zone),
            state_class: match item.state.as_str() {
                "not_analysed" | "failed" => "unread",
                "received" => "underway",
                _ => "settled",
            },
            volumetry: words::volumetry(item),
            note: item.note.clone().filter(|n| !n.is_empty()),
            hand_class: match &hand {
                Some(hand) if hand.mine => "mine",
                Some(_) => "theirs",
                None => "free",
            },
            hand,
        }
    }
}

/// The chip: a study that nobody can screen does not look like one that will be.
pub(super) fn band_text(item: &WorklistItem) -> &'static str {
    match (item.band, item.state.as_str()) {
        (Band::Pending, "not_analysed" | "failed") => "Not analysed",
        (band, _) => words::band(band),
    }
}
