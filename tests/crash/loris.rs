//! Clients that say a little and then nothing do not keep others out: DICOM, HL7 and HTTP.

use std::io::{Read as _, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use dicom_ul::pdu::{AssociationRQ, Pdu, PresentationContextProposed, UserVariableItem, write_pdu};

use crate::common::{Database, TestServer, dcmtk, dicom_files, sample, study_uid};
use crate::slow_tls::connect;

/// Connections of each kind, held open with half a sentence.
const SLOW: usize = 60;

/// Connections that begin to say something and never end it.
fn slow(at: SocketAddr, said: &[u8]) -> Vec<TcpStream> {
    let connect = |_| {
        let mut stream = TcpStream::connect(at).ok()?;
        stream.write_all(said).ok()?;
        Some(stream)
    };
    (0..SLOW).filter_map(connect).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_keep_nobody_out() {
    let settings = [
        ("LISTEN__HL7", "127.0.0.1:0"),
        ("HL7__CONNECTIONS_MAX", "100"),
        ("HL7__MESSAGE_TIMEOUT_SECONDS", "3"),
        ("DICOM__HANDSHAKE_TIMEOUT_SECONDS", "3"),
        ("WEB__HEADER_TIMEOUT_SECONDS", "3"),
    ];
    let settings = settings.map(|(k, v)| (format!("FIRSTREAD_{k}"), v.to_owned()));
    let server = TestServer::start_with(&Database::Sqlite, &settings);
    let hl7 = server.hl7.unwrap();
    let mut held = vec![
        // the head of an A-ASSOCIATE-RQ of 200 bytes, without them (PS3.8 9.3.2)
        slow(server.dicom, &[1, 0, 0, 0, 0, 200, 0, 1]),
        slow(hl7, b"\x0bMSH|^~\\&|SLOW"),
        slow(server.http, b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-Slow: "),
    ];
    assert!(held.iter().all(|streams| streams.len() == SLOW));

    // Others are served meanwhile.
    let began = Instant::now();
    let files = dicom_files(&sample("one"));
    assert!(server.send(&files).0);
    // Rows follow the answer within a moment.
    while server.item(&study_uid(&files[0])).await.is_none() {
        assert!(began.elapsed() < Duration::from_secs(10), "listed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(hl7).unwrap();
        let message = "\x0bMSH|^~\\&|RIS|H|FIRSTREAD|H|20261126||ORM^O01|LORIS1|P|2.5\r\x1c\r";
        stream.write_all(message.as_bytes()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let mut answer = [0; 512];
        let n = std::io::Read::read(&mut stream, &mut answer).unwrap();
        String::from_utf8_lossy(&answer[..n]).into_owned()
    });
    assert!(answer.await.unwrap().contains("MSA|"), "it is answered");
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "{:?}",
        began.elapsed()
    );

    // And each slow one is cut off in time.
    tokio::time::sleep(Duration::from_secs(5)).await;
    for (kind, streams) in ["DICOM", "HL7", "HTTP"].iter().zip(&mut held) {
        let mut open = 0;
        for stream in streams.iter_mut() {
            stream
                .set_read_timeout(Some(Duration::from_millis(20)))
                .unwrap();
            let mut rest = Vec::new();
            let ended = std::io::Read::read_to_end(stream, &mut rest);
            let waits = |e: &std::io::Error| {
                matches!(
                    e.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                )
            };
            open += usize::from(ended.is_err_and(|e| waits(&e)));
        }
        assert_eq!(open, 0, "{kind} connections are still open");
    }
    let echo = dcmtk("echoscu")
        .args([
            "-aec",
            "FIRSTREAD",
            "127.0.0.1",
            &server.dicom.port().to_string(),
        ])
        .status();
    assert!(echo.unwrap().success());
}

/// Connections of one address: every other one has said something, the rest nothing.
fn silent(at: SocketAddr, count: usize, said: &[u8]) -> Vec<TcpStream> {
    let mut all: Vec<TcpStream> = (0..count).map(|_| connect(at)).collect();
    for stream in all.iter_mut().step_by(2) {
        // those beyond the address's share were closed already
        let _ = stream.write_all(said);
    }
    all
}

/// What is answered within a few seconds.
fn answered(at: SocketAddr, said: &[u8]) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    let limit = Some(Duration::from_secs(5));
    stream.set_read_timeout(limit).unwrap();
    stream.write_all(said).unwrap();
    let mut answer = [0; 512];
    let n = stream.read(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[..n]).into_owned()
}

/// Whether somebody of another address is served on each door.
fn others_are_served(server: &TestServer) {
    let page = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert!(answered(server.http, page).starts_with("HTTP/1.1 200"));
    let message = b"\x0bMSH|^~\\&|RIS|H|FIRSTREAD|H|20261126||ORM^O01|LORIS2|P|2.5\r\x1c\r";
    assert!(answered(server.hl7.unwrap(), message).contains("MSA|"));
    let port = server.dicom.port().to_string();
    let echo = dcmtk("echoscu")
        .args(["-to", "5", "-ta", "5", "-aec", "FIRSTREAD", "127.0.0.1"])
        .arg(port)
        .status();
    assert!(echo.unwrap().success(), "C-ECHO");
}

/// A-ASSOCIATE-RQ for Verification.
fn association_request() -> Vec<u8> {
    let request = Pdu::AssociationRQ(AssociationRQ {
        protocol_version: 1,
        calling_ae_title: "SILENT".into(),
        called_ae_title: "FIRSTREAD".into(),
        application_context_name: "1.2.840.10008.3.1.1.1".into(),
        presentation_contexts: vec![PresentationContextProposed {
            id: 1,
            abstract_syntax: "1.2.840.10008.1.1".into(),
            transfer_syntaxes: vec!["1.2.840.10008.1.2".into()],
        }],
        user_variables: vec![
            UserVariableItem::MaxLength(16_384),
            UserVariableItem::ImplementationClassUID("1.2.3".into()),
        ],
    });
    let mut bytes = Vec::new();
    write_pdu(&mut bytes, &request).unwrap();
    bytes
}

#[test]
fn silent_peers_of_one_address_leave_places_to_others() {
    let settings = [
        ("LISTEN__HL7", "127.0.0.1:0"),
        ("DICOM__ASSOCIATIONS_MAX", "8"),
        ("WEB__CONNECTIONS_MAX", "16"),
        ("WEB__LIVE_LISTENERS_MAX", "4"),
        // none ends by itself meanwhile
        ("DICOM__HANDSHAKE_TIMEOUT_SECONDS", "120"),
        ("HL7__FIRST_MESSAGE_TIMEOUT_SECONDS", "120"),
        ("HL7__MESSAGE_TIMEOUT_SECONDS", "120"),
        ("WEB__HEADER_TIMEOUT_SECONDS", "120"),
    ];
    let settings = settings.map(|(k, v)| (format!("FIRSTREAD_{k}"), v.to_owned()));
    let server = TestServer::start_with(&Database::Sqlite, &settings);
    let began = Instant::now();
    // more than there are places, and for DICOM than may stand at the door
    let head = b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-Slow: ";
    let taken = [
        silent(server.http, 40, head),
        silent(server.hl7.unwrap(), 40, b"\x0bMSH|^~\\&|SLOW"),
    ];
    let asking = silent(server.dicom, 400, &[1, 0, 0, 0, 0, 200, 0, 1]);
    others_are_served(&server);

    // Associations without a command: three quarters of eight are agreed to.
    drop(asking);
    // transient, service provider (presentation), local limit exceeded (PS3.8 9.3.4)
    let rejected = [3, 0, 0, 0, 0, 4, 0, 2, 3, 2];
    // those that asked before are gone once the server has seen it; a try takes some seconds
    let dropped = Instant::now();
    let (agreed, counts) = loop {
        let (streams, answers) = ask_for_associations(server.dicom, 12);
        let accepted = answers.iter().filter(|answer| answer[0] == 2).count();
        let busy = answers.iter().filter(|answer| **answer == rejected).count();
        if (accepted, busy) == (6, 6) || dropped.elapsed() > Duration::from_secs(40) {
            break (streams, (accepted, busy));
        }
        drop(streams);
        std::thread::sleep(Duration::from_millis(200));
    };
    assert_eq!(counts, (6, 6));
    others_are_served(&server);
    let lasted = began.elapsed();
    assert!(
        lasted < Duration::from_mins(2),
        "none ended by itself: {lasted:?}"
    );
    drop((taken, agreed));
}

/// Asks for `n` associations, and the beginnings of the answers; zeros where the connection was closed.
fn ask_for_associations(at: SocketAddr, n: usize) -> (Vec<TcpStream>, Vec<[u8; 10]>) {
    let request = association_request();
    let mut streams: Vec<TcpStream> = (0..n).map(|_| connect(at)).collect();
    for stream in &mut streams {
        stream.write_all(&request).unwrap();
    }
    let answer = |stream: &mut TcpStream| {
        let limit = Some(Duration::from_secs(10));
        stream.set_read_timeout(limit).unwrap();
        let mut head = [0; 10];
        stream.read_exact(&mut head).map_or([0; 10], |()| head)
    };
    let answers = streams.iter_mut().map(answer).collect();
    (streams, answers)
}
