//! Character sets of messages: MSH-18, table 0211.

use encoding_rs::{
    BIG5, EUC_KR, Encoding, GB18030, ISO_2022_JP, ISO_8859_2, ISO_8859_3, ISO_8859_4, ISO_8859_5,
    ISO_8859_6, ISO_8859_7, ISO_8859_8, ISO_8859_15, UTF_8, WINDOWS_1252, WINDOWS_1254,
};

/// How the bytes of a message are text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charset(Option<&'static Encoding>);

impl Charset {
    /// UTF-8.
    pub const UNICODE: Self = Self(Some(UTF_8));
    /// Where MSH-18 says nothing: UTF-8 if the bytes are that, else ISO 8859-1.
    pub const UNDECLARED: Self = Self(None);

    /// Reads the repetitions of MSH-18; `None` for one that is not known.
    #[must_use]
    pub fn declared<'a>(terms: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut chosen = Self::UNDECLARED;
        for term in terms {
            let term = term.trim().to_ascii_uppercase().replace(['-', '_'], " ");
            let encoding = match term.as_str() {
                // ASCII: what is not, is guessed like an undeclared set
                "" | "\"\"" | "ASCII" | "US ASCII" => continue,
                // windows-1252 is 8859-1 with letters where that has control characters
                "8859/1" | "ISO IR100" | "ISO IR 100" | "ISO 8859 1" | "LATIN1" => WINDOWS_1252,
                "8859/2" | "ISO 8859 2" => ISO_8859_2,
                "8859/3" => ISO_8859_3,
                "8859/4" => ISO_8859_4,
                "8859/5" => ISO_8859_5,
                "8859/6" => ISO_8859_6,
                "8859/7" => ISO_8859_7,
                "8859/8" => ISO_8859_8,
                "8859/9" => WINDOWS_1254,
                "8859/15" | "ISO 8859 15" => ISO_8859_15,
                "ISO IR14" | "ISO IR87" | "ISO IR159" | "ISO IR 14" | "ISO IR 87"
                | "ISO IR 159" => ISO_2022_JP,
                "GB 18030 2000" | "GB 18030" | "GB18030" => GB18030,
                "KS X 1001" => EUC_KR,
                "CNS 11643 1992" | "BIG 5" | "BIG5" => BIG5,
                "UNICODE UTF 8" | "UNICODE" | "UTF 8" | "UTF8" => UTF_8,
                _ => return None,
            };
            // the first is the default; escapes to a further one are part of ISO-2022-JP alone
            if chosen == Self::UNDECLARED || encoding == ISO_2022_JP {
                chosen = Self(Some(encoding));
            }
        }
        Some(chosen)
    }

    /// Text of these bytes. What has no meaning in the set becomes U+FFFD.
    #[must_use]
    pub fn decode(self, bytes: &[u8]) -> String {
        let encoding = match self.0 {
            Some(encoding) => encoding,
            None if std::str::from_utf8(bytes).is_ok() => UTF_8,
            None => WINDOWS_1252,
        };
        encoding.decode_without_bom_handling(bytes).0.into_owned()
    }
}
