//! `/alerts`: who is on call, and how many alerts a day each threshold would have sent.

use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use super::WebState;
use super::answer::{PageError, Problem, html};
use super::filters::parameters;
use super::gate::Visitor;
use super::view::Frame;
use super::words;
use crate::alerts::DestinationSettings;
use crate::alerts::budget::{Past, budget};
use crate::alerts::policy::hours::Hours;
use crate::alerts::policy::{Quiet, Rule, Step};
use crate::triage::{Band, rank};

/// Periods that can be asked for, in days.
const PERIODS_DAYS: [i64; 4] = [7, 30, 90, 365];
/// The one that is shown first.
const PERIOD_DAYS: i64 = 30;
/// Studies that are counted, the newest first.
const STUDIES_MAX: u64 = 20_000;
/// Milliseconds in a day.
const DAY_MS: i64 = 86_400_000;

#[derive(Template)]
#[template(path = "alerts.html")]
struct AlertsPage {
    frame: Frame,
    on_call: Vec<OnCall>,
    rules: Vec<RuleRow>,
    periods: Vec<Period>,
    studies: usize,
    counted: String,
    urgent_from: f64,
    costs: Vec<Row>,
}

struct OnCall {
    schedule: String,
    now: String,
    next: String,
}

/// What a rule would do now.
struct RuleRow {
    name: String,
    when: String,
    /// "after 10 min: anna-pager (neuro)"
    steps: Vec<StepRow>,
}

struct StepRow {
    after: String,
    urgent: String,
    critical: String,
}

struct Period {
    days: i64,
    here: bool,
}

struct Row {
    from: u32,
    p: String,
    alerts: usize,
    a_day: String,
    busiest: usize,
    at_night: usize,
    note: &'static str,
}

pub(super) async fn page(
    req: HttpRequest,
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
) -> Result<HttpResponse, PageError> {
    let asked = parameters(&req);
    let asked = asked.iter().find(|(name, _)| name == "days");
    let days = asked.map_or(Some(PERIOD_DAYS), |(_, v)| v.parse().ok());
    let Some(days) = days.filter(|d| PERIODS_DAYS.contains(d)) else {
        let all = PERIODS_DAYS.map(|d| d.to_string()).join(", ");
        let detail = format!("days must be one of {all}, or be left out.");
        return Err(Problem::bad_request("bad_days", detail).into());
    };
    let now_ms = state.clock.now_ms();
    let rules = state.ranker.rules();
    let settings = &rules.settings;
    let since_ms = now_ms - days * DAY_MS;
    let evidence = state.store.past_evidence(since_ms, STUDIES_MAX).await?;
    let past: Vec<Past> = evidence
        .iter()
        // What was not analysed is ranked as an average study, and never alerted for that.
        .filter(|(_, evidence)| evidence.screening.is_some())
        .map(|(screened_ms, evidence)| {
            let ranking = rank(evidence, settings);
            Past {
                screened_ms: *screened_ms,
                minutes: ranking.ai_minutes + ranking.findings_minutes,
                critical: ranking.band == Band::Critical,
            }
        })
        .collect();
    let zone = state.settings.time_zone;
    let found = budget(&past, settings, Hours::NIGHT, zone);
    let row = |cost: &crate::alerts::budget::Cost| Row {
        from: cost.from_minutes,
        p: cost.p_alone.map_or_else(String::new, |p| format!("{p:.3}")),
        alerts: cost.alerts,
        a_day: format!("{:.1}", cost.a_day),
        busiest: cost.busiest_day,
        at_night: cost.at_night,
        note: note(f64::from(cost.from_minutes), settings),
    };
    html(&AlertsPage {
        frame: Frame::new("Alert budget", "deliveries", &visitor, &state),
        on_call: on_call(&state),
        rules: rules_now(&state),
        periods: PERIODS_DAYS
            .map(|d| Period {
                days: d,
                here: d == days,
            })
            .into(),
        studies: found.studies,
        counted: format!(
            "{} screened {} on {}",
            found.studies,
            if found.studies == 1 {
                "study"
            } else {
                "studies"
            },
            words::counted(found.days as u64, "day")
        ),
        urgent_from: settings.urgent_from_minutes,
        costs: found.costs.iter().map(row).collect(),
    })
}

/// Which setting a threshold is nearest to, from above.
fn note(minutes: f64, settings: &crate::triage::TriageSettings) -> &'static str {
    let is = |set: f64| (set..set + 10.0).contains(&minutes);
    if is(settings.urgent_from_minutes) {
        "urgent now"
    } else if is(settings.elevated_from_minutes) {
        "elevated now"
    } else {
        ""
    }
}

fn on_call(state: &WebState) -> Vec<OnCall> {
    let policy = &state.alerts.policy;
    let (now_ms, zone) = (state.clock.now_ms(), policy.zone);
    let names = |people: Vec<String>| people.join(", ");
    let schedules = policy.schedules.iter().map(|schedule| OnCall {
        schedule: schedule.name.clone(),
        now: names(schedule.on_call(now_ms, zone)),
        next: schedule
            .next_change(now_ms, zone)
            .map_or_else(String::new, |(at, people)| {
                format!(
                    "{} from {}",
                    names(people),
                    words::clock_time(at, now_ms, zone)
                )
            }),
    });
    schedules.collect()
}

/// Each rule with whom its steps would reach at this moment: quiet hours and hand-overs counted in.
fn rules_now(state: &WebState) -> Vec<RuleRow> {
    let policy = &state.alerts.policy;
    let now_ms = state.clock.now_ms();
    let made = state.alerts.made.get();
    let made: Vec<Quiet> = made.iter().filter_map(DestinationSettings::quiet).collect();
    let step = |step: &Step| {
        let reached = |band| policy.reaches(step, band, now_ms, &made).join(", ");
        StepRow {
            after: match step.after_ms / 60_000 {
                0 => "at once".to_owned(),
                minutes => format!("after {minutes} min"),
            },
            urgent: reached(Band::Urgent),
            critical: reached(Band::Critical),
        }
    };
    let rules = policy.rules.iter().filter(|rule| !rule.bands.is_empty());
    rules
        .map(|rule| RuleRow {
            name: if rule.name.is_empty() {
                "all others".to_owned()
            } else {
                rule.name.clone()
            },
            when: when(rule),
            steps: rule.steps.iter().map(step).collect(),
        })
        .collect()
}

/// "urgent, critical; at North Clinic; with x; at some hours only, but critical at any".
fn when(rule: &Rule) -> String {
    let bands: Vec<&str> = rule.bands.iter().map(|b| b.as_str()).collect();
    let mut said = vec![bands.join(", ")];
    if !rule.sites.is_empty() {
        said.push(format!("at {}", rule.sites.join(" or ")));
    }
    if !rule.findings.is_empty() {
        said.push(format!("with {}", rule.findings.join(" or ")));
    }
    if rule.hours.is_some() || rule.weekdays.is_some() {
        said.push("below critical at its hours only".to_owned());
    }
    said.join("; ")
}
