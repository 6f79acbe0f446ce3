//! What a sender is answered.

use crate::dicom::guard;

/// Status (0000,0900) of a response (PS3.7 Annex C, PS3.4 table B.2-1) with its Error Comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// (0000,0900)
    pub status: u16,
    /// (0000,0902), made to fit.
    pub comment: Option<String>,
}

impl Answer {
    /// All is well, and an object is durably ours.
    pub const SUCCESS: Self = Self {
        status: 0x0000,
        comment: None,
    };

    fn with(status: u16, comment: &str) -> Self {
        Self {
            status,
            comment: Some(guard::comment(comment)).filter(|text| !text.is_empty()),
        }
    }

    /// Taken, but not as sent: the object is in quarantine.
    pub fn kept_aside(reason: &str) -> Self {
        Self::with(0xB000, reason)
    }

    /// A unique identifier of the command is against the rules (PS3.7 C.5.7).
    pub fn invalid_instance(reason: &str) -> Self {
        Self::with(0x0117, reason)
    }

    /// Nothing of ours is called so (PS3.7 C.5.12).
    pub fn no_such_instance(reason: &str) -> Self {
        Self::with(0x0112, reason)
    }

    /// A SOP class that was not negotiated for this context (PS3.7 C.5.22).
    pub fn class_not_supported(reason: &str) -> Self {
        Self::with(0x0122, reason)
    }

    /// A service we do not offer (PS3.7 C.5.27).
    pub fn unrecognized_operation() -> Self {
        Self::with(0x0211, "only C-ECHO and C-STORE are offered")
    }

    /// Try again later.
    pub fn out_of_resources(reason: &str) -> Self {
        Self::with(0xA700, reason)
    }

    /// The data set is of another object than the command says.
    pub fn mismatch(reason: &str) -> Self {
        Self::with(0xA900, reason)
    }

    /// The data set is not sound.
    pub fn cannot_understand(reason: &str) -> Self {
        Self::with(0xC000, reason)
    }

    /// Whatever the sink said.
    pub fn refused(status: u16, comment: &str) -> Self {
        Self::with(status, comment)
    }
}
