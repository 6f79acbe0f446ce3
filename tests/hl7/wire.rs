//! Frames, acknowledgements and bounds, as a peer meets them.

use std::time::Duration;

use firstread::hl7::Hl7Settings;

use crate::common::databases;
use crate::peer::{Peer, Python, listening, message, msa};
use crate::site::Site;

const ORDER: &str = "PID|1||PAT-1\rORC|NW||ACC-1\rTQ1|1||||||||S\rOBR|1||ACC-1|MRBR\r";

async fn priority(site: &Site, n: u32) -> String {
    let study = site.store.study_detail(&crate::site::uid(n), 0).await;
    study.unwrap().unwrap().item.order_priority
}

#[tokio::test]
async fn a_message_is_taken_once_however_often_it_comes() {
    for database in databases() {
        let site = Site::on(&database).await;
        site.study(1, 10, 20.0).await;
        let (at, _stop) = listening(&site, Hl7Settings::default()).await;
        let mut peer = Peer::connect(at).await;
        let first = message("ORM^O01", "7", ORDER);
        assert_eq!(msa(&peer.send(&first).await), ("AA", "7"));
        assert_eq!(priority(&site, 1).await, "stat");
        let lower = message("ORM^O01", "8", &ORDER.replace("|S\r", "|R\r"));
        assert_eq!(msa(&peer.send(&lower).await), ("AA", "8"));
        assert_eq!(priority(&site, 1).await, "routine");
        // again, as after a lost acknowledgement, with another time of sending, on another connection
        let mut other = Peer::connect(at).await;
        let repeat = first.replace("20261126083000", "20261126083001");
        assert_eq!(msa(&other.send(&repeat).await), ("AA", "7"));
        assert_eq!(priority(&site, 1).await, "routine", "applied once");
        // the same id from another sender is another message
        let theirs = first
            .replace("|RIS|HOSP|", "|RIS2|HOSP|")
            .replace("ACC-1|MR", "ACC-1|X");
        assert_eq!(msa(&other.send(&theirs).await), ("AA", "7"));
        assert_eq!(priority(&site, 1).await, "stat");
        // another message under a used id is refused, and says why
        let reused = first.replace("|S\r", "|A\r");
        let answer = peer.send(&reused).await;
        assert_eq!(msa(&answer), ("AE", "7"));
        assert!(answer.contains("ERR||MSH^1^10^1|205^"), "{answer}");
        // remembered for long, not for ever
        site.clock
            .advance_ms(Hl7Settings::default().remember_ms() + 1);
        assert_eq!(msa(&peer.send(&reused).await), ("AA", "7"));
    }
}

#[tokio::test]
async fn one_message_on_many_connections_at_once_is_applied_once() {
    for database in databases() {
        let site = Site::on(&database).await;
        site.study(1, 10, 20.0).await;
        let (at, _stop) = listening(&site, Hl7Settings::default()).await;
        let mut tasks = Vec::new();
        for _ in 0..8 {
            tasks.push(tokio::spawn(async move {
                let mut peer = Peer::connect(at).await;
                let report = "PID|1||PAT-1\rOBR|1||ACC-1|X|||||||||||||||||||||F\r";
                msa(&peer.send(&message("ORU^R01", "9", report)).await)
                    .0
                    .to_owned()
            }));
        }
        for task in tasks {
            assert_eq!(task.await.unwrap(), "AA");
        }
        let study = site.store.study_detail(&crate::site::uid(1), 0).await;
        let study = study.unwrap().unwrap();
        assert_eq!(study.reading, "read");
        assert_eq!(study.history.len(), 1, "{:?}", study.history);
    }
}

#[tokio::test]
async fn enhanced_mode_gives_what_was_asked_for() {
    let site = Site::start().await;
    let (at, _stop) = listening(&site, Hl7Settings::default()).await;
    let mut peer = Peer::connect(at).await;
    let wanting = |id: &str, accept: &str, application: &str, rest: &str| {
        message("ORM^O01", id, rest).replace(
            "|2.5.1||||||",
            &format!("|2.5.1|||{accept}|{application}||"),
        )
    };
    let both = wanting("1", "AL", "AL", ORDER);
    assert_eq!(msa(&peer.send(&both).await), ("CA", "1"));
    assert_eq!(msa(&peer.answer().await), ("AA", "1"));
    assert_eq!(
        msa(&peer.send(&wanting("2", "AL", "NE", ORDER)).await),
        ("CA", "2")
    );
    assert_eq!(
        msa(&peer.send(&wanting("3", "NE", "AL", ORDER)).await),
        ("AA", "3")
    );
    // wrong content: said by the application where it may, else by the commit
    assert_eq!(
        msa(&peer.send(&wanting("4", "AL", "ER", "PID|1")).await),
        ("CA", "4")
    );
    assert_eq!(msa(&peer.answer().await), ("AE", "4"));
    assert_eq!(
        msa(&peer.send(&wanting("5", "AL", "NE", "PID|1")).await),
        ("CE", "5")
    );
    let unknown = wanting("6", "AL", "AL", ORDER).replace("ORM^O01", "SIU^S12");
    assert_eq!(msa(&peer.send(&unknown).await), ("CR", "6"));
    // no commit is wanted: the application says so
    let rejected = wanting("9", "NE", "AL", ORDER).replace("ORM^O01", "SIU^S12");
    assert_eq!(msa(&peer.send(&rejected).await), ("AR", "9"));
    let rejected = wanting("10", "SU", "ER", ORDER).replace("ORM^O01", "SIU^S12");
    assert_eq!(msa(&peer.send(&rejected).await), ("AR", "10"));
    // nothing wanted, nothing said: the next answer is the next message's
    let silent = wanting("7", "NE", "NE", ORDER);
    peer.write(&[b"\x0b", silent.as_bytes(), b"\x1c\r"].concat())
        .await;
    assert_eq!(
        msa(&peer.send(&wanting("8", "AL", "NE", ORDER)).await),
        ("CA", "8")
    );
}

#[tokio::test]
async fn a_batch_is_answered_by_a_batch() {
    let site = Site::start().await;
    site.study(1, 10, 20.0).await;
    let (at, _stop) = listening(&site, Hl7Settings::default()).await;
    let mut peer = Peer::connect(at).await;
    let two = [
        message("ORM^O01", "1", ORDER),
        message("ORM^O01", "2", "PID|1\r"),
    ]
    .concat();
    let batch = |count: u32| {
        format!("FHS|^~\\&|RIS\rBHS|^~\\&|RIS|HOSP|||||||77\r{two}BTS|{count}\rFTS|1\r")
    };
    // not whole: nothing of it is applied
    let answer = peer.send(&batch(3)).await;
    assert!(
        answer.contains("MSA|AR|1|") && answer.contains("MSA|AR|2|"),
        "{answer}"
    );
    assert!(
        answer.contains("BTS-1: announces 3 messages, 2 came"),
        "{answer}"
    );
    assert_eq!(priority(&site, 1).await, "routine");
    let answer = peer.send(&batch(2)).await;
    assert!(answer.starts_with("BHS|"), "{answer}");
    assert!(
        answer.contains("MSA|AA|1\r") && answer.contains("MSA|AE|2|"),
        "{answer}"
    );
    assert!(answer.ends_with("BTS|2\r"), "{answer}");
    assert_eq!(priority(&site, 1).await, "stat");
}

#[tokio::test]
async fn what_goes_beyond_its_bounds_ends() {
    let site = Site::start().await;
    let settings = Hl7Settings {
        message_bytes_max: 4_096,
        connections_max: 3,
        message_timeout_seconds: 1,
        idle_timeout_seconds: 3,
        ..Hl7Settings::default()
    };
    let (at, stop) = listening(&site, settings).await;
    let mut large = Peer::connect(at).await;
    let text = message("ORM^O01", "1", &format!("NTE|1||{}", "x".repeat(5_000)));
    assert_eq!(msa(&large.send(&text).await), ("AR", "1"));
    assert!(large.is_closed().await);
    let mut foreign = Peer::connect(at).await;
    foreign.write(&b"GET / HTTP/1.1\r\n".repeat(100)).await;
    assert!(foreign.is_closed().await);
    // a message that never ends, and one connection more than an address may have of three
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut slow = Peer::connect(at).await;
    slow.write(b"\x0bMSH|^~\\&|").await;
    let mut idle = Peer::connect(at).await;
    assert_eq!(
        msa(&idle.send(&message("ADT^A03", "2", "PID|1")).await),
        ("AA", "2")
    );
    let mut third = Peer::connect(at).await;
    assert!(third.is_closed().await);
    let started = std::time::Instant::now();
    assert!(slow.is_closed().await);
    assert!(started.elapsed() < Duration::from_secs(3));
    assert!(idle.is_closed().await);
    let mut last = Peer::connect(at).await;
    assert_eq!(
        msa(&last.send(&message("ADT^A03", "3", "PID|1")).await),
        ("AA", "3")
    );
    stop.cancel();
    assert!(last.is_closed().await);
}

#[tokio::test]
async fn who_says_nothing_at_first_ends_sooner_than_who_said_something() {
    let site = Site::start().await;
    let settings = Hl7Settings {
        first_message_timeout_seconds: 1,
        ..Hl7Settings::default()
    };
    let (at, _stop) = listening(&site, settings).await;
    let mut known = Peer::connect(at).await;
    let said = message("ADT^A03", "1", "PID|1");
    assert_eq!(msa(&known.send(&said).await), ("AA", "1"));
    let mut silent = Peer::connect(at).await;
    // line ends are no message
    silent.write(b"\r\n").await;
    let began = std::time::Instant::now();
    assert!(silent.is_closed().await);
    assert!(began.elapsed() < Duration::from_secs(5));
    let more = message("ADT^A03", "2", "PID|1");
    assert_eq!(msa(&known.send(&more).await), ("AA", "2"));
}

// waits for Python in one thread while the listener works in another
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_hl7_sends_and_hl7apy_finds_no_fault_in_the_answers() {
    let site = Site::start().await;
    site.study(1, 10, 20.0).await;
    let (at, _stop) = listening(&site, Hl7Settings::default()).await;
    let port = at.port().to_string();
    let Some(mut python) = Python::start(&["send", "127.0.0.1", &port]) else {
        return;
    };
    let mut number = 0;
    let mut check = |kind: &str, set: serde_json::Value, version: &str, code: &str| {
        number += 1;
        let id = format!("PY{number}");
        let asked = serde_json::json!({"kind": kind, "id": id, "set": set, "version": version});
        let said = python.ask(&asked);
        assert_eq!(
            (&said["code"], &said["control_id"]),
            (&code.into(), &id.into()),
            "{said}"
        );
        assert!(said["invalid"].is_null(), "{said}");
    };
    let set = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let order = set(
        r#"[["PID", 3, "PAT-1"], ["PID", 5, "Müller^Zoë"], ["ORC", 1, "NW"], ["ORC", 3, "ACC-1"],
            ["TQ1", 9, "S"], ["OBR", 3, "ACC-1"], ["OBR", 4, "MRBR^MR & brain^L"]]"#,
    );
    for version in ["2.3.1", "2.5", "2.5.1", "2.6"] {
        let order = if version == "2.3.1" {
            set(r#"[["PID", 3, "PAT-1"], ["ORC", 1, "NW"], ["ORC", 3, "ACC-1"], ["OBR", 5, "S"]]"#)
        } else {
            order.clone()
        };
        check("ORM^O01", order, version, "AA");
    }
    check("OMI^O23", order.clone(), "2.5.1", "AA");
    check("OMG^O19", order, "2.5.1", "AA");
    check(
        "ADT^A08",
        set(r#"[["PID", 3, "PAT-1"], ["PID", 5, "Müller^Zoë"]]"#),
        "2.5",
        "AA",
    );
    check(
        "ORM^O01",
        set(r#"[["PID", 3, "PAT-1"], ["PID", 8, "F"]]"#),
        "2.5.1",
        "AE",
    );
    check(
        "ORM^O01",
        set(r#"[["PID", 3, "P"], ["ORC", 3, "X"], ["OBR", 5, "Q"]]"#),
        "2.5.1",
        "AA",
    );
    check("SIU^S12", set(r#"[["PID", 3, "PAT-1"]]"#), "2.5.1", "AR");
    check("ADT^A40", set(r#"[["PID", 3, "PAT-1"]]"#), "2.3.1", "AE");
    let study = site.store.study_detail(&crate::site::uid(1), 0).await;
    let item = study.unwrap().unwrap().item;
    assert_eq!(item.order_priority, "stat");
    assert_eq!(item.patient_name.as_deref(), Some("Müller, Zoë"));
}
