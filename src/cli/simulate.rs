//! `firstread simulate`: what a discipline does to waiting, as a table, JSON or a picture.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{BAD_INPUT, Failure, say};
use crate::simulation::{self, Discipline, GROUPS, Groups, ReadTimes, Scenario};
use crate::triage::TriageSettings;

/// Largest file of recorded cases, in bytes.
const RECORDED_BYTES_MAX: u64 = 512 << 20;

/// Arguments of `firstread simulate`. Times in minutes.
#[derive(Debug, Args)]
pub struct Simulate {
    /// Readers at work at a time.
    #[arg(long, default_value_t = 1)]
    readers: usize,
    /// Share of the readers' time that the work takes, interruptions included.
    #[arg(long, default_value_t = 0.8)]
    load: f64,
    /// Mean time of one read.
    #[arg(long, default_value_t = 10.0)]
    read_minutes: f64,
    /// How read times spread: exponential, lognormal (coefficient of variation 0.5) or constant.
    #[arg(long, default_value = "exponential", value_parser = read_times)]
    read_times: ReadTimes,
    /// Share of diseased cases.
    #[arg(long, default_value_t = 0.1)]
    prevalence: f64,
    /// Share of diseased cases that the score flags.
    #[arg(long, default_value_t = 0.9)]
    sensitivity: f64,
    /// Share of other cases that it does not flag.
    #[arg(long, default_value_t = 0.9)]
    specificity: f64,
    /// Which waiting case is next: fifo, flag, score, head-start or cap.
    #[arg(long, default_value = "head-start", value_parser = discipline)]
    discipline: Discipline,
    /// A case that comes before another interrupts its read.
    #[arg(long)]
    preemptive: bool,
    /// Share of arrivals that come before every case of the list and are none.
    #[arg(long, default_value_t = 0.0)]
    interrupt_fraction: f64,
    /// Mean time that such an arrival takes.
    #[arg(long, default_value_t = 5.0)]
    interrupt_minutes: f64,
    /// Head start: minutes for one unit of log-odds.
    #[arg(long)]
    k_minutes: Option<f64>,
    /// Head start: probability below which there is none.
    #[arg(long)]
    p_floor: Option<f64>,
    /// Head start: its cap (default 180). Discipline cap: wait from which a case comes first (default 120).
    #[arg(long)]
    cap_minutes: Option<f64>,
    /// Cases of the list.
    #[arg(long, default_value_t = 400_000)]
    cases: usize,
    /// Same seed, same run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Recorded cases instead of Poisson arrivals: CSV with `arrival_minutes` and, as far as known,
    /// `read_minutes`, `p_abnormal`, `diseased`.
    #[arg(long, value_name = "CSV")]
    arrivals: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Write a picture.
    #[arg(long, value_name = "SVG")]
    plot: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report<'a> {
    notice: &'a str,
    unit: &'a str,
    scenario: &'a Scenario,
    groups: &'a Groups,
}

fn discipline(text: &str) -> Result<Discipline, String> {
    Discipline::parse(text).ok_or_else(|| {
        let all: Vec<&str> = Discipline::ALL.iter().map(|d| d.as_str()).collect();
        format!("must be one of {}", all.join(", "))
    })
}

fn read_times(text: &str) -> Result<ReadTimes, String> {
    match text {
        "exponential" => Ok(ReadTimes::Exponential),
        "lognormal" => Ok(ReadTimes::Lognormal),
        "constant" => Ok(ReadTimes::Constant),
        _ => Err("must be one of exponential, lognormal, constant".into()),
    }
}

impl Simulate {
    fn scenario(&self) -> Scenario {
        let defaults = TriageSettings::default();
        let head_start = self.discipline == Discipline::HeadStart;
        let head_start_cap = self.cap_minutes.filter(|_| head_start);
        Scenario {
            readers: self.readers,
            load: self.load,
            read_minutes: self.read_minutes,
            read_times: self.read_times,
            prevalence: self.prevalence,
            sensitivity: self.sensitivity,
            specificity: self.specificity,
            discipline: self.discipline,
            preemptive: self.preemptive,
            interrupt_fraction: self.interrupt_fraction,
            interrupt_minutes: self.interrupt_minutes,
            triage: TriageSettings {
                k_minutes_per_logit: self.k_minutes.unwrap_or(defaults.k_minutes_per_logit),
                p_floor: self.p_floor.unwrap_or(defaults.p_floor),
                ai_cap_minutes: head_start_cap.unwrap_or(defaults.ai_cap_minutes),
                ..defaults
            },
            cap_minutes: self.cap_minutes.unwrap_or(120.0),
            cases: self.cases,
            seed: self.seed,
        }
    }
}

/// Runs it and prints what came out.
///
/// # Errors
/// When a value cannot be, or a file cannot be read or written.
pub fn run(arguments: &Simulate) -> Result<(), Failure> {
    let bad = |what: String| (BAD_INPUT, what);
    let scenario = arguments.scenario();
    let groups = match &arguments.arrivals {
        None => simulation::simulate(&scenario),
        Some(path) => recorded(path).and_then(|cases| simulation::replay(&scenario, &cases)),
    }
    .map_err(bad)?;
    if let Some(path) = &arguments.plot {
        let picture = simulation::svg(&groups, &title(&scenario));
        std::fs::write(path, picture).map_err(|e| bad(format!("{}: {e}", path.display())))?;
    }
    if arguments.json {
        let report = Report {
            notice: crate::RESEARCH_USE,
            unit: "minutes",
            scenario: &scenario,
            groups: &groups,
        };
        let text = serde_json::to_string_pretty(&report).map_err(|e| (1, e.to_string()))?;
        say(&text);
    } else {
        say(&table(&scenario, &groups));
    }
    Ok(())
}

fn recorded(path: &std::path::Path) -> Result<Vec<simulation::Recorded>, String> {
    let named = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let bytes = std::fs::metadata(path).map_err(|e| named(&e))?.len();
    if bytes > RECORDED_BYTES_MAX {
        return Err(named(&format!(
            "larger than {} MiB",
            RECORDED_BYTES_MAX >> 20
        )));
    }
    let text = std::fs::read_to_string(path).map_err(|e| named(&e))?;
    simulation::recorded_cases(&text).map_err(|e| named(&e))
}

fn title(s: &Scenario) -> String {
    format!(
        "{}, {} reader(s), load {}, prevalence {}, sensitivity {}, specificity {}{}",
        s.discipline.as_str(),
        s.readers,
        s.load,
        s.prevalence,
        s.sensitivity,
        s.specificity,
        if s.preemptive { ", preemptive" } else { "" }
    )
}

fn table(scenario: &Scenario, groups: &Groups) -> String {
    let mut lines = vec![
        title(scenario),
        format!(
            "{:<10}{:>9}{:>9}{:>18}{:>9}{:>9}   minutes waited",
            "group", "cases", "mean", "95 % interval", "p95", "max"
        ),
    ];
    let number = |n: Option<f64>| n.map_or("-".into(), |n| format!("{n:.2}"));
    for (name, g) in GROUPS.into_iter().zip(groups.each()) {
        let interval = g
            .ci95
            .map_or("-".into(), |[low, high]| format!("{low:.2}-{high:.2}"));
        lines.push(format!(
            "{name:<10}{:>9}{:>9}{interval:>18}{:>9}{:>9}",
            g.count,
            number(g.mean),
            number(g.p95),
            number(g.max)
        ));
    }
    lines.push(crate::RESEARCH_USE.to_owned());
    lines.join("\n")
}
