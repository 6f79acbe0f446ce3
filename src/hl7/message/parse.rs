//! Bytes to a message (2.6, 2.10).

use super::charset::Charset;
use super::escape;
use super::{
    Component, FIELDS_MAX, Fault, FaultCode, Field, Message, Place, Repetition, SEGMENTS_MAX,
    Segment, Separators, VALUES_MAX, is_header, trim,
};

/// MSH-18
const CHARSET_FIELD: usize = 18;

/// Reads one message, from MSH to its end.
///
/// # Errors
/// What is wrong, and in which segment and field.
pub fn parse(bytes: &[u8]) -> Result<Message, Fault> {
    let bytes = beginning(bytes);
    let charset = declared_charset(bytes)?;
    let text = charset.decode(bytes);
    let separators = separators(&text)?;
    let mut left = VALUES_MAX;
    let mut segments = Vec::new();
    for line in lines(&text) {
        if segments.len() == SEGMENTS_MAX {
            let text = format!("more than {SEGMENTS_MAX} segments");
            return Err(Fault::new(
                Place::segment("MSH"),
                FaultCode::SegmentSequence,
                text,
            ));
        }
        let segment = segment(line, &separators, charset, &mut left)
            .map_err(|fault| located(fault, &segments))?;
        segments.push(segment);
    }
    Ok(Message {
        separators,
        segments,
    })
}

/// Without what may stand before the first segment.
pub(super) fn beginning(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.trim_ascii_start();
    bytes
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(bytes)
        .trim_ascii_start()
}

/// Segments end with CR (2.5.2); where none is sent, LF does for it.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let end = if text.contains('\r') { '\r' } else { '\n' };
    text.split(end)
        .map(|line| line.trim_matches('\n'))
        .filter(|line| !line.trim().is_empty())
}

/// MSH-18 must be known before the message is text; up to it all sets are ASCII.
fn declared_charset(bytes: &[u8]) -> Result<Charset, Fault> {
    let first = bytes
        .split(|b| *b == b'\r' || *b == b'\n')
        .next()
        .unwrap_or_default();
    let Some(separator) = first.get(3) else {
        return Ok(Charset::UNDECLARED);
    };
    let Some(declared) = first
        .split(|b| b == separator)
        .nth(CHARSET_FIELD - 1)
        .filter(|value| !value.is_empty())
    else {
        return Ok(Charset::UNDECLARED);
    };
    let declared = String::from_utf8_lossy(declared);
    let repetition = first.get(5).map_or('~', |b| char::from(*b));
    Charset::declared(declared.split(repetition)).ok_or_else(|| {
        Fault::new(
            Place::field("MSH", CHARSET_FIELD),
            FaultCode::TableValueNotFound,
            "character set is not known (table 0211)",
        )
    })
}

/// MSH-1 and MSH-2.
fn separators(text: &str) -> Result<Separators, Fault> {
    let wrong = |field, text: &str| {
        Err(Fault::new(
            Place::field("MSH", field),
            FaultCode::DataType,
            text,
        ))
    };
    if !text.starts_with("MSH") {
        return Err(Fault::new(
            Place::segment("MSH"),
            FaultCode::SegmentSequence,
            "a message begins with MSH",
        ));
    }
    let mut chars = text[3..].chars();
    let Some(field) = chars.next().filter(|c| is_separator(*c)) else {
        return wrong(1, "field separator is missing");
    };
    let encoding: Vec<char> = chars
        .take_while(|c| *c != field && *c != '\r' && *c != '\n')
        .take(6)
        .collect();
    let (Some(component), Some(repetition)) = (encoding.first(), encoding.get(1)) else {
        return wrong(2, "encoding characters are missing");
    };
    let distinct = encoding
        .iter()
        .enumerate()
        .all(|(at, c)| is_separator(*c) && !encoding[..at].contains(c));
    if !distinct || encoding.len() > 5 {
        return wrong(2, "encoding characters are two to five different ones");
    }
    Ok(Separators {
        field,
        component: *component,
        repetition: *repetition,
        escape: encoding.get(2).copied(),
        subcomponent: encoding.get(3).copied(),
    })
}

/// A letter, digit or space could not be told from what it separates.
fn is_separator(c: char) -> bool {
    c.is_ascii_punctuation()
}

/// Names which segment of its name a fault is in.
fn located(mut fault: Fault, before: &[Segment]) -> Fault {
    let same = before.iter().filter(|s| s.name == fault.at.segment);
    fault.at.sequence = same.count() + 1;
    fault
}

fn segment(
    line: &str,
    separators: &Separators,
    charset: Charset,
    left: &mut usize,
) -> Result<Segment, Fault> {
    let mut parts = line.split(separators.field);
    let name = parts.next().unwrap_or_default().trim();
    if !is_name(name) {
        let text = "is no segment: three capital letters or digits begin one";
        return Err(Fault::new(
            Place::segment("???"),
            FaultCode::SegmentSequence,
            text,
        ));
    }
    if is_header(name) {
        parts.next();
    }
    let mut fields = Vec::new();
    for (at, value) in parts.enumerate() {
        if at == FIELDS_MAX {
            return Err(Fault::new(
                Place::segment(name),
                FaultCode::DataType,
                format!("more than {FIELDS_MAX} fields"),
            ));
        }
        fields.push(field(value, separators, charset, left).ok_or_else(|| {
            Fault::new(
                Place::segment(name),
                FaultCode::DataType,
                format!("more than {VALUES_MAX} values in the message"),
            )
        })?);
    }
    trim(&mut fields);
    Ok(Segment {
        name: name.to_owned(),
        fields,
    })
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() == 3
        && bytes.next().is_some_and(|b| b.is_ascii_uppercase())
        && bytes.all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}

/// `None` once the message has too many values.
fn field(
    value: &str,
    separators: &Separators,
    charset: Charset,
    left: &mut usize,
) -> Option<Field> {
    if value.is_empty() {
        return Some(Field::default());
    }
    let mut repetitions = Vec::new();
    for repetition in value.split(separators.repetition) {
        let mut components = Vec::new();
        for component in repetition.split(separators.component) {
            let mut subs = Vec::new();
            let split: Box<dyn Iterator<Item = &str>> = match separators.subcomponent {
                Some(c) => Box::new(component.split(c)),
                None => Box::new(std::iter::once(component)),
            };
            for sub in split {
                *left = left.checked_sub(1)?;
                subs.push(escape::decode(sub, separators, charset));
            }
            trim(&mut subs);
            components.push(Component(subs));
        }
        trim(&mut components);
        repetitions.push(Repetition(components));
    }
    trim(&mut repetitions);
    Some(Field(repetitions))
}
