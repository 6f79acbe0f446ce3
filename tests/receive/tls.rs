//! DICOM by TLS (PS3.15 B.9, B.10): stock dcmtk and pynetdicom, client certificates, renewed files, silent peers.

use std::io::Read as _;
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use firstread::dicom::receive::ReceiveSettings;

use super::papers::Papers;
use super::server::Server;

/// pynetdicom echoes by TLS: `python PORT CA [CERT KEY]`.
const ECHO: &str = r#"
import ssl, sys
from pynetdicom import AE
port, files = int(sys.argv[1]), sys.argv[2:]
context = ssl.create_default_context(cafile=files[0])
context.check_hostname = False
if files[1:]:
    context.load_cert_chain(files[1], files[2])
ae = AE(ae_title="PY")
ae.add_requested_context("1.2.840.10008.1.1")
assoc = ae.associate("127.0.0.1", port, ae_title="FIRSTREAD", tls_args=(context, None))
print(assoc.send_c_echo().Status if assoc.is_established else "none")
if assoc.is_established:
    assoc.release()
"#;

fn server(papers: &Papers, clients: &str, change: impl FnOnce(&mut ReceiveSettings)) -> Server {
    Server::with(|settings| {
        settings.tls_certificate_file = papers.path("ca-server.pem");
        settings.tls_key_file = papers.path("ca-server.key");
        if !clients.is_empty() {
            settings.tls_client_ca_file = papers.path(clients);
        }
        change(settings);
    })
}

/// dcmtk sends an object by TLS, as `who` of the authority that it trusts.
fn storescu(papers: &Papers, server: &Server, who: &str, trusts: &str) -> Option<bool> {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/samples/one");
    let file = super::data::files(std::path::Path::new(sample)).remove(0);
    let sent = Command::new("/usr/bin/storescu")
        .args(["-aec", "FIRSTREAD", "-xv", "+tls"])
        .args([
            papers.path(&format!("{who}.key")),
            papers.path(&format!("{who}.pem")),
        ])
        .arg("+cf")
        .arg(papers.path(trusts))
        .args(["127.0.0.1", &server.tls.unwrap().port().to_string()])
        .arg(file)
        .output();
    match sent {
        Ok(sent) => {
            eprintln!("{}", String::from_utf8_lossy(&sent.stderr));
            Some(sent.status.success())
        }
        Err(error) => {
            eprintln!("skipped: storescu: {error}");
            None
        }
    }
}

#[test]
fn stock_clients_send_by_tls_and_strangers_do_not() {
    let papers = Papers::rsa();
    for (clients, stranger_may) in [("", true), ("ca.pem", false)] {
        let server = server(&papers, clients, |_| {});
        let Some(known) = storescu(&papers, &server, "ca-client", "ca.pem") else {
            return;
        };
        assert!(known);
        assert_eq!(server.kept().len(), 1);
        let stranger = storescu(&papers, &server, "other-client", "ca.pem");
        assert_eq!(
            stranger,
            Some(stranger_may),
            "a certificate nobody here signed"
        );
        let elsewhere = storescu(&papers, &server, "ca-client", "other.pem");
        assert_eq!(elsewhere, Some(false), "the sender does not trust us");
        let Ok(python) = std::env::var("FIRSTREAD_TEST_PYTHON") else {
            continue;
        };
        let echo = |files: &[&str]| {
            let mut peer = Command::new(&python);
            peer.args(["-c", ECHO, &server.tls.unwrap().port().to_string()]);
            let said = peer
                .args(files.iter().map(|f| papers.path(f)))
                .output()
                .unwrap();
            String::from_utf8_lossy(&said.stdout).trim().to_owned()
        };
        assert_eq!(echo(&["ca.pem", "ca-client.pem", "ca-client.key"]), "0");
        let unnamed = if stranger_may { "0" } else { "none" };
        assert_eq!(echo(&["ca.pem"]), unnamed);
        // without TLS the same server still answers on its other door
        assert!(TcpStream::connect(server.address).is_ok());
    }
}

#[test]
fn a_renewed_certificate_is_shown_and_a_broken_one_is_not() {
    let papers = Papers::new();
    let server = server(&papers, "", |_| {});
    let port = server.tls.unwrap().port();
    let subject = || Papers::shown_by(port, &["-CAfile", &papers.text("ca.pem")]);
    assert!(subject().contains("CN = server"));
    // half a file: the old one stays
    std::fs::write(
        papers.path("ca-server.pem"),
        "-----BEGIN CERTIFICATE-----\n",
    )
    .unwrap();
    std::thread::sleep(Duration::from_millis(1100));
    assert!(subject().contains("CN = server"));
    papers.renew("ca-renewed", "ca-server");
    let began = Instant::now();
    while !subject().contains("CN = renewed") {
        assert!(began.elapsed() < Duration::from_secs(10), "never renewed");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Whether the server ended this connection, within a limit.
fn ended(mut stream: &TcpStream, limit: Duration) -> bool {
    stream.set_read_timeout(Some(limit)).unwrap();
    let mut buffer = [0; 64];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(e) => return e.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

#[test]
fn who_says_nothing_ends_in_time_and_takes_no_place_from_others() {
    let papers = Papers::rsa();
    let server = server(&papers, "", |settings| {
        settings.associations_max = 8;
        settings.handshake_timeout_seconds = 2;
    });
    let tls = server.tls.unwrap();
    // more than there are places, one byte of a TLS record each, from an address of their own
    let silent: Vec<TcpStream> = (0..40)
        .map(|_| {
            use std::io::Write as _;
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
            let socket = socket.unwrap();
            let from: std::net::SocketAddr = "127.0.0.2:0".parse().unwrap();
            socket.bind(&from.into()).unwrap();
            socket.connect(&tls.into()).unwrap();
            let mut stream = TcpStream::from(socket);
            stream.write_all(&[0x16]).unwrap();
            stream
        })
        .collect();
    let began = Instant::now();
    let Some(sent) = storescu(&papers, &server, "ca-client", "ca.pem") else {
        return;
    };
    assert!(sent, "another address is served meanwhile");
    assert!(began.elapsed() < Duration::from_millis(1900), "and at once");
    // six of eight places are for this address at one time: all are gone within a few limits
    for stream in &silent {
        assert!(
            ended(stream, Duration::from_secs(10)),
            "a silent peer stays"
        );
    }
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn settings_that_do_not_fit_are_named() {
    let papers = Papers::new();
    let check = |certificate: &str, key: &str, clients: &str, word: &str| {
        let path = |name: &str| match name {
            "" => std::path::PathBuf::new(),
            name => papers.path(name),
        };
        let settings = ReceiveSettings {
            tls_certificate_file: path(certificate),
            tls_key_file: path(key),
            tls_client_ca_file: path(clients),
            ..ReceiveSettings::default()
        };
        match settings.tls() {
            Ok(found) => assert_eq!((found.is_some(), word), (!certificate.is_empty(), "")),
            Err(error) => assert!(!word.is_empty() && error.contains(word), "{error}"),
        }
    };
    check("", "", "", "");
    check("ca-server.pem", "ca-server.key", "ca.pem", "");
    check("ca-server.pem", "", "", "dicom.tls_key_file");
    check(
        "ca-server.pem",
        "ca-client.key",
        "",
        "dicom.tls_certificate_file",
    );
    check("", "", "ca.pem", "dicom.tls_certificate_file");
    check(
        "ca-server.pem",
        "ca-server.key",
        "ca.key",
        "dicom.tls_client_ca_file",
    );
}
