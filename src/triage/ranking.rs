//! Evidence and settings to head start, band and reasons.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Evidence, Finding, OrderPriority, TriageSettings, logistic, logit};

/// Milliseconds in a minute.
const MS_PER_MINUTE: f64 = 60_000.0;

/// How a study stands out, for display and alerts; lowest first.
/// Order priority is a column of its own and never raises it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Band {
    /// Not screened yet.
    Pending,
    /// Nothing that moves it up much.
    Routine,
    /// Above the ordinary.
    Elevated,
    /// Look soon.
    Urgent,
    /// A finding marked critical.
    Critical,
}

impl Band {
    /// As the API and the database write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Routine => "routine",
            Self::Elevated => "elevated",
            Self::Urgent => "urgent",
            Self::Critical => "critical",
        }
    }

    /// Reads what [`Band::as_str`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::Pending,
            Self::Routine,
            Self::Elevated,
            Self::Urgent,
            Self::Critical,
        ]
        .into_iter()
        .find(|b| b.as_str() == text)
    }
}

/// One term of the head start, in words and minutes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// Stable code: `order_stat`, `screening`, a finding's code, ...
    pub code: String,
    /// For the reader.
    pub text: String,
    /// Minutes that it gives, after caps; 0 where another finding of its group counts instead.
    pub minutes: f64,
}

/// Where a study stands and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ranking {
    /// Sum of all terms, milliseconds; never negative.
    pub head_start_ms: i64,
    /// Order priority's share, minutes.
    pub order_minutes: f64,
    /// Screening's share, minutes, after its cap.
    pub ai_minutes: f64,
    /// Findings' share, minutes, after their cap.
    pub findings_minutes: f64,
    /// Site rules' share, minutes, after their cap.
    pub site_rules_minutes: f64,
    /// Probability shifted to the site's prevalence; `None` before screening.
    pub p_abnormal: Option<f64>,
    /// Band.
    pub band: Band,
    /// Terms, largest first.
    pub reasons: Vec<Reason>,
}

/// Turns evidence into a head start. Deterministic; reads no clock.
#[must_use]
pub fn rank(evidence: &Evidence, settings: &TriageSettings) -> Ranking {
    let mut reasons = Vec::new();
    let order_minutes = order_term(evidence.order, settings, &mut reasons);
    let p_abnormal = evidence.screening.as_ref().map(|s| {
        let shift = logit(settings.site_prevalence) - logit(s.prevalence_train);
        logistic(logit(s.p_calibrated.clamp(1e-9, 1.0 - 1e-9)) + shift)
    });
    let ai_minutes = ai_term(evidence, p_abnormal, settings, &mut reasons);
    let findings = evidence.findings_that_count();
    let findings_minutes = findings_term(&findings, settings, &mut reasons);
    let site_rules_minutes = site_rules_term(&evidence.site_rules, settings, &mut reasons);
    let total = order_minutes + ai_minutes + findings_minutes + site_rules_minutes;
    let has_screening = evidence.screening.is_some();
    let band = band(
        has_screening,
        &findings,
        ai_minutes + findings_minutes,
        settings,
    );
    if evidence.volumetry.is_some() {
        let coarse = findings_term(&evidence.findings, settings, &mut Vec::new());
        let before = self::band(
            has_screening,
            &evidence.findings,
            ai_minutes + coarse,
            settings,
        );
        if before > band {
            reasons.push(Reason {
                code: "lowered_after_volumetry".into(),
                text: format!("lowered from {} after volumetry", before.as_str()),
                minutes: 0.0,
            });
        }
    }
    reasons.sort_by(|a, b| b.minutes.total_cmp(&a.minutes));
    #[expect(
        clippy::cast_possible_truncation,
        reason = "bounded by the caps to about 1e9"
    )]
    let head_start_ms = (total * MS_PER_MINUTE).round() as i64;
    Ranking {
        head_start_ms,
        order_minutes,
        ai_minutes,
        findings_minutes,
        site_rules_minutes,
        p_abnormal,
        band,
        reasons,
    }
}

/// The band that may alert: without what is shown only by series of which slices are missing, and never above the
/// study's own.
#[must_use]
pub fn alert_band(evidence: &Evidence, settings: &TriageSettings) -> Band {
    let band = rank(evidence, settings).band;
    if evidence.partial {
        band.min(rank(&evidence.of_whole_series(), settings).band)
    } else {
        band
    }
}

fn order_term(order: OrderPriority, settings: &TriageSettings, reasons: &mut Vec<Reason>) -> f64 {
    let (code, text, minutes) = match order {
        OrderPriority::Routine => return 0.0,
        OrderPriority::Asap => ("order_asap", "ordered ASAP", settings.asap_minutes),
        OrderPriority::Stat => ("order_stat", "ordered STAT", settings.stat_minutes),
    };
    reasons.push(Reason {
        code: code.into(),
        text: text.into(),
        minutes,
    });
    minutes
}

/// Head start in minutes of a probability at the site's prevalence.
#[must_use]
pub fn ai_minutes(p: f64, settings: &TriageSettings) -> f64 {
    let p = p.clamp(settings.p_floor, 1.0 - settings.p_floor);
    let minutes = settings.k_minutes_per_logit * (logit(p) - logit(settings.p_floor));
    minutes.clamp(0.0, settings.ai_cap_minutes)
}

fn ai_term(
    evidence: &Evidence,
    p_abnormal: Option<f64>,
    settings: &TriageSettings,
    reasons: &mut Vec<Reason>,
) -> f64 {
    let minutes = ai_minutes(p_abnormal.unwrap_or(settings.site_prevalence), settings);
    let (code, text) = match (&evidence.screening, &evidence.not_analysed) {
        (Some(_), _) => ("screening", "screening".to_owned()),
        (None, Some(why)) => (
            "not_analysed",
            format!("not analysed: ranked as an average study ({why})"),
        ),
        (None, None) => (
            "not_screened",
            "not screened yet: ranked as an average study".to_owned(),
        ),
    };
    reasons.push(Reason {
        code: code.into(),
        text,
        minutes,
    });
    minutes
}

fn findings_term(
    findings: &[Finding],
    settings: &TriageSettings,
    reasons: &mut Vec<Reason>,
) -> f64 {
    let mut largest: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
    for (i, finding) in findings.iter().enumerate() {
        let minutes = finding.minutes.max(0.0);
        let slot = largest
            .entry(finding.group.as_str())
            .or_insert((i, minutes));
        if minutes > slot.1 {
            *slot = (i, minutes);
        }
    }
    let sum: f64 = largest.values().map(|(_, minutes)| minutes).sum();
    let total = sum.min(settings.findings_cap_minutes);
    // Where the cap bites, the terms shown shrink together, so that they still add up.
    let scale = if sum > 0.0 { total / sum } else { 0.0 };
    for (i, finding) in findings.iter().enumerate() {
        let counts = largest
            .get(finding.group.as_str())
            .is_some_and(|(winner, _)| *winner == i);
        reasons.push(Reason {
            code: finding.code.clone(),
            text: finding.text.clone(),
            minutes: if counts {
                finding.minutes.max(0.0) * scale
            } else {
                0.0
            },
        });
    }
    total
}

fn site_rules_term(
    rules: &[(String, f64)],
    settings: &TriageSettings,
    reasons: &mut Vec<Reason>,
) -> f64 {
    let sum: f64 = rules.iter().map(|(_, minutes)| minutes.max(0.0)).sum();
    let total = sum.min(settings.site_rules_cap_minutes);
    let scale = if sum > 0.0 { total / sum } else { 0.0 };
    for (text, minutes) in rules {
        let minutes = minutes.max(0.0) * scale;
        reasons.push(Reason {
            code: "site_rule".into(),
            text: text.clone(),
            minutes,
        });
    }
    total
}

fn band(
    has_screening: bool,
    findings: &[Finding],
    ai_and_findings: f64,
    settings: &TriageSettings,
) -> Band {
    if findings.iter().any(|f| f.critical) {
        Band::Critical
    } else if !has_screening {
        Band::Pending
    } else if ai_and_findings >= settings.urgent_from_minutes {
        Band::Urgent
    } else if ai_and_findings >= settings.elevated_from_minutes {
        Band::Elevated
    } else {
        Band::Routine
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::triage::{Screening, Volumetry, Whole};
    use proptest::prelude::*;

    fn screened(p: f64) -> Evidence {
        let screening = Some(Screening {
            p_calibrated: p,
            prevalence_train: 0.1,
        });
        Evidence {
            screening,
            ..Evidence::default()
        }
    }

    fn finding(group: &str, minutes: f64) -> Finding {
        Finding {
            code: format!("{group}_{minutes}"),
            group: group.into(),
            text: "finding".into(),
            minutes,
            critical: false,
        }
    }

    #[test]
    fn an_unscreened_study_is_ranked_as_an_average_one() {
        let s = TriageSettings::default();
        let pending = rank(&Evidence::default(), &s);
        // 30 * (logit 0.1 - logit 0.003)
        assert!(
            (pending.ai_minutes - 108.27).abs() < 0.01,
            "{}",
            pending.ai_minutes
        );
        assert_eq!(pending.band, Band::Pending);
        assert_eq!(
            pending.head_start_ms,
            rank(&screened(0.1), &s).head_start_ms
        );
    }

    #[test]
    fn the_floor_earns_nothing_and_the_cap_holds() {
        let s = TriageSettings::default();
        assert_eq!(rank(&screened(0.000_1), &s).head_start_ms, 0);
        assert_eq!(rank(&screened(0.999_999), &s).head_start_ms, 180 * 60_000);
        assert_eq!(rank(&screened(0.999_999), &s).band, Band::Urgent);
    }

    #[test]
    fn only_the_largest_of_a_group_counts_and_terms_add_up() {
        let s = TriageSettings::default();
        let mut evidence = screened(0.2);
        evidence.findings = vec![
            finding("a", 20.0),
            finding("a", 30.0),
            finding("b", 10.0),
            finding("b", 10.0),
        ];
        let ranking = rank(&evidence, &s);
        assert!((ranking.findings_minutes - 40.0).abs() < 1e-9);
        let sum: f64 = ranking.reasons.iter().map(|r| r.minutes).sum();
        assert!((sum * 60_000.0 - ranking.head_start_ms as f64).abs() < 1.0);
    }

    #[test]
    fn volumetry_replaces_what_it_knows_better_and_says_what_it_lowered() {
        let s = TriageSettings::default();
        let mut evidence = screened(0.35);
        evidence.findings = vec![finding("ventricles", 36.0), finding("region", 5.0)];
        let before = rank(&evidence, &s);
        evidence.volumetry = Some(Volumetry {
            groups: vec!["ventricles".into()],
            findings: vec![finding("lesions", 2.0)],
        });
        let after = rank(&evidence, &s);
        assert!((after.findings_minutes - 7.0).abs() < 1e-9, "{after:?}");
        assert!(before.band > after.band);
        let lowered = format!("lowered from {} after volumetry", before.band.as_str());
        assert!(after.reasons.iter().any(|r| r.text == lowered), "{after:?}");
        // It may raise, too, and then says nothing of the kind.
        evidence.volumetry = Some(Volumetry {
            groups: vec!["ventricles".into()],
            findings: vec![finding("ventricles", 50.0)],
        });
        let raised = rank(&evidence, &s);
        assert!(raised.head_start_ms > before.head_start_ms);
        assert!(raised.reasons.iter().all(|r| !r.text.contains("lowered")));
    }

    #[test]
    fn volumetry_of_whole_series_alerts_beside_a_partial_one() {
        let s = TriageSettings::default();
        let mut evidence = screened(0.2);
        evidence.partial = true;
        evidence.whole = Some(Box::new(Whole {
            screening: evidence.screening.clone(),
            ..Whole::default()
        }));
        let found = Volumetry {
            groups: vec!["region".into()],
            findings: vec![Finding {
                critical: true,
                ..finding("region", 5.0)
            }],
        };
        evidence.volumetry = Some(found.clone());
        assert_eq!(rank(&evidence, &s).band, Band::Critical);
        assert!(
            alert_band(&evidence, &s) < Band::Critical,
            "the partial one's"
        );
        if let Some(whole) = &mut evidence.whole {
            whole.volumetry = Some(found);
        }
        assert_eq!(alert_band(&evidence, &s), Band::Critical);
        // taken back as doubtful: nowhere
        evidence.volumetry = None;
        assert!(alert_band(&evidence, &s) < Band::Critical);
        // as it was kept before it said what whole series show
        evidence.whole = None;
        assert_eq!(alert_band(&evidence, &s), Band::Pending);
    }

    #[test]
    fn an_order_lies_outside_every_cap_and_raises_no_band() {
        let s = TriageSettings::default();
        let mut evidence = screened(0.01);
        let before = rank(&evidence, &s);
        evidence.order = OrderPriority::Stat;
        let after = rank(&evidence, &s);
        assert_eq!(after.head_start_ms - before.head_start_ms, 10_080 * 60_000);
        assert_eq!(after.band, before.band);
    }

    const GROUPS: [&str; 4] = ["a", "b", "c", "d"];

    fn any_finding() -> impl Strategy<Value = Finding> {
        (0usize..4, 0.0..80.0f64, any::<bool>()).prop_map(|(g, minutes, critical)| Finding {
            critical,
            ..finding(GROUPS[g], minutes)
        })
    }

    /// Screening, volumetry and the site's own rules, each or none.
    fn any_evidence() -> impl Strategy<Value = Evidence> {
        let findings = || prop::collection::vec(any_finding(), 0..6);
        let groups = prop::sample::subsequence(GROUPS.to_vec(), 0..=4);
        let volumetry = prop::option::of((groups, findings()));
        let rules = prop::collection::vec((Just("rule".to_owned()), 0.0..90.0f64), 0..3);
        let order = prop::sample::select(vec![
            OrderPriority::Routine,
            OrderPriority::Asap,
            OrderPriority::Stat,
        ]);
        let all = (
            order,
            prop::option::of(0.0..=1.0f64),
            findings(),
            volumetry,
            rules,
        );
        all.prop_map(|(order, p, findings, volumetry, site_rules)| Evidence {
            order,
            screening: p.map(|p| Screening {
                p_calibrated: p,
                prevalence_train: 0.5,
            }),
            not_analysed: None,
            partial: false,
            whole: None,
            findings,
            volumetry: volumetry.map(|(groups, findings)| Volumetry {
                groups: groups.into_iter().map(str::to_owned).collect(),
                findings,
            }),
            site_rules,
        })
    }

    /// Whatever an administrator may apply.
    fn any_settings() -> impl Strategy<Value = TriageSettings> {
        let caps = (0.0..1440.0f64, 0.0..1440.0f64, 0.0..1440.0f64);
        let ai = (0.0..600.0f64, 1e-6..0.4f64, 0.001..0.999f64);
        let orders = (0.0..1000.0f64, 0.0..50_000.0f64);
        let bands = (0.0..1000.0f64, 0.0..2000.0f64);
        (ai, caps, orders, bands).prop_map(|((k, floor, prevalence), caps, orders, bands)| {
            let settings = TriageSettings {
                k_minutes_per_logit: k,
                p_floor: floor,
                ai_cap_minutes: caps.0,
                findings_cap_minutes: caps.1,
                site_rules_cap_minutes: caps.2,
                asap_minutes: orders.0,
                stat_minutes: orders.0 + orders.1,
                elevated_from_minutes: bands.0,
                urgent_from_minutes: bands.0 + bands.1,
                site_prevalence: prevalence,
            };
            settings.check().unwrap();
            settings
        })
    }

    proptest! {
        #[test]
        fn raising_evidence_never_lowers_a_study(
            e in any_evidence(), s in any_settings(), up in 0.0..1.0f64, found in any_finding(),
        ) {
            let before = rank(&e, &s);
            if let Some(screening) = &e.screening {
                let p = screening.p_calibrated;
                let mut more = e.clone();
                more.screening = Some(Screening { p_calibrated: p + (1.0 - p) * up, ..screening.clone() });
                let after = rank(&more, &s);
                prop_assert!(after.head_start_ms >= before.head_start_ms);
                prop_assert!(after.band >= before.band);
            }
            let mut more = e.clone();
            more.findings.push(found.clone());
            let mut measured = e.clone();
            if let Some(volumetry) = &mut measured.volumetry {
                volumetry.findings.push(found);
            }
            for more in [more, measured] {
                let after = rank(&more, &s);
                prop_assert!(after.head_start_ms >= before.head_start_ms);
                prop_assert!(after.band >= before.band);
            }
            for order in [OrderPriority::Routine, OrderPriority::Asap, OrderPriority::Stat] {
                let other = rank(&Evidence { order, ..e.clone() }, &s);
                if order >= e.order {
                    prop_assert!(other.head_start_ms >= before.head_start_ms);
                } else {
                    prop_assert!(other.head_start_ms <= before.head_start_ms);
                }
                prop_assert_eq!(other.band, before.band);
            }
        }

        #[test]
        fn the_published_bound_holds(a in any_evidence(), b in any_evidence(), s in any_settings()) {
            let (a, mut b) = (a, b);
            b.order = a.order;
            let bound_minutes = s.overtaking_bound_minutes();
            let (a, b) = (rank(&a, &s), rank(&b, &s));
            // So b is overtaken only by what arrives less than the bound after it.
            let lead = a.head_start_ms - b.head_start_ms;
            // a millisecond for rounding each
            prop_assert!(lead as f64 <= bound_minutes * 60_000.0 + 2.0);
            prop_assert!(a.head_start_ms >= 0 && b.head_start_ms >= 0);
        }
    }
}
