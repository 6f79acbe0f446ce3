//! `/simulate`: what the order of the list does to waiting, for numbers of one's own.
//!
//! A run takes a core for a second or so: one runs at a time, and its size is bounded.

use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use super::WebState;
use super::answer::{PageError, Problem, html};
use super::filters::{parameters, value};
use super::gate::Visitor;
use super::view::Frame;
use super::words;
use crate::simulation::{self, CompareRow, Discipline, GroupStats, Groups, ReadTimes, Scenario};
use crate::triage::TriageSettings;

/// Cases of one run: what a page may cost.
const CASES: usize = 60_000;
/// Most readers.
const READERS_MAX: f64 = 50.0;
/// Seeds that may be asked for.
const SEED_MAX: f64 = 1e6;

/// A number that can be chosen: name, text, unit, default, least and most.
struct Number {
    name: &'static str,
    text: &'static str,
    unit: &'static str,
    default: f64,
    range: [f64; 2],
}

const fn number(
    name: &'static str,
    text: &'static str,
    unit: &'static str,
    default: f64,
    range: [f64; 2],
) -> Number {
    Number {
        name,
        text,
        unit,
        default,
        range,
    }
}

const NUMBERS: [Number; 14] = [
    number("readers", "Readers at a time", "", 2.0, [1.0, READERS_MAX]),
    number(
        "load",
        "Share of their time that the work takes",
        "0 to 1",
        0.9,
        [0.05, 0.98],
    ),
    number(
        "read_minutes",
        "Mean time of one read",
        "min",
        10.0,
        [0.1, 240.0],
    ),
    number(
        "prevalence",
        "Diseased among all",
        "0 to 1",
        0.1,
        [0.001, 0.9],
    ),
    number(
        "sensitivity",
        "Diseased that are flagged",
        "0 to 1",
        0.9,
        [0.01, 0.999],
    ),
    number(
        "specificity",
        "Others that are not flagged",
        "0 to 1",
        0.9,
        [0.01, 0.999],
    ),
    number(
        "k_minutes",
        "Head start per unit of log-odds",
        "min",
        30.0,
        [0.0, 600.0],
    ),
    number(
        "p_floor",
        "Probability without head start",
        "0 to 1",
        0.003,
        [1e-6, 0.4],
    ),
    number(
        "head_start_cap",
        "Most that screening earns",
        "min",
        180.0,
        [0.0, 1440.0],
    ),
    number(
        "cap",
        "Hard cap: comes first after",
        "min",
        120.0,
        [0.0, 10_080.0],
    ),
    number(
        "interrupt_fraction",
        "Interruptions among arrivals",
        "0 to 1",
        0.0,
        [0.0, 0.9],
    ),
    number(
        "interrupt_minutes",
        "Mean time of one",
        "min",
        5.0,
        [0.1, 240.0],
    ),
    number("seed", "Seed", "same seed, same run", 1.0, [0.0, SEED_MAX]),
    number(
        "preemptive",
        "Interrupts a read",
        "1 for yes",
        0.0,
        [0.0, 1.0],
    ),
];

#[derive(Template)]
#[template(path = "simulate.html")]
struct SimulatePage {
    frame: Frame,
    fields: Vec<Field>,
    spreads: Vec<Spread>,
    problem: Option<String>,
    ran: Option<Ran>,
    cases: usize,
}

struct Field {
    name: &'static str,
    text: &'static str,
    unit: &'static str,
    value: String,
    check: bool,
    on: bool,
}

struct Spread {
    value: &'static str,
    text: &'static str,
    here: bool,
}

struct Ran {
    rows: Vec<Row>,
    /// SVG of our own making, without anything that was typed.
    picture: String,
    command: String,
}

struct Row {
    discipline: &'static str,
    /// Diseased, missed, the others.
    groups: [Cell; 3],
    others_p95: String,
    others_max: String,
}

struct Cell {
    mean: String,
    interval: String,
    ratio: String,
    worse: bool,
}

const SPREADS: [(&str, &str, ReadTimes); 3] = [
    ("exponential", "exponential", ReadTimes::Exponential),
    ("lognormal", "lognormal", ReadTimes::Lognormal),
    ("constant", "always the mean", ReadTimes::Constant),
];

/// `GET /simulate`
pub(super) async fn page(
    req: HttpRequest,
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
) -> Result<HttpResponse, PageError> {
    let given = parameters(&req);
    let asked = NUMBERS.iter().any(|n| value(&given, n.name).is_some());
    let scenario = scenario(&given, &state.ranker.rules().settings);
    let (ran, problem) = match scenario {
        Err(why) => (None, Some(why)),
        Ok(_) if !asked => (None, None),
        Ok(scenario) => {
            let _place = state.heavy()?;
            let runs = web::block(move || run_all(&scenario));
            match runs.await.map_err(|e| Problem::internal(&e))? {
                Ok((scenario, runs)) => (Some(shown(&scenario, &runs)), None),
                Err(why) => (None, Some(why)),
            }
        }
    };
    let spread = value(&given, "read_times")
        .unwrap_or(SPREADS[0].0)
        .to_owned();
    html(&SimulatePage {
        frame: Frame::new("Simulate", "simulate", &visitor, &state),
        fields: fields(&given, &state.ranker.rules().settings),
        spreads: SPREADS
            .iter()
            .map(|(value, text, _)| Spread {
                value,
                text,
                here: *value == spread,
            })
            .collect(),
        problem,
        ran,
        cases: CASES,
    })
}

/// Head start as it is in force here, everything else as in the documents.
fn default_of(n: &Number, in_force: &TriageSettings) -> f64 {
    match n.name {
        "k_minutes" => in_force.k_minutes_per_logit,
        "p_floor" => in_force.p_floor,
        "head_start_cap" => in_force.ai_cap_minutes,
        _ => n.default,
    }
}

fn fields(given: &[(String, String)], in_force: &TriageSettings) -> Vec<Field> {
    let field = |n: &Number| {
        let typed = value(given, n.name).map(str::to_owned);
        Field {
            name: n.name,
            text: n.text,
            unit: n.unit,
            check: n.name == "preemptive",
            on: typed.as_deref() == Some("1"),
            value: typed.unwrap_or_else(|| default_of(n, in_force).to_string()),
        }
    };
    NUMBERS.iter().map(field).collect()
}

fn scenario(given: &[(String, String)], in_force: &TriageSettings) -> Result<Scenario, String> {
    let of = |name: &str| -> Result<f64, String> {
        let Some(n) = NUMBERS.iter().find(|n| n.name == name) else {
            return Err(format!("there is no number {name}"));
        };
        let Some(typed) = value(given, name) else {
            return Ok(default_of(n, in_force));
        };
        let number: Option<f64> = typed.trim().replace(',', ".").parse().ok();
        let [low, high] = n.range;
        number
            .filter(|x| (low..=high).contains(x))
            .ok_or_else(|| format!("{}: must be a number from {low} to {high}", n.text))
    };
    let whole = |name: &str| -> Result<usize, String> {
        let number = of(name)?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "within the range of its field"
        )]
        let whole = number as usize;
        (whole as f64 == number)
            .then_some(whole)
            .ok_or_else(|| format!("{name} must be a whole number"))
    };
    let times = value(given, "read_times").unwrap_or(SPREADS[0].0);
    let Some((_, _, read_times)) = SPREADS.iter().find(|(name, ..)| *name == times) else {
        return Err("the spread of read times must be one of those in the list".to_owned());
    };
    let scenario = Scenario {
        readers: whole("readers")?,
        load: of("load")?,
        read_minutes: of("read_minutes")?,
        read_times: *read_times,
        prevalence: of("prevalence")?,
        sensitivity: of("sensitivity")?,
        specificity: of("specificity")?,
        discipline: Discipline::Fifo,
        preemptive: whole("preemptive")? == 1,
        interrupt_fraction: of("interrupt_fraction")?,
        interrupt_minutes: of("interrupt_minutes")?,
        triage: TriageSettings {
            k_minutes_per_logit: of("k_minutes")?,
            p_floor: of("p_floor")?,
            ai_cap_minutes: of("head_start_cap")?,
            ..in_force.clone()
        },
        cap_minutes: of("cap")?,
        cases: CASES,
        seed: whole("seed")? as u64,
    };
    scenario.check()?;
    Ok(scenario)
}

type Runs = Vec<(Discipline, Groups)>;

/// Every discipline on the same arrivals.
fn run_all(scenario: &Scenario) -> Result<(Scenario, Runs), String> {
    let runs = Discipline::ALL.into_iter().map(|discipline| {
        let run = Scenario {
            discipline,
            ..scenario.clone()
        };
        Ok((discipline, simulation::simulate(&run)?))
    });
    Ok((scenario.clone(), runs.collect::<Result<_, String>>()?))
}

fn title(discipline: Discipline) -> &'static str {
    match discipline {
        Discipline::Fifo => "First come",
        Discipline::Flag => "Flag",
        Discipline::Score => "Score",
        Discipline::HeadStart => "Head start (this server)",
        Discipline::Cap => "Score, hard cap",
    }
}

fn shown(scenario: &Scenario, runs: &Runs) -> Ran {
    let groups = |g: &Groups| [g.diseased, g.missed, g.normal];
    let base = runs.first().map(|(_, g)| groups(g));
    let row = |(discipline, run): &(Discipline, Groups)| {
        let of = groups(run);
        Row {
            discipline: title(*discipline),
            groups: [0, 1, 2].map(|at| cell(&of[at], base.map(|b| b[at]).as_ref())),
            others_p95: of[2].p95.map_or_else(String::new, words::wait_minutes),
            others_max: of[2].max.map_or_else(String::new, words::wait_minutes),
        }
    };
    let compared: Vec<CompareRow<'_>> = runs
        .iter()
        .map(|(discipline, run)| (title(*discipline), groups(run)))
        .collect();
    Ran {
        rows: runs.iter().map(row).collect(),
        picture: simulation::compare_svg(&["diseased", "missed", "not diseased"], &compared),
        command: command(scenario),
    }
}

fn cell(group: &GroupStats, base: Option<&GroupStats>) -> Cell {
    let ratio = group.mean.zip(base.and_then(|b| b.mean));
    let ratio = ratio.map(|(mean, base)| mean / base.max(1e-9));
    Cell {
        mean: group
            .mean
            .map_or_else(|| "none".to_owned(), words::wait_minutes),
        interval: group
            .ci95
            .map_or_else(String::new, |[low, high]| format!("{low:.1} to {high:.1}")),
        ratio: ratio.map_or_else(String::new, |r| format!("{r:.2}x")),
        worse: ratio.is_some_and(|r| r > 1.005),
    }
}

/// The same on the command line, where it can be longer.
fn command(s: &Scenario) -> String {
    let preemptive = if s.preemptive { " --preemptive" } else { "" };
    let times = SPREADS.iter().find(|(.., t)| *t == s.read_times);
    format!(
        "firstread simulate --discipline head-start --readers {} --load {} --read-minutes {} \
         --read-times {} --prevalence {} --sensitivity {} --specificity {} --k-minutes {} \
         --p-floor {} --cap-minutes {} --interrupt-fraction {} --interrupt-minutes {} \
         --seed {}{preemptive} --cases 400000",
        s.readers,
        s.load,
        s.read_minutes,
        times.map_or("exponential", |(name, ..)| name),
        s.prevalence,
        s.sensitivity,
        s.specificity,
        s.triage.k_minutes_per_logit,
        s.triage.p_floor,
        s.triage.ai_cap_minutes,
        s.interrupt_fraction,
        s.interrupt_minutes,
        s.seed
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pairs: &[(&str, &str)]) -> Result<Scenario, String> {
        let owned = pairs
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        scenario(&owned.collect::<Vec<_>>(), &TriageSettings::default())
    }

    #[test]
    fn numbers_are_bounded_and_named() {
        let fine = check(&[("readers", "3"), ("load", "0,8"), ("preemptive", "1")]).unwrap();
        assert_eq!((fine.readers, fine.load, fine.preemptive), (3, 0.8, true));
        assert_eq!(fine.cases, CASES);
        for (pair, says) in [
            (("load", "1"), "Share of their time"),
            (("readers", "51"), "Readers"),
            (("readers", "1.5"), "whole"),
            (("seed", "-1"), "Seed"),
            (("prevalence", "NaN"), "Diseased among all"),
            (("read_times", "odd"), "spread"),
        ] {
            let told = check(&[pair]).unwrap_err();
            assert!(told.contains(says), "{pair:?}: {told}");
        }
    }
}
