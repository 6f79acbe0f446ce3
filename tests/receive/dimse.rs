//! Messages, proper and improper (PS3.7).

use std::fs;

use dicom_ul::pdu::{PDataValueType, Pdu};
use firstread::dicom::receive::{Kept, Refusal};
use sha2::{Digest, Sha256};

use super::client::{CT, Client, EXPLICIT, IMPLICIT, MR, VERIFICATION, command, pdv, store};
use super::data::{mr, put};
use super::server::{Event, Server};

#[test]
fn echo_and_store() {
    let server = Server::start();
    let mut client = Client::with(
        server.address,
        &[(VERIFICATION, &[IMPLICIT]), (MR, &[EXPLICIT])],
    );
    let echo = client.echo();
    assert_eq!((echo.field, echo.message_id, echo.status), (0x8030, 1, 0));
    let data = mr("1.2.3.4", 100_000);
    let response = client.store(MR, "1.2.3.4", &data);
    assert_eq!(
        (response.field, response.message_id, response.status),
        (0x8001, 2, 0)
    );

    let file = fs::read(server.file("1.2.3.4")).unwrap();
    assert!(file.ends_with(&data));
    let object = dicom_object::open_file(server.file("1.2.3.4")).unwrap();
    assert_eq!(object.meta().transfer_syntax(), EXPLICIT);
    assert_eq!(object.meta().media_storage_sop_instance_uid(), "1.2.3.4");
    assert_eq!(
        object.meta().source_application_entity_title(),
        Some("TESTER")
    );
    let header = &server.kept()[0];
    assert_eq!(header.study_uid, "1.2.3");
    assert_eq!(header.patient.name.as_deref(), Some("Test^Person"));
    let Event::Kept(_, digest) = &server.events()[0] else {
        panic!("not kept first");
    };
    let expected = Sha256::digest(&data);
    assert_eq!(digest.len(), 64);
    for (byte, hex) in expected.iter().zip(digest.as_bytes().chunks(2)) {
        assert_eq!(format!("{byte:02x}").as_bytes(), hex);
    }

    client.release();
    server.wait("the end", |server| server.events().contains(&Event::Ended));
    assert_eq!(server.spooled(), 0);
}

#[test]
fn an_echo_stores_nothing_and_ends_nothing() {
    let mut server = Server::start();
    let mut client = Client::with(server.address, &[(VERIFICATION, &[IMPLICIT])]);
    assert_eq!(client.echo().status, 0);
    client.release();
    server.finish();
    assert_eq!(server.events(), []);
}

#[test]
fn large_objects_go_through_the_disk() {
    let server = Server::start();
    let mut client = Client::mr(server.address);
    let data = mr("1.2.3.4", 3_000_001);
    assert_eq!(client.store(MR, "1.2.3.4", &data).status, 0);
    assert!(fs::read(server.file("1.2.3.4")).unwrap().ends_with(&data));
    assert!(server.kept()[0].has_pixel_data);
}

#[test]
fn fragments_of_any_size() {
    let server = Server::start();
    let mut client = Client::mr(server.address);
    let context = client.context(MR);
    let request = store(MR, "1.2.3.4", 9);
    for byte in &request[..request.len() - 1] {
        client.send(vec![pdv(context, PDataValueType::Command, false, &[*byte])]);
    }
    // the last byte of the command and the first of the data set in one PDU
    let data = mr("1.2.3.4", 300);
    client.send(vec![
        pdv(
            context,
            PDataValueType::Command,
            true,
            &request[request.len() - 1..],
        ),
        pdv(context, PDataValueType::Data, false, &data[..1]),
        pdv(context, PDataValueType::Data, false, &[]),
    ]);
    client.data(context, &data[1..], 7);
    let response = client.response();
    assert_eq!((response.status, response.message_id), (0, 9));
    assert!(fs::read(server.file("1.2.3.4")).unwrap().ends_with(&data));
}

#[test]
fn two_messages_in_one_pdu() {
    let server = Server::start();
    let mut client = Client::mr(server.address);
    let context = client.context(MR);
    let mut values = Vec::new();
    for (id, instance) in [(1, "1.2.3.4"), (2, "1.2.3.5")] {
        values.push(pdv(
            context,
            PDataValueType::Command,
            true,
            &store(MR, instance, id),
        ));
        values.push(pdv(context, PDataValueType::Data, true, &mr(instance, 10)));
    }
    client.send(values);
    assert_eq!(
        (client.response().message_id, client.response().message_id),
        (1, 2)
    );
    assert_eq!(server.kept().len(), 2);
}

#[test]
fn other_operations_are_not_recognized() {
    let server = Server::start();
    let mut client = Client::mr(server.address);
    let context = client.context(MR);
    // C-FIND with an identifier, C-MOVE, C-GET, N-EVENT-REPORT, N-ACTION, N-DELETE, nonsense
    for field in [0x0020, 0x0021, 0x0010, 0x0100, 0x0130, 0x0150, 0x7777] {
        let data_set = field != 0x0150;
        client.command(context, &command(field, 3, data_set, &[(0x0002, MR)]));
        if data_set {
            client.data(context, &[0; 5000], 999);
        }
        let response = client.response();
        assert_eq!(
            (response.field, response.status),
            (field | 0x8000, 0x0211),
            "{field:#x}"
        );
    }
    // C-CANCEL has no response
    client.command(context, &command(0x0FFF, 3, false, &[]));
    assert_eq!(client.store(MR, "1.2.3.4", &mr("1.2.3.4", 10)).status, 0);
}

#[test]
fn the_presentation_context_must_fit() {
    let server = Server::start();
    let mut client = Client::with(server.address, &[(MR, &[EXPLICIT]), (CT, &[EXPLICIT])]);
    let (mr_context, ct_context) = (client.context(MR), client.context(CT));
    let data = mr("1.2.3.4", 10);
    for context in [ct_context, 201] {
        client.command(context, &store(MR, "1.2.3.4", 1));
        client.data(context, &data, 1000);
        assert_eq!(client.response().status, 0x0122);
    }
    client.command(mr_context, &store(MR, "1.2.3.4", 1));
    client.send(vec![pdv(ct_context, PDataValueType::Data, true, &data)]);
    assert!(client.is_over());
    assert_eq!(server.events(), []);
}

#[test]
fn data_set_and_command_must_agree() {
    let server = Server::start();
    let mut client = Client::with(server.address, &[(MR, &[EXPLICIT]), (CT, &[EXPLICIT])]);
    let response = client.store(MR, "1.2.3.9", &mr("1.2.3.4", 10));
    assert_eq!(response.status, 0xA900);
    assert_eq!(
        response.comment,
        "SOP Instance UID of data set and command differ"
    );
    assert_eq!(
        client.store(CT, "1.2.3.4", &mr("1.2.3.4", 10)).status,
        0xA900
    );
    assert_eq!(server.set_aside().len(), 2);
    assert_eq!(server.spooled(), 0);
}

#[test]
fn what_is_no_data_set_is_set_aside_with_the_reason() {
    let server = Server::start();
    let mut client = Client::mr(server.address);
    let mut check = |data: &[u8], expected: &str| {
        let response = client.store(MR, "1.2.3.4", data);
        assert_eq!(
            (response.status, response.comment.as_str()),
            (0xC000, expected)
        );
    };
    check(
        b"%PDF-1.4 this is not DICOM",
        "no value representation in (5025,4644) at byte 0",
    );
    check(b"", "the data set is empty");
    check(
        &mr("../../../tmp/x", 10),
        "SOP Instance UID (0008,0018) is not only digits and dots",
    );
    let whole = mr("1.2.3.4", 1000);
    check(
        &whole[..whole.len() - 1],
        "(7FE0,0010) is 1000 bytes long, 999 are left",
    );
    let mut large = mr("1.2.3.4", 1_000_000);
    large.pop();
    check(&large, "(7FE0,0010) is 1000000 bytes long, 999999 are left");
    let reasons = server.set_aside();
    assert_eq!(reasons.len(), 5);
    // and the association is as good as before
    assert_eq!(client.store(MR, "1.2.3.4", &whole).status, 0);
}

#[test]
fn bad_identifiers_in_the_command() {
    let server = Server::start();
    let mut client = Client::mr(server.address);
    let data = mr("1.2.3.4", 10);
    for instance in ["../../etc/passwd", "", "1..2", &"1".repeat(300)] {
        assert_eq!(
            client.store(MR, instance, &data).status,
            0x0117,
            "{instance}"
        );
    }
    let context = client.context(MR);
    client.command(context, &store("", "1.2.3.4", 1));
    client.data(context, &data, 1000);
    assert_eq!(client.response().status, 0x0122);
    client.command(
        context,
        &command(0x0001, 1, false, &[(2, MR), (0x1000, "1.2")]),
    );
    assert_eq!(client.response().status, 0xC000);
    assert_eq!(server.events(), []);
}

#[test]
fn out_of_order_ends_the_association() {
    let server = Server::start();
    let request = store(MR, "1.2.3.4", 1);
    let check = |act: &dyn Fn(&mut Client, u8)| {
        let mut client = Client::mr(server.address);
        let context = client.context(MR);
        act(&mut client, context);
        assert!(client.is_over());
    };
    check(&|client, context| client.data(context, &[0; 10], 10));
    check(&|client, context| {
        client.command(context, &request);
        client.command(context, &request);
    });
    check(&|client, context| client.command(context, b"nonsense"));
    check(&|client, context| client.command(context, &[0; 3]));
    // a response, and a command that cannot be answered
    check(&|client, context| client.command(context, &command(0x8001, 1, false, &[])));
    check(&|client, context| client.command(context, &[]));
    check(&|client, context| {
        for _ in 0..100 {
            let part = pdv(context, PDataValueType::Command, false, &[0; 1000]);
            if client
                .association
                .send(&Pdu::PData { data: vec![part] })
                .is_err()
            {
                break;
            }
        }
    });
    check(&|client, _| client.association.send(&Pdu::ReleaseRP).unwrap());
    assert_eq!(server.events(), []);
    assert_eq!(server.spooled(), 0);
}

#[test]
fn the_sinks_word_is_passed_on() {
    let server = Server::replying(
        |_| {},
        |object| match object.header.sop_instance_uid.as_str() {
            "1.1" => Ok(Kept::Again),
            "1.2" => Ok(Kept::Quarantined("same UID, other bytes".into())),
            "1.3" => Err(Refusal {
                status: 0xA701,
                comment: "no, über-full ".repeat(10),
            }),
            _ => panic!("the sink has a bug"),
        },
    );
    let mut client = Client::mr(server.address);
    let mut store = |instance: &str| client.store(MR, instance, &mr(instance, 10));
    assert_eq!(store("1.1").status, 0);
    let quarantined = store("1.2");
    assert_eq!(quarantined.status, 0xB000);
    assert_eq!(quarantined.comment, "same UID, other bytes");
    let refused = store("1.3");
    assert_eq!(refused.status, 0xA701);
    assert!(refused.comment.starts_with("no, ?ber-full"));
    assert_eq!(server.spooled(), 0);

    // a panic ends this association and no other
    let data = mr("1.4", 10);
    let mut doomed = Client::mr(server.address);
    let context = doomed.context(MR);
    doomed.command(context, &super::client::store(MR, "1.4", 1));
    doomed.data(context, &data, 1000);
    assert!(doomed.is_over());
    assert_eq!(store("1.1").status, 0);
    server.wait("an empty spool", |server| server.spooled() == 0);
    server.wait("the end", |server| server.events().contains(&Event::Ended));
}

#[test]
fn implicit_and_encapsulated_syntaxes() {
    let server = Server::start();
    let jpeg = "1.2.840.10008.1.2.4.70";
    let mut client = Client::with(server.address, &[(MR, &[jpeg])]);
    let mut data = mr("1.2.3.4", 0);
    data.truncate(data.len() - 12);
    data.extend(b"\xE0\x7F\x10\x00OB\0\0\xFF\xFF\xFF\xFF");
    data.extend(b"\xFE\xFF\x00\xE0\0\0\0\0\xFE\xFF\x00\xE0\x04\0\0\0abcd");
    let response = client.store(MR, "1.2.3.4", &data);
    assert_eq!(
        (response.status, &*response.comment),
        (0xC000, "(7FE0,0010) is never closed")
    );
    data.extend(b"\xFE\xFF\xDD\xE0\0\0\0\0");
    assert_eq!(client.store(MR, "1.2.3.4", &data).status, 0);
    assert_eq!(server.kept()[0].transfer_syntax_uid, jpeg);

    let mut client = Client::with(server.address, &[(MR, &[IMPLICIT])]);
    let response = client.store(MR, "1.2.3.5", &mr("1.2.3.5", 10));
    assert_eq!(response.status, 0xC000);
    assert!(
        response
            .comment
            .starts_with("not in the negotiated transfer syntax: looks like")
    );
}

#[test]
fn unknown_classes_and_syntaxes_are_not_accepted() {
    let server = Server::start();
    let jpeg_12_bit = "1.2.840.10008.1.2.4.51";
    let deflated = "1.2.840.10008.1.2.1.99";
    let video = "1.2.840.10008.1.2.4.102";
    let ultrasound = "1.2.840.10008.5.1.4.1.1.6.1";
    for (class, syntax) in [
        (MR, jpeg_12_bit),
        (MR, deflated),
        (MR, video),
        (ultrasound, EXPLICIT),
    ] {
        let refused = super::client::options(&[(class, &[syntax])]).establish(server.address);
        assert!(refused.is_err(), "{class} {syntax}");
    }
}

#[test]
fn text_of_the_object_does_not_reach_paths_or_comments() {
    let server = Server::start();
    let mut client = Client::mr(server.address);
    let mut data = Vec::new();
    put(&mut data, (8, 0x16), "UI", MR.as_bytes());
    put(&mut data, (8, 0x18), "UI", b"1.2.3.4");
    put(&mut data, (0x10, 0x10), "PN", b"Secret^Name");
    put(&mut data, (0x20, 0x0D), "UI", b"Secret^Study");
    let response = client.store(MR, "1.2.3.4", &data);
    assert_eq!(
        response.comment,
        "Study Instance UID (0020,000D) is not only digits and dots"
    );
    assert!(!server.set_aside()[0].contains("Secret"));
}
