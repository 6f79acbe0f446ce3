//! Values to words: names of states and bands, times, ages, the line that says why. Pure.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use crate::clock::UnixMillis;
pub(super) use crate::triage::whole_minutes;
use crate::triage::{Band, Reason};
use crate::worklist::ris::KnownOrder;
pub(super) use crate::worklist::waiting;
use crate::worklist::{ReadingEvent, WorklistItem};

/// What a band is called on pages. A study that stands out in nothing is "not flagged":
/// that is all that a screening network can say.
pub(super) fn band(band: Band) -> &'static str {
    match band {
        Band::Pending => "Not screened",
        Band::Routine => "Not flagged",
        Band::Elevated => "Elevated",
        Band::Urgent => "Urgent",
        Band::Critical => "Critical",
    }
}

/// The chip of an order priority; routine has none.
pub(super) fn priority(priority: &str) -> Option<&'static str> {
    match priority {
        "stat" => Some("STAT"),
        "asap" => Some("ASAP"),
        _ => None,
    }
}

/// "due in 25 min", "overdue 2 h 05 min". The page's script says it in the same words.
pub(super) fn due(left_ms: i64) -> String {
    if left_ms < 0 {
        format!("overdue {}", waiting(-left_ms))
    } else {
        format!("due in {}", waiting(left_ms))
    }
}

/// What a state of screening is called in filters.
pub(super) fn state_name(state: &str) -> &str {
    match state {
        "received" => "Not screened yet",
        "screened" => "Screened",
        "not_analysed" => "Not analysed",
        "failed" => "Screening failed",
        other => other,
    }
}

/// A probability as pages show it: a range, because its last digits mean nothing.
pub(super) fn probability_band(p: f64) -> &'static str {
    match p {
        p if p < 0.05 => "below 5 %",
        p if p < 0.2 => "5 to 20 %",
        p if p < 0.5 => "20 to 50 %",
        p if p < 0.8 => "50 to 80 %",
        _ => "above 80 %",
    }
}

/// "2026-11", in the site's zone.
pub(super) fn month(at_ms: UnixMillis, zone: Tz) -> String {
    local(at_ms, zone).format("%Y-%m").to_string()
}

/// A finding by its code: "Lateral ventricles large".
pub(super) fn finding_name(code: &str) -> String {
    if code == "screening" {
        return "Screening as a whole".to_owned();
    }
    let text = code.replace('_', " ");
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

/// "72 y F", "14 mo M", or what is known of it.
pub(super) fn age_and_sex(age_years: Option<f64>, sex: Option<&str>) -> String {
    let age = age_years.filter(|a| (0.0..200.0).contains(a)).map(|age| {
        if age < 2.0 {
            format!("{:.0} mo", (age * 12.0).floor())
        } else {
            format!("{:.0} y", age.floor())
        }
    });
    match (age, sex) {
        (Some(age), Some(sex)) => format!("{age} {sex}"),
        (Some(age), None) => format!("{age}, sex unknown"),
        (None, Some(sex)) => format!("{sex}, age unknown"),
        (None, None) => "age and sex unknown".to_owned(),
    }
}

/// "13:05" today, "22 Nov 13:05" before; in the site's zone.
pub(super) fn clock_time(at_ms: UnixMillis, now_ms: UnixMillis, zone: Tz) -> String {
    let (at, now) = (local(at_ms, zone), local(now_ms, zone));
    if at.date_naive() == now.date_naive() {
        at.format("%H:%M").to_string()
    } else if now_ms - at_ms < 300 * 86_400_000 {
        at.format("%-d %b %H:%M").to_string()
    } else {
        at.format("%-d %b %Y %H:%M").to_string()
    }
}

/// "since 13:05" today, the day with the time before: it fits under the waiting time.
pub(super) fn since(at_ms: UnixMillis, now_ms: UnixMillis, zone: Tz) -> String {
    let time = clock_time(at_ms, now_ms, zone);
    if time.contains(' ') {
        time
    } else {
        format!("since {time}")
    }
}

/// "anna handed it over to bert": what a reader did with a study.
pub(super) fn event(event: &ReadingEvent) -> String {
    let detail = event.detail.as_deref();
    let Some(who) = event.who.as_deref() else {
        return match (event.what.as_str(), detail) {
            ("read", Some(why)) => format!("Marked read: {why}"),
            ("read", None) => "Marked read".to_owned(),
            ("merged", Some(patients)) => format!("Patient merged: {patients}"),
            (_, Some(why)) => format!("Back on the list: {why}"),
            (_, None) => "Back on the list".to_owned(),
        };
    };
    match (event.what.as_str(), detail) {
        ("opened", _) => format!("{who} opened it"),
        ("claimed", None) => format!("{who} claimed it"),
        ("claimed", Some(from)) => format!("{who} claimed it; {from}'s claim had run out"),
        ("released", _) => format!("{who} released it"),
        ("handed_over", Some(to)) => format!("{who} handed it over to {to}"),
        ("read", _) => format!("{who} marked it read"),
        ("reopened", _) => format!("{who} put it back on the list"),
        ("undone", _) => format!("{who} took back marking it read"),
        (other, _) => format!("{who}: {other}"),
    }
}

/// "ACC1, STAT: MR brain": an order of the RIS.
pub(super) fn order(order: &KnownOrder) -> String {
    let number = order.accession.as_deref().unwrap_or("without number");
    let state = match (order.cancelled, order.priority.as_deref()) {
        (true, _) => "cancelled".to_owned(),
        (false, Some(priority)) => priority.to_uppercase(),
        (false, None) => "no priority".to_owned(),
    };
    match order.procedure.as_deref() {
        Some(procedure) => format!("{number}, {state}: {procedure}"),
        None => format!("{number}, {state}"),
    }
}

/// "2026-11-23 13:05:12", in the site's zone.
pub(super) fn exact_time(at_ms: UnixMillis, zone: Tz) -> String {
    local(at_ms, zone).format("%Y-%m-%d %H:%M:%S").to_string()
}

fn local(at_ms: UnixMillis, zone: Tz) -> DateTime<Tz> {
    DateTime::<Utc>::from_timestamp_millis(at_ms)
        .unwrap_or_default()
        .with_timezone(&zone)
}

/// Milliseconds of an RFC 3339 time, as the list gives them.
pub(super) fn millis(rfc3339: &str) -> UnixMillis {
    DateTime::parse_from_rfc3339(rfc3339).map_or(0, |t| t.timestamp_millis())
}

/// `YYYYMMDD` as `YYYY-MM-DD`; anything else as it is.
pub(super) fn dicom_date(text: &str) -> String {
    let digits = text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit());
    if digits {
        format!("{}-{}-{}", &text[..4], &text[4..6], &text[6..])
    } else {
        text.to_owned()
    }
}

/// "1 image", "176 images".
pub(super) fn counted(n: u64, one: &str) -> String {
    if n == 1 {
        format!("1 {one}")
    } else {
        format!("{n} {one}s")
    }
}

/// "1 study", "12 open studies".
pub(super) fn studies(n: u64, what: &str) -> String {
    let noun = if n == 1 { "study" } else { "studies" };
    format!("{n} {what}{noun}")
}

/// "0.4 min", "12 min", "1 h 05 min": a wait that was reckoned.
pub(super) fn wait_minutes(minutes: f64) -> String {
    if minutes.abs() < 9.95 {
        return format!("{minutes:.1} min");
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "minutes of a wait, bounded by the time looked at"
    )]
    let ms = (minutes.round() as i64).saturating_mul(60_000);
    waiting(ms)
}

/// "+1.5", "\u{2212}3.2", "0.0": minutes of a change.
pub(super) fn signed(minutes: f64) -> String {
    if minutes.abs() < 0.05 {
        return "0.0".to_owned();
    }
    format!("{minutes:+.1}").replace('-', "\u{2212}")
}

/// What a destination says of keeping one of our objects (storage commitment).
pub(super) fn commitment(state: &str) -> Option<&'static str> {
    match state {
        "requested" => Some("asked to keep it, not answered yet"),
        "committed" => Some("promised to keep it"),
        "failed" => Some("says that it does not keep it"),
        "not_offered" => Some("does not offer storage commitment"),
        _ => None,
    }
}

/// Code of the reason that takes nothing back and gives nothing: volumetry saw less than screening.
pub(super) const LOWERED: &str = "lowered_after_volumetry";

/// "ranked as if it had arrived 94 min earlier: +58 screening, +36 lateral ventricles ...".
///
/// A STAT order is said in words: its week of head start would hide the rest.
pub(super) fn why(item: &WorklistItem) -> String {
    let stat = item.reasons.iter().any(|r| r.code == "order_stat");
    let terms: Vec<&Reason> = item
        .reasons
        .iter()
        .filter(|r| r.code != "order_stat" && r.minutes > 0.0)
        .collect();
    let minutes: Vec<f64> = terms.iter().map(|r| r.minutes).collect();
    let whole = whole_minutes(&minutes);
    let total: i64 = whole.iter().sum();
    let listed: Vec<String> = terms
        .iter()
        .zip(&whole)
        .filter(|(_, minutes)| **minutes > 0)
        .map(|(reason, minutes)| format!("+{minutes} {}", short(reason)))
        .collect();
    let lead = if stat {
        "STAT order goes first; among STAT orders "
    } else {
        ""
    };
    let lowered = item.reasons.iter().find(|r| r.code == LOWERED);
    let lowered = lowered.map(|r| format!("; {}", r.text)).unwrap_or_default();
    match (total, terms.as_slice()) {
        (0, _) => format!("{lead}ranked by arrival, no head start{lowered}"),
        (_, [only]) if is_average(only) => {
            format!("{lead}ranked as an average study: as if it had arrived {total} min earlier")
        }
        _ => format!(
            "{lead}ranked as if it had arrived {total} min earlier: {}{lowered}",
            listed.join(", ")
        ),
    }
}

fn is_average(reason: &Reason) -> bool {
    matches!(reason.code.as_str(), "not_analysed" | "not_screened")
}

/// In the list the state beside it already says why a study was not analysed.
fn short(reason: &Reason) -> &str {
    match reason.code.as_str() {
        "not_analysed" => "as an average study (not analysed)",
        "not_screened" => "as an average study (not screened yet)",
        _ => &reason.text,
    }
}

/// What one of our DICOM objects is.
pub(super) fn object(kind: &str) -> &str {
    match kind {
        "seg" => "Segmentation",
        "sr" => "Measurement report",
        "pdf" => "PDF report",
        "sc" => "Key image",
        other => other,
    }
}

/// State of screening, for the row.
pub(super) fn state(item: &WorklistItem, now_ms: UnixMillis, zone: Tz) -> String {
    let because = |what: &str| {
        let why = item.not_analysed_reason.as_deref();
        format!("{what}: {}", why.unwrap_or("no reason was given"))
    };
    match item.state.as_str() {
        "received" => format!(
            "Received, {} so far; not screened yet",
            counted(item.images, "image")
        ),
        "screened" => item.screened_at.as_deref().map_or_else(
            || "Screened".to_owned(),
            |at| format!("Screened {}", clock_time(millis(at), now_ms, zone)),
        ),
        "not_analysed" => because("Not analysed"),
        "failed" => because("Screening failed"),
        other => other.to_owned(),
    }
}

/// With a capital letter, as a sentence or a line of a table begins.
pub(super) fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

/// State of volumetry, for the row; nothing is said before screening.
pub(super) fn volumetry(item: &WorklistItem) -> Option<String> {
    match item.volumetry.as_str() {
        _ if item.state != "screened" => None,
        "pending" => Some("Volumetry pending".to_owned()),
        "done" => Some(match item.volumetry_reason.as_deref() {
            Some(why) => format!("Volumetry done, {why}"),
            None => "Volumetry done".to_owned(),
        }),
        _ => Some(match item.volumetry_reason.as_deref() {
            Some(why) => format!("Volumetry not done: {why}"),
            None => "Volumetry not done".to_owned(),
        }),
    }
}

/// 1st, 2nd, 3rd, 97th; the ends of the scale say that they are ends.
pub(super) fn percentile(percentile: f64) -> String {
    if percentile < 0.1 {
        return "below 0.1".to_owned();
    }
    if percentile > 99.9 {
        return "above 99.9".to_owned();
    }
    if !(1.0..=99.0).contains(&percentile) {
        return format!("{percentile:.1}");
    }
    format!("{percentile:.0}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE_MS: i64 = 60_000;

    fn reason(code: &str, text: &str, minutes: f64) -> Reason {
        Reason {
            code: code.into(),
            text: text.into(),
            minutes,
        }
    }

    fn item(reasons: Vec<Reason>) -> WorklistItem {
        WorklistItem {
            number: 1,
            study_uid: "1.2".into(),
            rank: 1,
            band: Band::Routine,
            head_start_minutes: reasons.iter().map(|r| r.minutes).sum(),
            reasons,
            p_abnormal: None,
            order_priority: "routine".into(),
            state: "screened".into(),
            not_analysed_reason: None,
            volumetry: "pending".into(),
            volumetry_reason: None,
            arrived_at: "2026-11-23T12:00:00Z".into(),
            screened_at: None,
            analysed_at: None,
            effective_arrival: "2026-11-23T12:00:00Z".into(),
            looked_at: None,
            note: None,
            patient_name: None,
            patient_id: None,
            sex: None,
            age_years: None,
            accession: None,
            study_date: None,
            description: None,
            referrer: None,
            modality: None,
            region: None,
            location: None,
            images: 0,
            assigned_to: None,
            claimed_at: None,
            claim_active_at: None,
            read_at: None,
            pictured_series: None,
        }
    }

    #[track_caller]
    fn check_why(reasons: Vec<Reason>, expected: &str) {
        assert_eq!(why(&item(reasons)), expected);
    }

    #[test]
    fn the_line_says_why_and_adds_up() {
        check_why(
            vec![
                reason("screening", "screening", 57.6),
                reason("v", "lateral ventricles above the 99th percentile", 36.4),
                reason("w", "of the same group", 0.0),
            ],
            "ranked as if it had arrived 94 min earlier: +58 screening, \
             +36 lateral ventricles above the 99th percentile",
        );
        check_why(
            vec![
                reason("screening", "screening", 57.6),
                reason(LOWERED, "lowered from urgent after volumetry", 0.0),
            ],
            "ranked as if it had arrived 58 min earlier: +58 screening; \
             lowered from urgent after volumetry",
        );
        check_why(
            vec![
                reason("order_stat", "ordered STAT", 10_080.0),
                reason("screening", "screening", 12.0),
            ],
            "STAT order goes first; among STAT orders ranked as if it had arrived 12 min earlier: \
             +12 screening",
        );
        check_why(
            vec![reason("not_analysed", "not analysed: ... (why)", 108.27)],
            "ranked as an average study: as if it had arrived 108 min earlier",
        );
        check_why(vec![], "ranked by arrival, no head start");
        check_why(
            vec![reason("order_asap", "ordered ASAP", 120.0)],
            "ranked as if it had arrived 120 min earlier: +120 ordered ASAP",
        );
    }

    #[test]
    fn times_and_ages_read_well() {
        assert_eq!(waiting(-5), "0 min");
        assert_eq!(due(25 * MINUTE_MS), "due in 25 min");
        assert_eq!(due(-65 * MINUTE_MS), "overdue 1 h 05 min");
        assert_eq!(waiting(65 * MINUTE_MS), "1 h 05 min");
        assert_eq!(waiting(51 * 60 * MINUTE_MS), "2 d 3 h");
        assert_eq!(age_and_sex(Some(72.9), Some("F")), "72 y F");
        assert_eq!(age_and_sex(Some(1.2), None), "14 mo, sex unknown");
        assert_eq!(age_and_sex(None, None), "age and sex unknown");
        let zone = chrono_tz::Europe::Berlin;
        let noon = millis("2026-11-23T12:00:00.000Z");
        assert_eq!(clock_time(noon, noon, zone), "13:00");
        assert_eq!(clock_time(noon - 86_400_000, noon, zone), "22 Nov 13:00");
        assert_eq!(since(noon, noon, zone), "since 13:00");
        assert_eq!(since(noon - 86_400_000, noon, zone), "22 Nov 13:00");
        assert_eq!(exact_time(noon, zone), "2026-11-23 13:00:00");
        assert_eq!(dicom_date("20261123"), "2026-11-23");
        assert_eq!(counted(1, "image"), "1 image");
        assert_eq!(studies(2, "open "), "2 open studies");
        assert_eq!(wait_minutes(9.94), "9.9 min");
        assert_eq!(wait_minutes(64.6), "1 h 05 min");
        assert_eq!(signed(-3.21), "\u{2212}3.2");
        assert_eq!(signed(-0.01), "0.0");
        assert_eq!(signed(10.0), "+10.0");
        assert_eq!(probability_band(0.05), "5 to 20 %");
        assert_eq!(probability_band(0.999), "above 80 %");
        assert_eq!(
            finding_name("lateral_ventricles_large"),
            "Lateral ventricles large"
        );
        assert_eq!(
            month(millis("2026-11-30T23:30:00Z"), chrono_tz::Europe::Berlin),
            "2026-12"
        );
    }
}
