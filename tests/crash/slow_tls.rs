//! Who shakes hands a byte at a time, or speaks so behind the handshake, keeps nobody out: DICOM, HL7 and pages by TLS.

use std::io::{Read as _, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto};

use crate::common::{Database, TestServer, dcmtk, dicom_files, sample, tag};
use crate::papers::Papers;

/// Connections of each kind to each door.
const SLOW: usize = 25;
/// Between two bytes of one of them.
const BETWEEN: Duration = Duration::from_millis(200);
/// What each door gives a peer, in seconds.
const LIMIT_SECONDS: u64 = 3;
/// The latest that the last of them is cut off.
const ALL_OVER: Duration = Duration::from_secs(15);

fn trusting(papers: &Papers) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for found in CertificateDer::pem_file_iter(papers.path("ca.pem")).unwrap() {
        roots.add(found.unwrap()).unwrap();
    }
    let provider = Arc::new(crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

/// From an address of their own, 127.0.0.2, as others come from theirs.
pub fn connect(to: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let from: SocketAddr = "127.0.0.2:0".parse().unwrap();
    socket.bind(&from.into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true).unwrap();
    stream
}

fn shaken(
    stream: TcpStream,
    config: &Arc<ClientConfig>,
) -> Option<StreamOwned<ClientConnection, TcpStream>> {
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(config.clone(), name).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let mut stream = StreamOwned::new(session, stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).ok()?;
    }
    Some(stream)
}

/// The beginning of a handshake as it goes over the wire.
fn hello(config: &Arc<ClientConfig>) -> Vec<u8> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut session = ClientConnection::new(config.clone(), name).unwrap();
    let mut bytes = Vec::new();
    session.write_tls(&mut bytes).unwrap();
    bytes
}

/// A peer that says a byte now and then.
struct Slow {
    what: String,
    to: Box<dyn Write + Send>,
    says: Vec<u8>,
    said: usize,
    over: Option<Duration>,
}

impl Slow {
    fn new(what: String, to: impl Write + Send + 'static, says: &[u8]) -> Self {
        Self {
            what,
            to: Box::new(to),
            says: says.to_vec(),
            said: 0,
            over: None,
        }
    }

    fn say(&mut self, since: Instant) {
        if self.over.is_some() {
            return;
        }
        let byte = self.says.get(self.said).copied().unwrap_or(b'x');
        self.said += 1;
        let told = self.to.write_all(&[byte]).and_then(|()| self.to.flush());
        if told.is_err() {
            self.over = Some(since.elapsed());
        }
    }
}

fn slow_peers(doors: &[(&str, SocketAddr, Vec<u8>)], config: &Arc<ClientConfig>) -> Vec<Slow> {
    let hello = hello(config);
    let mut all = Vec::new();
    for (door, at, says) in doors {
        for n in 0..SLOW {
            let what = format!("{door}, in the handshake, {n}");
            all.push(Slow::new(what, connect(*at), &hello));
            if let Some(stream) = shaken(connect(*at), config) {
                let what = format!("{door}, behind it, {n}");
                all.push(Slow::new(what, stream, says));
            }
        }
    }
    all
}

fn settings(papers: &Papers) -> Vec<(String, String)> {
    let limit = LIMIT_SECONDS.to_string();
    let mut all: Vec<(String, String)> = [
        ("LISTEN__HL7", "127.0.0.1:0"),
        ("LISTEN__DICOM_TLS", "127.0.0.1:0"),
        ("HL7__CONNECTIONS_MAX", "100"),
        ("HL7__MESSAGE_TIMEOUT_SECONDS", &limit),
        ("DICOM__HANDSHAKE_TIMEOUT_SECONDS", &limit),
        ("WEB__HEADER_TIMEOUT_SECONDS", &limit),
    ]
    .map(|(k, v)| (format!("FIRSTREAD_{k}"), v.to_owned()))
    .into();
    for part in ["WEB", "DICOM", "HL7"] {
        for (name, file) in [("CERTIFICATE", "ca-server.pem"), ("KEY", "ca-server.key")] {
            let key = format!("FIRSTREAD_{part}__TLS_{name}_FILE");
            all.push((key, papers.text(file)));
        }
    }
    all
}

/// Asks for a page, sends objects and says a message, as others do.
fn others(server: &TestServer, papers: &Papers, config: &Arc<ClientConfig>, files: &[PathBuf]) {
    let page = Command::new("curl")
        .args(["-sS", "--cacert", &papers.text("ca.pem"), "--max-time", "5"])
        .arg(format!("https://{}/healthz", server.http))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&page.stderr);
    assert!(page.status.success(), "{said}");
    let sent = dcmtk("storescu")
        .args(["-aec", "FIRSTREAD", "-xv", "+tls"])
        .args([papers.path("ca-client.key"), papers.path("ca-client.pem")])
        .arg("+cf")
        .arg(papers.path("ca.pem"))
        .args(["127.0.0.1", &server.dicom_tls.unwrap().port().to_string()])
        .args(files)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&sent.stderr);
    assert!(sent.status.success(), "{said}");
    let ris = TcpStream::connect(server.hl7.unwrap()).unwrap();
    let mut ris = shaken(ris, config).unwrap();
    let message = "\x0bMSH|^~\\&|RIS|H|FIRSTREAD|H|20261126||ORM^O01|LORIS1|P|2.5\r\x1c\r";
    ris.write_all(message.as_bytes()).unwrap();
    let mut answer = [0; 512];
    let n = ris.read(&mut answer).unwrap();
    assert!(String::from_utf8_lossy(&answer[..n]).contains("MSA|"));
}

/// Images of a study, as a program asks for them.
fn images(server: &TestServer, papers: &Papers, study_uid: &str) -> serde_json::Value {
    let study = format!("https://{}/api/v1/studies/{study_uid}", server.http);
    let found = Command::new("curl")
        .args(["-sS", "--cacert", &papers.text("ca.pem"), "-H"])
        .arg(format!("Authorization: Bearer {}", server.token))
        .arg(study)
        .output()
        .unwrap();
    let found: serde_json::Value = serde_json::from_slice(&found.stdout).unwrap();
    found["images"].clone()
}

#[test]
fn peers_that_say_a_byte_at_a_time_by_tls_keep_nobody_out() {
    let papers = Papers::rsa();
    let server = TestServer::start_with(&Database::Sqlite, &settings(&papers));
    assert!(server.https);
    let config = trusting(&papers);
    let (dicom, hl7) = (server.dicom_tls.unwrap(), server.hl7.unwrap());
    let doors = [
        // the head of an A-ASSOCIATE-RQ of 4096 bytes (PS3.8 9.3.2), and what may come of it
        (
            "DICOM",
            dicom,
            [&[1, 0, 0, 0, 0x10, 0, 0, 1][..], &[0; 90]].concat(),
        ),
        (
            "HL7",
            hl7,
            b"\x0bMSH|^~\\&|SLOW|AND|SLOWER|AND|20261126||ORM^O01|1|P|2.5".to_vec(),
        ),
        (
            "pages",
            server.http,
            b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: and so on".to_vec(),
        ),
    ];
    let mut slow = slow_peers(&doors, &config);
    assert!(slow.len() > 5 * SLOW, "{} of them", slow.len());
    let began = Instant::now();
    let talking = std::thread::spawn(move || {
        while began.elapsed() < ALL_OVER && slow.iter().any(|s| s.over.is_none()) {
            for one in &mut slow {
                one.say(began);
            }
            std::thread::sleep(BETWEEN);
        }
        slow
    });

    // Others are served meanwhile, on each door.
    let files = &dicom_files(&sample("one"))[..3];
    others(&server, &papers, &config, files);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}");

    // And each slow one is cut off in time, however steadily it goes on.
    let slow = talking.join().unwrap();
    let open: Vec<&str> = slow
        .iter()
        .filter(|s| s.over.is_none())
        .map(|s| s.what.as_str())
        .collect();
    let last = slow.iter().filter_map(|s| s.over).max().unwrap();
    eprintln!(
        "others were served in {took:?}; {} slow ones, the last cut off after {last:?}",
        slow.len()
    );
    assert!(open.is_empty(), "still open: {open:?}");
    let echo = dcmtk("echoscu")
        .args([
            "-aec",
            "FIRSTREAD",
            "127.0.0.1",
            &server.dicom.port().to_string(),
        ])
        .status();
    assert!(echo.unwrap().success());
    // what came meanwhile is there
    let uid = tag(&files[0], "0020,000d");
    assert_eq!(images(&server, &papers, &uid), 3);
}

#[test]
fn silent_peers_of_one_address_keep_nobody_out_by_tls() {
    let papers = Papers::rsa();
    let mut settings = settings(&papers);
    // none ends by itself meanwhile
    for (key, value) in [
        ("HL7__CONNECTIONS_MAX", "8"),
        ("WEB__CONNECTIONS_MAX", "16"),
        ("WEB__LIVE_LISTENERS_MAX", "4"),
        ("WEB__HEADER_TIMEOUT_SECONDS", "60"),
        ("DICOM__HANDSHAKE_TIMEOUT_SECONDS", "60"),
    ] {
        let key = format!("FIRSTREAD_{key}");
        settings.retain(|(known, _)| *known != key);
        settings.push((key, value.to_owned()));
    }
    let server = TestServer::start_with(&Database::Sqlite, &settings);
    let config = trusting(&papers);
    let (dicom, hl7) = (server.dicom_tls.unwrap(), server.hl7.unwrap());
    // more than there are places for pages, for handshakes of HL7, and at the door of DICOM
    let doors = [(server.http, 40), (hl7, 80), (dicom, 400)];
    let shaking: Vec<TcpStream> = doors
        .iter()
        .flat_map(|(at, count)| (0..*count).map(move |_| connect(*at)))
        .collect();
    let files = &dicom_files(&sample("one"))[..1];
    let began = Instant::now();
    others(&server, &papers, &config, files);
    drop(shaking);
    // and behind the handshake: those beyond the share are closed
    let trusted = &config;
    let silent = |at| (0..12).filter_map(move |_| shaken(connect(at), trusted));
    let held: Vec<_> = silent(hl7).chain(silent(server.http)).collect();
    others(&server, &papers, &config, files);
    assert!(began.elapsed() < Duration::from_secs(15));
    drop(held);
}
