//! What messages do to the list, in either order of arrival, on both databases.

use std::net::SocketAddr;

use firstread::hl7::Hl7Settings;
use firstread::store::accounts::Role;
use firstread::store::jobs::SCREEN;
use firstread::triage::OrderPriority;
use firstread::worklist::{Acting, News, StudyDetail, WorklistQuery};
use sea_orm::ActiveValue::Set;

use crate::common::databases;
use crate::peer::{Peer, listening, message, msa};
use crate::site::{NOON_MS, Site, uid};

async fn study(site: &Site, n: u32) -> StudyDetail {
    let found = site.store.study_detail(&uid(n), 0).await;
    found.unwrap().unwrap()
}

/// How many studies a search finds.
async fn found(site: &Site, q: &str) -> u64 {
    let query = WorklistQuery {
        q: Some(q.into()),
        ..WorklistQuery::default()
    };
    site.store.worklist(&query, 0).await.unwrap().total
}

/// Sends and wants to hear AA.
async fn say(at: SocketAddr, kind: &str, rest: &str) {
    static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let id = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let answer = Peer::connect(at)
        .await
        .send(&message(kind, &format!("I{id}"), rest))
        .await;
    assert_eq!(msa(&answer).0, "AA", "{answer}");
}

fn order(patient: &str, accession: &str, priority: &str) -> String {
    format!(
        "PID|1||{patient}\rORC|NW||{accession}\rTQ1|1||||||||{priority}\rOBR|1||{accession}|MRBR^MR brain\r"
    )
}

/// What an order says of which order it is, what is to be done with it, and what it is about.
#[derive(Clone, Copy)]
struct Numbered<'a> {
    control: &'a str,
    patient: &'a str,
    placer: &'a str,
    filler: &'a str,
    accession: &'a str,
    priority: &'a str,
}

impl Numbered<'_> {
    async fn say(self, at: SocketAddr) {
        let Numbered {
            control,
            patient,
            placer,
            filler,
            accession,
            priority,
        } = self;
        let accession = format!("{}{accession}", "|".repeat(14));
        let rest = format!(
            "PID|1||{patient}\rORC|{control}|{placer}|{filler}\rTQ1|1||||||||{priority}\r\
             OBR|1|{placer}|{filler}|MRBR^MR brain{accession}\r"
        );
        say(at, "ORM^O01", &rest).await;
    }
}

/// Studies that are to be screened, which is then done.
async fn screened(site: &Site) -> Vec<i64> {
    let mut studies = Vec::new();
    let now_ms = NOON_MS + 1;
    while let Some(job) = site
        .store
        .claim_job(SCREEN, "test", now_ms, 1_000)
        .await
        .unwrap()
    {
        site.store.finish_job(&job, true).await.unwrap();
        studies.push(job.study_id);
    }
    studies.sort_unstable();
    studies
}

fn report(patient: &str, accession: &str) -> String {
    let to_state = "|".repeat(22);
    format!("PID|1||{patient}\rOBR|1||{accession}{to_state}F\r")
}

#[tokio::test]
async fn an_order_moves_its_study_and_no_other() {
    for database in databases() {
        let site = Site::on(&database).await;
        site.study(1, 30, 20.0).await;
        site.study(2, 20, 60.0).await;
        let (at, _stop) = listening(&site, Hl7Settings::default()).await;
        let mut news = site.news.listen();
        say(at, "ORM^O01", &order("PAT-2", "ACC-2", "S")).await;
        assert_eq!(study(&site, 2).await.item.rank, 1);
        assert_eq!(news.try_recv().unwrap(), News::Study(uid(2)));
        assert!(news.try_recv().is_err(), "nothing else changed");
        assert_eq!(study(&site, 1).await.item.order_priority, "routine");
        // accession number of the one, patient of the other: possible, and nothing moves
        say(at, "ORM^O01", &order("PAT-1", "ACC-9", "S")).await;
        say(at, "ORM^O01", &order("PAT-9", "ACC-1", "S")).await;
        let one = study(&site, 1).await;
        assert_eq!(one.item.order_priority, "routine");
        assert_eq!((one.orders.len(), one.possible_orders.len()), (0, 1));
        assert_eq!(one.possible_orders[0].accession.as_deref(), Some("ACC-9"));
        // by the study itself, whatever else is said
        let by_uid = format!("{}ZDS|{}\r", order("PAT-9", "ACC-8", "A"), uid(1));
        say(at, "ORM^O01", &by_uid).await;
        assert_eq!(study(&site, 1).await.item.order_priority, "asap");
        assert_eq!(study(&site, 1).await.orders.len(), 1);
        // changed without a word on priority, then cancelled
        let silent = order("PAT-2", "ACC-2", "").replace("|NW|", "|SC|");
        say(at, "ORM^O01", &silent).await;
        assert_eq!(study(&site, 2).await.item.order_priority, "stat");
        let cancelled = order("PAT-2", "ACC-2", "").replace("|NW|", "|CA|");
        say(at, "ORM^O01", &cancelled).await;
        assert_eq!(study(&site, 2).await.item.order_priority, "routine");
    }
}

#[tokio::test]
async fn of_several_orders_the_highest_counts_and_of_two_voices_the_later() {
    for database in databases() {
        let site = Site::on(&database).await;
        site.study(1, 30, 20.0).await;
        let (at, _stop) = listening(&site, Hl7Settings::default()).await;
        let two = "PID|1||PAT-1\rORC|NW||F1\rTQ1|1||||||||S\rOBR|1||F1|A||||||||||||||ACC-1\r\
                   ORC|NW||F2\rTQ1|1||||||||R\rOBR|2||F2|B||||||||||||||ACC-1\r";
        say(at, "OMG^O19", two).await;
        assert_eq!(study(&site, 1).await.item.order_priority, "stat");
        assert_eq!(study(&site, 1).await.orders.len(), 2);
        site.clock.advance_ms(1_000);
        let priority = OrderPriority::Asap;
        let now_ms = NOON_MS + 1_000;
        let moved = site
            .store
            .set_order("ACC-1", priority, "api", &site.ranker, now_ms)
            .await
            .unwrap();
        assert_eq!(moved, [uid(1)]);
        // says nothing of priority: what was set through the API holds
        say(
            at,
            "OMG^O19",
            &two.replace("TQ1|1||||||||S\r", "")
                .replace("TQ1|1||||||||R\r", ""),
        )
        .await;
        assert_eq!(study(&site, 1).await.item.order_priority, "asap");
        site.clock.advance_ms(1_000);
        say(at, "OMG^O19", two).await;
        assert_eq!(study(&site, 1).await.item.order_priority, "stat");
    }
}

#[tokio::test]
async fn an_order_is_one_by_its_placer_number_until_it_has_a_filler_number() {
    for database in databases() {
        let site = Site::on(&database).await;
        site.study(1, 30, 20.0).await;
        let (at, _stop) = listening(&site, Hl7Settings::default()).await;
        let priority = async || study(&site, 1).await.item.order_priority;
        let placed = Numbered {
            control: "NW",
            patient: "PAT-1",
            placer: "P1",
            filler: "",
            accession: "ACC-1",
            priority: "S",
        };
        placed.say(at).await;
        assert_eq!(priority().await, "stat");
        // cancelled by the RIS, which gave it a number of its own
        let cancelled = Numbered {
            control: "CA",
            filler: "F1",
            priority: "",
            ..placed
        };
        cancelled.say(at).await;
        assert_eq!(priority().await, "routine");
        let orders = study(&site, 1).await.orders;
        assert_eq!(orders.len(), 1, "{orders:?}");
        assert_eq!(orders[0].order_key, "RIS|HOSP filler F1");
        // wanted again; that the filler number stands in for an accession number says nothing of that
        let again = Numbered {
            filler: "F1",
            accession: "",
            ..placed
        };
        again.say(at).await;
        assert_eq!(priority().await, "stat");
        // by the ward, which knows no other number: of another patient it is another order
        let by_ward = Numbered {
            filler: "",
            accession: "",
            ..cancelled
        };
        let of_another = Numbered {
            patient: "PAT-2",
            ..by_ward
        };
        of_another.say(at).await;
        assert_eq!(priority().await, "stat");
        by_ward.say(at).await;
        assert_eq!(priority().await, "routine");
        let orders = study(&site, 1).await.orders;
        assert_eq!(orders.len(), 1, "{orders:?}");
        assert_eq!(orders[0].filler.as_deref(), Some("F1"));
        // placed once, done by two: the placer number means neither of them
        for filler in ["F8", "F9"] {
            let one_of_two = Numbered {
                placer: "P9",
                filler,
                ..placed
            };
            one_of_two.say(at).await;
        }
        let of_either = Numbered {
            placer: "P9",
            ..by_ward
        };
        of_either.say(at).await;
        assert_eq!(priority().await, "stat");
        assert_eq!(study(&site, 1).await.orders.len(), 3);
    }
}

#[tokio::test]
async fn an_order_that_moves_leaves_its_study_routine() {
    for database in databases() {
        let site = Site::on(&database).await;
        site.study(1, 30, 20.0).await;
        site.study_with(2, 30, 20.0, |s| s.patient_id = Set(Some("PAT-1".into())))
            .await;
        site.study_with(3, 30, 20.0, |s| s.accession = Set(Some("ACC-2".into())))
            .await;
        // its images said so
        site.study_with(4, 30, 20.0, |s| s.order_priority = Set("stat".into()))
            .await;
        let (at, _stop) = listening(&site, Hl7Settings::default()).await;
        let priorities = async || {
            let mut all = Vec::new();
            for n in 1..=4 {
                all.push(study(&site, n).await.item.order_priority);
            }
            all
        };
        let mut order = Numbered {
            control: "NW",
            patient: "PAT-1",
            placer: "",
            filler: "F1",
            accession: "ACC-1",
            priority: "S",
        };
        order.say(at).await;
        assert_eq!(priorities().await, ["stat", "routine", "routine", "stat"]);
        // another accession number, then another patient; of its priority nothing is said
        (order.control, order.priority) = ("XO", "");
        order.accession = "ACC-2";
        order.say(at).await;
        assert_eq!(
            priorities().await,
            ["routine", "stat", "routine", "stat"],
            "{database:?}"
        );
        order.patient = "PAT-3";
        order.say(at).await;
        assert_eq!(
            priorities().await,
            ["routine", "routine", "stat", "stat"],
            "{database:?}"
        );
        // an order that never spoke of a priority takes none with it
        (order.patient, order.filler) = ("PAT-4", "F4");
        for accession in ["ACC-4", "ACC-5"] {
            order.accession = accession;
            order.say(at).await;
        }
        assert_eq!(priorities().await, ["routine", "routine", "stat", "stat"]);
    }
}

#[tokio::test]
async fn a_priority_that_was_set_while_a_study_was_read_holds_when_it_comes_back() {
    for database in databases() {
        let site = Site::on(&database).await;
        site.study(1, 30, 20.0).await;
        let read = site.study(2, 20, 20.0).await;
        site.set_reading(&read, "read").await;
        let set = async |accession: &str| {
            let stat = OrderPriority::Stat;
            let moved = site
                .store
                .set_order(accession, stat, "api", &site.ranker, NOON_MS);
            moved.await.unwrap()
        };
        assert!(set("ACC-2").await.is_empty(), "it is not on the list");
        assert_eq!(study(&site, 2).await.reading, "read");
        let acting = Acting {
            reader: "anna",
            now_ms: NOON_MS,
            held_since_ms: NOON_MS - 1_000,
        };
        site.store.reopen_study(&uid(2), acting).await.unwrap();
        let item = study(&site, 2).await.item;
        assert_eq!((item.order_priority.as_str(), item.rank), ("stat", 1));
        assert_eq!(set("ACC-1").await, [uid(1)]);
    }
}

#[tokio::test]
async fn a_final_report_marks_a_study_read_and_a_reader_takes_that_back() {
    for database in databases() {
        let site = Site::on(&database).await;
        let reader = site.signed_in_as("anna", Role::Reader).await;
        site.study(1, 30, 20.0).await;
        let (at, _stop) = listening(&site, Hl7Settings::default()).await;
        let acting = Acting {
            reader: "anna",
            now_ms: NOON_MS,
            held_since_ms: NOON_MS - 1_000,
        };
        site.store.claim_study(&uid(1), acting).await.unwrap();
        let preliminary = report("PAT-1", "ACC-1").replace("|F\r", "|P\r");
        say(at, "ORU^R01", &preliminary).await;
        say(at, "ORU^R01", &report("PAT-2", "ACC-1")).await;
        assert_eq!(study(&site, 1).await.reading, "open");
        say(at, "ORU^R01", &report("PAT-1", "ACC-1")).await;
        let read = study(&site, 1).await;
        assert_eq!(
            (read.reading.as_str(), read.item.assigned_to),
            ("read", None)
        );
        assert_eq!(read.history[0].what, "read");
        assert_eq!(
            read.history[0].detail.as_deref(),
            Some("final report from RIS HOSP")
        );
        let page = site.page(&reader, &format!("/studies/{}", uid(1))).await;
        assert!(
            page.contains("Marked read: final report from RIS HOSP."),
            "{page}"
        );
        // taken back; the report that did it does not do it again
        site.store.reopen_study(&uid(1), acting).await.unwrap();
        say(at, "ORM^O01", &order("PAT-1", "ACC-1", "S")).await;
        assert_eq!(study(&site, 1).await.reading, "open");
        say(at, "ORU^R01", &report("PAT-1", "ACC-1")).await;
        assert_eq!(study(&site, 1).await.reading, "read");
    }
}

#[tokio::test]
async fn a_final_report_closes_every_study_of_its_accession_number_and_patient() {
    for database in databases() {
        let site = Site::on(&database).await;
        let of_order = async |n: u32, patient: &str| {
            let study = site.study_with(n, 30, 20.0, |s| {
                s.accession = Set(Some("ACC-1".into()));
                s.patient_id = Set(Some(patient.into()));
            });
            study.await;
        };
        for (n, patient) in [(1, "PAT-1"), (2, "PAT-1"), (3, "PAT-3")] {
            of_order(n, patient).await;
        }
        let (at, _stop) = listening(&site, Hl7Settings::default()).await;
        let reading = async |n: u32| study(&site, n).await.reading;
        // the one that is named, although another has its accession number and patient and came before
        let named = format!("{}ZDS|{}\r", report("PAT-1", "ACC-1"), uid(2));
        say(at, "ORU^R01", &named).await;
        assert_eq!(
            (reading(1).await.as_str(), reading(2).await.as_str()),
            ("open", "read")
        );
        let acting = Acting {
            reader: "anna",
            now_ms: NOON_MS,
            held_since_ms: NOON_MS - 1_000,
        };
        site.store.reopen_study(&uid(2), acting).await.unwrap();
        say(at, "ORU^R01", &report("PAT-1", "ACC-1")).await;
        for n in [1, 2] {
            assert_eq!(reading(n).await, "read", "{n}");
        }
        assert_eq!(reading(3).await, "open", "another patient's");
        // what comes after the report is not in it
        of_order(4, "PAT-1").await;
        say(at, "ORM^O01", &order("PAT-1", "ACC-1", "S")).await;
        assert_eq!(reading(4).await, "open");
    }
}

#[tokio::test]
async fn two_patients_with_open_studies_become_one() {
    for database in databases() {
        let site = Site::on(&database).await;
        let anna = Acting {
            reader: "anna",
            now_ms: NOON_MS,
            held_since_ms: NOON_MS - 1_000,
        };
        site.study(1, 30, 20.0).await;
        site.study(2, 20, 20.0).await;
        site.study_with(3, 10, 20.0, |s| {
            s.patient_id = Set(Some("PAT-1".into()));
            s.patient_issuer = Set(Some("OTHER".into()));
        })
        .await;
        site.store.claim_study(&uid(1), anna).await.unwrap();
        let (at, _stop) = listening(&site, Hl7Settings::default()).await;
        // an order under the surviving id for a study under the prior one
        say(at, "ORM^O01", &order("PAT-2^^^HOSP", "ACC-1", "S")).await;
        assert_eq!(study(&site, 1).await.item.order_priority, "routine");
        let merge = "PID|1||PAT-2^^^HOSP^MR||Newname^Given||19400203|F\rMRG|PAT-1^^^HOSP^MR\r";
        say(at, "ADT^A40", merge).await;
        let (one, two, three) = (
            study(&site, 1).await,
            study(&site, 2).await,
            study(&site, 3).await,
        );
        for merged in [&one, &two] {
            assert_eq!(merged.item.patient_id.as_deref(), Some("PAT-2"));
            assert_eq!(merged.item.patient_name.as_deref(), Some("Newname, Given"));
            assert_eq!(merged.reading, "open");
        }
        assert_eq!(
            three.item.patient_id.as_deref(),
            Some("PAT-1"),
            "of another issuer"
        );
        // a search knows them by what they are called now
        assert_eq!(found(&site, "newname pat-2").await, 2);
        assert_eq!(found(&site, "pat-1 family1").await, 0);
        assert_eq!(one.item.order_priority, "stat", "the order is about it now");
        assert_eq!(
            one.item.assigned_to.as_deref(),
            Some("anna"),
            "still in her hands"
        );
        assert_eq!(one.history[0].detail.as_deref(), Some("PAT-1 into PAT-2"));
        // what still comes under the prior id is the surviving patient's
        let key = |id: &str, issuer: Option<&str>| (Some(id.to_owned()), issuer.map(str::to_owned));
        assert!(
            site.store
                .is_patient_of(&uid(1), &key("PAT-1", None))
                .await
                .unwrap()
        );
        assert!(
            site.store
                .is_patient_of(&uid(1), &key("PAT-2", None))
                .await
                .unwrap()
        );
        assert!(
            !site
                .store
                .is_patient_of(&uid(1), &key("PAT-3", None))
                .await
                .unwrap()
        );
        assert!(
            !site
                .store
                .is_patient_of(&uid(1), &key("PAT-2", Some("OTHER")))
                .await
                .unwrap()
        );
        say(at, "ORU^R01", &report("PAT-1^^^HOSP", "ACC-1")).await;
        assert_eq!(study(&site, 1).await.reading, "read");
        // merged again, onward and back
        say(at, "ADT^A40", "PID|1||PAT-5^^^HOSP\rMRG|PAT-2^^^HOSP\r").await;
        assert!(
            site.store
                .is_patient_of(&uid(2), &key("PAT-1", None))
                .await
                .unwrap()
        );
        say(at, "ADT^A40", "PID|1||PAT-1^^^HOSP\rMRG|PAT-5^^^HOSP\r").await;
        assert_eq!(
            study(&site, 2).await.item.patient_id.as_deref(),
            Some("PAT-1")
        );
        assert!(
            site.store
                .is_patient_of(&uid(2), &key("PAT-2", None))
                .await
                .unwrap()
        );
        // into itself: nothing
        say(at, "ADT^A40", "PID|1||PAT-1^^^HOSP\rMRG|PAT-1^^^HOSP\r").await;
        assert_eq!(
            study(&site, 2).await.item.patient_id.as_deref(),
            Some("PAT-1")
        );
    }
}

#[tokio::test]
async fn a_patient_is_known_better() {
    let site = Site::start().await;
    site.study(1, 30, 20.0).await;
    let (at, _stop) = listening(&site, Hl7Settings::default()).await;
    say(at, "ADT^A08", "PID|1||PAT-1||Right^Name||19461123|M\r").await;
    let item = study(&site, 1).await.item;
    assert_eq!(item.patient_name.as_deref(), Some("Right, Name"));
    assert_eq!(item.sex.as_deref(), Some("M"));
    assert_eq!(item.age_years.map(f64::round), Some(80.0));
    let mut news = site.news.listen();
    say(at, "ADT^A31", "PID|1||PAT-1||Right^Name||19461123|M\r").await;
    say(at, "ADT^A01", "PID|1||NOBODY||Right^Name\r").await;
    assert!(news.try_recv().is_err(), "nothing new was said");
}

#[tokio::test]
async fn a_corrected_age_or_sex_asks_for_another_comparison() {
    for database in databases() {
        let site = Site::on(&database).await;
        let week_and_more = 8 * 24 * 60;
        // of one patient: open, lately read, read long ago, a prior, not screened; and one without images
        let mut ids = Vec::new();
        for (n, minutes_ago, reading, state) in [
            (1, 30, "open", "screened"),
            (2, 90, "read", "screened"),
            (3, week_and_more, "read", "screened"),
            (4, 30, "prior", "screened"),
            (5, 30, "open", "not_analysed"),
            (6, 30, "open", "screened"),
        ] {
            let kept = site
                .study_with(n, minutes_ago, 20.0, |s| {
                    s.patient_id = Set(Some("PAT-1".into()));
                    s.reading = Set(reading.into());
                    s.state = Set(state.into());
                })
                .await;
            if n != 6 {
                site.series_with(&kept, |_| {}).await;
            }
            ids.push(kept.id);
        }
        let (at, _stop) = listening(&site, Hl7Settings::default()).await;
        say(at, "ADT^A08", "PID|1||PAT-1||Right^Name||19660523|F\r").await;
        assert_eq!(screened(&site).await, ids[..2], "{database:?}: of that age");
        say(at, "ADT^A31", "PID|1||PAT-1||Right^Name||19660523|M\r").await;
        assert_eq!(screened(&site).await, ids[..2], "{database:?}: of that sex");
        say(at, "ADT^A08", "PID|1||PAT-1||Other^Name||19660523|M\r").await;
        assert!(screened(&site).await.is_empty(), "a name compares nothing");
        let merge = "PID|1||PAT-7||Other^Name||19660523|F\rMRG|PAT-1\r";
        say(at, "ADT^A40", merge).await;
        assert_eq!(screened(&site).await, ids[..2], "{database:?}: merged");
    }
}
