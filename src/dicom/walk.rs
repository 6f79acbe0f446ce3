//! A bounded walk over a data set as received (pure).
//!
//! Nothing the sender wrote is believed before it is checked: every length is held against
//! what is left in its container, containers nest at most [`NESTING_MAX`] deep, elements are
//! counted, and no allocation is sized by the wire. There is no recursion. This is the only
//! code that reads received bytes inside the server process; a full parse of the object
//! happens later, in a child process with a memory cap.
//!
//! The walk ends at the pixel data, after checking their length or their fragments.

mod beginning;

use std::io::{Read, Seek};

use dicom_core::VR;
use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_dictionary_std::StandardDataDictionary;

pub use dicom_core::Tag;

/// Deepest nesting of sequences. Real objects have fewer than ten levels.
pub const NESTING_MAX: usize = 64;
/// Most elements, items and fragments in one object; a large enhanced object has one million.
pub const ELEMENTS_MAX: u64 = 8_000_000;
/// Longest part of a value that is handed to the visitor, in bytes.
pub const VALUE_BYTES_MAX: usize = 1024;

const UNDEFINED: u32 = u32::MAX;
const ITEM: Tag = Tag(0xFFFE, 0xE000);
const ITEM_END: Tag = Tag(0xFFFE, 0xE00D);
const SEQUENCE_END: Tag = Tag(0xFFFE, 0xE0DD);
const PIXEL_DATA: Tag = Tag(0x7FE0, 0x0010);

/// How the elements of a data set are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding {
    /// Whether value representations are written out.
    pub explicit: bool,
    /// Byte order.
    pub big_endian: bool,
}

impl Encoding {
    const IMPLICIT_LITTLE: Self = Self {
        explicit: false,
        big_endian: false,
    };

    /// The encoding of a transfer syntax that is neither deflated nor unknown (PS3.5 Annex A).
    #[must_use]
    pub fn of(transfer_syntax_uid: &str) -> Self {
        match transfer_syntax_uid {
            "1.2.840.10008.1.2" => Self::IMPLICIT_LITTLE,
            uid => Self {
                explicit: true,
                big_endian: uid == "1.2.840.10008.1.2.2",
            },
        }
    }

    fn u16(self, bytes: [u8; 2]) -> u16 {
        if self.big_endian {
            u16::from_be_bytes(bytes)
        } else {
            u16::from_le_bytes(bytes)
        }
    }

    fn u32(self, bytes: [u8; 4]) -> u32 {
        if self.big_endian {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        }
    }
}

/// Why a data set was not understood. Fit for an administrator; holds no values.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// The bytes could not be read back.
    #[error("could not read the received bytes")]
    Read(#[from] std::io::Error),
    /// There is nothing.
    #[error("the data set is empty")]
    Empty,
    /// A PS3.10 file was sent as the data set.
    #[error("a whole file with preamble was sent in place of a data set")]
    WholeFile,
    /// The bytes are clearly in another transfer syntax.
    #[error("not in the negotiated transfer syntax: looks like {looks_like}")]
    WrongSyntax {
        /// What they seem to be.
        looks_like: &'static str,
    },
    /// The data set stops inside an element.
    #[error("cut short in an element header at byte {at}")]
    CutShort {
        /// Where the header starts.
        at: u64,
    },
    /// No two capital letters where a VR must be.
    #[error("no value representation in {tag} at byte {at}")]
    BadVr {
        /// The element.
        tag: Tag,
        /// Where it starts.
        at: u64,
    },
    /// A length runs past the end of its container.
    #[error("{tag} is {length} bytes long, {left} are left")]
    TooLong {
        /// The element or item.
        tag: Tag,
        /// What it says.
        length: u32,
        /// What there is.
        left: u64,
    },
    /// Undefined length where it may not be.
    #[error("{tag} has an undefined length")]
    UndefinedLength {
        /// The element or item.
        tag: Tag,
    },
    /// Something else than an item inside a sequence.
    #[error("{tag} at byte {at} stands where an item must be")]
    NotAnItem {
        /// What is there.
        tag: Tag,
        /// Where it starts.
        at: u64,
    },
    /// A delimiter outside of anything it could end.
    #[error("delimiter {tag} at byte {at} ends nothing")]
    StrayDelimiter {
        /// The delimiter.
        tag: Tag,
        /// Where it starts.
        at: u64,
    },
    /// The container of undefined length is still open where the bytes end.
    #[error("{tag} is never closed")]
    NotClosed {
        /// The sequence, or the pixel data.
        tag: Tag,
    },
    /// Nested deeper than [`NESTING_MAX`].
    #[error("sequences nested deeper than 64")]
    TooDeep,
    /// More than [`ELEMENTS_MAX`] elements.
    #[error("more than 8000000 elements")]
    TooMany,
    /// Command or file meta elements in the data set.
    #[error("{tag} has no place in a data set")]
    ForeignGroup {
        /// The element.
        tag: Tag,
    },
}

/// One value that the visitor asked for.
#[derive(Debug, Clone, Copy)]
pub struct Value<'a> {
    /// Written VR; `None` in implicit VR.
    pub vr: Option<[u8; 2]>,
    /// Byte order of binary values.
    pub big_endian: bool,
    /// The value, at most [`VALUE_BYTES_MAX`] bytes of it.
    pub bytes: &'a [u8],
}

/// Who is told of the elements.
pub trait Visitor {
    /// Whether the value of `tag`, inside the sequences of `path`, is wanted.
    fn wants(&self, path: &[Tag], tag: Tag) -> bool;
    /// Hands over a wanted value.
    fn value(&mut self, path: &[Tag], tag: Tag, value: Value<'_>);
    /// The data set has pixel data at its top level.
    fn pixel_data(&mut self);
}

/// Walks over the `length` bytes that `source` is positioned at.
///
/// # Errors
/// At the first thing in the data set that cannot be right, see [`WalkError`].
pub fn walk<R: Read + Seek>(
    source: R,
    length: u64,
    encoding: Encoding,
    visitor: &mut impl Visitor,
) -> Result<(), WalkError> {
    let mut walk = Walk {
        source,
        at: 0,
        seen: 0,
        open: vec![Container {
            kind: Kind::DataSet,
            end: length,
            delimited: false,
            encoding,
        }],
        path: Vec::new(),
        visitor,
    };
    walk.check_beginning(length, encoding)?;
    while walk.step()? {}
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    DataSet,
    Sequence(Tag),
    Item,
}

#[derive(Debug, Clone, Copy)]
struct Container {
    kind: Kind,
    /// Where it ends; for an undefined length, where its nearest bounded parent does.
    end: u64,
    /// Of undefined length, so closed by a delimiter.
    delimited: bool,
    encoding: Encoding,
}

struct Walk<'v, R, V> {
    source: R,
    at: u64,
    seen: u64,
    open: Vec<Container>,
    /// The sequences that are open.
    path: Vec<Tag>,
    visitor: &'v mut V,
}

/// An element header.
struct Header {
    tag: Tag,
    vr: Option<[u8; 2]>,
    length: u32,
}

impl<R: Read + Seek, V: Visitor> Walk<'_, R, V> {
    /// One element, item or delimiter; `false` at the end.
    fn step(&mut self) -> Result<bool, WalkError> {
        let Some(&container) = self.open.last() else {
            return Ok(false);
        };
        if self.at >= container.end {
            if container.delimited {
                return Err(WalkError::NotClosed {
                    tag: self.path.last().copied().unwrap_or(ITEM),
                });
            }
            self.close(container.kind);
            return Ok(!self.open.is_empty());
        }
        self.seen += 1;
        if self.seen > ELEMENTS_MAX {
            return Err(WalkError::TooMany);
        }
        match container.kind {
            Kind::Sequence(_) => self.item(container).map(|()| true),
            Kind::DataSet | Kind::Item => self.element(container),
        }
    }

    fn close(&mut self, kind: Kind) {
        self.open.pop();
        if matches!(kind, Kind::Sequence(_)) {
            self.path.pop();
        }
    }

    /// The next thing in a sequence.
    fn item(&mut self, sequence: Container) -> Result<(), WalkError> {
        let at = self.at;
        self.need(sequence, 8)?;
        let tag = self.tag(sequence.encoding)?;
        let length = sequence.encoding.u32(self.bytes()?);
        match tag {
            ITEM => self.enter(Kind::Item, tag, length, sequence),
            SEQUENCE_END => {
                // superfluous in a sequence of defined length, and harmless
                if sequence.delimited {
                    self.close(sequence.kind);
                }
                Ok(())
            }
            _ => Err(WalkError::NotAnItem { tag, at }),
        }
    }

    /// The next element of the data set or of an item; `false` after the pixel data.
    fn element(&mut self, container: Container) -> Result<bool, WalkError> {
        let at = self.at;
        if container.kind == Kind::DataSet && self.is_padding(container)? {
            return Ok(false);
        }
        let header = self.header(container)?;
        let tag = header.tag;
        if tag.group() == 0xFFFE {
            return self.delimiter(tag, at, container).map(|()| true);
        }
        if container.kind == Kind::DataSet {
            if matches!(tag.group(), 0x0000 | 0x0002) {
                return Err(WalkError::ForeignGroup { tag });
            }
            if tag == PIXEL_DATA {
                self.visitor.pixel_data();
                self.pixels(&header, container)?;
                return Ok(false);
            }
        }
        self.contents(&header, container)?;
        Ok(true)
    }

    fn delimiter(&mut self, tag: Tag, at: u64, container: Container) -> Result<(), WalkError> {
        if container.kind != Kind::Item || tag != ITEM_END {
            return Err(WalkError::StrayDelimiter { tag, at });
        }
        // superfluous in an item of defined length, and harmless
        if container.delimited {
            self.close(Kind::Item);
        }
        Ok(())
    }

    fn contents(&mut self, header: &Header, container: Container) -> Result<(), WalkError> {
        let &Header { tag, vr, length } = header;
        match vr {
            Some([b'S', b'Q']) => self.enter(Kind::Sequence(tag), tag, length, container),
            // PS3.5 6.2.2: what has VR UN and no length is a sequence in implicit VR
            Some([b'U', b'N']) if length == UNDEFINED => {
                let encoding = Encoding::IMPLICIT_LITTLE;
                let container = Container {
                    encoding,
                    ..container
                };
                self.enter(Kind::Sequence(tag), tag, length, container)
            }
            Some([b'O', _]) if length == UNDEFINED => self.fragments(tag, container),
            None if length == UNDEFINED || is_sequence(tag) => {
                self.enter(Kind::Sequence(tag), tag, length, container)
            }
            _ => self.plain(header, container),
        }
    }

    fn pixels(&mut self, header: &Header, container: Container) -> Result<(), WalkError> {
        if header.length == UNDEFINED {
            return self.fragments(header.tag, container);
        }
        self.fits(header.tag, header.length, container)
    }

    /// A value that is not made of elements.
    fn plain(&mut self, header: &Header, container: Container) -> Result<(), WalkError> {
        let &Header { tag, vr, length } = header;
        if length == UNDEFINED {
            return Err(WalkError::UndefinedLength { tag });
        }
        self.fits(tag, length, container)?;
        let mut left = length;
        if self.visitor.wants(&self.path, tag) {
            let mut buffer = [0; VALUE_BYTES_MAX];
            let wanted = buffer
                .len()
                .min(usize::try_from(length).unwrap_or(usize::MAX));
            self.source.read_exact(&mut buffer[..wanted])?;
            self.at += wanted as u64;
            left -= u32::try_from(wanted).unwrap_or(left);
            let value = Value {
                vr,
                big_endian: container.encoding.big_endian,
                bytes: &buffer[..wanted],
            };
            self.visitor.value(&self.path, tag, value);
        }
        self.skip(left)
    }

    /// Fragments of encapsulated pixel data (PS3.5 A.4).
    fn fragments(&mut self, tag: Tag, container: Container) -> Result<(), WalkError> {
        loop {
            let at = self.at;
            if at >= container.end {
                return Err(WalkError::NotClosed { tag });
            }
            self.seen += 1;
            if self.seen > ELEMENTS_MAX {
                return Err(WalkError::TooMany);
            }
            self.need(container, 8)?;
            let fragment = self.tag(container.encoding)?;
            let length = container.encoding.u32(self.bytes()?);
            match fragment {
                ITEM if length == UNDEFINED => {
                    return Err(WalkError::UndefinedLength { tag: ITEM });
                }
                ITEM => {
                    self.fits(ITEM, length, container)?;
                    self.skip(length)?;
                }
                SEQUENCE_END => return Ok(()),
                _ => return Err(WalkError::NotAnItem { tag: fragment, at }),
            }
        }
    }

    /// Opens a sequence or an item.
    fn enter(
        &mut self,
        kind: Kind,
        tag: Tag,
        length: u32,
        parent: Container,
    ) -> Result<(), WalkError> {
        let delimited = length == UNDEFINED;
        let end = if delimited {
            parent.end
        } else {
            self.fits(tag, length, parent)?;
            self.at + u64::from(length)
        };
        if let Kind::Sequence(tag) = kind {
            if self.path.len() >= NESTING_MAX {
                return Err(WalkError::TooDeep);
            }
            self.path.push(tag);
        }
        self.open.push(Container {
            kind,
            end,
            delimited,
            encoding: parent.encoding,
        });
        Ok(())
    }

    fn header(&mut self, container: Container) -> Result<Header, WalkError> {
        let at = self.at;
        let encoding = container.encoding;
        self.need(container, 8)?;
        let tag = self.tag(encoding)?;
        if !encoding.explicit || tag.group() == 0xFFFE {
            let length = encoding.u32(self.bytes()?);
            return Ok(Header {
                tag,
                vr: None,
                length,
            });
        }
        let vr: [u8; 2] = self.bytes()?;
        if !vr.iter().all(u8::is_ascii_uppercase) {
            return Err(WalkError::BadVr { tag, at });
        }
        let short: [u8; 2] = self.bytes()?;
        let length = if has_short_length(vr) {
            u32::from(encoding.u16(short))
        } else {
            // two reserved bytes, then the length
            if container.end - self.at < 4 {
                return Err(WalkError::CutShort { at });
            }
            encoding.u32(self.bytes()?)
        };
        Ok(Header {
            tag,
            vr: Some(vr),
            length,
        })
    }

    fn tag(&mut self, encoding: Encoding) -> Result<Tag, WalkError> {
        let group = encoding.u16(self.bytes()?);
        let element = encoding.u16(self.bytes()?);
        Ok(Tag(group, element))
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], WalkError> {
        let mut bytes = [0; N];
        self.source.read_exact(&mut bytes)?;
        self.at += N as u64;
        Ok(bytes)
    }

    fn skip(&mut self, length: u32) -> Result<(), WalkError> {
        if length > 0 {
            self.source.seek_relative(i64::from(length))?;
            self.at += u64::from(length);
        }
        Ok(())
    }

    fn need(&self, container: Container, bytes: u64) -> Result<(), WalkError> {
        if container.end - self.at < bytes {
            return Err(WalkError::CutShort { at: self.at });
        }
        Ok(())
    }

    fn fits(&self, tag: Tag, length: u32, container: Container) -> Result<(), WalkError> {
        let left = container.end - self.at;
        if u64::from(length) > left {
            return Err(WalkError::TooLong { tag, length, left });
        }
        Ok(())
    }

    /// A few zero bytes behind the last element are common and mean nothing.
    fn is_padding(&mut self, container: Container) -> Result<bool, WalkError> {
        let left = container.end - self.at;
        if left >= 8 {
            return Ok(false);
        }
        for _ in 0..left {
            if self.bytes::<1>()? != [0] {
                return Err(WalkError::CutShort { at: self.at });
            }
        }
        Ok(true)
    }

    /// Says what is wrong when the first bytes are of another kind altogether.
    fn check_beginning(&mut self, length: u64, encoding: Encoding) -> Result<(), WalkError> {
        if length == 0 {
            return Err(WalkError::Empty);
        }
        let mut buffer = [0; 132];
        let read = buffer
            .len()
            .min(usize::try_from(length).unwrap_or(usize::MAX));
        let start = &mut buffer[..read];
        self.source.read_exact(start)?;
        let back = i64::try_from(read).unwrap_or_default();
        self.source.seek_relative(-back)?;
        beginning::check(start, encoding)
    }
}

fn is_sequence(tag: Tag) -> bool {
    StandardDataDictionary
        .by_tag(tag)
        .is_some_and(|entry| entry.vr().exact() == Some(VR::SQ))
}

/// VRs with a 16-bit length (PS3.5 7.1.2); every other, known or not, has 32 bits.
fn has_short_length(vr: [u8; 2]) -> bool {
    matches!(
        &vr,
        b"AE"
            | b"AS"
            | b"AT"
            | b"CS"
            | b"DA"
            | b"DS"
            | b"DT"
            | b"FD"
            | b"FL"
            | b"IS"
            | b"LO"
            | b"LT"
            | b"PN"
            | b"SH"
            | b"SL"
            | b"SS"
            | b"ST"
            | b"TM"
            | b"UI"
            | b"UL"
            | b"US"
    )
}

#[cfg(test)]
pub(super) mod tests;
