//! Batches: FHS, BHS, messages, BTS, FTS in one transmission (2.10.3).

use super::parse::{beginning, parse};
use super::{Fault, FaultCode, Field, Message, Place, Segment};

/// Messages of one batch; one with more is refused.
pub const MESSAGES_MAX: usize = 1_000;

/// What one transmission holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// One message.
    Single(&'a [u8]),
    /// Messages of a batch.
    Batch(Batch<'a>),
}

/// A batch.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch<'a> {
    /// BHS-11, which an answer repeats; empty where it has none.
    pub control_id: String,
    /// BHS-3.1
    pub sending_application: String,
    /// BHS-4.1
    pub sending_facility: String,
    /// The messages, unread.
    pub messages: Vec<&'a [u8]>,
    /// Why the batch is not taken, none of its messages: it is not whole.
    pub fault: Option<Fault>,
}

/// Tells a batch from a message.
#[must_use]
pub fn split(bytes: &[u8]) -> Content<'_> {
    let bytes = beginning(bytes);
    if !(bytes.starts_with(b"FHS") || bytes.starts_with(b"BHS")) {
        return Content::Single(bytes);
    }
    let starts = segment_starts(bytes);
    let mut messages = Vec::new();
    let mut announced = 0_usize;
    let mut begun: Option<usize> = None;
    let mut count_is_known = true;
    let (mut envelope, mut trailer) = (None, false);
    for (at, start) in starts.iter().enumerate() {
        let end = starts.get(at + 1).copied().unwrap_or(bytes.len());
        let line = &bytes[*start..end];
        let name = &line[..line.len().min(3)];
        let framing = matches!(name, b"FHS" | b"BHS" | b"MSH" | b"BTS" | b"FTS");
        if framing && let Some(from) = begun.take() {
            messages.push(&bytes[from..*start]);
        }
        match name {
            b"MSH" => begun = Some(*start),
            // the batch's header says more than the file's
            b"BHS" => envelope = Some(line),
            b"FHS" if envelope.is_none() => envelope = Some(line),
            b"BTS" => {
                trailer = true;
                match line_segment(line).map(|s| s.text(1).parse::<usize>()) {
                    Some(Ok(count)) => announced = announced.saturating_add(count),
                    _ => count_is_known = false,
                }
            }
            _ => {}
        }
    }
    if let Some(from) = begun {
        messages.push(&bytes[from..]);
    }
    let header = envelope.and_then(line_segment).unwrap_or_default();
    let fault = if !trailer {
        Some((
            Place::segment("BTS"),
            "BTS is missing: the batch is not whole".to_owned(),
        ))
    } else if count_is_known && announced != messages.len() {
        let text = format!("announces {announced} messages, {} came", messages.len());
        Some((Place::field("BTS", 1), text))
    } else if messages.len() > MESSAGES_MAX {
        let text = format!("more than {MESSAGES_MAX} messages");
        Some((Place::field("BTS", 1), text))
    } else {
        None
    };
    messages.truncate(MESSAGES_MAX);
    Content::Batch(Batch {
        control_id: header.text(11).to_owned(),
        sending_application: header.text(3).to_owned(),
        sending_facility: header.text(4).to_owned(),
        messages,
        fault: fault.map(|(at, text)| Fault::new(at, FaultCode::SegmentSequence, text)),
    })
}

/// Where lines begin. No known set has CR or LF as a part of a character.
fn segment_starts(bytes: &[u8]) -> Vec<usize> {
    let line_end = |b: u8| b == b'\r' || b == b'\n';
    (0..bytes.len())
        .filter(|at| !line_end(bytes[*at]) && (*at == 0 || line_end(bytes[at - 1])))
        .collect()
}

/// A header or trailer, read as if it stood in a message: header's separators are its own.
fn line_segment(line: &[u8]) -> Option<Segment> {
    let line = line.trim_ascii_end();
    let text = match line.get(..3)? {
        b"BHS" | b"FHS" => {
            let mut as_message = line.to_vec();
            as_message[..3].copy_from_slice(b"MSH");
            as_message
        }
        // a count needs no separators but the usual
        _ => [b"MSH|^~\\&\r", line].concat(),
    };
    let message = parse(&text).ok()?;
    message.segments.into_iter().next_back()
}

/// The batch of acknowledgements that answers a batch.
#[must_use]
pub fn answer(batch: &Batch<'_>, own: &super::ack::Own<'_>, answers: &[Message]) -> String {
    let header = Segment::new("BHS")
        .with(3, own.application)
        .with(4, own.facility)
        .with(5, batch.sending_application.as_str())
        .with(6, batch.sending_facility.as_str())
        .with(7, own.at)
        .with(11, own.control_id)
        .with(12, batch.control_id.as_str());
    let mut trailer = Segment::new("BTS").with(1, answers.len().to_string());
    if let Some(fault) = &batch.fault {
        trailer = trailer.with(2, Field::from(fault.to_string()));
    }
    let mut text = Message::new(vec![header]).to_text();
    for answer in answers {
        text.push_str(&answer.to_text());
    }
    text.push_str(&Message::new(vec![trailer]).to_text());
    text
}
