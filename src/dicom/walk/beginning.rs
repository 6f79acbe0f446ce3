//! What the first bytes of a data set give away.

use dicom_core::VR;

use super::{Encoding, WalkError};

/// Says what is wrong when the first bytes are of another kind altogether.
pub fn check(start: &[u8], encoding: Encoding) -> Result<(), WalkError> {
    match looks_like(start) {
        Some(Look::WholeFile) => Err(WalkError::WholeFile),
        Some(Look::Encoded(found)) if found != encoding => Err(WalkError::WrongSyntax {
            looks_like: match (found.explicit, found.big_endian) {
                (true, false) => "explicit VR little endian",
                (true, true) => "explicit VR big endian",
                (false, _) => "implicit VR little endian",
            },
        }),
        _ => Ok(()),
    }
}

enum Look {
    WholeFile,
    Encoded(Encoding),
}

/// A data set begins with group 0008 (very rarely another small one), a known VR or none.
fn looks_like(start: &[u8]) -> Option<Look> {
    if start.len() == 132 && start.ends_with(b"DICM") && start[..2] != [8, 0] {
        return Some(Look::WholeFile);
    }
    let &[g0, g1, _, _, v0, v1, l0, l1, ..] = start else {
        return None;
    };
    let big_endian = g0 == 0 && g1 != 0;
    let explicit = VR::from_binary([v0, v1]).is_some();
    // in implicit VR the first element is no longer than 65535 bytes, so its length ends in zeros
    let implicit = !big_endian && g1 == 0 && l0 == 0 && l1 == 0;
    if !explicit && !implicit {
        return None;
    }
    Some(Look::Encoded(Encoding {
        explicit,
        big_endian,
    }))
}
