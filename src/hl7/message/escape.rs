//! Escape sequences inside values (2.7).

use super::Separators;
use super::charset::Charset;

/// Longest escape sequence that is looked for, in characters, without the escape characters.
const SEQUENCE_CHARS_MAX: usize = 512;

/// The text that an encoded value stands for. A sequence that has no meaning here stays as it was written.
pub(super) fn decode(value: &str, separators: &Separators, charset: Charset) -> String {
    let Some(escape) = separators.escape else {
        return value.to_owned();
    };
    if !value.contains(escape) {
        return value.to_owned();
    }
    let mut text = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = rest.find(escape) {
        text.push_str(&rest[..at]);
        let after = &rest[at + escape.len_utf8()..];
        let end = after
            .char_indices()
            .take(SEQUENCE_CHARS_MAX)
            .find(|(_, c)| *c == escape)
            .map(|(end, _)| end);
        let meaning = end.and_then(|end| meaning(&after[..end], separators, charset));
        if let (Some(end), Some(meaning)) = (end, meaning) {
            text.push_str(&meaning);
            rest = &after[end + escape.len_utf8()..];
        } else {
            text.push(escape);
            rest = after;
        }
    }
    text.push_str(rest);
    text
}

fn meaning(sequence: &str, separators: &Separators, charset: Charset) -> Option<String> {
    let one = |c: char| Some(c.to_string());
    match sequence {
        "F" => one(separators.field),
        "S" => one(separators.component),
        "R" => one(separators.repetition),
        "T" => one(separators.subcomponent.unwrap_or('&')),
        "E" => one(separators.escape.unwrap_or('\\')),
        // truncation character of 2.7
        "P" => one('#'),
        // highlighting
        "H" | "N" => Some(String::new()),
        ".br" => one('\n'),
        _ => match sequence.chars().next()? {
            'X' => Some(charset.decode(&hex(&sequence[1..])?)),
            // other formatting of FT values (2.7.4): a space or a new line, and never text
            '.' => Some(
                if sequence.starts_with(".sp") {
                    "\n"
                } else {
                    ""
                }
                .to_owned(),
            ),
            _ => None,
        },
    }
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    if digits.is_empty() || !digits.is_ascii() || !digits.len().is_multiple_of(2) {
        return None;
    }
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok())
        .collect()
}

/// Adds the encoded form of `text` to `out`.
pub(super) fn encode(text: &str, separators: &Separators, out: &mut String) {
    let escape = separators.escape.unwrap_or('\\');
    for c in text.chars() {
        let name = if c == separators.field {
            'F'
        } else if c == separators.component {
            'S'
        } else if c == separators.repetition {
            'R'
        } else if Some(c) == separators.subcomponent {
            'T'
        } else if c == escape {
            'E'
        } else if c.is_ascii_control() {
            use std::fmt::Write as _;
            // CR ends a segment, 0x0B and 0x1C frame a message: none of them may stand in a value
            let _ = write!(out, "{escape}X{:02X}{escape}", u32::from(c));
            continue;
        } else {
            out.push(c);
            continue;
        };
        out.extend([escape, name, escape]);
    }
}
