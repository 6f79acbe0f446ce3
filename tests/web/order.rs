//! What the order of the list promises, on lists as they come: total, stable, bounded, and moved by evidence alone.

use firstread::clock::Clock as _;
use firstread::store::accounts::Role;
use firstread::triage::{Evidence, Finding, OrderPriority, Screening, TriageSettings};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use reqwest::Client;
use serde_json::Value;

use crate::common::databases;
use crate::site::{NOON_MS, Site, uid};

/// Lists that are drawn for each database.
const LISTS: u32 = 6;
/// Studies of a list: one page.
const STUDIES: u32 = 14;

/// Something that happens to a study of the list.
#[derive(Debug, Clone)]
enum Change {
    /// Anything may be found instead.
    Anything(Evidence),
    /// The probability rises by this share of what is left.
    MoreProbable(f64),
    Found(Finding),
    Ordered(OrderPriority),
}

impl Change {
    fn on(&self, evidence: &mut Evidence) {
        match self {
            Self::Anything(other) => *evidence = other.clone(),
            Self::MoreProbable(share) => {
                if let Some(screening) = &mut evidence.screening {
                    let p = screening.p_calibrated;
                    screening.p_calibrated = p + (1.0 - p) * share;
                }
            }
            Self::Found(finding) => evidence.findings.push(finding.clone()),
            Self::Ordered(priority) => evidence.order = evidence.order.max(*priority),
        }
    }

    fn only_raises(&self) -> bool {
        !matches!(self, Self::Anything(_))
    }
}

fn any_finding() -> impl Strategy<Value = Finding> {
    let group = prop::sample::select(vec!["a", "b", "c"]);
    (group, 0.0..80.0f64, any::<bool>()).prop_map(|(group, minutes, critical)| Finding {
        code: group.into(),
        group: group.into(),
        text: "finding".into(),
        minutes,
        critical,
    })
}

/// What was found; few values, so that many studies stand at one place but for the tie.
fn any_evidence() -> impl Strategy<Value = Evidence> {
    let p = prop::option::of(prop::sample::select(vec![0.0, 0.01, 0.3, 0.3, 0.999_999]));
    let findings = prop::collection::vec(any_finding(), 0..3);
    let rule = prop::option::of(0.0..90.0f64);
    (p, findings, rule).prop_map(|(p, findings, rule)| Evidence {
        screening: p.map(|p| Screening {
            p_calibrated: p,
            prevalence_train: 0.1,
        }),
        findings,
        site_rules: rule.into_iter().map(|m| ("rule".into(), m)).collect(),
        ..Evidence::default()
    })
}

/// Minutes before noon at which a study came, and what was found in it.
type Came = (i64, Evidence);
/// What happens to one study of the list.
type Happens = (u32, Change);

/// Studies, and then changes of one of them each.
fn any_list() -> impl Strategy<Value = (Vec<Came>, Vec<Happens>)> {
    let minutes = prop_oneof![0..3i64, 0..900i64];
    let order = prop::sample::select(vec![OrderPriority::Asap, OrderPriority::Stat]);
    let change = prop_oneof![
        any_evidence().prop_map(Change::Anything),
        (0.0..1.0f64).prop_map(Change::MoreProbable),
        any_finding().prop_map(Change::Found),
        order.prop_map(Change::Ordered),
    ];
    let studies = prop::collection::vec((minutes, any_evidence()), STUDIES as usize);
    (studies, prop::collection::vec((0..STUDIES, change), 12))
}

struct List<'a> {
    site: &'a Site,
    token: String,
    client: Client,
}

impl List<'_> {
    /// UIDs as a client of the API gets them.
    async fn shown(&self) -> Vec<String> {
        let url = self.site.url("/api/v1/worklist");
        let answer = self.client.get(url).bearer_auth(&self.token).send();
        let list: Value = answer.await.unwrap().json().await.unwrap();
        let items = list["items"].as_array().unwrap();
        let places = items.iter().map(|i| i["rank"].as_u64().unwrap());
        assert!(places.eq(1..=items.len() as u64), "each place once");
        let uid = |i: &Value| i["study_uid"].as_str().unwrap().to_owned();
        items.iter().map(uid).collect()
    }

    async fn change(&self, n: u32, change: &Change) {
        let id = self.site.row(n).await.id;
        let now_ms = self.site.clock.now_ms();
        let changed = self
            .site
            .store
            .change_standing(id, &self.site.ranker, now_ms, |s| {
                change.on(&mut s.evidence);
            });
        changed.await.unwrap();
    }
}

#[tokio::test]
async fn the_order_is_total_and_stable_and_one_change_moves_one_study_within_the_bound() {
    let mut runner = TestRunner::default();
    let bound_ms = TriageSettings::default().overtaking_bound_minutes() * 60_000.0;
    for database in databases() {
        let site = Site::on(&database).await;
        let list = List {
            token: site.token(Role::Reader).await,
            client: Client::new(),
            site: &site,
        };
        for round in 0..LISTS {
            let (studies, changes) = any_list().new_tree(&mut runner).unwrap().current();
            let number = |n: u32| round * 100 + n;
            for (n, (minutes_ago, evidence)) in (0..).zip(&studies) {
                site.study(number(n), *minutes_ago, 0.0).await;
                list.change(number(n), &Change::Anything(evidence.clone()))
                    .await;
            }
            // Total: by the key, which no two studies share.
            let mut expected = Vec::new();
            for n in 0..STUDIES {
                let row = site.row(number(n)).await;
                expected.push((row.effective_arrival_ms, row.arrived_at, row.study_uid));
            }
            expected.sort();
            let shown = list.shown().await;
            let uids: Vec<String> = expected.into_iter().map(|(_, _, uid)| uid).collect();
            assert_eq!(shown, uids, "{studies:?}");
            // Bounded: nobody stands before one who came so much earlier.
            let arrived = |n: u32| NOON_MS - studies[n as usize].0 * 60_000;
            let place = |list: &[String], n: u32| {
                let uid = uid(number(n));
                list.iter().position(|shown| *shown == uid).unwrap()
            };
            for early in 0..STUDIES {
                for late in 0..STUDIES {
                    // a millisecond of rounding each
                    if (arrived(late) - arrived(early)) as f64 > bound_ms + 2.0 {
                        let stands = place(&shown, early) < place(&shown, late);
                        assert!(stands, "{late} overtook {early}: {studies:?}");
                    }
                }
            }
            // Stable: time passes, and nothing else.
            site.clock.advance_ms(3 * 86_400_000);
            assert_eq!(list.shown().await, shown);
            // One change moves one study, and what raises never lowers.
            let mut before = shown;
            for (n, change) in &changes {
                list.change(number(*n), change).await;
                let after = list.shown().await;
                let others = |list: &[String]| -> Vec<String> {
                    let moved = uid(number(*n));
                    list.iter().filter(|uid| **uid != moved).cloned().collect()
                };
                assert_eq!(others(&before), others(&after), "{change:?}");
                if change.only_raises() {
                    assert!(place(&after, *n) <= place(&before, *n), "{change:?}");
                }
                before = after;
            }
            site.read_all().await;
        }
    }
}
