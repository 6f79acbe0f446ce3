//! Headers taken out of data sets built by hand.

use std::io::Cursor;

use super::super::walk::tests::{BIG_ENDIAN, Builder, EXPLICIT, IMPLICIT};
use super::*;

fn read(syntax: &str, built: Builder) -> Result<ObjectHeader, HeaderError> {
    let length = built.bytes.len() as u64;
    header(Cursor::new(built.bytes), length, syntax)
}

fn identified(built: Builder) -> Builder {
    built
        .text((8, 0x16), "UI", "1.2.840.10008.5.1.4.1.1.4")
        .text((8, 0x18), "UI", "1.2.3.4")
}

fn located(built: Builder) -> Builder {
    built
        .text((0x20, 0xD), "UI", "1.2.3")
        .text((0x20, 0xE), "UI", "1.2.3.1")
}

#[test]
fn a_classic_slice() {
    for syntax in [EXPLICIT, IMPLICIT, BIG_ENDIAN] {
        let built = Builder::new(syntax).text((8, 5), "CS", "ISO_IR 100").text(
            (8, 8),
            "CS",
            "ORIGINAL\\PRIMARY \\M",
        );
        let built = identified(built)
            .text((8, 0x20), "DA", "20260102")
            .text((8, 0x50), "SH", "ACC1")
            .begin((8, 0x51))
            .item()
            .text((0x40, 0x31), "UT", "HOSPITAL")
            .item_end()
            .end()
            .text((8, 0x60), "CS", "MR")
            .text((8, 0x103E), "LO", "t1 mprage")
            .put((0x10, 0x10), "PN", b"M\xfcller^Jos\xe9")
            .text((0x10, 0x20), "LO", "P1 ")
            .text((0x10, 0x40), "CS", "F")
            .text((0x18, 0x80), "DS", "2300")
            .text((0x18, 0x87), "DS", "3 ")
            .text((0x18, 0x1314), "DS", "nonsense");
        let built = located(built)
            .text((0x20, 0x11), "IS", "5")
            .text((0x20, 0x13), "IS", "+12")
            .text((0x20, 0x37), "DS", "1\\0\\0\\0\\1\\0")
            .text((0x20, 0x1002), "IS", "208")
            .us((0x28, 0x10), 256)
            .us((0x28, 0x11), 240)
            .text((0x28, 0x30), "DS", "1.0\\ .5")
            .begin((0x40, 0x275))
            .item()
            .text((0x40, 0x1003), "SH", "STAT")
            .item_end()
            .end()
            .put((0x7FE0, 0x10), "OW", &[0; 8]);
        let header = read(syntax, built).unwrap();
        assert_eq!(header.sop_instance_uid, "1.2.3.4");
        assert_eq!(header.study_uid, "1.2.3");
        assert_eq!(header.transfer_syntax_uid, syntax);
        assert_eq!(header.patient.name.as_deref(), Some("Müller^José"));
        assert_eq!(header.patient.id.as_deref(), Some("P1"));
        assert_eq!(header.patient.sex.as_deref(), Some("F"));
        assert_eq!(header.study.accession_issuer.as_deref(), Some("HOSPITAL"));
        assert_eq!(header.study.requested_priority.as_deref(), Some("STAT"));
        assert_eq!(header.series.image_type, ["ORIGINAL", "PRIMARY", "M"]);
        assert_eq!(header.series.field_strength, Some(3.0));
        assert_eq!(header.series.repetition_time_ms, Some(2300.0));
        assert_eq!(header.series.flip_angle_deg, None);
        assert_eq!(
            header.series.orientation,
            Some([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
        );
        assert_eq!(header.series.pixel_spacing_mm, Some([1.0, 0.5]));
        assert_eq!(header.instance_number, Some(12));
        assert_eq!(header.images_in_acquisition, Some(208));
        assert_eq!(
            (header.rows, header.columns, header.number_of_frames),
            (256, 240, 1)
        );
        assert!(header.has_pixel_data);
    }
}

#[test]
fn an_enhanced_object() {
    for syntax in [EXPLICIT, IMPLICIT, BIG_ENDIAN] {
        let frame = |built: Builder, spacing: &str, echo: f64| {
            built
                .item()
                .begin((0x18, 0x9114))
                .item()
                .fd((0x18, 0x9082), echo)
                .item_end()
                .end()
                .begin((0x28, 0x9110))
                .item()
                .text((0x28, 0x30), "DS", spacing)
                .item_end()
                .end()
                // a private group that quotes another object
                .begin((0x2005, 0x140F))
                .item()
                .text((0x18, 0x50), "DS", "99")
                .item_end()
                .end()
                .item_end()
        };
        let built = located(identified(Builder::new(syntax)))
            .text((0x28, 8), "IS", "2")
            .begin((0x5200, 0x9229))
            .item()
            .begin((0x18, 0x9112))
            .item()
            .text((0x18, 0x80), "DS", "7.5")
            .item_end()
            .end()
            .item_end()
            .end()
            .begin((0x5200, 0x9230));
        let built = frame(frame(built, "1\\1", 3.5), "2\\2", 4.5).end();
        let header = read(syntax, built).unwrap();
        assert_eq!(header.number_of_frames, 2);
        assert_eq!(header.series.repetition_time_ms, Some(7.5));
        assert_eq!(header.series.pixel_spacing_mm, Some([1.0, 1.0]));
        assert_eq!(header.series.echo_time_ms, Some(3.5));
        assert_eq!(header.series.slice_thickness_mm, None);
        assert!(!header.has_pixel_data);
    }
}

#[test]
fn identifiers_must_be_usable() {
    let check = |built: Builder, expected: &str| {
        assert_eq!(read(EXPLICIT, built).unwrap_err().to_string(), expected);
    };
    let new = || Builder::new(EXPLICIT);
    check(
        identified(new()),
        "Study Instance UID (0020,000D) is missing",
    );
    check(
        located(
            new()
                .text((8, 0x16), "UI", "1.2")
                .text((8, 0x18), "UI", "../../etc"),
        ),
        "SOP Instance UID (0008,0018) is not only digits and dots",
    );
    check(
        located(
            new()
                .text((8, 0x16), "UI", "1.2")
                .text((8, 0x18), "UI", &"1".repeat(70)),
        ),
        "SOP Instance UID (0008,0018) is longer than 64 characters",
    );
    check(
        located(
            identified(new())
                .text((0x10, 0x20), "LO", "A")
                .text((0x10, 0x20), "LO", "B"),
        ),
        "(0010,0020) is there twice",
    );
}

#[test]
fn texts_are_bounded_and_plain() {
    let built = identified(Builder::new(EXPLICIT))
        .text((8, 0x103E), "LO", "a\u{7}b\nc")
        .text((0x10, 0x10), "PN", &"é".repeat(5000))
        .text((0x10, 0x20), "LO", " \0 ")
        .text((0x10, 0x40), "CS", "<script>");
    let header = read(EXPLICIT, located(built)).unwrap();
    assert_eq!(header.series.description.as_deref(), Some("a b c"));
    assert!(header.patient.name.unwrap().len() <= TEXT_BYTES_MAX);
    assert_eq!(header.patient.id, None);
    assert_eq!(header.patient.sex, None);
}

#[test]
fn vendors_b_values() {
    let check = |creator: ((u16, u16), &str), value: ((u16, u16), &str, &[u8]), expected| {
        let built = identified(Builder::new(EXPLICIT))
            .text(creator.0, "LO", creator.1)
            .put(value.0, value.1, value.2);
        let header = read(EXPLICIT, located(built)).unwrap();
        assert_eq!(header.series.b_value, expected, "{}", creator.1);
    };
    let siemens = ((0x19, 0x10), "SIEMENS MR HEADER");
    check(siemens, ((0x19, 0x100C), "IS", b"0 "), Some(0.0));
    check(siemens, ((0x19, 0x100C), "UN", b"1000"), Some(1000.0));
    check(
        ((0x19, 0x10), "SOMEONE ELSE"),
        ((0x19, 0x100C), "IS", b"7 "),
        None,
    );
    let ge = ((0x43, 0x10), "GEMS_PARM_01");
    check(
        ge,
        ((0x43, 0x1039), "IS", b"1000000800\\8\\0\\0 "),
        Some(800.0),
    );
    check(ge, ((0x43, 0x1039), "IS", b"0\\0\\0\\0 "), None);
    let philips = ((0x2001, 0x10), "Philips Imaging DD 001");
    check(
        philips,
        ((0x2001, 0x1003), "FL", &500f32.to_le_bytes()),
        Some(500.0),
    );
    check(philips, ((0x2001, 0x1003), "FL", &0f32.to_le_bytes()), None);
}
