//! The frame of a message on a connection: 0x0B, message, 0x1C 0x0D (MLLP release 1).

use bytes::{Buf as _, Bytes, BytesMut};

/// Begins a frame.
pub const START: u8 = 0x0B;
/// Ends a frame, with CR after it.
pub const END: u8 = 0x1C;
/// Bytes between frames that are passed over, line ends mostly; more is no HL7.
const NOISE_BYTES_MAX: usize = 1_024;
/// Bytes kept of a message that is too large, to answer it by.
const HEAD_BYTES: usize = 2_048;

/// Why a connection cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrameError {
    /// The message is larger than allowed; this is how it begins.
    TooLarge(Bytes),
    /// What comes is not framed.
    NotFramed,
}

/// Takes frames out of what came.
#[derive(Debug)]
pub struct Deframer {
    bytes_max: usize,
    noise: usize,
    /// Bytes of the frame that were looked at.
    seen: usize,
}

impl Deframer {
    /// For messages of at most so many bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            noise: 0,
            seen: 0,
        }
    }

    /// The next whole message, `None` while more must come.
    ///
    /// The CR after a frame is passed over like any other byte between frames, so a sender that leaves
    /// it out is understood. A frame that begins inside another replaces it: its sender began anew.
    ///
    /// # Errors
    /// When the connection cannot go on.
    pub fn next(&mut self, came: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
        if came.first() != Some(&START) {
            let start = came.iter().position(|b| *b == START);
            let noise = start.unwrap_or(came.len());
            self.noise += noise;
            came.advance(noise);
            if self.noise > NOISE_BYTES_MAX {
                return Err(FrameError::NotFramed);
            }
            if start.is_none() {
                return Ok(None);
            }
        }
        while self.seen < came.len() {
            match came[self.seen] {
                START => {
                    came.advance(self.seen);
                    self.seen = 1;
                }
                END => {
                    let mut message = came.split_to(self.seen);
                    message.advance(1);
                    came.advance(1);
                    self.seen = 0;
                    self.noise = 0;
                    return if message.len() > self.bytes_max {
                        Err(too_large(&message))
                    } else {
                        Ok(Some(message.freeze()))
                    };
                }
                _ => self.seen += 1,
            }
        }
        if came.len() > self.bytes_max + 1 {
            return Err(too_large(&came[1..]));
        }
        Ok(None)
    }
}

fn too_large(message: &[u8]) -> FrameError {
    let head = &message[..message.len().min(HEAD_BYTES)];
    FrameError::TooLarge(Bytes::copy_from_slice(head))
}

/// A message in its frame.
#[must_use]
pub fn frame(message: &str) -> Vec<u8> {
    let mut framed = Vec::with_capacity(message.len() + 3);
    framed.push(START);
    framed.extend_from_slice(message.as_bytes());
    framed.extend_from_slice(&[END, b'\r']);
    framed
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames that come out when the bytes come in pieces of this size.
    fn frames(bytes: &[u8], piece: usize) -> Result<Vec<String>, FrameError> {
        let (mut deframer, mut came) = (Deframer::new(100), BytesMut::new());
        let mut all = Vec::new();
        for piece in bytes.chunks(piece) {
            came.extend_from_slice(piece);
            while let Some(frame) = deframer.next(&mut came)? {
                all.push(String::from_utf8(frame.to_vec()).unwrap());
            }
        }
        Ok(all)
    }

    #[track_caller]
    fn check(bytes: &[u8], expected: &[&str]) {
        for piece in [1, 2, 3, bytes.len().max(1)] {
            assert_eq!(frames(bytes, piece).unwrap(), expected, "pieces of {piece}");
        }
    }

    #[test]
    fn frames_come_out_as_they_went_in() {
        check(b"", &[]);
        check(&frame("MSH|a"), &["MSH|a"]);
        check(&[frame("a"), frame("b")].concat(), &["a", "b"]);
        check(b"\x0ba\x1c\x0bb\x1c\r\n\r\n\x0bc\x1c\r", &["a", "b", "c"]);
        check(b"\x0bhalf\x0bwhole\x1c\r", &["whole"]);
        check(b"\x0b\x1c\r", &[""]);
        check(b"\x0bnot yet", &[]);
        check(&[&vec![START; 90_000][..], b"a\x1c\r"].concat(), &["a"]);
    }

    #[test]
    fn what_is_too_much_ends_it() {
        let large = frame(&"x".repeat(101));
        for piece in [1, 7, large.len()] {
            let error = frames(&large, piece).unwrap_err();
            assert!(matches!(error, FrameError::TooLarge(head) if head.starts_with(b"xx")));
        }
        assert_eq!(frames(&frame(&"x".repeat(100)), 9).unwrap().len(), 1);
        let noise = vec![b'G'; NOISE_BYTES_MAX + 1];
        assert_eq!(frames(&noise, 10).unwrap_err(), FrameError::NotFramed);
    }
}
