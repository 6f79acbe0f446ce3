//! Who is on call: rotations with hand-overs by the clock on the wall, and what overrides them. Pure.

use chrono::{NaiveDate, NaiveTime, TimeDelta};
use chrono_tz::Tz;

use super::hours::{Hours, Weekdays, first_moment, local};
use crate::clock::UnixMillis;

/// People who take turns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// Names of destinations, in the order of their turns.
    pub people: Vec<String>,
    /// The day on which the first turn of the first begins.
    pub from: NaiveDate,
    /// When the duty is handed over, on the day on which a turn ends.
    pub handover: NaiveTime,
    /// Days in a turn; at least one.
    pub days: u32,
    /// Only at these hours; `None` for all day.
    pub hours: Option<Hours>,
    /// Only on these days; `None` for every day. Hours over midnight belong to the day they began on.
    pub weekdays: Option<Weekdays>,
}

/// Someone who takes over for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// Name of a destination.
    pub who: String,
    /// From then on ...
    pub from_ms: UnixMillis,
    /// ... until then.
    pub until_ms: UnixMillis,
}

/// Who is on call, under a name that steps can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// The name.
    pub name: String,
    /// The first that applies at a moment decides.
    pub rotations: Vec<Rotation>,
    /// They come before all rotations; the last that applies decides.
    pub overrides: Vec<Override>,
    /// Who is told when nobody is on call.
    pub otherwise: Vec<String>,
}

impl Schedule {
    /// Names of destinations on call at this moment.
    #[must_use]
    pub fn on_call(&self, now_ms: UnixMillis, zone: Tz) -> Vec<String> {
        let holds = |o: &&Override| (o.from_ms..o.until_ms).contains(&now_ms);
        if let Some(stands_in) = self.overrides.iter().rev().find(holds) {
            return vec![stands_in.who.clone()];
        }
        let turn = self.rotations.iter().find_map(|r| r.turn(now_ms, zone));
        turn.map_or_else(|| self.otherwise.clone(), |who| vec![who.to_owned()])
    }

    /// When who is on call may next change, after `now_ms` and within a day: what a page shows.
    #[must_use]
    pub fn next_change(&self, now_ms: UnixMillis, zone: Tz) -> Option<(UnixMillis, Vec<String>)> {
        const MINUTE_MS: i64 = 60_000;
        let now = self.on_call(now_ms, zone);
        let next_minute = (now_ms / MINUTE_MS + 1) * MINUTE_MS;
        (0..24 * 60)
            .map(|n| next_minute + n * MINUTE_MS)
            .map(|at| (at, self.on_call(at, zone)))
            .find(|(_, then)| *then != now)
    }
}

impl Rotation {
    /// Whose turn it is, where the rotation applies.
    fn turn(&self, now_ms: UnixMillis, zone: Tz) -> Option<&str> {
        if self.hours.is_some_and(|h| !h.contains(now_ms, zone)) {
            return None;
        }
        let today = local(now_ms, zone).date_naive();
        let began_on = self.hours.map_or(today, |h| h.began_on(now_ms, zone));
        if self.weekdays.is_some_and(|days| !days.contains(began_on)) {
            return None;
        }
        // By moments, not by what the clock shows: an hour that comes twice hands over once.
        let handed_over = first_moment(today, self.handover, zone) <= now_ms;
        let duty_day = if handed_over {
            today
        } else {
            today - TimeDelta::days(1)
        };
        let days = (duty_day - self.from).num_days();
        let turn = days.div_euclid(i64::from(self.days.max(1)));
        let n = i64::try_from(self.people.len()).ok().filter(|n| *n > 0)?;
        let index = usize::try_from(turn.rem_euclid(n)).ok()?;
        (days >= 0).then(|| self.people[index].as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(rfc3339: &str) -> i64 {
        chrono::DateTime::parse_from_rfc3339(rfc3339)
            .unwrap()
            .timestamp_millis()
    }

    fn rotation(people: &[&str], from: &str, handover: &str, days: u32) -> Rotation {
        Rotation {
            people: people.iter().map(|&p| p.to_owned()).collect(),
            from: from.parse().unwrap(),
            handover: super::super::hours::parse_time(handover).unwrap(),
            days,
            hours: None,
            weekdays: None,
        }
    }

    fn schedule(rotations: Vec<Rotation>) -> Schedule {
        Schedule {
            name: "neuro".into(),
            rotations,
            overrides: Vec::new(),
            otherwise: vec!["room".into()],
        }
    }

    #[track_caller]
    fn check(schedule: &Schedule, at: &str, expected: &str) {
        let found = schedule.on_call(ms(at), chrono_tz::Europe::Berlin);
        assert_eq!(found.join("+"), expected, "{at}");
    }

    #[test]
    fn turns_change_at_the_hand_over() {
        let weekly = schedule(vec![rotation(&["anna", "bert"], "2026-11-02", "08:00", 7)]);
        check(&weekly, "2026-11-02T06:59:00Z", "room");
        check(&weekly, "2026-11-02T07:00:00Z", "anna");
        check(&weekly, "2026-11-09T06:59:00Z", "anna");
        check(&weekly, "2026-11-09T07:00:00Z", "bert");
        check(&weekly, "2026-11-16T07:00:00Z", "anna");
    }

    #[test]
    fn a_change_of_clocks_at_the_hand_over_hands_over_once() {
        // 03:00 summer time becomes 02:00 on 25 October at 01:00Z: 02:30 comes twice.
        let night = schedule(vec![rotation(&["anna", "bert"], "2026-10-24", "02:30", 1)]);
        check(&night, "2026-10-25T00:29:00Z", "anna");
        check(&night, "2026-10-25T00:30:00Z", "bert");
        check(&night, "2026-10-25T01:00:00Z", "bert");
        check(&night, "2026-10-25T01:29:00Z", "bert");
        check(&night, "2026-10-25T01:30:00Z", "bert");
        check(&night, "2026-10-26T01:29:00Z", "bert");
        check(&night, "2026-10-26T01:30:00Z", "anna");
        // 02:00 winter time becomes 03:00 on 29 March at 01:00Z: 02:30 does not come.
        let night = schedule(vec![rotation(&["anna", "bert"], "2026-03-28", "02:30", 1)]);
        check(&night, "2026-03-29T00:59:00Z", "anna");
        check(&night, "2026-03-29T01:00:00Z", "bert");
        check(&night, "2026-03-30T00:29:00Z", "bert");
        check(&night, "2026-03-30T00:30:00Z", "anna");
    }

    /// Every minute of the nights on which clocks change has exactly one on call, and the duty
    /// changes hands once.
    #[test]
    fn no_minute_of_the_night_is_without_someone() {
        for (day, handover) in [("2026-10-25", "02:30"), ("2026-03-29", "02:00")] {
            let night = schedule(vec![rotation(&["anna", "bert"], "2026-01-01", handover, 1)]);
            let from = ms(&format!("{day}T00:00:00Z")) - 4 * 3_600_000;
            let held: Vec<String> = (0..8 * 60)
                .map(|n| night.on_call(from + n * 60_000, chrono_tz::Europe::Berlin))
                .map(|who| who.join("+"))
                .collect();
            assert!(held.iter().all(|who| who == "anna" || who == "bert"));
            let changes = held.windows(2).filter(|pair| pair[0] != pair[1]).count();
            assert_eq!(changes, 1, "{day}");
        }
    }

    #[test]
    fn hours_and_weekdays_say_which_rotation_applies() {
        let mut nights = rotation(&["anna"], "2026-11-02", "17:00", 1);
        nights.hours = Hours::parse("17:00-08:00");
        nights.weekdays = Weekdays::parse("mon-fri");
        let mut weekend = rotation(&["bert"], "2026-11-02", "08:00", 1);
        weekend.weekdays = Weekdays::parse("sat,sun");
        let both = schedule(vec![nights, weekend]);
        // 27 November 2026 is a Friday.
        check(&both, "2026-11-27T12:00:00Z", "room");
        check(&both, "2026-11-27T16:00:00Z", "anna");
        // Friday's night goes on until Saturday morning.
        check(&both, "2026-11-28T06:59:00Z", "anna");
        check(&both, "2026-11-28T07:00:00Z", "bert");
        check(&both, "2026-11-29T20:00:00Z", "bert");
        check(&both, "2026-11-30T06:00:00Z", "room");
    }

    #[test]
    fn an_override_comes_before_all_and_the_last_one_counts() {
        let mut weekly = schedule(vec![rotation(&["anna", "bert"], "2026-11-02", "08:00", 7)]);
        let stand_in = |who: &str, from: &str, until: &str| Override {
            who: who.into(),
            from_ms: ms(from),
            until_ms: ms(until),
        };
        weekly.overrides = vec![
            stand_in("carla", "2026-11-03T00:00:00Z", "2026-11-05T00:00:00Z"),
            stand_in("dan", "2026-11-04T00:00:00Z", "2026-11-04T12:00:00Z"),
        ];
        check(&weekly, "2026-11-02T23:59:00Z", "anna");
        check(&weekly, "2026-11-03T00:00:00Z", "carla");
        check(&weekly, "2026-11-04T00:00:00Z", "dan");
        check(&weekly, "2026-11-04T12:00:00Z", "carla");
        check(&weekly, "2026-11-05T00:00:00Z", "anna");
        let next = weekly.next_change(ms("2026-11-02T20:00:00Z"), chrono_tz::Europe::Berlin);
        assert_eq!(
            next,
            Some((ms("2026-11-03T00:00:00Z"), vec!["carla".into()]))
        );
        let next = weekly.next_change(ms("2026-11-06T20:00:00Z"), chrono_tz::Europe::Berlin);
        assert_eq!(next, None);
    }
}
