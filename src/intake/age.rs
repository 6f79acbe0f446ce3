//! Age at the time of the study. Pure.

use chrono::NaiveDate;

/// Oldest age that is believed.
const AGE_YEARS_MAX: f64 = 130.0;
const DAYS_PER_YEAR: f64 = 365.25;

/// Age in years from birth date and study date (both `YYYYMMDD`), else from Patient's Age
/// (0010,1010), `nnnD`, `nnnW`, `nnnM` or `nnnY` (PS3.5 6.2, AS). Anything else is unknown.
#[must_use]
pub fn age_years(birth: Option<&str>, study: Option<&str>, age: Option<&str>) -> Option<f64> {
    let by_dates = || Some(years_between(date(birth?)?, date(study?)?));
    by_dates()
        .or_else(|| age_string(age?))
        .filter(|years| (0.0..=AGE_YEARS_MAX).contains(years))
}

fn date(text: &str) -> Option<NaiveDate> {
    NaiveDate::parse_from_str(text.trim(), "%Y%m%d").ok()
}

fn years_between(birth: NaiveDate, study: NaiveDate) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "days of a life")]
    let days = (study - birth).num_days() as f64;
    days / DAYS_PER_YEAR
}

fn age_string(text: &str) -> Option<f64> {
    let text = text.trim();
    let unit = text.chars().last()?;
    let digits = text.strip_suffix(unit)?;
    if digits.is_empty() || digits.len() > 3 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: f64 = digits.parse().ok()?;
    match unit {
        'D' => Some(n / DAYS_PER_YEAR),
        'W' => Some(n * 7.0 / DAYS_PER_YEAR),
        'M' => Some(n / 12.0),
        'Y' => Some(n),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::age_years;

    #[track_caller]
    fn check(birth: &str, study: &str, age: &str, expected: Option<f64>) {
        let got = age_years(Some(birth), Some(study), Some(age));
        match (got, expected) {
            (Some(g), Some(e)) => assert!((g - e).abs() < 0.01, "{g} {e}"),
            (g, e) => assert_eq!(g, e),
        }
    }

    #[test]
    fn ages() {
        check("19900101", "20200101", "031Y", Some(30.0));
        check("", "20200101", "027Y", Some(27.0));
        check("", "", "018M", Some(1.5));
        check("", "", "000Y", Some(0.0));
        check("", "", "***", None);
        check("", "", "42", None);
        check("20210101", "20200101", "", None);
        check("18000101", "20200101", "044Y", None);
    }
}
