//! Acknowledgements: written for others' messages, read when others answer ours (2.9, 2.15.5, 2.15.8).

use super::{Fault, FaultCode, Header, Message, Place, Segment};

/// What an acknowledgement says (table 0008).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckCode {
    /// AA
    ApplicationAccept,
    /// AE
    ApplicationError,
    /// AR
    ApplicationReject,
    /// CA
    CommitAccept,
    /// CE
    CommitError,
    /// CR
    CommitReject,
}

impl AckCode {
    const ALL: [Self; 6] = [
        Self::ApplicationAccept,
        Self::ApplicationError,
        Self::ApplicationReject,
        Self::CommitAccept,
        Self::CommitError,
        Self::CommitReject,
    ];

    /// MSA-1
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ApplicationAccept => "AA",
            Self::ApplicationError => "AE",
            Self::ApplicationReject => "AR",
            Self::CommitAccept => "CA",
            Self::CommitError => "CE",
            Self::CommitReject => "CR",
        }
    }

    /// Reads what [`AckCode::as_str`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == text)
    }

    /// Whether a sender that wants acknowledgements under this condition (table 0155) wants this one.
    #[must_use]
    pub fn is_wanted(self, condition: &str) -> bool {
        let accepts = matches!(self, Self::ApplicationAccept | Self::CommitAccept);
        match condition {
            "AL" => true,
            "ER" => !accepts,
            "SU" => accepts,
            // NE, and what the table does not have
            _ => false,
        }
    }
}

/// Who answers, when, under which id.
#[derive(Debug, Clone, Copy)]
pub struct Own<'a> {
    /// MSH-3
    pub application: &'a str,
    /// MSH-4
    pub facility: &'a str,
    /// MSH-7, `YYYYMMDDHHMMSS+ZZZZ`.
    pub at: &'a str,
    /// MSH-10
    pub control_id: &'a str,
}

/// An acknowledgement of the message with this header. Faults of an accepted message are warnings.
#[must_use]
pub fn acknowledge(to: &Header, code: AckCode, faults: &[Fault], own: &Own<'_>) -> Message {
    let version = to.version_number();
    // the structure is told since 2.3.1; what a receiver does not know, it passes over
    let kind = if version >= (2, 3) {
        vec!["ACK", to.trigger.as_str(), "ACK"]
    } else {
        vec!["ACK", to.trigger.as_str()]
    };
    let or = |text: &str, other: &str| if text.is_empty() { other } else { text }.to_owned();
    let msh = Segment::new("MSH")
        .with(3, own.application)
        .with(4, own.facility)
        .with(5, to.sending_application.as_str())
        .with(6, to.sending_facility.as_str())
        .with(7, own.at)
        .with(9, &kind[..])
        .with(10, own.control_id)
        .with(11, or(&to.processing, "P"))
        .with(12, or(&to.version, "2.5.1"))
        .with(18, "UNICODE UTF-8");
    let mut msa = Segment::new("MSA")
        .with(1, code.as_str())
        .with(2, to.control_id.as_str());
    if let Some(fault) = faults.first() {
        // deprecated since 2.4 and still where most people look
        msa = msa.with(3, cut(&fault.to_string(), 80));
    }
    let accepted = matches!(code, AckCode::ApplicationAccept | AckCode::CommitAccept);
    let mut segments = vec![msh, msa];
    segments.extend(faults.iter().map(|fault| {
        if version >= (2, 5) {
            error(fault, accepted)
        } else {
            early_error(fault)
        }
    }));
    Message::new(segments)
}

/// ERR since 2.5: location, code, severity, diagnosis, words (2.15.5).
fn error(fault: &Fault, warning: bool) -> Segment {
    let at = &fault.at;
    let number = |n: Option<usize>| n.map_or_else(String::new, |n| n.to_string());
    let field = number(at.field);
    // ERL: segment, which of them, field, repetition, component
    let location = [
        at.segment.as_str(),
        &at.sequence.to_string(),
        &field,
        if at.field.is_some() { "1" } else { "" },
        &number(at.component),
    ];
    let (code, text) = fault.code.as_coded();
    Segment::new("ERR")
        .with(2, location)
        .with(3, [code, text, "HL70357"])
        .with(4, if warning { "W" } else { "E" })
        .with(8, cut(&fault.to_string(), 250))
}

/// ERR before 2.5: segment, which of them, field, code (ELD).
fn early_error(fault: &Fault) -> Segment {
    let at = &fault.at;
    let field = at.field.map_or_else(String::new, |n| n.to_string());
    let location = [at.segment.as_str(), &at.sequence.to_string(), &field];
    let mut eld = super::Field::from(&location[..]);
    let (code, text) = fault.code.as_coded();
    if let Some(repetition) = eld.0.first_mut() {
        let coded = [code, text, "HL70357"].map(str::to_owned);
        repetition.0.resize(3, super::Component::default());
        repetition.0.push(super::Component(coded.to_vec()));
    }
    Segment::new("ERR").with(1, eld)
}

fn cut(text: &str, chars_max: usize) -> String {
    text.chars().take(chars_max).collect()
}

/// Another's answer to a message of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// MSA-1
    pub code: AckCode,
    /// MSA-2: which message is answered.
    pub control_id: String,
    /// Where it finds errors and which (table 0357), as `PID-5 101; OBX[2]`: nothing that could be a name.
    pub places: String,
    /// What it says of errors, as sent: it may repeat what we sent, names too.
    pub text: String,
}

/// Errors of an answer whose places are told.
const PLACES_MAX: usize = 5;
/// Segments that an answer to results and orders can be about, our own (Z) too. Any other three letters may be a name.
const SEGMENTS: [&str; 16] = [
    "ERR", "MSA", "MSH", "NTE", "OBR", "OBX", "ORC", "PID", "PRT", "PV1", "PV2", "SPM", "TQ1",
    "TQ2", "ZDS", "ZFR",
];

/// ERR-2 and ERR-3 where they are what they should be: a sender may have written anything.
fn place_and_code(err: &Segment) -> String {
    let number = |text: &str| -> Option<usize> {
        let short = text.len() <= 3 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|_| short)
    };
    let at = err.field(2);
    let segment = at.component(1);
    let place = SEGMENTS.contains(&segment).then(|| Place {
        sequence: number(at.component(2)).unwrap_or(1),
        field: number(at.component(3)),
        ..Place::segment(segment)
    });
    let place = place.map_or_else(String::new, |place| place.to_string());
    let code = Some(err.text(3)).filter(|code| number(code).is_some());
    let both = format!("{place} {}", code.unwrap_or_default());
    both.trim().to_owned()
}

/// Reads an acknowledgement.
///
/// # Errors
/// When it has no MSA, or one that says nothing known.
pub fn read(message: &Message) -> Result<Answer, Fault> {
    let Some(msa) = message.first("MSA") else {
        return Err(Fault::new(
            Place::segment("MSA"),
            FaultCode::SegmentSequence,
            "the answer has no MSA",
        ));
    };
    let Some(code) = AckCode::parse(msa.text(1)) else {
        return Err(Fault::new(
            Place::field("MSA", 1),
            FaultCode::TableValueNotFound,
            "the answer is none of AA, AE, AR, CA, CE, CR",
        ));
    };
    let errors = message.segments.iter().filter(|s| s.name == "ERR");
    let mut places: Vec<String> = errors.clone().map(place_and_code).collect();
    places.retain(|place| !place.is_empty());
    places.truncate(PLACES_MAX);
    let mut said: Vec<String> = vec![msa.text(3).to_owned()];
    for err in errors {
        let place: Vec<&str> = (1..=3).map(|n| err.field(2).component(n)).collect();
        said.push(place.join(" ").trim().to_owned());
        said.push(err.field(3).component(2).to_owned());
        said.push(err.text(8).to_owned());
    }
    said.retain(|text| !text.is_empty());
    Ok(Answer {
        code,
        control_id: msa.text(2).to_owned(),
        places: places.join("; "),
        text: cut(&said.join("; "), 200),
    })
}
