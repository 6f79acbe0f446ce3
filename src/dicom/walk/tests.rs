//! Data sets made by hand, sound and unsound.

use std::io::Cursor;

use proptest::prelude::*;

use super::*;

pub const EXPLICIT: &str = "1.2.840.10008.1.2.1";
pub const IMPLICIT: &str = "1.2.840.10008.1.2";
pub const BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";

/// Writes a data set byte by byte, right or wrong.
pub struct Builder {
    encoding: Encoding,
    pub bytes: Vec<u8>,
}

impl Builder {
    pub fn new(syntax: &str) -> Self {
        Self {
            encoding: Encoding::of(syntax),
            bytes: Vec::new(),
        }
    }

    fn u16(&mut self, n: u16) {
        let bytes = if self.encoding.big_endian {
            n.to_be_bytes()
        } else {
            n.to_le_bytes()
        };
        self.bytes.extend(bytes);
    }

    fn u32(&mut self, n: u32) {
        let bytes = if self.encoding.big_endian {
            n.to_be_bytes()
        } else {
            n.to_le_bytes()
        };
        self.bytes.extend(bytes);
    }

    pub fn head(mut self, (group, element): (u16, u16), vr: &str, length: u32) -> Self {
        self.u16(group);
        self.u16(element);
        if self.encoding.explicit && group != 0xFFFE {
            self.bytes.extend(vr.as_bytes());
            if has_short_length([vr.as_bytes()[0], vr.as_bytes()[1]]) {
                self.u16(u16::try_from(length).unwrap());
                return self;
            }
            self.bytes.extend([0, 0]);
        }
        self.u32(length);
        self
    }

    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend(bytes);
        self
    }

    pub fn put(self, tag: (u16, u16), vr: &str, value: &[u8]) -> Self {
        let padded = value.len() + value.len() % 2;
        let built = self
            .head(tag, vr, u32::try_from(padded).unwrap())
            .raw(value);
        if value.len() % 2 == 1 {
            built.raw(b" ")
        } else {
            built
        }
    }

    pub fn text(self, tag: (u16, u16), vr: &str, value: &str) -> Self {
        self.put(tag, vr, value.as_bytes())
    }

    pub fn us(mut self, tag: (u16, u16), value: u16) -> Self {
        self = self.head(tag, "US", 2);
        self.u16(value);
        self
    }

    pub fn fd(self, tag: (u16, u16), value: f64) -> Self {
        let bytes = if self.encoding.big_endian {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        };
        self.put(tag, "FD", &bytes)
    }

    pub fn begin(self, tag: (u16, u16)) -> Self {
        self.head(tag, "SQ", UNDEFINED)
    }

    pub fn item(self) -> Self {
        self.head((0xFFFE, 0xE000), "", UNDEFINED)
    }

    pub fn item_end(self) -> Self {
        self.head((0xFFFE, 0xE00D), "", 0)
    }

    pub fn end(self) -> Self {
        self.head((0xFFFE, 0xE0DD), "", 0)
    }
}

/// Counts what it is shown.
#[derive(Default)]
struct Count {
    values: usize,
    deepest: usize,
    pixel_data: bool,
}

impl Visitor for Count {
    fn wants(&self, _path: &[Tag], _tag: Tag) -> bool {
        true
    }

    fn value(&mut self, path: &[Tag], _tag: Tag, value: Value<'_>) {
        assert!(value.bytes.len() <= VALUE_BYTES_MAX);
        self.values += 1;
        self.deepest = self.deepest.max(path.len());
    }

    fn pixel_data(&mut self) {
        self.pixel_data = true;
    }
}

fn count(syntax: &str, bytes: &[u8]) -> Result<Count, WalkError> {
    let mut count = Count::default();
    let length = bytes.len() as u64;
    walk(Cursor::new(bytes), length, Encoding::of(syntax), &mut count)?;
    Ok(count)
}

#[track_caller]
fn check_bad(syntax: &str, built: Builder, expected: &str) {
    let Builder { bytes, .. } = built;
    match count(syntax, &bytes) {
        Ok(_) => panic!("should be refused: {expected}"),
        Err(error) => assert_eq!(error.to_string(), expected),
    }
}

fn explicit() -> Builder {
    Builder::new(EXPLICIT).text((8, 0x16), "UI", "1.2.3")
}

#[test]
fn every_encoding_is_walked() {
    for syntax in [EXPLICIT, IMPLICIT, BIG_ENDIAN] {
        let built = Builder::new(syntax)
            .text((8, 0x60), "CS", "MR")
            .begin((8, 0x1140))
            .item()
            .text((8, 0x1155), "UI", "1.2")
            .item_end()
            .item()
            .item_end()
            .end()
            .text((0x10, 0x10), "PN", "A^B")
            .us((0x28, 0x10), 4)
            .put((0x7FE0, 0x10), "OW", &[0; 32]);
        let count = count(syntax, &built.bytes).unwrap();
        assert_eq!(
            (count.values, count.deepest, count.pixel_data),
            (4, 1, true),
            "{syntax}"
        );
    }
}

#[test]
fn defined_lengths_nest() {
    let inner = Builder::new(EXPLICIT).text((8, 0x1155), "UI", "1.2").bytes;
    let length = u32::try_from(inner.len()).unwrap();
    let built = explicit()
        .head((8, 0x1140), "SQ", length + 8)
        .head((0xFFFE, 0xE000), "", length)
        .raw(&inner)
        .text((0x10, 0x10), "PN", "A");
    assert_eq!(count(EXPLICIT, &built.bytes).unwrap().values, 3);
}

#[test]
fn superfluous_delimiters_are_harmless() {
    let built = explicit()
        .head((8, 0x1140), "SQ", 24)
        .head((0xFFFE, 0xE000), "", 8)
        .item_end()
        .end()
        .text((0x10, 0x10), "PN", "A");
    assert_eq!(count(EXPLICIT, &built.bytes).unwrap().values, 2);
}

#[test]
fn implicit_sequences_are_known_by_tag() {
    // defined length, so only the dictionary says that there are items inside
    let built = Builder::new(IMPLICIT)
        .text((8, 0x16), "UI", "1.2")
        .head((8, 0x1140), "SQ", 8)
        .head((0xFFFE, 0xE000), "", 100);
    check_bad(IMPLICIT, built, "(FFFE,E000) is 100 bytes long, 0 are left");
}

#[test]
fn unknown_with_undefined_length_is_implicit() {
    let built = explicit().head((9, 0x1001), "UN", UNDEFINED);
    let inside = Builder::new(IMPLICIT)
        .item()
        .text((9, 0x1002), "LO", "x")
        .item_end()
        .end();
    let built = built.raw(&inside.bytes).text((0x10, 0x10), "PN", "A");
    assert_eq!(count(EXPLICIT, &built.bytes).unwrap().values, 3);
}

#[test]
fn fragments_are_walked() {
    let pixels = || explicit().head((0x7FE0, 0x10), "OB", UNDEFINED);
    let good = pixels()
        .head((0xFFFE, 0xE000), "", 0)
        .head((0xFFFE, 0xE000), "", 4)
        .raw(&[1; 4])
        .end();
    assert!(count(EXPLICIT, &good.bytes).unwrap().pixel_data);
    let item = || pixels().head((0xFFFE, 0xE000), "", 4).raw(&[1; 4]);
    check_bad(EXPLICIT, item(), "(7FE0,0010) is never closed");
    check_bad(
        EXPLICIT,
        pixels().head((0xFFFE, 0xE000), "", 0x8000_0000).end(),
        "(FFFE,E000) is 2147483648 bytes long, 8 are left",
    );
    check_bad(
        EXPLICIT,
        pixels().item().end(),
        "(FFFE,E000) has an undefined length",
    );
    check_bad(
        EXPLICIT,
        item().text((0x10, 0x10), "PN", "A"),
        "(0010,0010) at byte 38 stands where an item must be",
    );
}

#[test]
fn lengths_are_held_against_what_is_left() {
    check_bad(
        EXPLICIT,
        explicit().head((0x10, 0x10), "PN", 60000).raw(b"short"),
        "(0010,0010) is 60000 bytes long, 5 are left",
    );
    check_bad(
        EXPLICIT,
        explicit().head((0x7FE0, 0x10), "OW", 1 << 30).raw(&[0; 16]),
        "(7FE0,0010) is 1073741824 bytes long, 16 are left",
    );
    // the item reaches out of its sequence
    check_bad(
        EXPLICIT,
        explicit()
            .head((8, 0x1140), "SQ", 8)
            .head((0xFFFE, 0xE000), "", 4)
            .raw(&[0; 4]),
        "(FFFE,E000) is 4 bytes long, 0 are left",
    );
    check_bad(
        EXPLICIT,
        explicit().head((0x10, 0x4000), "UT", UNDEFINED),
        "(0010,4000) has an undefined length",
    );
    check_bad(
        EXPLICIT,
        explicit().raw(&[1, 2, 3]),
        "cut short in an element header at byte 15",
    );
    check_bad(
        EXPLICIT,
        explicit()
            .head((8, 0x1140), "SQ", 4)
            .raw(&[0xFE, 0xFF, 0, 0xE0]),
        "cut short in an element header at byte 26",
    );
}

#[test]
fn structure_is_checked() {
    check_bad(EXPLICIT, Builder::new(EXPLICIT), "the data set is empty");
    check_bad(
        EXPLICIT,
        explicit().begin((8, 0x1140)).item(),
        "(0008,1140) is never closed",
    );
    check_bad(
        EXPLICIT,
        explicit().item_end(),
        "delimiter (FFFE,E00D) at byte 14 ends nothing",
    );
    check_bad(
        EXPLICIT,
        explicit().begin((8, 0x1140)).text((0x10, 0x10), "PN", "A"),
        "(0010,0010) at byte 26 stands where an item must be",
    );
    check_bad(
        EXPLICIT,
        explicit().text((2, 0x10), "UI", "1.2"),
        "(0002,0010) has no place in a data set",
    );
    check_bad(
        EXPLICIT,
        explicit().raw(b"\x10\x00\x10\x00\x01\x02\x03\x04"),
        "no value representation in (0010,0010) at byte 14",
    );
}

#[test]
fn trailing_zeros_are_padding() {
    assert!(count(EXPLICIT, &explicit().raw(&[0; 6]).bytes).is_ok());
}

#[test]
fn the_wrong_syntax_is_named() {
    let check = |sent: &str, read: &str, expected: &str| {
        let built = Builder::new(sent)
            .text((8, 5), "CS", "ISO_IR 100")
            .text((8, 0x60), "CS", "MR");
        check_bad(
            read,
            built,
            &format!("not in the negotiated transfer syntax: looks like {expected}"),
        );
    };
    check(IMPLICIT, EXPLICIT, "implicit VR little endian");
    check(IMPLICIT, BIG_ENDIAN, "implicit VR little endian");
    check(EXPLICIT, IMPLICIT, "explicit VR little endian");
    check(EXPLICIT, BIG_ENDIAN, "explicit VR little endian");
    check(BIG_ENDIAN, EXPLICIT, "explicit VR big endian");
    check(BIG_ENDIAN, IMPLICIT, "explicit VR big endian");
    let file = Builder::new(EXPLICIT)
        .raw(&[0; 128])
        .raw(b"DICM")
        .raw(&explicit().bytes);
    let expected = "a whole file with preamble was sent in place of a data set";
    check_bad(EXPLICIT, file, expected);
}

#[test]
fn nesting_ends_at_the_limit() {
    let nested = |levels: usize| {
        let mut built = explicit();
        for _ in 0..levels {
            built = built.begin((8, 0x1140)).item();
        }
        for _ in 0..levels {
            built = built.item_end().end();
        }
        built
    };
    assert!(count(EXPLICIT, &nested(NESTING_MAX).bytes).is_ok());
    check_bad(
        EXPLICIT,
        nested(NESTING_MAX + 1),
        "sequences nested deeper than 64",
    );
    check_bad(EXPLICIT, nested(200_000), "sequences nested deeper than 64");
}

#[test]
fn a_file_on_disk_reads_the_same() {
    use std::io::{BufReader, Seek as _, SeekFrom, Write as _};
    let built = explicit()
        .put((9, 0x1001), "OB", &vec![7; 100_000])
        .text((0x10, 0x10), "PN", "A^B")
        .put((0x7FE0, 0x10), "OW", &[0; 1000]);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"meta").unwrap();
    file.write_all(&built.bytes).unwrap();
    file.seek(SeekFrom::Start(4)).unwrap();
    let mut found = Count::default();
    let length = built.bytes.len() as u64;
    let reader = BufReader::with_capacity(512, &file);
    walk(reader, length, Encoding::of(EXPLICIT), &mut found).unwrap();
    assert_eq!((found.values, found.pixel_data), (3, true));
}

/// A sound object with a bit of everything, to be damaged.
fn sample(syntax: &str) -> Vec<u8> {
    Builder::new(syntax)
        .text((8, 5), "CS", "ISO_IR 192")
        .text((8, 0x18), "UI", "1.2.3.4")
        .begin((8, 0x1140))
        .item()
        .text((8, 0x1155), "UI", "1.2")
        .begin((0x40, 0xA170))
        .item()
        .item_end()
        .end()
        .item_end()
        .end()
        .put((9, 0x1001), "OB", &[3; 40])
        .text((0x10, 0x10), "PN", "A^B")
        .head((0x7FE0, 0x10), "OB", UNDEFINED)
        .head((0xFFFE, 0xE000), "", 4)
        .raw(&[1; 4])
        .end()
        .bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..600), syntax in 0..3usize) {
        let _ = count([EXPLICIT, IMPLICIT, BIG_ENDIAN][syntax], &bytes);
    }

    #[test]
    fn damaged_objects_end(
        syntax in 0..3usize,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let syntax = [EXPLICIT, IMPLICIT, BIG_ENDIAN][syntax];
        let mut bytes = sample(syntax);
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        let _ = count(syntax, &bytes);
        bytes.truncate(cut.index(bytes.len()));
        let _ = count(syntax, &bytes);
    }
}
