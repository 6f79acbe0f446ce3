//! Slows down guessing of passwords: after a few failures each further one doubles the wait.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use crate::clock::UnixMillis;
use crate::store::accounts::digest;

/// Failures that cost nothing, for people who mistype.
const FREE_FAILURES: u32 = 5;
/// Wait after the first failure that costs.
const FIRST_WAIT_MS: i64 = 2_000;
/// Longest wait.
const WAIT_MS_MAX: i64 = 15 * 60_000;
/// Failures are forgotten where none came for so long.
const FORGET_MS: i64 = 60 * 60_000;
/// Those of an address alone halve in so long.
const HALF_MS: i64 = 30 * 60_000;
/// Names and addresses remembered at once.
const ENTRIES_MAX: usize = 10_000;
/// An address may fail with so many names before it must wait for any of them.
const ADDRESS_FACTOR: u32 = 6;

#[derive(Default)]
struct Failures {
    count: u32,
    last_ms: UnixMillis,
    /// Since when the count has not been halved.
    whole_since_ms: UnixMillis,
    wait_until_ms: UnixMillis,
}

impl Failures {
    fn halve(&mut self, now_ms: UnixMillis) {
        let times = ((now_ms - self.whole_since_ms) / HALF_MS).max(0);
        let bits = u32::try_from(times).unwrap_or(u32::MAX);
        self.count = self.count.checked_shr(bits).unwrap_or(0);
        self.whole_since_ms += times * HALF_MS;
    }
}

#[derive(PartialEq, Eq, Hash)]
enum Key {
    /// Digest of the name: what is typed there may be long.
    NameFrom(String, IpAddr),
    From(IpAddr),
}

impl Key {
    /// Whether failures fade with time. A hospital behind one address mistypes all day and must not add up to a wait;
    /// its successes do not help, or whoever has one account could sign in between guesses at the others.
    /// Of one name a success forgets them.
    fn fades(&self) -> bool {
        matches!(self, Self::From(_))
    }

    fn free_failures(&self) -> u32 {
        match self {
            Self::NameFrom(..) => FREE_FAILURES,
            Self::From(_) => FREE_FAILURES * ADDRESS_FACTOR,
        }
    }
}

/// Failed logins by name and address, and by address alone.
#[derive(Default)]
pub(super) struct Throttle(Mutex<HashMap<Key, Failures>>);

impl Throttle {
    /// Seconds to wait before the next try; `None` where it may be made now.
    pub(super) fn wait_seconds(&self, name: &str, from: IpAddr, now_ms: UnixMillis) -> Option<i64> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys(name, from)
            .iter()
            .filter_map(|key| entries.get(key))
            .map(|failures| failures.wait_until_ms - now_ms)
            .max()
            .filter(|wait_ms| *wait_ms > 0)
            .map(|wait_ms| (wait_ms + 999) / 1000)
    }

    pub(super) fn failed(&self, name: &str, from: IpAddr, now_ms: UnixMillis) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= ENTRIES_MAX {
            make_room(&mut entries, now_ms);
        }
        for key in keys(name, from) {
            let (free, fades) = (key.free_failures(), key.fades());
            let entry = entries.entry(key).or_default();
            if now_ms - entry.last_ms > FORGET_MS {
                entry.count = 0;
                entry.whole_since_ms = now_ms;
            }
            if fades {
                entry.halve(now_ms);
            }
            entry.count += 1;
            entry.last_ms = now_ms;
            if let Some(over) = entry.count.checked_sub(free + 1) {
                let wait_ms = FIRST_WAIT_MS << over.min(20);
                entry.wait_until_ms = now_ms + wait_ms.min(WAIT_MS_MAX);
            }
        }
    }

    pub(super) fn succeeded(&self, name: &str, from: IpAddr) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let [of_name, _] = keys(name, from);
        entries.remove(&of_name);
    }
}

fn keys(name: &str, from: IpAddr) -> [Key; 2] {
    [Key::NameFrom(digest(name), from), Key::From(from)]
}

/// Forgets what is old; where that is not enough, the oldest half.
fn make_room(entries: &mut HashMap<Key, Failures>, now_ms: UnixMillis) {
    entries.retain(|_, failures| now_ms - failures.last_ms <= FORGET_MS);
    if entries.len() >= ENTRIES_MAX {
        let mut ages: Vec<UnixMillis> = entries.values().map(|f| f.last_ms).collect();
        ages.sort_unstable();
        let middle = ages[ages.len() / 2];
        entries.retain(|_, failures| failures.last_ms > middle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn waits_double_after_free_failures_and_end_with_success() {
        let throttle = Throttle::default();
        for _ in 0..FREE_FAILURES {
            assert_eq!(throttle.wait_seconds("a", HERE, 1000), None);
            throttle.failed("a", HERE, 1000);
        }
        assert_eq!(throttle.wait_seconds("a", HERE, 1000), None);
        throttle.failed("a", HERE, 1000);
        assert_eq!(throttle.wait_seconds("a", HERE, 1000), Some(2));
        throttle.failed("a", HERE, 1000);
        assert_eq!(throttle.wait_seconds("a", HERE, 1000), Some(4));
        assert_eq!(throttle.wait_seconds("b", HERE, 1000), None);
        throttle.succeeded("a", HERE);
        assert_eq!(throttle.wait_seconds("a", HERE, 1000), None);
    }

    #[test]
    fn one_address_cannot_try_many_names() {
        let throttle = Throttle::default();
        for i in 0..=FREE_FAILURES * ADDRESS_FACTOR {
            throttle.failed(&format!("user {i}"), HERE, 1000);
        }
        assert_eq!(throttle.wait_seconds("another", HERE, 1000), Some(2));
    }

    #[test]
    fn mistyping_at_a_shared_address_fades() {
        let throttle = Throttle::default();
        let mut now_ms = 10 * FORGET_MS;
        // a failure of somebody else every two minutes, all day
        for n in 0..12 * 30 {
            let name = format!("user {n}");
            assert_eq!(throttle.wait_seconds(&name, HERE, now_ms), None, "{n}");
            throttle.failed(&name, HERE, now_ms);
            now_ms += 2 * 60_000;
        }
    }

    #[test]
    fn guessing_goes_slower_whoever_signs_in_between_and_for_hours() {
        let throttle = Throttle::default();
        let (mut now_ms, mut tries) = (10 * FORGET_MS, 0);
        let end_ms = now_ms + 4 * FORGET_MS;
        // as fast as it may, a new name each time, with an account of its own
        while now_ms < end_ms && tries < 1000 {
            let name = format!("user {tries}");
            if let Some(seconds) = throttle.wait_seconds(&name, HERE, now_ms) {
                now_ms += seconds * 1000;
                continue;
            }
            throttle.failed(&name, HERE, now_ms);
            throttle.succeeded("own", HERE);
            tries += 1;
        }
        assert!((40..240).contains(&tries), "{tries} in four hours");
    }

    #[test]
    fn memory_is_bounded() {
        let throttle = Throttle::default();
        for i in 0..2 * ENTRIES_MAX {
            throttle.failed(&i.to_string(), HERE, 1000 + i64::try_from(i).unwrap());
        }
        assert!(throttle.0.lock().unwrap().len() <= ENTRIES_MAX + 2);
    }
}
