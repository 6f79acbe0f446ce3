//! Time, injected: nothing else in the crate reads the wall clock.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Milliseconds since 1970-01-01T00:00:00Z.
pub type UnixMillis = i64;

/// Where "now" comes from.
pub trait Clock: Send + Sync + 'static {
    /// The present moment in UTC.
    fn now_ms(&self) -> UnixMillis;
}

/// A clock that many tasks share.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> UnixMillis {
        chrono::Utc::now().timestamp_millis()
    }
}

/// The machine's clock, but it never goes back: the order in which studies arrived, quiet times and
/// waits must not turn round because somebody sets the clock. Where the machine's was set back, this
/// one goes on at half its speed until the machine's has caught up.
#[derive(Debug)]
pub struct SteadyClock {
    began: Instant,
    shown: Mutex<Shown>,
}

/// What a [`SteadyClock`] showed last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shown {
    /// In half milliseconds since 1970, so that half speed loses nothing.
    half_ms: i64,
    /// Milliseconds since the clock began, when it did.
    at_ms: i64,
}

impl Shown {
    /// What it shows next, where the machine's clock shows `wall_ms`.
    fn next(self, wall_ms: UnixMillis, at_ms: i64) -> Self {
        let passed_ms = (at_ms - self.at_ms).max(0);
        Self {
            // A millisecond at half speed is one half millisecond.
            half_ms: (wall_ms * 2).max(self.half_ms + passed_ms),
            at_ms,
        }
    }
}

impl Default for SteadyClock {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            shown: Mutex::new(Shown {
                half_ms: SystemClock.now_ms() * 2,
                at_ms: 0,
            }),
        }
    }
}

impl Clock for SteadyClock {
    fn now_ms(&self) -> UnixMillis {
        let at_ms = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        *shown = shown.next(SystemClock.now_ms(), at_ms);
        shown.half_ms / 2
    }
}

/// A clock that stands still until it is moved, for tests.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that shows `now_ms`.
    #[must_use]
    pub fn at(now_ms: UnixMillis) -> Self {
        Self(AtomicI64::new(now_ms))
    }

    /// Moves the clock forward.
    pub fn advance_ms(&self, by_ms: i64) {
        self.0.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> UnixMillis {
        self.0.load(Ordering::SeqCst)
    }
}

/// UTC as HL7 writes times, to the second: `YYYYMMDDHHMMSS+0000`.
#[must_use]
pub fn hl7_time(at_ms: UnixMillis) -> String {
    chrono::DateTime::from_timestamp_millis(at_ms)
        .unwrap_or_default()
        .format("%Y%m%d%H%M%S+0000")
        .to_string()
}

/// RFC 3339 in UTC with milliseconds, as the JSON API writes times.
#[must_use]
pub fn rfc3339(at_ms: UnixMillis) -> String {
    chrono::DateTime::from_timestamp_millis(at_ms)
        .unwrap_or_default()
        .to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    #[test]
    fn a_clock_that_is_set_back_goes_on_at_half_speed_and_never_back() {
        let (mut shown, mut last) = (
            Shown {
                half_ms: 20 * HOUR_MS,
                at_ms: 0,
            },
            0,
        );
        // Set back by an hour after 10 s, looked at every second for three hours.
        for second in 0..3 * 3600_i64 {
            let set = if second < 10 { 0 } else { HOUR_MS };
            let wall = 10 * HOUR_MS + second * 1000 - set;
            shown = shown.next(wall, second * 1000);
            assert!(shown.half_ms > last, "at {second} s");
            last = shown.half_ms;
            let ahead_ms = shown.half_ms / 2 - wall;
            match second {
                0..10 => assert_eq!(ahead_ms, 0),
                10..7200 => assert!(ahead_ms > 0 && ahead_ms <= HOUR_MS),
                7300.. => assert_eq!(ahead_ms, 0, "it has caught up after two hours"),
                _ => {}
            }
        }
    }

    #[test]
    fn a_clock_that_is_set_forward_is_followed() {
        let shown = Shown {
            half_ms: 2000,
            at_ms: 0,
        };
        let shown = shown.next(1000 + HOUR_MS, 10);
        assert_eq!(shown.half_ms / 2, 1000 + HOUR_MS);
    }
}
