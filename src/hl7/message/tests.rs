//! Messages as senders write them, and as nobody should.

use proptest::prelude::*;

use super::ack::{self, AckCode, Own};
use super::batch::{self, Content};
use super::charset::Charset;
use super::*;

const OWN: Own<'_> = Own {
    application: "FIRSTREAD",
    facility: "",
    at: "20261126050000+0000",
    control_id: "A1",
};

fn read(text: &str) -> Message {
    parse(text.as_bytes()).unwrap()
}

#[track_caller]
fn check_fault(bytes: &[u8], place: &str, word: &str) {
    let fault = parse(bytes).unwrap_err();
    assert_eq!(fault.at.to_string(), place, "{fault}");
    assert!(fault.text.contains(word), "{fault} does not say {word}");
}

#[test]
fn values_stand_where_the_standard_counts_them() {
    let message = read(
        "MSH|^~\\&|RIS|HOSP|FR||20261126||ORM^O01|42|P|2.3.1\rPID|||1^^^A&1.2&ISO~2^^^B||Doe^Jane\r",
    );
    let header = message.header();
    assert_eq!(
        (
            header.kind().as_str(),
            header.control_id.as_str(),
            header.version_number()
        ),
        ("ORM^O01", "42", (2, 3))
    );
    let pid = message.first("PID").unwrap();
    assert_eq!(pid.text(3), "1");
    assert_eq!(pid.field(3).0[1].text(4), "B");
    assert_eq!(pid.field(3).first().component(4).sub(2), "1.2");
    assert_eq!(pid.field(5).component(2), "Jane");
    assert_eq!(pid.text(99), "");
    assert_eq!(pid.last_number(), 5);
}

#[test]
fn separators_are_the_senders() {
    let message = read("MSH$%*!@$a$b$$$$$ADT%A08$1$P$2.5\rPID$$$1%x@y%z*2");
    assert_eq!(message.separators.field, '$');
    assert_eq!(message.header().trigger, "A08");
    assert_eq!(
        message.segments[1].field(3).first().component(2).sub(2),
        "y"
    );
    // as little as 2.1 has, and the truncation character of 2.7
    assert_eq!(read("MSH|^~|a").separators.escape, None);
    assert_eq!(read("MSH|^~\\&#|a").header().sending_application, "a");
}

#[test]
fn escapes() {
    let value = |text: &str| {
        let message = read(&format!("MSH|^~\\&|a\rNTE|1||{text}"));
        message.segments[1].text(3).to_owned()
    };
    assert_eq!(value(r"a\F\b\S\c\T\d\R\e\E\f"), r"a|b^c&d~e\f");
    assert_eq!(value(r"\X41C3A4\"), "Aä");
    assert_eq!(value(r"one\.br\two"), "one\ntwo");
    assert_eq!(value(r"\H\loud\N\"), "loud");
    // without meaning here: as written
    assert_eq!(value(r"C:\data"), r"C:\data");
    assert_eq!(value(r"\Zx\ \X4\ \"), r"\Zx\ \X4\ \");
    assert_eq!(value(r"\\"), r"\\");
}

#[test]
fn line_ends_and_stray_segments() {
    for text in [
        "\r\n MSH|^~\\&|a\r\nZZ1|x\r\n\r\nPID|1\r\n",
        "\u{FEFF}MSH|^~\\&|a\nZZ1|x\nPID|1",
        "MSH|^~\\&|a\rZZ1|x\rPID|1\r\r",
    ] {
        let names: Vec<String> = read(text).segments.into_iter().map(|s| s.name).collect();
        assert_eq!(names, ["MSH", "ZZ1", "PID"], "{text:?}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    check_fault(b"", "MSH", "begins");
    check_fault(b"PID|1", "MSH", "begins");
    check_fault(b"MSH", "MSH-1", "separator");
    check_fault(b"MSHA", "MSH-1", "separator");
    check_fault(b"MSH|", "MSH-2", "missing");
    check_fault(b"MSH|^^\\&|", "MSH-2", "different");
    check_fault(
        b"MSH|^~\\&||||||||||||||||KLINGON\r",
        "MSH-18",
        "character set",
    );
    check_fault(b"MSH|^~\\&|a\rPID|1\rno segment", "???", "no segment");
    let many = format!("MSH|^~\\&|a\r{}", "OBX|1\r".repeat(SEGMENTS_MAX));
    check_fault(many.as_bytes(), "MSH", "segments");
    let wide = format!("MSH|^~\\&|a\rOBX|1\rOBX{}", "|x".repeat(FIELDS_MAX + 1));
    check_fault(wide.as_bytes(), "OBX[2]", "fields");
    let deep = format!("MSH|^~\\&|a\rOBX|{}", "x&".repeat(VALUES_MAX));
    check_fault(deep.as_bytes(), "OBX", "values");
}

#[test]
fn character_sets() {
    let name = |declared: &str, bytes: &[u8]| {
        let head = format!("MSH|^~\\&|a|||||||1|P|2.5||||||{declared}\rPID|||||");
        let message = parse(&[head.as_bytes(), bytes, b"\r"].concat()).unwrap();
        message.segments[1].text(5).to_owned()
    };
    assert_eq!(name("8859/1", b"M\xfcller"), "Müller");
    assert_eq!(name("UNICODE UTF-8", "Müller".as_bytes()), "Müller");
    assert_eq!(name("", "Müller".as_bytes()), "Müller");
    assert_eq!(name("", b"M\xfcller"), "Müller");
    assert_eq!(name("ASCII", b"Muller"), "Muller");
    assert_eq!(name("8859/2", b"\xa3uk"), "Łuk");
    assert_eq!(name("~ISO IR87", b"\x1b$B;3ED\x1b(B"), "山田");
    // the second byte of these characters is a separator
    assert_eq!(name("BIG-5", b"\xae\x7c"), "徑");
    assert_eq!(name("GB 18030-2000", b"\x81\x5c"), "乗");
    assert_eq!(name("UNICODE UTF-8", b"\xff"), "\u{FFFD}");
    assert_eq!(Charset::declared(["UNICODE UTF-16"]), None);
}

#[test]
fn a_batch_is_told_from_a_message() {
    assert!(matches!(batch::split(b"MSH|^~\\&|a\r"), Content::Single(_)));
    let text = "FHS|^~\\&|RIS\rBHS|^~\\&|RIS|HOSP|||||||77\rMSH|^~\\&|a\rPID|1\rMSH|^~\\&|b\rBTS|2\rFTS|1\r";
    let Content::Batch(found) = batch::split(text.as_bytes()) else {
        panic!("no batch");
    };
    assert_eq!(found.fault, None);
    assert_eq!(found.control_id, "77");
    assert_eq!(found.messages.len(), 2);
    assert_eq!(parse(found.messages[0]).unwrap().segments.len(), 2);
    let answers = vec![Message::new(vec![Segment::new("MSH").with(10, "1")]); 2];
    let said = batch::answer(&found, &OWN, &answers);
    let Content::Batch(answer) = batch::split(said.as_bytes()) else {
        panic!("no batch");
    };
    assert_eq!((answer.messages.len(), answer.fault), (2, None));
    assert!(said.contains("|A1|77\r"), "{said}");
}

#[test]
fn half_a_batch_is_refused_whole() {
    for (text, place) in [
        ("BHS|^~\\&|RIS\rMSH|^~\\&|a\r", "BTS"),
        ("BHS|^~\\&|RIS\rMSH|^~\\&|a\rBTS|2\r", "BTS-1"),
        ("FHS|^~\\&|RIS\r", "BTS"),
    ] {
        let Content::Batch(found) = batch::split(text.as_bytes()) else {
            panic!("no batch");
        };
        assert_eq!(found.fault.unwrap().at.to_string(), place, "{text}");
    }
}

#[test]
fn acknowledgements_name_segment_and_field() {
    let fault = Fault::new(
        Place {
            sequence: 2,
            component: Some(1),
            ..Place::field("OBR", 4)
        },
        FaultCode::RequiredFieldMissing,
        "is empty",
    );
    let message = read("MSH|^~\\&|RIS|HOSP|FR|X|2026||ORM^O01|42|T|2.5.1");
    let reply = ack::acknowledge(
        &message.header(),
        AckCode::ApplicationError,
        std::slice::from_ref(&fault),
        &OWN,
    );
    assert_eq!(
        reply.to_text(),
        "MSH|^~\\&|FIRSTREAD||RIS|HOSP|20261126050000+0000||ACK^O01^ACK|A1|T|2.5.1||||||UNICODE UTF-8\r\
         MSA|AE|42|OBR[2]-4.1: is empty\r\
         ERR||OBR^2^4^1^1|101^Required field missing^HL70357|E||||OBR[2]-4.1: is empty\r"
    );
    let answer = ack::read(&reply).unwrap();
    assert_eq!(
        (answer.code, answer.control_id.as_str()),
        (AckCode::ApplicationError, "42")
    );
    assert!(answer.text.contains("OBR 2 4"), "{}", answer.text);
    assert_eq!(answer.places, "OBR[2]-4 101");
    let early = read("MSH|^~\\&|RIS|HOSP|FR|X|2026||ORM^O01|42|P|2.3");
    let reply = ack::acknowledge(&early.header(), AckCode::ApplicationError, &[fault], &OWN);
    assert!(
        reply
            .to_text()
            .ends_with("ERR|OBR^2^4^101&Required field missing&HL70357\r"),
        "{}",
        reply.to_text()
    );
    let fault = ack::read(&read("MSH|^~\\&|a\rMSA|XX|1")).unwrap_err();
    assert_eq!(fault.at.to_string(), "MSA-1");
    assert!(ack::read(&read("MSH|^~\\&|a")).is_err());
}

#[test]
fn places_of_an_answer_hold_no_words_of_its_sender() {
    let check = |errors: &str, expected: &str| {
        let text =
            format!("MSH|^~\\&|RIS\rMSA|AR|42|unknown patient MUELLER^ANNA 19560102\r{errors}");
        let answer = ack::read(&read(&text)).unwrap();
        assert_eq!(answer.places, expected, "{errors}");
        assert!(answer.text.contains("MUELLER"), "{}", answer.text);
    };
    check("", "");
    check("ERR||PID^1^5|204^MUELLER\rERR||OBX^3", "PID-5 204; OBX[3]");
    check("ERR||MUELLER^ANNA^19560102|19560102|E||||ANNA", "");
    check("ERR||PID^19560102^ANNA|Anna", "PID");
    check("ERR||EVA^1^5\rERR||LEE|204", "204");
    check(&"ERR||PID^1^3\r".repeat(9), &["PID-3"; 5].join("; "));
}

#[test]
fn enhanced_mode_says_what_it_wants() {
    use AckCode::{ApplicationAccept as Aa, CommitReject as Cr};
    let wanted = |condition| (Aa.is_wanted(condition), Cr.is_wanted(condition));
    assert_eq!(wanted("AL"), (true, true));
    assert_eq!(wanted("NE"), (false, false));
    assert_eq!(wanted("ER"), (false, true));
    assert_eq!(wanted("SU"), (true, false));
    assert!(!read("MSH|^~\\&|a").header().is_enhanced());
    assert!(read("MSH|^~\\&|a||||||||||||AL").header().is_enhanced());
}

fn separators_strategy() -> impl Strategy<Value = Separators> {
    Just("|^~\\&!$%*@+/;".chars().collect::<Vec<char>>())
        .prop_shuffle()
        .prop_map(|c| Separators {
            field: c[0],
            component: c[1],
            repetition: c[2],
            escape: Some(c[3]),
            subcomponent: Some(c[4]),
        })
}

fn field_strategy() -> impl Strategy<Value = Field> {
    let text = prop_oneof![
        Just(String::new()),
        any::<String>(),
        "[|^~\\\\&\r\n\u{1c}XF.]{0,6}"
    ];
    let component = prop::collection::vec(text, 0..3).prop_map(|mut subs| {
        trim(&mut subs);
        Component(subs)
    });
    let repetition = prop::collection::vec(component, 0..4).prop_map(|mut components| {
        trim(&mut components);
        Repetition(components)
    });
    prop::collection::vec(repetition, 0..3).prop_map(|mut repetitions| {
        trim(&mut repetitions);
        Field(repetitions)
    })
}

fn message_strategy() -> impl Strategy<Value = Message> {
    let segment = (
        "Z[A-Z0-9]{2}",
        prop::collection::vec(field_strategy(), 0..5),
    );
    let segments = prop::collection::vec(segment, 0..6);
    (separators_strategy(), segments).prop_map(|(separators, segments)| {
        let mut all = vec![Segment::new("MSH").with(10, "1").with(18, "UNICODE UTF-8")];
        all.extend(segments.into_iter().map(|(name, fields)| {
            fields
                .into_iter()
                .enumerate()
                .fold(Segment::new(&name), |segment, (at, field)| {
                    segment.with(at + 1, field)
                })
        }));
        Message {
            separators,
            segments: all,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_written_is_read(message in message_strategy()) {
        let text = message.to_text();
        prop_assert!(!text.contains(['\u{0b}', '\u{1c}', '\n']), "would break the frame");
        prop_assert_eq!(parse(text.as_bytes()).unwrap(), message);
    }

    #[test]
    fn nothing_from_outside_breaks_it(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0_usize..60) {
        let head = b"MSH|^~\\&|a|b|c|d|2026||ORM^O01|1|P|2.5||||||GB 18030-2000\r";
        let all = [&head[..cut.min(head.len())], &bytes].concat();
        let _ = parse(&all);
        if let Content::Batch(found) = batch::split(&all) {
            for message in found.messages {
                let _ = parse(message);
            }
        }
        if let Ok(message) = parse(&all) {
            let again = parse(message.to_text().as_bytes());
            if message.header() != Header::default() && message.first("MSH").is_some_and(|m| m.text(18).is_empty()) {
                prop_assert_eq!(again.unwrap().segments.len(), message.segments.len());
            }
        }
    }
}
