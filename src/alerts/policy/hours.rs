//! Parts of a day and moments of a day, by the clock on the wall. Pure.

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveTime, TimeDelta, TimeZone, Timelike, Utc};
use chrono_tz::Tz;

use crate::clock::UnixMillis;

/// Steps in which the end of a gap is looked for: zones change by whole quarters of an hour.
const GAP_STEP_MINUTES: i64 = 15;
/// Longest gap that a change of clocks makes, with room: a day was skipped in Samoa in 2011.
const GAP_STEPS_MAX: usize = 4 * 30;

/// A part of the day, in the site's own time; it may go over midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    from_minute: u32,
    until_minute: u32,
}

impl Hours {
    /// When most sites have one reader on call: 18:00 to 07:00.
    pub const NIGHT: Self = Self {
        from_minute: 18 * 60,
        until_minute: 7 * 60,
    };

    /// Reads `18:00-07:00`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (from, until) = text.split_once('-')?;
        let hours = Self {
            from_minute: minute_of(parse_time(from)?),
            until_minute: minute_of(parse_time(until)?),
        };
        (hours.from_minute != hours.until_minute).then_some(hours)
    }

    /// Whether the clock on the wall shows a time within. Wall time, so that a change to or from
    /// daylight saving moves nothing: the shift begins when people come.
    #[must_use]
    pub fn contains(self, now_ms: UnixMillis, zone: Tz) -> bool {
        let minute = minute_of(local(now_ms, zone).time());
        if self.from_minute < self.until_minute {
            (self.from_minute..self.until_minute).contains(&minute)
        } else {
            minute >= self.from_minute || minute < self.until_minute
        }
    }

    /// The day on which the part of the day that holds now began: after midnight, yesterday.
    #[must_use]
    pub fn began_on(self, now_ms: UnixMillis, zone: Tz) -> NaiveDate {
        let now = local(now_ms, zone);
        let over_midnight = self.from_minute > self.until_minute;
        if over_midnight && minute_of(now.time()) < self.until_minute {
            now.date_naive() - Days::new(1)
        } else {
            now.date_naive()
        }
    }
}

/// Days of the week, Monday first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weekdays([bool; 7]);

impl Weekdays {
    const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

    /// Reads `mon-fri`, `sat,sun`, `fri-mon`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let day = |name: &str| {
            let name = name.trim().to_ascii_lowercase();
            Self::NAMES.iter().position(|known| **known == name)
        };
        let mut days = [false; 7];
        for part in text.split(',') {
            let (from, until) = part.split_once('-').unwrap_or((part, part));
            let (from, until) = (day(from)?, day(until)?);
            for n in 0..=(until + 7 - from) % 7 {
                days[(from + n) % 7] = true;
            }
        }
        Some(Self(days))
    }

    /// Whether the day is one of them.
    #[must_use]
    pub fn contains(self, day: NaiveDate) -> bool {
        self.0[day.weekday().num_days_from_monday() as usize]
    }
}

/// Reads `08:00`.
#[must_use]
pub fn parse_time(text: &str) -> Option<NaiveTime> {
    let (hour, minute) = text.trim().split_once(':')?;
    NaiveTime::from_hms_opt(hour.parse().ok()?, minute.parse().ok()?, 0)
}

fn minute_of(time: NaiveTime) -> u32 {
    time.hour() * 60 + time.minute()
}

/// What the clock on the wall shows.
#[must_use]
pub fn local(now_ms: UnixMillis, zone: Tz) -> DateTime<Tz> {
    DateTime::<Utc>::from_timestamp_millis(now_ms)
        .unwrap_or_default()
        .with_timezone(&zone)
}

/// The first moment at which the clock on the wall shows this time on this day, or later.
///
/// Where the hour comes twice (clocks go back) it is the first time, so that nothing that begins
/// then begins twice; where it is skipped (clocks go forward) it is the end of the gap.
#[must_use]
pub fn first_moment(day: NaiveDate, time: NaiveTime, zone: Tz) -> UnixMillis {
    let mut wall = day.and_time(time);
    for _ in 0..GAP_STEPS_MAX {
        if let Some(moment) = zone.from_local_datetime(&wall).earliest() {
            return moment.timestamp_millis();
        }
        // In the gap: its end is on a quarter of an hour.
        let minutes = GAP_STEP_MINUTES - i64::from(wall.minute()) % GAP_STEP_MINUTES;
        wall += TimeDelta::minutes(minutes);
    }
    wall.and_utc().timestamp_millis()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_read_or_refused() {
        let check =
            |text: &str, good: bool| assert_eq!(Hours::parse(text).is_some(), good, "{text}");
        check("18:00-07:00", true);
        check("08:30 - 17:00", true);
        assert_eq!(Hours::parse("18:00-07:00"), Some(Hours::NIGHT));
        for bad in [
            "",
            "18-7",
            "24:00-07:00",
            "18:60-07:00",
            "07:00-07:00",
            "x:y-1:2",
        ] {
            check(bad, false);
        }
    }

    #[test]
    fn days_of_the_week_are_read_or_refused() {
        let check = |text: &str, expected: Option<&str>| {
            let found = Weekdays::parse(text).map(|days| {
                let monday = NaiveDate::from_ymd_opt(2026, 11, 23).unwrap();
                let shown = (0..7).map(|n| days.contains(monday + Days::new(n)));
                shown
                    .map(|on| if on { 'x' } else { '.' })
                    .collect::<String>()
            });
            assert_eq!(found.as_deref(), expected, "{text}");
        };
        check("mon-fri", Some("xxxxx.."));
        check("Sat, sun", Some(".....xx"));
        check("fri-mon", Some("x...xxx"));
        check("wed", Some("..x...."));
        check("", None);
        check("mon-", None);
        check("monday", None);
    }

    #[test]
    fn a_moment_comes_once_also_where_clocks_change() {
        let check = |day: &str, time: &str, expected: &str| {
            let found = first_moment(
                day.parse().unwrap(),
                parse_time(time).unwrap(),
                chrono_tz::Europe::Berlin,
            );
            let expected = DateTime::parse_from_rfc3339(expected).unwrap();
            assert_eq!(found, expected.timestamp_millis(), "{day} {time}");
        };
        check("2026-07-01", "08:00", "2026-07-01T06:00:00Z");
        check("2026-12-01", "08:00", "2026-12-01T07:00:00Z");
        // 02:00 to 03:00 comes twice on 25 October, and not at all on 29 March.
        check("2026-10-25", "02:30", "2026-10-25T00:30:00Z");
        check("2026-10-25", "03:00", "2026-10-25T02:00:00Z");
        check("2026-03-29", "02:30", "2026-03-29T01:00:00Z");
        check("2026-03-29", "02:00", "2026-03-29T01:00:00Z");
        check("2026-03-29", "03:00", "2026-03-29T01:00:00Z");
    }
}
