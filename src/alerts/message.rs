//! What a message says: place in the list, band, how long it waits, a code, a link. Pure.
//!
//! Nothing about the patient is known here, so nothing about the patient can be said.

use askama::Template;

use super::links::short_code;
use crate::clock::UnixMillis;
use crate::store::outbox::AlertFacts;
use crate::triage::Band;
use crate::worklist::waiting;

/// Longest line for a pager, in characters (one text message, 3GPP TS 23.038).
const PAGER_CHARS_MAX: usize = 160;
/// Studies that one message lists; of more it says how many.
const LISTED_MAX: usize = 20;

/// A study as a message speaks of it.
pub struct Case {
    band: Band,
    rank: u64,
    waiting_ms: i64,
    waiting: String,
    code: String,
    link: String,
}

impl Case {
    /// The band it rose to.
    pub fn band(&self) -> Band {
        self.band
    }

    /// Place in the list, from 1.
    pub fn rank(&self) -> u64 {
        self.rank
    }

    /// Whole minutes since it arrived.
    pub fn waiting_minutes(&self) -> i64 {
        self.waiting_ms.max(0) / 60_000
    }

    /// What people call it on the phone.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// Where it is looked at, after signing in.
    pub fn link(&self) -> &str {
        &self.link
    }
}

/// A message before it has a form.
pub struct Notice {
    /// The site's name; may be empty.
    pub site: String,
    /// The studies, most pressing first; none in a test message.
    pub cases: Vec<Case>,
    /// Address that acknowledges; `None` in a test message.
    pub acknowledge: Option<String>,
    /// It says that others could not be told.
    pub alarm: bool,
}

/// A mail: subject and twins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// One line.
    pub subject: String,
    /// Plain text.
    pub text: String,
    /// The same as HTML.
    pub html: String,
}

#[derive(Template)]
#[template(path = "mail_alert.txt")]
struct TextTwin<'a> {
    notice: &'a Notice,
}

#[derive(Template)]
#[template(path = "mail_alert.html")]
struct HtmlTwin<'a> {
    notice: &'a Notice,
}

impl Notice {
    /// A message about these studies, as they stand at `now_ms`.
    #[must_use]
    pub fn new(
        site: &str,
        base_url: &str,
        facts: &[AlertFacts],
        acknowledge: Option<String>,
        now_ms: UnixMillis,
    ) -> Self {
        let case = |f: &AlertFacts| Case {
            band: f.band,
            rank: f.rank,
            waiting_ms: now_ms - f.arrived_ms,
            waiting: waiting(now_ms - f.arrived_ms),
            code: short_code(&f.study_uid),
            link: format!("{base_url}/studies/{}", f.study_uid),
        };
        let mut cases: Vec<Case> = facts.iter().map(case).collect();
        cases.sort_by_key(|c| (std::cmp::Reverse(c.band), c.rank));
        Self {
            site: site.to_owned(),
            cases,
            acknowledge,
            alarm: false,
        }
    }

    /// The studies that are said one by one.
    pub fn listed(&self) -> &[Case] {
        &self.cases[..self.cases.len().min(LISTED_MAX)]
    }

    /// How many others there are.
    pub fn more(&self) -> usize {
        self.cases.len().saturating_sub(LISTED_MAX)
    }

    /// alert, alarm or test.
    pub fn event(&self) -> &'static str {
        match (self.alarm, self.cases.is_empty()) {
            (true, _) => "alarm",
            (false, true) => "test",
            (false, false) => "alert",
        }
    }

    /// The highest band; `None` in a test.
    pub fn band(&self) -> Option<Band> {
        self.cases.iter().map(|c| c.band).max()
    }

    /// Each study in a line, without links: what a phone shows.
    pub fn body(&self) -> String {
        if self.cases.is_empty() {
            return "Messages of firstread reach you here. There is nothing to do.".to_owned();
        }
        let line = |c: &Case| {
            format!(
                "{} #{} {} waiting {}",
                c.band_word(),
                c.rank,
                c.code,
                c.waiting
            )
        };
        let mut lines: Vec<String> = self.listed().iter().map(line).collect();
        if self.more() > 0 {
            lines.push(format!("... and {} more", self.more()));
        }
        lines.join("\n")
    }

    /// What a name in a template stands for; of several studies, that of the most pressing.
    pub fn named(&self, name: &str) -> String {
        let first = self.cases.first();
        let of_first = |value: fn(&Case) -> String| first.map(value).unwrap_or_default();
        match name {
            "headline" => self.headline(),
            "text" => format!("{}\n{}", self.body(), crate::RESEARCH_USE),
            "site" => self.site.clone(),
            "band" => of_first(|c| c.band.as_str().to_owned()),
            "place" => of_first(|c| c.rank.to_string()),
            "waiting" => of_first(|c| c.waiting.clone()),
            "code" => of_first(|c| c.code.clone()),
            "link" => of_first(|c| c.link.clone()),
            "acknowledge" => self.acknowledge.clone().unwrap_or_default(),
            _ => String::new(),
        }
    }

    /// "Urgent study waits: place 3, K7QF", "7 studies wait: 2 critical, 5 urgent".
    pub fn headline(&self) -> String {
        let waits = self.what_waits();
        if self.alarm {
            format!("Alerts reach nobody. {waits}")
        } else {
            waits
        }
    }

    fn what_waits(&self) -> String {
        match self.cases.as_slice() {
            [] => "Test message".to_owned(),
            [one] => format!(
                "{} study waits: place {} in the list, {}",
                one.band_word(),
                one.rank,
                one.code
            ),
            many => {
                let counted = [Band::Critical, Band::Urgent, Band::Elevated].map(|band| {
                    let n = many.iter().filter(|c| c.band == band).count();
                    (n > 0).then(|| format!("{n} {}", band.as_str()))
                });
                let counted: Vec<String> = counted.into_iter().flatten().collect();
                format!("{} studies wait: {}", many.len(), counted.join(", "))
            }
        }
    }

    /// "firstread North"
    pub fn sender(&self) -> String {
        if self.site.is_empty() {
            "firstread".to_owned()
        } else {
            format!("firstread {}", self.site)
        }
    }

    /// The mail.
    ///
    /// # Errors
    /// When a template cannot be filled in.
    pub fn mail(&self) -> Result<Mail, askama::Error> {
        Ok(Mail {
            subject: format!("{}: {}", self.sender(), self.headline()),
            text: TextTwin { notice: self }.render()?,
            html: HtmlTwin { notice: self }.render()?,
        })
    }

    /// One line for a pager, at most 160 characters: what does not fit is left out, the link first.
    #[must_use]
    pub fn pager(&self) -> String {
        let site = if self.site.is_empty() {
            "firstread"
        } else {
            &self.site
        };
        let what = match self.cases.as_slice() {
            [one] if !self.alarm => format!(
                "{} #{} {} waiting {}",
                one.band_word(),
                one.rank,
                one.code,
                one.waiting
            ),
            _ => self.headline(),
        };
        let must = format!("{what}. {}", crate::RESEARCH_USE);
        let address = self.acknowledge.as_deref().unwrap_or_default();
        let candidates = [
            format!("{site}: {must} {address}"),
            format!("{must} {address}"),
            format!("{site}: {must}"),
            must,
        ];
        let fits = |line: &&String| line.trim_end().chars().count() <= PAGER_CHARS_MAX;
        let line = candidates.iter().find(fits).map_or("", |line| line);
        line.trim_end().to_owned()
    }
}

impl Case {
    fn band_word(&self) -> &'static str {
        match self.band {
            Band::Critical => "Critical",
            Band::Urgent => "Urgent",
            Band::Elevated => "Elevated",
            Band::Routine | Band::Pending => "Waiting",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(band: Band, rank: u64) -> AlertFacts {
        AlertFacts {
            alert_id: 1,
            study_uid: format!("1.2.3.{rank}"),
            band,
            rank,
            arrived_ms: 0,
        }
    }

    fn notice(facts: &[AlertFacts], link: &str) -> Notice {
        let link = (!link.is_empty()).then(|| link.to_owned());
        Notice::new("North", "https://f.example", facts, link, 12 * 60_000)
    }

    #[test]
    fn a_mail_says_what_waits_and_both_twins_say_the_same() {
        let mail = notice(&[facts(Band::Urgent, 3)], "https://f.example/a/1.x")
            .mail()
            .unwrap();
        let code = short_code("1.2.3.3");
        assert_eq!(
            mail.subject,
            format!("firstread North: Urgent study waits: place 3 in the list, {code}")
        );
        for twin in [&mail.text, &mail.html] {
            for word in [
                "Urgent",
                "12 min",
                code.as_str(),
                "https://f.example/studies/1.2.3.3",
                "https://f.example/a/1.x",
                crate::RESEARCH_USE,
            ] {
                assert!(twin.contains(word), "{word:?} is not in {twin}");
            }
        }
    }

    #[test]
    fn a_bundle_lists_the_most_pressing_first_and_counts_the_rest() {
        let many: Vec<AlertFacts> = (1..=30)
            .map(|n| {
                facts(
                    if n == 30 {
                        Band::Critical
                    } else {
                        Band::Urgent
                    },
                    n,
                )
            })
            .collect();
        let mail = notice(&many, "https://f.example/a/1.x").mail().unwrap();
        assert!(
            mail.subject
                .ends_with("30 studies wait: 1 critical, 29 urgent")
        );
        let critical = mail.text.find(&short_code("1.2.3.30")).unwrap();
        assert!(critical < mail.text.find(&short_code("1.2.3.1")).unwrap());
        assert!(mail.text.contains("10 more"), "{}", mail.text);
    }

    #[test]
    fn an_alarm_says_that_nobody_was_reached() {
        let mut alarm = notice(&[facts(Band::Critical, 3)], "https://f.example/a/1.x");
        alarm.alarm = true;
        assert_eq!(alarm.event(), "alarm");
        let mail = alarm.mail().unwrap();
        for text in [&mail.subject, &mail.text, &mail.html, &alarm.pager()] {
            assert!(text.contains("Alerts reach nobody"), "{text}");
        }
    }

    #[test]
    fn a_template_can_name_what_a_message_says() {
        let one = notice(&[facts(Band::Urgent, 3)], "https://f.example/a/1.x");
        for name in crate::alerts::template::NAMES {
            assert_ne!(one.named(name), "", "{name}");
        }
        assert_eq!(one.named("waiting"), "12 min");
        assert!(one.named("text").contains(crate::RESEARCH_USE));
        assert_eq!(one.listed()[0].waiting_minutes(), 12);
    }

    #[test]
    fn a_pager_gets_one_line_that_fits() {
        let check = |facts: &[AlertFacts], link: &str, words: &[&str]| {
            let line = notice(facts, link).pager();
            assert!(
                line.chars().count() <= PAGER_CHARS_MAX && !line.contains('\n'),
                "{line}"
            );
            for word in words.iter().chain(&[crate::RESEARCH_USE]) {
                assert!(line.contains(word), "{word:?} is not in {line:?}");
            }
            line
        };
        let one = [facts(Band::Urgent, 3)];
        let short = "https://firstread.hospital.example/a/123456.abcdefghijkmnpqr";
        check(&one, short, &["North: Urgent #3", "waiting 12 min", short]);
        let long = format!("https://{}.example/a/1.abcdefghijkmnpqr", "x".repeat(70));
        let line = check(&one, &long, &["Urgent #3", "waiting 12 min"]);
        assert!(!line.contains("https"), "half a link is none: {line}");
        check(&[], "", &["North: Test message"]);
        check(
            &[facts(Band::Urgent, 1), facts(Band::Critical, 2)],
            short,
            &["2 studies wait"],
        );
    }
}
