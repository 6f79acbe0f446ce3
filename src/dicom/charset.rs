//! Specific Character Set (0008,0005) to UTF-8 (PS3.3 C.12.1.1.2, PS3.5 6.1). Pure.
//!
//! Text never fails to decode: what has no meaning in the declared character set
//! becomes U+FFFD, because a study must not be lost to a misspelt name.

use encoding_rs::{
    EUC_JP, EUC_KR, Encoding, GB18030, GBK, ISO_8859_2, ISO_8859_3, ISO_8859_4, ISO_8859_5,
    ISO_8859_6, ISO_8859_7, ISO_8859_8, ISO_8859_15, SHIFT_JIS, WINDOWS_874, WINDOWS_1254,
};

const ESCAPE: u8 = 0x1B;
const REPLACEMENT: char = '\u{FFFD}';

/// What kind of value is decoded; it decides which characters end a run of extension codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// VR PN: `^` and `=` are delimiters too.
    Name,
    /// Every other text; the backslash is a delimiter.
    Text,
}

/// How the text of a data set is to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CharacterSet(Scheme);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Scheme {
    /// Nothing declared, so ASCII; what is not ASCII is guessed.
    Undeclared,
    /// UTF-8, GB18030 or GBK: no code extensions.
    Whole(&'static Encoding),
    /// Single-byte sets and ISO 2022 code extensions.
    Extended(Designation),
}

/// Which code elements are active (ISO 2022).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Designation {
    low: Low,
    high: High,
}

/// G0: bytes 0x21 to 0x7E.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Low {
    /// ISO-IR 6, and ISO-IR 14 (its yen sign is DICOM's backslash).
    Ascii,
    /// ISO-IR 87: JIS X 0208, two bytes.
    Kanji,
    /// ISO-IR 159: JIS X 0212, two bytes.
    SupplementaryKanji,
}

/// G1: bytes 0xA0 to 0xFF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum High {
    Nothing,
    /// ISO-IR 100.
    Latin1,
    /// One byte, as the encoding reads it.
    Single(&'static Encoding),
    /// Two bytes: ISO-IR 149 (KS X 1001) or 58 (GB 2312).
    Double(&'static Encoding),
}

impl Designation {
    const fn ascii_and(high: High) -> Self {
        Self {
            low: Low::Ascii,
            high,
        }
    }
}

impl CharacterSet {
    /// Reads the value of (0008,0005); an unknown term counts as absent.
    #[must_use]
    pub fn declared(value: &[u8]) -> Self {
        let value = String::from_utf8_lossy(value).to_ascii_uppercase();
        let mut terms = value.split('\\').map(|term| term.trim_matches([' ', '\0']));
        let first = terms.next().unwrap_or_default();
        let extended = terms.next().is_some();
        let scheme = match first {
            "GB18030" => Scheme::Whole(GB18030),
            "GBK" => Scheme::Whole(GBK),
            term if term.contains("UTF") || registration(term) == Some(192) => {
                Scheme::Whole(encoding_rs::UTF_8)
            }
            term => match registration(term).and_then(initial_high) {
                Some(high) => Scheme::Extended(Designation::ascii_and(high)),
                // "\ISO 2022 IR 87", "ISO 2022 IR 6": ASCII until an escape says otherwise
                None if extended || registration(term).is_some() => {
                    Scheme::Extended(Designation::ascii_and(High::Nothing))
                }
                None => Scheme::Undeclared,
            },
        };
        Self(scheme)
    }

    /// Where (0008,0005) is absent.
    #[must_use]
    pub fn undeclared() -> Self {
        Self(Scheme::Undeclared)
    }

    /// Decodes a value. Backslashes that separate values stay, and only those mean it.
    #[must_use]
    pub fn decode(&self, value: &[u8], kind: Kind) -> String {
        match &self.0 {
            Scheme::Undeclared if value.contains(&ESCAPE) => {
                decode_extended(value, kind, Designation::ascii_and(High::Nothing))
            }
            Scheme::Undeclared => guess(value),
            Scheme::Whole(encoding) => encoding.decode_without_bom_handling(value).0.into_owned(),
            Scheme::Extended(start) => decode_extended(value, kind, *start),
        }
    }
}

/// Undeclared text: UTF-8 if it is valid, else Latin-1, which is what senders then mean.
fn guess(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) => text.to_owned(),
        Err(_) => value.iter().map(|&byte| latin1(byte)).collect(),
    }
}

fn latin1(byte: u8) -> char {
    if (0x80..0xA0).contains(&byte) {
        REPLACEMENT
    } else {
        char::from(byte)
    }
}

/// The ISO-IR number in a defined term, whatever its spelling (`ISO_IR 100`, `ISO 2022 IR 100`).
fn registration(term: &str) -> Option<u16> {
    if let Some(part) = term.split("8859").nth(1) {
        let number = part.trim_start_matches(|c: char| !c.is_ascii_digit());
        return match number {
            "1" => Some(100),
            "2" => Some(101),
            "5" => Some(144),
            "9" => Some(148),
            "15" => Some(203),
            _ => None,
        };
    }
    let digits = term.len() - term.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    term[term.len() - digits..].parse().ok()
}

/// What the first value of (0008,0005) designates to G1.
fn initial_high(registration: u16) -> Option<High> {
    Some(match registration {
        100 => High::Latin1,
        149 => High::Double(EUC_KR),
        58 => High::Double(GBK),
        13 => High::Single(SHIFT_JIS),
        _ => High::Single(single_byte(registration)?),
    })
}

fn single_byte(registration: u16) -> Option<&'static Encoding> {
    Some(match registration {
        101 => ISO_8859_2,
        109 => ISO_8859_3,
        110 => ISO_8859_4,
        144 => ISO_8859_5,
        127 => ISO_8859_6,
        126 => ISO_8859_7,
        138 => ISO_8859_8,
        148 => WINDOWS_1254,
        203 => ISO_8859_15,
        166 => WINDOWS_874,
        _ => return None,
    })
}

/// Reads an escape sequence at the start of `rest`: its length, and what it changes
/// (PS3.3 tables C.12-3 and C.12-4).
fn escape(rest: &[u8], active: Designation) -> Option<(usize, Designation)> {
    let low = |low| Designation { low, ..active };
    let high = |high| Designation { high, ..active };
    let single = |number| single_byte(number).map(High::Single);
    Some(match rest {
        [ESCAPE, b'(', b'B' | b'J', ..] => (3, low(Low::Ascii)),
        [ESCAPE, b'$', b'B' | b'@', ..] => (3, low(Low::Kanji)),
        [ESCAPE, b'$', b'(', b'D', ..] => (4, low(Low::SupplementaryKanji)),
        [ESCAPE, b'$', b')', b'C', ..] => (4, high(High::Double(EUC_KR))),
        [ESCAPE, b'$', b')', b'A', ..] => (4, high(High::Double(GBK))),
        [ESCAPE, b')', b'I', ..] => (3, high(High::Single(SHIFT_JIS))),
        [ESCAPE, b'-', final_byte, ..] => {
            let set = match final_byte {
                b'A' => Some(High::Latin1),
                b'B' => single(101),
                b'C' => single(109),
                b'D' => single(110),
                b'L' => single(144),
                b'G' => single(127),
                b'F' => single(126),
                b'H' => single(138),
                b'M' => single(148),
                b'b' => single(203),
                b'T' => single(166),
                _ => None,
            };
            (3, high(set?))
        }
        _ => return None,
    })
}

/// Text with code extensions; every delimiter brings back the initial sets (PS3.5 6.1.2.5.3).
fn decode_extended(value: &[u8], kind: Kind, start: Designation) -> String {
    let mut text = String::with_capacity(value.len());
    let mut active = start;
    let mut rest = value;
    while let Some(&byte) = rest.first() {
        let used = if byte == ESCAPE {
            let (used, next) = escape(rest, active).unwrap_or_else(|| {
                text.push(REPLACEMENT);
                (1, active)
            });
            active = next;
            used
        } else if byte > 0x7F {
            decode_high(rest, active.high, &mut text)
        } else if active.low != Low::Ascii && byte > 0x20 && byte < 0x7F {
            decode_kanji(rest, active.low, &mut text)
        } else {
            if ends_extension(byte, kind) {
                active = start;
            }
            text.push(char::from(byte));
            1
        };
        rest = &rest[used..];
    }
    text
}

fn ends_extension(byte: u8, kind: Kind) -> bool {
    byte < 0x20 || byte == b'\\' || (kind == Kind::Name && matches!(byte, b'^' | b'='))
}

/// One character of G1; answers how many bytes it took.
fn decode_high(rest: &[u8], high: High, text: &mut String) -> usize {
    match high {
        High::Nothing => text.push(REPLACEMENT),
        High::Latin1 => text.push(latin1(rest[0])),
        High::Single(encoding) => push(encoding, &rest[..1], text),
        High::Double(encoding) => {
            if let [first, second, ..] = *rest
                && second > 0x7F
            {
                push(encoding, &[first, second], text);
                return 2;
            }
            text.push(REPLACEMENT);
        }
    }
    1
}

/// One two-byte character of G0, read as EUC-JP; answers how many bytes it took.
fn decode_kanji(rest: &[u8], low: Low, text: &mut String) -> usize {
    match *rest {
        [first, second, ..] if (0x21..0x7F).contains(&second) => {
            let (first, second) = (first | 0x80, second | 0x80);
            if low == Low::SupplementaryKanji {
                push(EUC_JP, &[0x8F, first, second], text);
            } else {
                push(EUC_JP, &[first, second], text);
            }
            2
        }
        _ => {
            text.push(REPLACEMENT);
            1
        }
    }
}

/// Appends one character; malformed bytes as a single U+FFFD.
fn push(encoding: &'static Encoding, bytes: &[u8], text: &mut String) {
    match encoding.decode_without_bom_handling_and_without_replacement(bytes) {
        Some(decoded) => text.push_str(&decoded),
        None => text.push(REPLACEMENT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected texts are pydicom 3.0.2's for the same bytes.
    #[track_caller]
    fn check(terms: &str, value: &[u8], expected: &str) {
        let set = CharacterSet::declared(terms.as_bytes());
        assert_eq!(set.decode(value, Kind::Name), expected, "{terms}");
    }

    #[test]
    fn single_byte_sets() {
        check("ISO_IR 6", b"Adams^John", "Adams^John");
        check("ISO_IR 100", b"\xc4neas^R\xfcdiger", "Äneas^Rüdiger");
        check("ISO_IR 101", b"Wa\xb3\xeasa", "Wałęsa");
        check("ISO_IR 109", b"\xa9\xb9", "İı");
        check("ISO_IR 110", b"\xa9\xb9", "Šš");
        check("ISO_IR 144", b"\xbb\xee\xdace\xdc\xd1yp\xd3", "Люкceмбypг");
        check(
            "ISO_IR 127",
            b"\xe2\xc8\xc7\xe6\xea^\xe4\xe6\xd2\xc7\xd1",
            "قباني^لنزار",
        );
        check(
            "ISO_IR 126",
            b"\xc4\xe9\xef\xed\xf5\xf3\xe9\xef\xf2",
            "Διονυσιος",
        );
        check(
            "ISO_IR 138",
            b"\xf9\xf8\xe5\xef^\xe3\xe1\xe5\xf8\xe4",
            "שרון^דבורה",
        );
        check("ISO_IR 148", b"\xc7avu\xfeo\xf0lu", "Çavuşoğlu");
        check("ISO_IR 203", b"\xa4", "€");
        check("ISO_IR 166", b"\xca\xc1\xaa\xd2\xc2", "สมชาย");
        check("ISO_IR 13", b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3", "ﾔﾏﾀﾞ^ﾀﾛｳ");
    }

    #[test]
    fn whole_encodings() {
        check(
            "ISO_IR 192",
            "Wang^XiaoDong=王^小东=".as_bytes(),
            "Wang^XiaoDong=王^小东=",
        );
        check(
            "GB18030",
            b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab=",
            "Wang^XiaoDong=王^小东=",
        );
        check("GBK", b"\xcd\xf5^\xd0\xa1\xb6\xab", "王^小东");
        // the second byte of this GBK character is a backslash
        check("GBK", b"\x81\x5c", "乗");
    }

    #[test]
    fn japanese_extensions() {
        check(
            "\\ISO 2022 IR 87",
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
            "Yamada^Tarou=山田^太郎=やまだ^たろう",
        );
        check(
            "ISO 2022 IR 13\\ISO 2022 IR 87",
            b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
            "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
        );
        check("\\ISO 2022 IR 159", b"\x1b$(D\x30\x21\x1b(B", "丂");
    }

    #[test]
    fn korean_and_chinese_extensions() {
        check(
            "\\ISO 2022 IR 149",
            b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
            "Hong^Gildong=洪^吉洞=홍^길동",
        );
        check(
            "\\ISO 2022 IR 58",
            b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=",
            "Zhang^XiaoDong=张^小东=",
        );
    }

    #[test]
    fn european_extensions() {
        check(
            "ISO 2022 IR 100\\ISO 2022 IR 144",
            b"R\xfcdiger^\x1b-L\xbb\xee^\xfc",
            "Rüdiger^Лю^ü",
        );
    }

    #[test]
    fn delimiters_bring_back_the_first_set() {
        let set = CharacterSet::declared(b"\\ISO 2022 IR 149");
        assert_eq!(
            set.decode(b"\x1b$)C\xfb\xf3\\\xfb\xf3", Kind::Text),
            "洪\\\u{FFFD}\u{FFFD}"
        );
        // a circumflex is a delimiter in names only
        assert_eq!(set.decode(b"\x1b$)C\xfb\xf3^\xfb\xf3", Kind::Text), "洪^洪");
    }

    #[test]
    fn wrong_bytes_never_fail() {
        check("ISO_IR 192", b"a\xff\xfeb", "a\u{FFFD}\u{FFFD}b");
        check("\\ISO 2022 IR 87", b"\x1b$B;", "\u{FFFD}");
        check("\\ISO 2022 IR 87", b"\x1b%G", "\u{FFFD}%G");
        check("\\ISO 2022 IR 149", b"\x1b$)C\xfb", "\u{FFFD}");
        check("ISO_IR 100", b"\x85", "\u{FFFD}");
        check("", b"", "");
    }

    #[test]
    fn undeclared_and_misspelt() {
        check("", "Müller".as_bytes(), "Müller");
        check("", b"M\xfcller", "Müller");
        check("NONSENSE", b"M\xfcller", "Müller");
        check("ISO-IR 100 ", b"M\xfcller", "Müller");
        check("ISO_8859-1", b"M\xfcller", "Müller");
        check("UTF-8", "Müller".as_bytes(), "Müller");
    }
}
