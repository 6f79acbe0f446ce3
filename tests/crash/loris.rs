//! Clients that say a little and then nothing do not keep others out: DICOM, HL7 and HTTP.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::common::{Database, TestServer, dcmtk, dicom_files, sample, study_uid};

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
