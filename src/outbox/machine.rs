//! The states of a delivery and what moves it from one to the next. Pure: the moment and the dice are given.
//!
//! ```text
//!            claimed              delivered
//! waiting ------------> sending ------------> delivered   never sent again
//!    ^  ^                 |  |      never
//!    |  |  later, budget  |  +--------------> dead        shown; resent or skipped by a person
//!    |  +-----------------+  |  budget spent   |
//!    |                       +---------------->|
//!    +-----------------------------------------+ resent
//! ```

use crate::clock::UnixMillis;

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// To be sent when it is due.
    Waiting,
    /// Handed to the channel; whether it arrived is not known yet.
    Sending,
    /// The destination took it.
    Delivered,
    /// Given up: refused for good, or the retry budget is spent.
    Dead,
    /// Not sent, and will not be: a person said so, or it was no longer needed.
    Skipped,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Waiting,
        Self::Sending,
        Self::Delivered,
        Self::Dead,
        Self::Skipped,
    ];

    /// As the database and the API write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Sending => "sending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
            Self::Skipped => "skipped",
        }
    }

    /// Reads what [`State::as_str`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == text)
    }
}

/// How far a delivery went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Where it stands.
    pub state: State,
    /// Attempts begun since it was written or resent.
    pub attempts: u32,
    /// When it is tried next; while it is being sent: when that counts as broken off.
    pub due_ms: UnixMillis,
    /// What came of the last attempt, or why it was skipped.
    pub said: Option<String>,
    /// When it became delivered, dead or skipped.
    pub settled_ms: Option<UnixMillis>,
}

impl Progress {
    fn to(
        &self,
        state: State,
        due_ms: UnixMillis,
        said: Option<String>,
        now_ms: UnixMillis,
    ) -> Self {
        Self {
            state,
            due_ms,
            said: said.or_else(|| self.said.clone()),
            attempts: self.attempts,
            settled_ms: (!matches!(state, State::Waiting | State::Sending)).then_some(now_ms),
        }
    }
}

/// What an attempt came to. Why it failed is said in our words and in the destination's codes, never in its
/// free text, which may name a patient: this is logged and listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The destination took it.
    Delivered,
    /// It may succeed later: not reached, busy, misconfigured.
    Later(String),
    /// The destination refused it for good.
    Never(String),
}

/// What happens to a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A sender takes it.
    Claimed,
    /// The attempt ended.
    Ended(Outcome),
}

/// What is ordered about a delivery from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// The process that was sending it is gone: it is due again.
    Release,
    /// A person wants it sent now.
    Resend,
    /// It is not to be sent, and why.
    Skip(String),
}

/// How often and how patiently an attempt is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryLimits {
    /// Attempts before a delivery is dead.
    pub attempts_max: u32,
    /// Wait after the first failure; doubles with each.
    pub first_ms: i64,
    /// No wait is longer.
    pub longest_ms: i64,
    /// An attempt that was begun so long ago counts as broken off.
    pub lease_ms: i64,
}

/// The state after `event`, or `None` where the event cannot happen to a delivery that stands so.
///
/// `jitter`, 0 to 1, spreads the retries of many deliveries over half of their wait.
#[must_use]
pub fn next(
    was: &Progress,
    event: &Event,
    now_ms: UnixMillis,
    limits: &RetryLimits,
    jitter: f64,
) -> Option<Progress> {
    let to = |state, due_ms, said| was.to(state, due_ms, said, now_ms);
    let spent = was.attempts >= limits.attempts_max;
    match (was.state, event) {
        // Broken off in its last attempt: it must not take the process down for ever.
        (State::Sending, Event::Claimed) if spent && was.due_ms <= now_ms => {
            let said = "broke off in the last attempt".to_owned();
            Some(to(State::Dead, now_ms, Some(said)))
        }
        (State::Waiting | State::Sending, Event::Claimed) if was.due_ms <= now_ms => {
            Some(Progress {
                attempts: was.attempts + 1,
                ..to(State::Sending, now_ms + limits.lease_ms, None)
            })
        }
        (State::Sending, Event::Ended(Outcome::Delivered)) => Some(Progress {
            said: None,
            ..to(State::Delivered, now_ms, None)
        }),
        (State::Sending, Event::Ended(Outcome::Later(why))) if !spent => {
            let due_ms = now_ms + wait_ms(was.attempts, limits, jitter);
            Some(to(State::Waiting, due_ms, Some(why.clone())))
        }
        (State::Sending, Event::Ended(Outcome::Later(why) | Outcome::Never(why))) => {
            Some(to(State::Dead, now_ms, Some(why.clone())))
        }
        _ => None,
    }
}

/// The state after an order, or `None` where it cannot be followed: what is delivered is never
/// sent again, and what is being sent cannot be called back.
#[must_use]
pub fn steer(was: &Progress, order: &Order, now_ms: UnixMillis) -> Option<Progress> {
    let to = |state, said| was.to(state, now_ms, said, now_ms);
    match (was.state, order) {
        (State::Sending, Order::Release) => Some(to(State::Sending, None)),
        (State::Waiting, Order::Resend) => Some(to(State::Waiting, None)),
        (State::Dead | State::Skipped, Order::Resend) => Some(Progress {
            attempts: 0,
            ..to(State::Waiting, None)
        }),
        (State::Waiting | State::Dead, Order::Skip(why)) => {
            Some(to(State::Skipped, Some(why.clone())))
        }
        _ => None,
    }
}

/// Exponential, capped, with the upper half left to chance.
fn wait_ms(attempts: u32, limits: &RetryLimits, jitter: f64) -> i64 {
    let doublings = attempts.saturating_sub(1).min(40);
    let full = limits
        .first_ms
        .saturating_mul(1_i64 << doublings)
        .clamp(1, limits.longest_ms.max(1));
    let half = full / 2;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "at most half of a capped wait"
    )]
    let more = ((full - half) as f64 * jitter.clamp(0.0, 1.0)) as i64;
    half + more
}

/// When many messages to one destination become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StormLimits {
    /// So many messages ...
    pub messages: usize,
    /// ... in so long are a storm.
    pub window_ms: i64,
    /// During a storm one message, that says all that waits, is sent in so long; the first ones sooner.
    pub bundle_ms: i64,
}

/// How the next message to a destination goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// By itself.
    Alone,
    /// With all that waits.
    Bundled,
    /// Not before that moment.
    Wait(UnixMillis),
}

/// Wait between the first two bundles of a storm; doubles with each, up to the longest.
const FIRST_BUNDLE_MS: i64 = 2000;

/// The pace after messages were `sent` at these moments.
/// The last one that is free says all that waits, so that nothing is left behind for a whole bundle.
/// The first bundles follow each other soon: a burst is told within seconds, a long storm seldom.
#[must_use]
pub fn pace(sent: &[UnixMillis], now_ms: UnixMillis, limits: &StormLimits) -> Pace {
    let recent = sent.iter().filter(|at| now_ms - **at < limits.window_ms);
    let recent = recent.count();
    let last = sent.iter().max().copied().unwrap_or(UnixMillis::MIN);
    let bundles = recent.saturating_sub(limits.messages).min(20);
    let gap_ms = (FIRST_BUNDLE_MS << bundles).min(limits.bundle_ms);
    let free = last.saturating_add(gap_ms);
    if recent + 1 < limits.messages {
        Pace::Alone
    } else if recent < limits.messages || free <= now_ms {
        Pace::Bundled
    } else {
        Pace::Wait(free)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: RetryLimits = RetryLimits {
        attempts_max: 4,
        first_ms: 1000,
        longest_ms: 3000,
        lease_ms: 60_000,
    };

    fn at(state: State, attempts: u32) -> Progress {
        Progress {
            state,
            attempts,
            due_ms: 100,
            said: None,
            settled_ms: None,
        }
    }

    #[track_caller]
    fn check(was: &Progress, event: &Event, expected: Option<(State, u32, i64)>) {
        let found = next(was, event, 100, &LIMITS, 1.0);
        assert_eq!(found.map(|p| (p.state, p.attempts, p.due_ms)), expected);
    }

    fn later() -> Event {
        Event::Ended(Outcome::Later("busy".into()))
    }

    fn never() -> Event {
        Event::Ended(Outcome::Never("no such user".into()))
    }

    #[test]
    fn a_delivery_goes_its_way() {
        use State::{Dead, Delivered, Sending, Waiting};
        let done = Event::Ended(Outcome::Delivered);
        check(&at(Waiting, 0), &Event::Claimed, Some((Sending, 1, 60_100)));
        check(&at(Sending, 1), &done, Some((Delivered, 1, 100)));
        check(&at(Sending, 1), &later(), Some((Waiting, 1, 1100)));
        check(&at(Sending, 2), &later(), Some((Waiting, 2, 2100)));
        check(&at(Sending, 3), &later(), Some((Waiting, 3, 3100)));
        check(&at(Sending, 4), &later(), Some((Dead, 4, 100)));
        check(&at(Sending, 1), &never(), Some((Dead, 1, 100)));
        check(&at(Sending, 1), &Event::Claimed, Some((Sending, 2, 60_100)));
        check(&at(Sending, 4), &Event::Claimed, Some((Dead, 4, 100)));
    }

    #[track_caller]
    fn check_steer(was: &Progress, order: &Order, expected: Option<(State, u32, i64)>) {
        let found = steer(was, order, 200);
        assert_eq!(found.map(|p| (p.state, p.attempts, p.due_ms)), expected);
    }

    #[test]
    fn people_steer_what_is_not_under_way() {
        use State::{Dead, Delivered, Sending, Skipped, Waiting};
        let skip = Order::Skip("read meanwhile".into());
        check_steer(&at(Sending, 1), &Order::Release, Some((Sending, 1, 200)));
        check_steer(&at(Dead, 4), &Order::Resend, Some((Waiting, 0, 200)));
        check_steer(&at(Skipped, 4), &Order::Resend, Some((Waiting, 0, 200)));
        check_steer(&at(Waiting, 3), &Order::Resend, Some((Waiting, 3, 200)));
        check_steer(&at(Waiting, 3), &skip, Some((Skipped, 3, 200)));
        check_steer(&at(Dead, 4), &skip, Some((Skipped, 4, 200)));
        check_steer(&at(Sending, 1), &skip, None);
        check_steer(&at(Sending, 1), &Order::Resend, None);
        for order in [Order::Release, Order::Resend, skip] {
            check_steer(&at(Delivered, 1), &order, None);
        }
    }

    #[test]
    fn what_cannot_happen_does_not() {
        use State::{Delivered, Waiting};
        let done = Event::Ended(Outcome::Delivered);
        check(&at(Waiting, 0), &done, None);
        let not_due = Progress {
            due_ms: 101,
            ..at(Waiting, 0)
        };
        check(&not_due, &Event::Claimed, None);
        for event in [Event::Claimed, done] {
            check(&at(Delivered, 1), &event, None);
        }
    }

    #[track_caller]
    fn check_pace(sent: &[i64], now_ms: i64, expected: Pace) {
        let limits = StormLimits {
            messages: 2,
            window_ms: 100,
            bundle_ms: 10,
        };
        assert_eq!(pace(sent, now_ms, &limits), expected);
    }

    #[test]
    fn a_storm_is_bundled_and_ends() {
        check_pace(&[], 0, Pace::Alone);
        check_pace(&[1], 2, Pace::Bundled);
        check_pace(&[1, 2], 3, Pace::Wait(12));
        check_pace(&[1, 2], 12, Pace::Bundled);
        check_pace(&[2, 12, 1], 13, Pace::Wait(22));
        check_pace(&[1, 2], 102, Pace::Alone);
    }

    #[test]
    fn the_first_bundles_of_a_storm_come_soon() {
        let limits = StormLimits {
            messages: 2,
            window_ms: 1_000_000,
            bundle_ms: 10_000,
        };
        let mut sent = vec![0, 0];
        for expected in [2_000, 6_000, 14_000, 24_000, 34_000] {
            assert_eq!(pace(&sent, expected - 1, &limits), Pace::Wait(expected));
            assert_eq!(pace(&sent, expected, &limits), Pace::Bundled);
            sent.push(expected);
        }
    }

    /// Either kind of thing that can happen.
    #[derive(Debug, Clone)]
    enum Happens {
        Event(Event),
        Order(Order),
    }

    fn happens() -> impl Strategy<Value = Happens> {
        let event = |event| Just(Happens::Event(event));
        let order = |order| Just(Happens::Order(order));
        prop_oneof![
            3 => event(Event::Claimed),
            1 => event(Event::Ended(Outcome::Delivered)),
            3 => event(later()),
            1 => event(never()),
            1 => order(Order::Release),
            1 => order(Order::Resend),
            1 => order(Order::Skip("no".into())),
        ]
    }

    proptest! {
        #[test]
        fn whatever_happens_the_promises_hold(
            events in proptest::collection::vec((happens(), 0..200_000_i64, 0.0..=1.0_f64), 0..60)
        ) {
            let (mut now_ms, mut was) = (100, at(State::Waiting, 0));
            for (event, later_ms, jitter) in events {
                now_ms += later_ms;
                let is = match &event {
                    Happens::Event(event) => next(&was, event, now_ms, &LIMITS, jitter),
                    Happens::Order(order) => steer(&was, order, now_ms),
                };
                let Some(is) = is else { continue };
                prop_assert!(was.state != State::Delivered, "what is delivered never changes");
                prop_assert!(is.attempts <= LIMITS.attempts_max);
                prop_assert_eq!(is.settled_ms.is_none(), matches!(is.state, State::Waiting | State::Sending));
                if is.state == State::Waiting {
                    prop_assert!(is.due_ms - now_ms <= LIMITS.longest_ms);
                }
                if let Happens::Event(Event::Ended(Outcome::Later(_))) = event {
                    prop_assert!(is.state == State::Dead || is.due_ms - now_ms >= LIMITS.first_ms / 2);
                }
                if is.state == State::Dead {
                    prop_assert!(is.said.is_some(), "a dead delivery says why");
                }
                was = is;
            }
        }

        /// 500 alerts in 10 minutes: a bounded number of messages, and nothing waits for long.
        #[test]
        fn a_storm_costs_a_bounded_number_of_messages(
            mut raised in proptest::collection::vec(0..600_000_i64, 1..500)
        ) {
            let limits = StormLimits { messages: 5, window_ms: 600_000, bundle_ms: 120_000 };
            raised.sort_unstable();
            let (mut sent, mut waiting, mut now_ms) = (Vec::new(), Vec::new(), 0);
            let mut told = 0;
            let all = raised.len();
            while told < all {
                while raised.first().is_some_and(|at| *at <= now_ms) {
                    waiting.push(raised.remove(0));
                }
                match pace(&sent, now_ms, &limits) {
                    _ if waiting.is_empty() => now_ms += 500,
                    Pace::Wait(until) => now_ms = until.min(now_ms + 500),
                    how => {
                        let n = if how == Pace::Alone { 1 } else { waiting.len() };
                        for at in waiting.drain(..n) {
                            prop_assert!(now_ms - at <= limits.bundle_ms + 500, "told late");
                        }
                        told += n;
                        sent.push(now_ms);
                    }
                }
            }
            for first in &sent {
                let n = sent.iter().filter(|at| (0..limits.window_ms).contains(&(**at - first))).count();
                // Five by themselves, six while the wait doubles, the rest in two minutes each.
                prop_assert!(n <= 5 + 6 + 600 / 120, "{n} messages in 10 min");
            }
        }
    }
}
