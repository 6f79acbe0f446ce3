//! HL7 v2 messages as values (HL7 v2.5.1 chapter 2). Pure: bytes in, bytes out, or what is wrong and where.
//!
//! Reading is lenient where senders differ and meaning does not: line ends, unknown segments, segments in
//! unexpected places, escapes nobody knows. It is strict where guessing would change what is said.
//! Values are decoded text; writing escapes them, and what was written is read as it was.

pub mod ack;
pub mod batch;
pub mod charset;
mod escape;
mod header;
mod parse;
#[cfg(test)]
mod tests;
mod write;

pub use header::Header;
pub use parse::parse;

use std::fmt;

/// Segments of one message; one with more is refused.
pub const SEGMENTS_MAX: usize = 2_000;
/// Fields of one segment; one with more is refused. The longest of the standard has 71.
pub const FIELDS_MAX: usize = 256;
/// Values of one message, in all segments; one with more is refused.
pub const VALUES_MAX: usize = 100_000;

/// The characters that structure a message (2.5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Separators {
    /// MSH-1, usually `|`.
    pub field: char,
    /// Usually `^`.
    pub component: char,
    /// Usually `~`.
    pub repetition: char,
    /// Usually `\`; `None` where the sender has none.
    pub escape: Option<char>,
    /// Usually `&`; `None` where the sender has none.
    pub subcomponent: Option<char>,
}

impl Separators {
    /// The recommended ones (2.5.4, figure 2-1).
    pub const USUAL: Self = Self {
        field: '|',
        component: '^',
        repetition: '~',
        escape: Some('\\'),
        subcomponent: Some('&'),
    };
}

/// Subcomponents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Component(pub Vec<String>);

/// Components.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repetition(pub Vec<Component>);

/// Repetitions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Field(pub Vec<Repetition>);

impl Component {
    /// The first subcomponent, without the spaces around it.
    #[must_use]
    pub fn text(&self) -> &str {
        self.sub(1)
    }

    /// The subcomponent of this number, from 1; empty where there is none.
    #[must_use]
    pub fn sub(&self, number: usize) -> &str {
        self.0.get(number.wrapping_sub(1)).map_or("", |s| s.trim())
    }
}

impl Repetition {
    /// The component of this number, from 1; an empty one where there is none.
    #[must_use]
    pub fn component(&self, number: usize) -> &Component {
        const EMPTY: &Component = &Component(Vec::new());
        self.0.get(number.wrapping_sub(1)).unwrap_or(EMPTY)
    }

    /// First subcomponent of the component of this number.
    #[must_use]
    pub fn text(&self, number: usize) -> &str {
        self.component(number).text()
    }
}

impl Field {
    /// The first repetition; an empty one where there is none.
    #[must_use]
    pub fn first(&self) -> &Repetition {
        const EMPTY: &Repetition = &Repetition(Vec::new());
        self.0.first().unwrap_or(EMPTY)
    }

    /// A component of the first repetition, from 1.
    #[must_use]
    pub fn component(&self, number: usize) -> &str {
        self.first().text(number)
    }

    /// First component of the first repetition.
    #[must_use]
    pub fn text(&self) -> &str {
        self.component(1)
    }

    /// Whether the sender says that there is no value (`""`, 2.5.3), which is more than saying nothing.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.text() == "\"\""
    }
}

/// A line of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Segment {
    /// Three characters.
    pub name: String,
    /// Fields from 1; in MSH, BHS and FHS from 3, as the first two are the separators.
    fields: Vec<Field>,
}

impl Segment {
    /// Without fields.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            fields: Vec::new(),
        }
    }

    /// Number of the first field that is kept.
    fn first_number(&self) -> usize {
        if is_header(&self.name) { 3 } else { 1 }
    }

    /// The field of this number, as the standard counts; an empty one where there is none.
    #[must_use]
    pub fn field(&self, number: usize) -> &Field {
        const EMPTY: &Field = &Field(Vec::new());
        let at = number.wrapping_sub(self.first_number());
        self.fields.get(at).unwrap_or(EMPTY)
    }

    /// First component of the first repetition of a field; empty where there is none or it is null.
    #[must_use]
    pub fn text(&self, number: usize) -> &str {
        let field = self.field(number);
        if field.is_null() { "" } else { field.text() }
    }

    /// Sets a field. Numbers of the separators of a header are passed over.
    #[must_use]
    pub fn with(mut self, number: usize, field: impl Into<Field>) -> Self {
        let at = number.wrapping_sub(self.first_number());
        if at < FIELDS_MAX {
            if self.fields.len() <= at {
                self.fields.resize(at + 1, Field::default());
            }
            self.fields[at] = field.into();
            trim(&mut self.fields);
        }
        self
    }

    /// The same with each text in it as `change` has it.
    #[must_use]
    pub fn map(&self, change: &dyn Fn(&str) -> String) -> Self {
        let mut segment = self.clone();
        let repetitions = segment.fields.iter_mut().flat_map(|f| &mut f.0);
        for text in repetitions.flat_map(|r| &mut r.0).flat_map(|c| &mut c.0) {
            *text = change(text);
        }
        segment
    }

    /// The highest field number that has a value.
    #[must_use]
    pub fn last_number(&self) -> usize {
        self.first_number() + self.fields.len() - usize::from(!self.fields.is_empty())
    }
}

/// A field of one component.
impl From<&str> for Field {
    fn from(text: &str) -> Self {
        Self::from(&[text][..])
    }
}

/// A field of one component.
impl From<String> for Field {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

/// A field of components.
impl From<&[&str]> for Field {
    fn from(components: &[&str]) -> Self {
        let mut components: Vec<Component> = components
            .iter()
            .map(|text| {
                let mut sub = vec![(*text).to_owned()];
                trim(&mut sub);
                Component(sub)
            })
            .collect();
        trim(&mut components);
        let mut repetitions = vec![Repetition(components)];
        trim(&mut repetitions);
        Self(repetitions)
    }
}

/// A field of components.
impl<const N: usize> From<[&str; N]> for Field {
    fn from(components: [&str; N]) -> Self {
        Self::from(&components[..])
    }
}

/// A message: MSH and what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// As its MSH declares them.
    pub separators: Separators,
    /// In order, MSH first.
    pub segments: Vec<Segment>,
}

impl Message {
    /// With the usual separators.
    #[must_use]
    pub fn new(segments: Vec<Segment>) -> Self {
        Self {
            separators: Separators::USUAL,
            segments,
        }
    }

    /// The first segment of this name, wherever it stands.
    #[must_use]
    pub fn first(&self, name: &str) -> Option<&Segment> {
        self.segments.iter().find(|s| s.name == name)
    }

    /// What its MSH says.
    #[must_use]
    pub fn header(&self) -> Header {
        self.first("MSH").map(Header::of).unwrap_or_default()
    }
}

/// Segments whose first two fields are the separators.
fn is_header(name: &str) -> bool {
    matches!(name, "MSH" | "BHS" | "FHS")
}

/// Trailing elements without a value say nothing (2.10.1 rule d).
fn trim<T: Default + PartialEq>(elements: &mut Vec<T>) {
    let empty = T::default();
    while elements.last() == Some(&empty) {
        elements.pop();
    }
}

/// Why a message is not taken as it is (table 0357).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultCode {
    /// 100: a segment is missing, or is none.
    SegmentSequence,
    /// 101
    RequiredFieldMissing,
    /// 102
    DataType,
    /// 103
    TableValueNotFound,
    /// 200
    UnsupportedMessageType,
    /// 203
    UnsupportedVersion,
    /// 205: another message came under this MSH-10.
    DuplicateKey,
    /// 207
    Internal,
}

impl FaultCode {
    /// Code and its text.
    #[must_use]
    pub fn as_coded(self) -> (&'static str, &'static str) {
        match self {
            Self::SegmentSequence => ("100", "Segment sequence error"),
            Self::RequiredFieldMissing => ("101", "Required field missing"),
            Self::DataType => ("102", "Data type error"),
            Self::TableValueNotFound => ("103", "Table value not found"),
            Self::UnsupportedMessageType => ("200", "Unsupported message type"),
            Self::UnsupportedVersion => ("203", "Unsupported version id"),
            Self::DuplicateKey => ("205", "Duplicate key identifier"),
            Self::Internal => ("207", "Application internal error"),
        }
    }
}

/// Where in a message something is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// Name of the segment.
    pub segment: String,
    /// Which segment of this name, from 1.
    pub sequence: usize,
    /// Field, from 1.
    pub field: Option<usize>,
    /// Component, from 1.
    pub component: Option<usize>,
}

impl Place {
    /// The first segment of this name.
    #[must_use]
    pub fn segment(name: &str) -> Self {
        Self {
            segment: name.to_owned(),
            sequence: 1,
            ..Self::default()
        }
    }

    /// A field of the first segment of this name.
    #[must_use]
    pub fn field(name: &str, field: usize) -> Self {
        Self {
            field: Some(field),
            ..Self::segment(name)
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.segment)?;
        if self.sequence > 1 {
            write!(f, "[{}]", self.sequence)?;
        }
        match (self.field, self.component) {
            (Some(field), Some(component)) => write!(f, "-{field}.{component}"),
            (Some(field), None) => write!(f, "-{field}"),
            _ => Ok(()),
        }
    }
}

/// Something wrong with a message. Its text never repeats a value: it may be anybody's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {text}")]
pub struct Fault {
    /// Where.
    pub at: Place,
    /// Of which kind.
    pub code: FaultCode,
    /// In words.
    pub text: String,
}

impl Fault {
    /// Puts the parts together.
    #[must_use]
    pub fn new(at: Place, code: FaultCode, text: impl Into<String>) -> Self {
        Self {
            at,
            code,
            text: text.into(),
        }
    }
}
