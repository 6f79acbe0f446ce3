//! Memory an object arrives in: allocated once, used again, aligned as disks want it.

use std::sync::{Arc, Mutex};

/// Disks are written in blocks of this many bytes where the page cache is passed by.
pub const BLOCK_BYTES: usize = 4096;
/// Room in front of the object for whoever writes it down, in bytes.
pub const HEAD_BYTES: usize = 256;
/// Largest object that stays in memory, file meta information included, in bytes.
pub const OBJECT_BYTES_MAX: usize = (1 << 20) - HEAD_BYTES;
/// Buffers kept for the next objects; more are given back to the system.
const KEPT_MAX: usize = 128;

/// Buffers that are not in use.
#[derive(Debug, Default)]
pub struct Pool(Mutex<Vec<Vec<u8>>>);

impl Pool {
    /// An empty buffer. A new one costs no memory until it is written to.
    #[must_use]
    pub fn take(self: &Arc<Self>) -> ObjectBuffer {
        let kept = self.0.lock().ok().and_then(|mut kept| kept.pop());
        let memory = kept.unwrap_or_else(|| vec![0; HEAD_BYTES + OBJECT_BYTES_MAX + BLOCK_BYTES]);
        // an offset of 0 only costs the alignment, and with it the direct way to the disk
        let start = memory.as_ptr().align_offset(BLOCK_BYTES);
        ObjectBuffer {
            start: if start < BLOCK_BYTES { start } else { 0 },
            memory,
            length: 0,
            pool: Arc::clone(self),
        }
    }
}

/// An object of up to [`OBJECT_BYTES_MAX`] bytes, with [`HEAD_BYTES`] in front of it. Goes back to
/// its pool when dropped.
pub struct ObjectBuffer {
    memory: Vec<u8>,
    start: usize,
    /// Of the object.
    length: usize,
    pool: Arc<Pool>,
}

impl ObjectBuffer {
    /// The object so far.
    #[must_use]
    pub fn object(&self) -> &[u8] {
        let from = self.start + HEAD_BYTES;
        &self.memory[from..from + self.length]
    }

    /// Its length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Appends as much as fits; gives what does not.
    #[must_use]
    pub fn push<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (fits, rest) = bytes.split_at(bytes.len().min(OBJECT_BYTES_MAX - self.length));
        let from = self.start + HEAD_BYTES + self.length;
        self.memory[from..from + fits.len()].copy_from_slice(fits);
        self.length += fits.len();
        rest
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.length = 0;
    }

    /// The room in front.
    pub fn head(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + HEAD_BYTES]
    }

    /// Room and object, filled up to whole blocks.
    #[must_use]
    pub fn blocks(&self) -> &[u8] {
        &self.memory[self.start..self.start + blocks_bytes(self.length)]
    }

    /// As [`ObjectBuffer::blocks`], to read an object of `length` bytes into. An object that is too
    /// long gives nothing.
    pub fn blocks_for(&mut self, length: usize) -> Option<&mut [u8]> {
        if length > OBJECT_BYTES_MAX {
            return None;
        }
        self.length = length;
        Some(&mut self.memory[self.start..self.start + blocks_bytes(length)])
    }
}

/// What an object of so many bytes takes with its head, in whole blocks.
#[must_use]
pub fn blocks_bytes(length: usize) -> usize {
    (HEAD_BYTES + length).next_multiple_of(BLOCK_BYTES)
}

impl Drop for ObjectBuffer {
    fn drop(&mut self) {
        if let Ok(mut kept) = self.pool.0.lock()
            && kept.len() < KEPT_MAX
        {
            kept.push(std::mem::take(&mut self.memory));
        }
    }
}

impl std::fmt::Debug for ObjectBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ObjectBuffer({} bytes)", self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_fits_and_is_used_again() {
        let pool = Arc::new(Pool::default());
        let mut buffer = pool.take();
        assert!(buffer.is_empty());
        assert_eq!(buffer.push(b"abc"), b"");
        assert_eq!(buffer.object(), b"abc");
        assert_eq!(buffer.blocks().len(), BLOCK_BYTES);
        let much = vec![7; OBJECT_BYTES_MAX];
        assert_eq!(buffer.push(&much).len(), 3, "the rest comes back");
        assert_eq!(buffer.len(), OBJECT_BYTES_MAX);
        assert_eq!(buffer.blocks().len() % BLOCK_BYTES, 0);
        assert_eq!(buffer.blocks().as_ptr().align_offset(BLOCK_BYTES), 0);
        let at = buffer.blocks().as_ptr();
        drop(buffer);
        let again = pool.take();
        assert!(again.is_empty());
        assert_eq!(again.blocks().as_ptr(), at);
    }
}
