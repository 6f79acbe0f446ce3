//! Bounds on time, size and number; and ends that are not releases.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use dicom_ul::association::Error;
use dicom_ul::pdu::{
    AbortRQSource, AssociationRJ, AssociationRJResult,
    AssociationRJServiceProviderPresentationReason, AssociationRJServiceUserReason,
    AssociationRJSource, Pdu,
};

use super::client::{Client, EXPLICIT, MR, VERIFICATION, options, store};
use super::data::mr;
use super::server::{Event, Server};

/// A client in the middle of an object, part of which is on disk.
fn halfway(server: &Server) -> Client {
    let mut client = Client::mr(server.address);
    let context = client.context(MR);
    client.command(context, &store(MR, "1.2.3.4", 1));
    client.data_open(context, &mr("1.2.3.4", 2_000_000), 16_000);
    server.wait("a file in the spool", |server| server.spooled() == 1);
    client
}

#[test]
fn what_does_not_arrive_leaves_nothing() {
    let server = Server::with(|settings| settings.idle_timeout_seconds = 1);
    let aborted = halfway(&server);
    aborted.association.abort().unwrap();
    server.wait("an empty spool after an abort", |server| {
        server.spooled() == 0
    });

    let mut lost = halfway(&server);
    lost.association
        .inner_stream()
        .shutdown(Shutdown::Both)
        .unwrap();
    drop(lost);
    server.wait("an empty spool after a lost connection", |server| {
        server.spooled() == 0
    });

    let mut silent = halfway(&server);
    server.wait("an empty spool after silence", |server| {
        server.spooled() == 0
    });
    assert!(silent.is_over());

    let released = halfway(&server);
    released.release();
    server.wait("an empty spool after a release", |server| {
        server.spooled() == 0
    });
    assert_eq!(server.events(), []);
}

#[test]
fn a_slow_object_is_cut_off() {
    let server = Server::with(|settings| settings.object_timeout_seconds = 1);
    let mut client = Client::mr(server.address);
    let context = client.context(MR);
    client.command(context, &store(MR, "1.2.3.4", 1));
    let began = Instant::now();
    loop {
        let drop = super::client::pdv(context, dicom_ul::pdu::PDataValueType::Data, false, &[0]);
        if client
            .association
            .send(&Pdu::PData { data: vec![drop] })
            .is_err()
        {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
        assert!(began.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn nobody_waits_for_a_silent_caller() {
    let server = Server::with(|settings| settings.handshake_timeout_seconds = 1);
    let mut silent = TcpStream::connect(server.address).unwrap();
    silent
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    assert_eq!(silent.read(&mut [0; 10]).unwrap(), 0);
    let mut dripping = TcpStream::connect(server.address).unwrap();
    let began = Instant::now();
    while dripping.write_all(&[1]).is_ok() {
        std::thread::sleep(Duration::from_millis(20));
        assert!(began.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn garbage_and_giants_are_closed() {
    let server = Server::start();
    let check = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.len() <= 10, "{answer:?}");
    };
    check(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    check(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
    check(&[1, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
    check(&[1, 0, 0, 0, 0, 4, 0, 1, 0, 0]);
    check(&[4, 0, 0, 0, 0, 6, 0, 0, 0, 2, 1, 3]);
    // in an association
    for bytes in [
        &[4, 0, 0xFF, 0xFF, 0xFF, 0xF0, 0, 0][..],
        &[4, 0, 0, 0, 0, 4, 0xFF, 0xFF, 0xFF, 0xFF],
    ] {
        let mut client = Client::mr(server.address);
        client.association.inner_stream().write_all(bytes).unwrap();
        assert!(client.is_over());
    }
    assert_eq!(
        Client::mr(server.address)
            .store(MR, "1.2", &mr("1.2", 10))
            .status,
        0
    );
}

#[test]
fn objects_are_no_larger_than_allowed() {
    let server = Server::with(|settings| settings.object_bytes_max = 1 << 20);
    let mut client = Client::mr(server.address);
    let response = client.store(MR, "1.2.3.4", &mr("1.2.3.4", 2 << 20));
    assert_eq!(
        (response.status, &*response.comment),
        (0xA700, "object larger than 1 MiB")
    );
    assert_eq!(server.spooled(), 0);
    assert_eq!(
        client.store(MR, "1.2.3.4", &mr("1.2.3.4", 1 << 19)).status,
        0
    );
}

#[test]
fn below_the_reserve_nothing_is_taken() {
    let server = Server::with(|settings| settings.disk_reserve_bytes = u64::MAX);
    let mut client = Client::mr(server.address);
    for filler in [10, 1 << 20] {
        let response = client.store(MR, "1.2.3.4", &mr("1.2.3.4", filler));
        assert_eq!(
            (response.status, &*response.comment),
            (0xA700, "disk full, try again later")
        );
    }
    assert_eq!(server.events(), []);
    assert_eq!(server.spooled(), 0);
}

#[test]
fn a_full_disk_refuses_until_there_is_space() {
    let small = tempfile::tempdir().unwrap();
    let mount = |arguments: &[&str]| {
        Command::new("mount")
            .args(arguments)
            .arg(small.path())
            .output()
            .is_ok_and(|o| o.status.success())
    };
    if !mount(&["-t", "tmpfs", "-o", "size=2m", "tmpfs"]) {
        eprintln!("skipped: may not mount a small disk");
        return;
    }
    let server = Server::with(|settings| settings.spool_dir = small.path().join("spool"));
    let mut client = Client::mr(server.address);
    let response = client.store(MR, "1.2.3.4", &mr("1.2.3.4", 3 << 20));
    assert_eq!(
        (response.status, &*response.comment),
        (0xA700, "disk full, try again later")
    );
    let ballast = small.path().join("ballast");
    assert!(std::fs::write(&ballast, vec![0; 3 << 20]).is_err());
    let response = client.store(MR, "1.2.3.4", &mr("1.2.3.4", 1000));
    assert_eq!(response.status, 0xA700);
    std::fs::remove_file(&ballast).unwrap();
    assert_eq!(client.store(MR, "1.2.3.4", &mr("1.2.3.4", 1000)).status, 0);
    drop(client);
    drop(server);
    let unmounted = Command::new("umount")
        .arg("-l")
        .arg(small.path())
        .status()
        .unwrap();
    assert!(unmounted.success());
}

/// Whether a further association is rejected as transient, "local limit exceeded".
fn is_told_to_try_again(server: &Server) -> bool {
    let expected = AssociationRJ {
        result: AssociationRJResult::Transient,
        source: AssociationRJSource::ServiceProviderPresentation(
            AssociationRJServiceProviderPresentationReason::LocalLimitExceeded,
        ),
    };
    match options(&[(MR, &[EXPLICIT])]).establish(server.address) {
        Err(Error::Rejected { association_rj, .. }) => association_rj == expected,
        other => panic!("not rejected: {other:?}"),
    }
}

#[test]
fn an_association_is_silent_until_its_first_command() {
    let server = Server::with(|settings| settings.associations_max = 4);
    let mut silent: Vec<Client> = (0..3).map(|_| Client::mr(server.address)).collect();
    assert!(is_told_to_try_again(&server), "three of four are silent");
    assert_eq!(silent[0].echo().status, 0);
    let mut fourth = Client::mr(server.address);
    assert_eq!(fourth.echo().status, 0);
}

#[test]
fn too_many_associations_may_try_again() {
    let server = Server::with(|settings| settings.associations_max = 2);
    let mut first = Client::mr(server.address);
    assert_eq!(first.echo().status, 0);
    let mut second = Client::mr(server.address);
    assert_eq!(second.echo().status, 0);
    assert!(is_told_to_try_again(&server));
    first.release();
    drop(second);
    server.wait("a free place", |server| {
        options(&[(MR, &[EXPLICIT])])
            .establish(server.address)
            .is_ok()
    });
}

#[test]
fn titles_must_be_known() {
    let server = Server::start();
    let check = |called: &str, reason: AssociationRJServiceUserReason| {
        let options = options(&[(MR, &[EXPLICIT])]).called_ae_title(called.to_owned());
        match options.establish(server.address) {
            Err(Error::Rejected { association_rj, .. }) => {
                assert_eq!(
                    association_rj.source,
                    AssociationRJSource::ServiceUser(reason)
                );
            }
            other => panic!("not rejected: {other:?}"),
        }
    };
    check(
        "SOMEONE",
        AssociationRJServiceUserReason::CalledAETitleNotRecognized,
    );
    check(
        "firstread",
        AssociationRJServiceUserReason::CalledAETitleNotRecognized,
    );
}

#[test]
fn stopping_lets_objects_finish() {
    let mut server = Server::start();
    let mut idle = Client::mr(server.address);
    let mut client = Client::mr(server.address);
    let context = client.context(MR);
    let data = mr("1.2.3.4", 2_000_000);
    client.command(context, &store(MR, "1.2.3.4", 1));
    client.data_open(context, &data[..1_500_000], 16_000);
    server.wait("a file in the spool", |server| server.spooled() == 1);
    server.stop.cancel();
    match idle.association.receive() {
        Ok(Pdu::AbortRQ {
            source: AbortRQSource::ServiceProvider(_),
        }) => {}
        other => panic!("not aborted: {other:?}"),
    }
    client.data(context, &data[1_500_000..], 16_000);
    assert_eq!(client.response().status, 0);
    server.finish();
    assert!(client.is_over());
    assert_eq!(server.events().last(), Some(&Event::Ended));
    assert!(TcpStream::connect(server.address).is_err());
}

#[test]
fn stopping_does_not_wait_for_ever() {
    let mut server = Server::with(|settings| settings.stop_timeout_seconds = 1);
    let _client = halfway(&server);
    let began = Instant::now();
    server.finish();
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(server.spooled(), 0);
}

#[test]
fn many_at_once() {
    let server = Server::start();
    std::thread::scope(|scope| {
        for client in 0..64 {
            let address = server.address;
            scope.spawn(move || {
                let mut association =
                    Client::with(address, &[(MR, &[EXPLICIT]), (VERIFICATION, &[EXPLICIT])]);
                for object in 0..5 {
                    let instance = format!("1.2.{client}.{object}");
                    let response = association.store(MR, &instance, &mr(&instance, 130_000));
                    assert_eq!(response.status, 0);
                }
                association.release();
            });
        }
    });
    assert_eq!(server.kept().len(), 320);
    assert_eq!(server.spooled(), 0);
}
