//! Readers and the list: events in the order of time.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use super::cases::{Case, Key};
use super::{Discipline, Scenario};

/// Who reads, and what may jump the queue.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    pub readers: usize,
    /// A newcomer that comes before a case being read takes its reader.
    pub preemptive: bool,
    /// Wait, in minutes, from which a case comes before all others.
    pub cap: Option<f64>,
}

impl From<&Scenario> for Room {
    fn from(s: &Scenario) -> Self {
        Self {
            readers: s.readers,
            preemptive: s.preemptive,
            cap: (s.discipline == Discipline::Cap).then_some(s.cap_minutes),
        }
    }
}

/// Who waits.
struct Waiting<'a> {
    cases: &'a [Case],
    by_key: BinaryHeap<Reverse<Key>>,
    /// For the cap: the same cases in order of arrival.
    by_arrival: BTreeSet<usize>,
    waits: Vec<bool>,
    cap: Option<f64>,
}

impl Waiting<'_> {
    fn push(&mut self, case: usize) {
        self.waits[case] = true;
        self.by_key.push(Reverse(self.cases[case].key));
        if self.cap.is_some() && !self.cases[case].interrupt {
            self.by_arrival.insert(case);
        }
    }

    fn pop(&mut self, now: f64) -> Option<usize> {
        while let Some(Reverse(top)) = self.by_key.peek() {
            if self.waits[top.index] {
                break;
            }
            self.by_key.pop();
        }
        let top = self.by_key.peek()?.0;
        let next = match self.overdue(now) {
            Some(overdue) if top.class > 0 => overdue,
            _ => top.index,
        };
        self.waits[next] = false;
        self.by_arrival.remove(&next);
        Some(next)
    }

    /// Who has waited longest, when longer than the cap.
    fn overdue(&self, now: f64) -> Option<usize> {
        let first = *self.by_arrival.first()?;
        (now - self.cases[first].arrival >= self.cap?).then_some(first)
    }
}

/// Minutes that each case waited: from arrival to the end of its read, less the read itself.
///
/// With [`Room::preemptive`] a newcomer whose key is smaller than that of a case being read takes
/// its reader; the read goes on where it stopped. A case that becomes overdue interrupts nobody.
pub fn waits(cases: &[Case], room: Room) -> Vec<f64> {
    let mut waiting = Waiting {
        cases,
        by_key: BinaryHeap::new(),
        by_arrival: BTreeSet::new(),
        waits: vec![false; cases.len()],
        cap: room.cap,
    };
    let mut left: Vec<f64> = cases.iter().map(|c| c.service).collect();
    let mut waits = vec![0.0; cases.len()];
    // (end, case) of the reads going on
    let mut reading: Vec<(f64, usize)> = Vec::with_capacity(room.readers);
    let mut next = 0;
    loop {
        let first = (0..reading.len()).min_by(|a, b| reading[*a].0.total_cmp(&reading[*b].0));
        let arrival = cases.get(next).map(|c| c.arrival);
        match (first, arrival) {
            (None, None) => return waits,
            (Some(at), arrival) if arrival.is_none_or(|a| reading[at].0 <= a) => {
                let (now, done) = reading.swap_remove(at);
                waits[done] = (now - cases[done].arrival - cases[done].service).max(0.0);
                if let Some(case) = waiting.pop(now) {
                    reading.push((now + left[case], case));
                }
            }
            (_, Some(now)) => {
                if reading.len() < room.readers {
                    reading.push((now + left[next], next));
                } else if let Some(at) = weaker(cases, &reading, next, room.preemptive) {
                    let (end, interrupted) = reading[at];
                    left[interrupted] = end - now;
                    waiting.push(interrupted);
                    reading[at] = (now + left[next], next);
                } else {
                    waiting.push(next);
                }
                next += 1;
            }
            // The guard above takes every ended read when nothing arrives any more.
            (Some(_), None) => unreachable!("a read without an end"),
        }
    }
}

/// Of the reads going on the one that should wait most, if the newcomer comes before it.
fn weaker(
    cases: &[Case],
    reading: &[(f64, usize)],
    newcomer: usize,
    preemptive: bool,
) -> Option<usize> {
    if !preemptive {
        return None;
    }
    let last = (0..reading.len()).max_by_key(|at| cases[reading[*at].1].key)?;
    let (old, new) = (cases[reading[last].1].key, cases[newcomer].key);
    (new < old).then_some(last)
}
