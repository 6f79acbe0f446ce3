//! Cases before they meet the queue: when they come, how long they take, what the score says.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, Exp1, LogNormal, StandardNormal, StandardUniform};

use super::{Discipline, ReadTimes, Scenario};
use crate::norms::phi;
use crate::triage::{ai_minutes, logistic, logit};

/// Coefficient of variation of [`ReadTimes::Lognormal`].
pub const LOGNORMAL_CV: f64 = 0.5;

/// One arrival. Times in minutes.
#[derive(Debug, Clone)]
pub struct Case {
    pub arrival: f64,
    pub service: f64,
    pub diseased: bool,
    pub flagged: bool,
    /// Comes before every case of the list and is none.
    pub interrupt: bool,
    /// Place among the waiting.
    pub key: Key,
}

/// Smaller is read earlier: class, then value, then order of arrival.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Key {
    pub class: u8,
    pub value: f64,
    pub index: usize,
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.class
            .cmp(&other.class)
            .then(self.value.total_cmp(&other.value))
            .then(self.index.cmp(&other.index))
    }
}

/// A case of a site's own list.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// Minutes since any moment.
    pub arrival_minutes: f64,
    /// Minutes that reading took; drawn where unknown.
    pub read_minutes: Option<f64>,
    /// Probability of being abnormal; drawn where unknown.
    pub p_abnormal: Option<f64>,
    /// What the reader found; drawn with that probability, or the prevalence, where unknown.
    pub diseased: Option<bool>,
}

/// Reads recorded cases from CSV with a header: `arrival_minutes`, and as far as known
/// `read_minutes`, `p_abnormal`, `diseased` (0 or 1), in any order, empty where unknown.
///
/// # Errors
/// Names the line and the field that cannot be read.
pub fn recorded_cases(csv: &str) -> Result<Vec<Recorded>, String> {
    let mut lines = csv
        .lines()
        .enumerate()
        .filter(|(_, l)| !l.trim().is_empty());
    let (_, header) = lines.next().ok_or("no header line")?;
    let names: Vec<&str> = header.split(',').map(str::trim).collect();
    let column = |name: &str| names.iter().position(|n| *n == name);
    let arrival = column("arrival_minutes").ok_or("no column arrival_minutes")?;
    let columns = ["read_minutes", "p_abnormal", "diseased"].map(column);
    let mut cases = Vec::new();
    for (number, line) in lines {
        if cases.len() == super::CASES_MAX {
            return Err(format!("more than {} cases", super::CASES_MAX));
        }
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let number_at = |at: Option<usize>, low: f64, high: f64| -> Result<Option<f64>, String> {
            let text = at
                .and_then(|at| fields.get(at))
                .copied()
                .unwrap_or_default();
            if text.is_empty() {
                return Ok(None);
            }
            match text.parse::<f64>() {
                Ok(value) if (low..=high).contains(&value) => Ok(Some(value)),
                _ => Err(format!(
                    "line {}: {text:?} is not a number from {low} to {high}",
                    number + 1
                )),
            }
        };
        let arrival_minutes = number_at(Some(arrival), -1e9, 1e9)?
            .ok_or_else(|| format!("line {}: no arrival_minutes", number + 1))?;
        cases.push(Recorded {
            arrival_minutes,
            read_minutes: number_at(columns[0], 0.0, 1e5)?,
            p_abnormal: number_at(columns[1], 0.0, 1.0)?,
            diseased: number_at(columns[2], 0.0, 1.0)?.map(|d| d >= 0.5),
        });
    }
    cases.sort_by(|a, b| a.arrival_minutes.total_cmp(&b.arrival_minutes));
    Ok(cases)
}

/// Scores of two groups of equal variance: normal N(0, 1), diseased N(distance, 1).
struct Score {
    distance: f64,
    threshold: f64,
    prevalence: f64,
}

impl Score {
    fn new(s: &Scenario) -> Self {
        let threshold = inverse_phi(s.specificity);
        Self {
            distance: inverse_phi(s.sensitivity) + threshold,
            threshold,
            prevalence: s.prevalence,
        }
    }

    /// Calibrated probability of a score, by Bayes.
    fn p(&self, x: f64) -> f64 {
        logistic(logit(self.prevalence) + self.distance * x - self.distance * self.distance / 2.0)
    }
}

/// Source of randomness of one run.
pub struct Draw(ChaCha8Rng);

impl Draw {
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    fn exponential(&mut self) -> f64 {
        Exp1.sample(&mut self.0)
    }

    fn normal(&mut self) -> f64 {
        StandardNormal.sample(&mut self.0)
    }

    fn chance(&mut self, p: f64) -> bool {
        let u: f64 = StandardUniform.sample(&mut self.0);
        u < p
    }

    /// Minutes that a read takes.
    pub fn read(&mut self, mean: f64, times: ReadTimes) -> f64 {
        match times {
            ReadTimes::Exponential => mean * self.exponential(),
            ReadTimes::Constant => mean,
            ReadTimes::Lognormal => {
                let made = LogNormal::from_mean_cv(mean, LOGNORMAL_CV);
                made.map_or(mean, |d| d.sample(&mut self.0))
            }
        }
    }
}

/// Mean time between arrivals of any sort.
pub fn mean_gap(s: &Scenario) -> f64 {
    let share = s.interrupt_fraction;
    let mean_service = (1.0 - share) * s.read_minutes + share * s.interrupt_minutes;
    #[expect(clippy::cast_precision_loss, reason = "at most 1000")]
    let readers = s.readers as f64;
    mean_service / (s.load * readers)
}

/// Cases of a Poisson process, and the interruptions between them.
pub fn poisson(s: &Scenario) -> Vec<Case> {
    let (score, gap) = (Score::new(s), mean_gap(s));
    let mut draw = Draw::new(s.seed);
    let (mut now, mut of_list) = (0.0, 0);
    let mut cases = Vec::with_capacity(s.cases);
    while of_list < s.cases {
        now += gap * draw.exponential();
        let index = cases.len();
        if draw.chance(s.interrupt_fraction) {
            let service = s.interrupt_minutes * draw.exponential();
            cases.push(interruption(now, service, index));
            continue;
        }
        of_list += 1;
        let diseased = draw.chance(s.prevalence);
        let x = draw.normal() + if diseased { score.distance } else { 0.0 };
        cases.push(Case {
            arrival: now,
            service: draw.read(s.read_minutes, s.read_times),
            diseased,
            flagged: x > score.threshold,
            interrupt: false,
            key: key(s, now, score.p(x), x > score.threshold, index),
        });
    }
    cases
}

/// Recorded cases; what is not recorded is drawn.
pub fn replayed(s: &Scenario, recorded: &[Recorded]) -> Vec<Case> {
    let score = Score::new(s);
    let threshold = score.p(score.threshold);
    let mut draw = Draw::new(s.seed);
    let one = |(index, r): (usize, &Recorded)| {
        let diseased = match (r.diseased, r.p_abnormal) {
            (Some(diseased), _) => diseased,
            (None, p) => draw.chance(p.unwrap_or(s.prevalence)),
        };
        let shift = if diseased { score.distance } else { 0.0 };
        let drawn = score.p(draw.normal() + shift);
        let p = r.p_abnormal.unwrap_or(drawn);
        let drawn = draw.read(s.read_minutes, s.read_times);
        Case {
            arrival: r.arrival_minutes,
            service: r.read_minutes.unwrap_or(drawn),
            diseased,
            flagged: p > threshold,
            interrupt: false,
            key: key(s, r.arrival_minutes, p, p > threshold, index),
        }
    };
    recorded.iter().enumerate().map(one).collect()
}

fn interruption(arrival: f64, service: f64, index: usize) -> Case {
    Case {
        arrival,
        service,
        diseased: false,
        flagged: false,
        interrupt: true,
        key: Key {
            class: 0,
            value: arrival,
            index,
        },
    }
}

fn key(s: &Scenario, arrival: f64, p: f64, flagged: bool, index: usize) -> Key {
    let (class, value) = match s.discipline {
        Discipline::Fifo => (2, arrival),
        Discipline::Flag => (if flagged { 1 } else { 2 }, arrival),
        Discipline::Score | Discipline::Cap => (2, -p),
        Discipline::HeadStart => (2, arrival - ai_minutes(p, &s.triage)),
    };
    Key {
        class,
        value,
        index,
    }
}

/// Quantile of the standard normal distribution, by bisection; `p` in (0, 1).
fn inverse_phi(p: f64) -> f64 {
    let (mut low, mut high) = (-9.0, 9.0);
    for _ in 0..80 {
        let middle = f64::midpoint(low, high);
        if phi(middle) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}
