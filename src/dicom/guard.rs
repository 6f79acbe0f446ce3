//! Text from the wire, made safe before anything else sees it (pure).

/// Longest unique identifier (PS3.5 6.2, VR UI).
pub const UID_CHARS_MAX: usize = 64;

/// Longest Error Comment (0000,0902) (PS3.7 C.4.2.1.3, VR LO).
pub const COMMENT_CHARS_MAX: usize = 64;

/// Why a text is no UID. Never carries the text itself: it may hold anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadUid {
    /// Nothing but padding.
    #[error("empty")]
    Empty,
    /// More than [`UID_CHARS_MAX`] characters.
    #[error("longer than 64 characters")]
    TooLong,
    /// Something else than digits and dots.
    #[error("not only digits and dots")]
    ForeignCharacter,
    /// Two dots in a row, or a dot at an end.
    #[error("malformed: an empty component")]
    EmptyComponent,
}

/// Reads a UID out of a value as sent; the result is safe as one component of a path.
///
/// Leading zeros are against PS3.5 9.1 but common and harmless: they pass.
///
/// # Errors
/// When the value is empty, too long or holds anything but digits and single dots.
pub fn uid(value: &[u8]) -> Result<&str, BadUid> {
    let value = value.trim_ascii_start();
    let padding = |byte: &&u8| matches!(byte, 0 | b' ');
    let length = value.len() - value.iter().rev().take_while(padding).count();
    let value = &value[..length];
    if value.is_empty() {
        return Err(BadUid::Empty);
    }
    if value.len() > UID_CHARS_MAX {
        return Err(BadUid::TooLong);
    }
    let text = std::str::from_utf8(value).map_err(|_| BadUid::ForeignCharacter)?;
    if !text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        return Err(BadUid::ForeignCharacter);
    }
    if text.split('.').any(str::is_empty) {
        return Err(BadUid::EmptyComponent);
    }
    Ok(text)
}

/// What fits an Error Comment: printable ASCII, at most [`COMMENT_CHARS_MAX`] characters.
#[must_use]
pub fn comment(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c == ' ' || (c.is_ascii_graphic() && c != '\\') {
                c
            } else {
                '?'
            }
        })
        .take(COMMENT_CHARS_MAX)
        .collect::<String>()
        .trim_end()
        .to_owned()
}

/// Cuts a text at a character boundary so that it has at most `bytes_max` bytes.
#[must_use]
pub fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        let mut end = bytes_max;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids() {
        let check = |value: &[u8], expected: Result<&str, BadUid>| {
            assert_eq!(uid(value), expected, "{value:?}");
        };
        check(b"1.2.840.10008.1.1\0", Ok("1.2.840.10008.1.1"));
        check(b" 1.2 ", Ok("1.2"));
        check(b"1.02", Ok("1.02"));
        check(b"", Err(BadUid::Empty));
        check(b"\0 ", Err(BadUid::Empty));
        check(b"1..2", Err(BadUid::EmptyComponent));
        check(b"..", Err(BadUid::EmptyComponent));
        check(b".1", Err(BadUid::EmptyComponent));
        check(b"1.", Err(BadUid::EmptyComponent));
        check(b"../../etc/passwd", Err(BadUid::ForeignCharacter));
        check(b"1.2\\1.3", Err(BadUid::ForeignCharacter));
        check(b"1.2\0.3", Err(BadUid::ForeignCharacter));
        check("١.٢".as_bytes(), Err(BadUid::ForeignCharacter));
        check(&[b'1'; 64], Ok(&"1".repeat(64)));
        check(&[b'1'; 65], Err(BadUid::TooLong));
    }

    #[test]
    fn comments_are_short_and_plain() {
        assert_eq!(comment("disk full "), "disk full");
        assert_eq!(comment("größe\n\\"), "gr??e??");
        assert_eq!(comment(&"x".repeat(100)).len(), 64);
    }

    #[test]
    fn cuts_at_a_character() {
        assert_eq!(cut("aé".into(), 2), "a");
        assert_eq!(cut("aé".into(), 3), "aé");
    }
}
