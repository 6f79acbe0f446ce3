//! When is a series complete? Never by a long timer, and never from geometry alone.
//!
//! A series is complete when
//! - its stated number of images (0020,1002) has arrived for the first time, or
//! - every association that brought images of it has ended and it has been quiet for its quiet
//!   time, which doubles with every late slice, or
//! - it has been quiet for a longer while although the sender keeps the association open.
//!
//! Pure: time comes in with every call.

use std::collections::{HashMap, HashSet};

use crate::clock::UnixMillis;
use crate::dicom::receive::AssociationId;

/// The waits, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettleRules {
    /// Longest quiet time.
    pub quiet_ms_max: i64,
    /// Quiet time while the association is still open.
    pub open_association_quiet_ms: i64,
}

#[derive(Debug)]
struct Watched {
    study_id: i64,
    images: u64,
    expected: Option<u64>,
    settled_images: Option<u64>,
    quiet_ms: i64,
    last_ms: UnixMillis,
    associations: HashSet<AssociationId>,
}

/// Watches series until they are complete.
#[derive(Debug)]
pub struct Settle {
    rules: SettleRules,
    series: HashMap<i64, Watched>,
}

impl Settle {
    /// Watches nothing yet.
    #[must_use]
    pub fn new(rules: SettleRules) -> Self {
        Self {
            rules,
            series: HashMap::new(),
        }
    }

    /// Whether the series is watched already, so that its count is known.
    #[must_use]
    pub fn knows(&self, series_id: i64) -> bool {
        self.series.contains_key(&series_id)
    }

    /// Starts to watch a series that has `images` on disk.
    pub fn watch(
        &mut self,
        series_id: i64,
        study_id: i64,
        images: u64,
        quiet_ms: i64,
        now: UnixMillis,
    ) {
        self.series.entry(series_id).or_insert_with(|| Watched {
            study_id,
            images,
            expected: None,
            settled_images: None,
            quiet_ms,
            last_ms: now,
            associations: HashSet::new(),
        });
    }

    /// `arrived` images of a watched series came over `associations`.
    pub fn arrived(
        &mut self,
        series_id: i64,
        arrived: u64,
        expected: Option<u64>,
        associations: impl IntoIterator<Item = AssociationId>,
        now: UnixMillis,
    ) {
        if let Some(w) = self.series.get_mut(&series_id) {
            if w.settled_images == Some(w.images) && arrived > 0 {
                w.quiet_ms = (w.quiet_ms * 2).min(self.rules.quiet_ms_max);
            }
            w.images += arrived;
            w.expected = w.expected.or(expected.filter(|n| *n > 0));
            w.last_ms = now;
            w.associations.extend(associations);
        }
    }

    /// An association is over.
    pub fn ended(&mut self, association: AssociationId) {
        for w in self.series.values_mut() {
            w.associations.remove(&association);
        }
    }

    /// A completion that [`Settle::take_complete`] gave could not be recorded: give it again.
    pub fn unsettle(&mut self, series_id: i64) {
        if let Some(w) = self.series.get_mut(&series_id) {
            w.settled_images = None;
        }
    }

    /// Series that are complete now, as (series, study); each is given once per completion.
    pub fn take_complete(&mut self, now: UnixMillis) -> Vec<(i64, i64)> {
        let mut complete = Vec::new();
        for (id, w) in &mut self.series {
            let reached = w.settled_images.is_none() && w.expected.is_some_and(|n| w.images >= n);
            let quiet = now - w.last_ms;
            let still = if w.associations.is_empty() {
                quiet >= w.quiet_ms
            } else {
                quiet >= self.rules.open_association_quiet_ms.max(w.quiet_ms)
            };
            if w.settled_images != Some(w.images) && (reached || still) {
                w.settled_images = Some(w.images);
                complete.push((*id, w.study_id));
            }
        }
        // What is complete and has been quiet for long may be forgotten: a later slice is
        // looked up again in the database.
        let forget_ms = self.rules.quiet_ms_max * 2;
        self.series.retain(|_, w| {
            w.settled_images != Some(w.images)
                || now - w.last_ms < forget_ms
                || !w.associations.is_empty()
        });
        complete.sort_unstable();
        complete
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settle() -> Settle {
        Settle::new(SettleRules {
            quiet_ms_max: 60_000,
            open_association_quiet_ms: 20_000,
        })
    }

    #[test]
    fn complete_after_release_and_quiet() {
        let mut s = settle();
        s.watch(1, 9, 0, 2_000, 0);
        s.arrived(1, 10, None, [7], 100);
        assert!(s.take_complete(10_000).is_empty(), "association still open");
        s.ended(7);
        assert_eq!(s.take_complete(10_000), [(1, 9)]);
        assert!(s.take_complete(20_000).is_empty(), "once only");
    }

    #[test]
    fn complete_at_the_stated_number_without_waiting() {
        let mut s = settle();
        s.watch(1, 9, 0, 2_000, 0);
        s.arrived(1, 9, Some(10), [7], 100);
        assert!(s.take_complete(150).is_empty());
        s.arrived(1, 1, Some(10), [7], 200);
        assert_eq!(s.take_complete(200), [(1, 9)]);
        // More than was stated: by quiet only, so that the network does not run per slice.
        s.arrived(1, 1, Some(10), [7], 300);
        assert!(s.take_complete(400).is_empty());
        s.ended(7);
        assert!(
            s.take_complete(3_000).is_empty(),
            "the quiet time has doubled"
        );
        assert_eq!(s.take_complete(4_300), [(1, 9)]);
    }

    #[test]
    fn late_slices_double_the_quiet_time_up_to_the_limit() {
        let mut s = settle();
        s.watch(1, 9, 0, 2_000, 0);
        let mut now = 0;
        let mut waits = Vec::new();
        for association in 0..8 {
            s.arrived(1, 1, None, [association], now);
            s.ended(association);
            let from = now;
            while s.take_complete(now).is_empty() {
                now += 500;
            }
            waits.push(now - from);
        }
        assert_eq!(
            waits,
            [2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]
        );
    }

    #[test]
    fn a_sender_that_never_releases_does_not_block() {
        let mut s = settle();
        s.watch(1, 9, 0, 2_000, 0);
        s.arrived(1, 5, None, [7], 0);
        assert!(s.take_complete(19_999).is_empty());
        assert_eq!(s.take_complete(20_000), [(1, 9)]);
    }

    #[test]
    fn memory_is_given_back() {
        let mut s = settle();
        s.watch(1, 9, 0, 2_000, 0);
        s.arrived(1, 5, None, [7], 0);
        s.ended(7);
        assert_eq!(s.take_complete(2_000), [(1, 9)]);
        s.take_complete(200_000);
        assert!(!s.knows(1));
    }
}
