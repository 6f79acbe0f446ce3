//! Stored samples to intensities (PS3.3 C.7.6.3, C.11.1).

use super::DecodeError;

/// How samples are stored, and what they mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct SampleFormat {
    /// (0028,0100): 8, 16 or 32
    pub bits_allocated: u16,
    /// (0028,0101)
    pub bits_stored: u16,
    /// (0028,0102)
    pub high_bit: u16,
    /// (0028,0103) is 1: two's complement
    pub signed: bool,
    /// (0028,0004) is MONOCHROME1: low values are white
    pub inverted: bool,
}

/// Intensity = stored * slope + intercept (0028,1053), (0028,1052).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rescale {
    pub slope: f64,
    pub intercept: f64,
}

impl SampleFormat {
    /// Whether the bits fit into each other.
    ///
    /// # Errors
    /// [`DecodeError::Failed`] where they do not, or where a width is not 8, 16 or 32.
    pub fn checked(self) -> Result<Self, DecodeError> {
        let width_known = matches!(self.bits_allocated, 8 | 16 | 32);
        let fits = (1..=self.bits_allocated).contains(&self.bits_stored)
            && self.high_bit < self.bits_allocated
            && self.high_bit + 1 >= self.bits_stored;
        if width_known && fits {
            Ok(self)
        } else {
            Err(DecodeError::Failed(format!(
                "pixels of {} bits in {}, highest bit {}, cannot be",
                self.bits_stored, self.bits_allocated, self.high_bit
            )))
        }
    }

    /// Bytes of one sample.
    pub fn bytes(self) -> usize {
        usize::from(self.bits_allocated / 8)
    }

    /// Intensities of little-endian samples; whatever stands above `high_bit` is ignored.
    pub fn intensities(self, bytes: &[u8], rescale: Rescale) -> Vec<f32> {
        let value = |raw: u32| {
            #[allow(
                clippy::cast_possible_truncation,
                reason = "f32 is what the networks read"
            )]
            let intensity = (self.stored(raw) * rescale.slope + rescale.intercept) as f32;
            intensity
        };
        match self.bits_allocated {
            8 => bytes.iter().map(|&b| value(u32::from(b))).collect(),
            16 => bytes
                .chunks_exact(2)
                .map(|b| value(u32::from(u16::from_le_bytes([b[0], b[1]]))))
                .collect(),
            _ => bytes
                .chunks_exact(4)
                .map(|b| value(u32::from_le_bytes([b[0], b[1], b[2], b[3]])))
                .collect(),
        }
    }

    /// The number a sample stands for.
    fn stored(self, raw: u32) -> f64 {
        let top = u32::from(31 - self.high_bit);
        let unused = u32::from(32 - self.bits_stored);
        let value = if self.signed {
            f64::from((raw << top).cast_signed() >> unused)
        } else {
            f64::from((raw << top) >> unused)
        };
        if !self.inverted {
            return value;
        }
        let levels = f64::from(self.bits_stored).exp2();
        if self.signed {
            -1.0 - value
        } else {
            levels - 1.0 - value
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: SampleFormat = SampleFormat {
        bits_allocated: 16,
        bits_stored: 12,
        high_bit: 11,
        signed: false,
        inverted: false,
    };
    const SAME: Rescale = Rescale {
        slope: 1.0,
        intercept: 0.0,
    };

    #[track_caller]
    fn check(format: SampleFormat, stored: &[u16], want: &[f32]) {
        let bytes: Vec<u8> = stored.iter().flat_map(|v| v.to_le_bytes()).collect();
        let got = format.checked().unwrap().intensities(&bytes, SAME);
        assert_eq!(got, want);
    }

    #[test]
    fn junk_above_the_high_bit_is_ignored() {
        check(PLAIN, &[0xF123, 0x0FFF, 0x8000], &[291.0, 4095.0, 0.0]);
    }

    #[test]
    fn signs_are_extended() {
        let signed = SampleFormat {
            signed: true,
            ..PLAIN
        };
        check(signed, &[0x0FFF, 0xF7FF, 0x0800], &[-1.0, 2047.0, -2048.0]);
    }

    #[test]
    fn samples_may_sit_high_in_their_word() {
        let high = SampleFormat {
            high_bit: 15,
            ..PLAIN
        };
        check(high, &[0x1234, 0xFFF7], &[291.0, 4095.0]);
    }

    #[test]
    fn low_is_white_in_monochrome1() {
        let inverted = SampleFormat {
            inverted: true,
            ..PLAIN
        };
        check(inverted, &[0, 4095], &[4095.0, 0.0]);
    }

    #[test]
    fn rescale_and_widths() {
        let rescale = Rescale {
            slope: 0.5,
            intercept: -10.0,
        };
        let eight = SampleFormat {
            bits_allocated: 8,
            bits_stored: 8,
            high_bit: 7,
            ..PLAIN
        };
        assert_eq!(eight.intensities(&[0, 255], rescale), [-10.0, 117.5]);
        let wide = SampleFormat {
            bits_allocated: 32,
            bits_stored: 32,
            high_bit: 31,
            signed: true,
            inverted: false,
        };
        assert_eq!(wide.intensities(&[0xFE, 255, 255, 255], rescale), [-11.0]);
    }

    #[test]
    fn impossible_widths_are_refused() {
        for bits in [
            (16, 0, 11),
            (16, 17, 16),
            (12, 12, 11),
            (16, 12, 3),
            (1, 1, 0),
        ] {
            let format = SampleFormat {
                bits_allocated: bits.0,
                bits_stored: bits.1,
                high_bit: bits.2,
                ..PLAIN
            };
            assert!(format.checked().is_err(), "{bits:?}");
        }
    }
}
