//! How far readers agree with what screening says, and what the audit sample says of what it missed.

use std::collections::{BTreeMap, HashMap};

use super::Verdict;
use crate::validation::wilson;

/// A reader's word on a finding of a study.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// The study, by its number.
    pub study: i64,
    /// Code of the finding.
    pub finding: String,
    /// Name of the account.
    pub who: String,
    /// Name and version of the network.
    pub model: Option<String>,
    /// What was said.
    pub verdict: Verdict,
    /// In which month, as `2026-11`.
    pub month: String,
}

/// Agreement in one month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Month {
    /// As `2026-11`.
    pub month: String,
    /// Readers who agree.
    pub agree: usize,
    /// Readers who do not.
    pub disagree: usize,
}

/// Agreement with one finding of one network.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Code of the finding.
    pub finding: String,
    /// Name and version of the network.
    pub model: Option<String>,
    /// Readers who agree, each with their last word on each study.
    pub agree: usize,
    /// Readers who do not.
    pub disagree: usize,
    /// Share that agrees and its 95 % interval (Wilson).
    pub share: [f64; 3],
    /// The months in which anything was said, in order.
    pub months: Vec<Month>,
}

/// Who agrees and who does not, of each month.
type Months<'a> = BTreeMap<&'a str, (usize, usize)>;

/// Agreement per finding and network; most words first. `words` come in the order they were said.
#[must_use]
pub fn agreement(words: &[Word]) -> Vec<Line> {
    let mut last: HashMap<(i64, &str, &str), &Word> = HashMap::new();
    for word in words.iter().filter(|w| w.verdict != Verdict::Comment) {
        last.insert((word.study, &word.finding, &word.who), word);
    }
    let mut lines: BTreeMap<(&str, Option<&str>), Months<'_>> = BTreeMap::new();
    for word in last.values() {
        let line = lines
            .entry((&word.finding, word.model.as_deref()))
            .or_default();
        let month = line.entry(&word.month).or_default();
        match word.verdict {
            Verdict::Agree => month.0 += 1,
            _ => month.1 += 1,
        }
    }
    let mut lines: Vec<Line> = lines
        .into_iter()
        .map(|((finding, model), months)| {
            let agree = months.values().map(|m| m.0).sum();
            let disagree = months.values().map(|m| m.1).sum();
            let [low, high] = wilson(agree, agree + disagree);
            Line {
                finding: finding.to_owned(),
                model: model.map(str::to_owned),
                agree,
                disagree,
                share: [agree as f64 / (agree + disagree) as f64, low, high],
                months: months
                    .into_iter()
                    .map(|(month, (agree, disagree))| Month {
                        month: month.to_owned(),
                        agree,
                        disagree,
                    })
                    .collect(),
            }
        })
        .collect();
    lines.sort_by_key(|l| std::cmp::Reverse(l.agree + l.disagree));
    lines
}

/// A reader's answer on a study of the audit sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Nothing that should have been flagged.
    Nothing,
    /// Something that should have been.
    Something,
}

impl Answer {
    /// As the database writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Something => "something",
        }
    }

    /// Reads what [`Answer::as_str`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Nothing, Self::Something]
            .into_iter()
            .find(|a| a.as_str() == text)
    }
}

/// A study of the audit sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audited {
    /// It had been flagged when it was read.
    pub flagged: bool,
    /// Name and version of the network.
    pub model: Option<String>,
    /// What the reader said, if one did.
    pub answer: Option<Answer>,
}

/// What the sample says of a network.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditLine {
    /// Name and version of the network; `None` for all of them.
    pub model: Option<String>,
    /// Unflagged studies drawn, answered, and with something in them.
    pub unflagged: [usize; 3],
    /// The same of flagged ones.
    pub flagged: [usize; 3],
    /// Share of unflagged studies with something in them and its 95 % interval (Wilson).
    pub missed: Option<[f64; 3]>,
    /// The same of flagged ones: how often a flag was right.
    pub right: Option<[f64; 3]>,
}

/// What the sample says, of each network and of all.
#[must_use]
pub fn audit_lines(sample: &[Audited]) -> Vec<AuditLine> {
    let mut of_model: BTreeMap<Option<&str>, Vec<&Audited>> = BTreeMap::new();
    for study in sample.iter().filter(|s| s.model.is_some()) {
        of_model
            .entry(study.model.as_deref())
            .or_default()
            .push(study);
    }
    let all = (None, sample.iter().collect::<Vec<_>>());
    std::iter::once(all)
        .chain(of_model)
        .map(|(model, studies)| audit_line(model, &studies))
        .collect()
}

fn audit_line(model: Option<&str>, studies: &[&Audited]) -> AuditLine {
    let of = |flagged: bool| {
        let group = || studies.iter().filter(move |s| s.flagged == flagged);
        let answered = group().filter(|s| s.answer.is_some()).count();
        let something = group().filter(|s| s.answer == Some(Answer::Something));
        [group().count(), answered, something.count()]
    };
    let share = |[_, answered, something]: [usize; 3]| {
        (answered > 0).then(|| {
            let [low, high] = wilson(something, answered);
            [something as f64 / answered as f64, low, high]
        })
    };
    let (unflagged, flagged) = (of(false), of(true));
    AuditLine {
        model: model.map(str::to_owned),
        unflagged,
        flagged,
        missed: share(unflagged),
        right: share(flagged),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(study: i64, who: &str, verdict: Verdict, month: &str) -> Word {
        Word {
            study,
            finding: "screening".into(),
            who: who.into(),
            model: Some("screening 1".into()),
            verdict,
            month: month.into(),
        }
    }

    #[test]
    fn the_last_word_of_each_reader_on_each_study_counts() {
        let lines = agreement(&[
            word(1, "anna", Verdict::Agree, "2026-10"),
            word(1, "anna", Verdict::Disagree, "2026-11"),
            word(1, "anna", Verdict::Comment, "2026-11"),
            word(1, "bert", Verdict::Agree, "2026-10"),
            word(2, "anna", Verdict::Agree, "2026-11"),
            Word {
                model: Some("screening 2".into()),
                ..word(3, "anna", Verdict::Agree, "2026-11")
            },
        ]);
        assert_eq!(lines.len(), 2);
        assert_eq!((lines[0].agree, lines[0].disagree), (2, 1));
        let months: Vec<(&str, usize, usize)> = lines[0]
            .months
            .iter()
            .map(|m| (&*m.month, m.agree, m.disagree))
            .collect();
        assert_eq!(months, [("2026-10", 1, 0), ("2026-11", 1, 1)]);
        assert_eq!(lines[1].model.as_deref(), Some("screening 2"));
        assert!(agreement(&[]).is_empty());
    }

    #[test]
    fn the_sample_says_what_is_missed() {
        let study = |flagged, answer| Audited {
            flagged,
            model: Some("screening 1".into()),
            answer,
        };
        let mut sample = vec![study(false, None), study(true, Some(Answer::Something))];
        sample.extend((0..99).map(|_| study(false, Some(Answer::Nothing))));
        sample.push(study(false, Some(Answer::Something)));
        let lines = audit_lines(&sample);
        assert_eq!(lines.len(), 2);
        let all = &lines[0];
        assert_eq!(all.unflagged, [101, 100, 1]);
        assert_eq!(all.flagged, [1, 1, 1]);
        let [share, low, high] = all.missed.unwrap();
        assert!((share - 0.01).abs() < 1e-12);
        // Wilson, 1 of 100: 0.18 % to 5.4 %
        assert!((low - 0.0018).abs() < 1e-4 && (high - 0.0545).abs() < 1e-4);
        assert_eq!(audit_lines(&[])[0].missed, None);
    }
}
