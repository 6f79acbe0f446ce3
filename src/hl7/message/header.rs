//! What MSH says of a message (2.15.9).

use super::Segment;

/// Who sends what to whom, and what answer is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Header {
    /// MSH-3.1
    pub sending_application: String,
    /// MSH-4.1
    pub sending_facility: String,
    /// MSH-5.1
    pub receiving_application: String,
    /// MSH-6.1
    pub receiving_facility: String,
    /// MSH-7
    pub at: String,
    /// MSH-9.1, for example `ORM`.
    pub message_code: String,
    /// MSH-9.2, for example `O01`.
    pub trigger: String,
    /// MSH-10
    pub control_id: String,
    /// MSH-11.1: P, T or D.
    pub processing: String,
    /// MSH-12.1, for example `2.5.1`.
    pub version: String,
    /// MSH-15: AL, NE, ER or SU; empty in original mode.
    pub accept_ack: String,
    /// MSH-16
    pub application_ack: String,
}

impl Header {
    pub(super) fn of(msh: &Segment) -> Self {
        let text = |number| msh.text(number).to_owned();
        Self {
            sending_application: text(3),
            sending_facility: text(4),
            receiving_application: text(5),
            receiving_facility: text(6),
            at: text(7),
            message_code: text(9).to_ascii_uppercase(),
            trigger: msh.field(9).component(2).to_ascii_uppercase(),
            control_id: text(10),
            processing: text(11),
            version: text(12),
            accept_ack: text(15).to_ascii_uppercase(),
            application_ack: text(16).to_ascii_uppercase(),
        }
    }

    /// `ORM^O01`
    #[must_use]
    pub fn kind(&self) -> String {
        if self.trigger.is_empty() {
            return self.message_code.clone();
        }
        format!("{}^{}", self.message_code, self.trigger)
    }

    /// Application and facility: whose control ids these are.
    #[must_use]
    pub fn sender(&self) -> String {
        format!("{}|{}", self.sending_application, self.sending_facility)
    }

    /// Whether the sender speaks the enhanced mode (2.9.3): it says which acknowledgements it wants.
    #[must_use]
    pub fn is_enhanced(&self) -> bool {
        !self.accept_ack.is_empty() || !self.application_ack.is_empty()
    }

    /// Major and minor version, for example (2, 5); 2.5 where it cannot be read.
    #[must_use]
    pub fn version_number(&self) -> (u32, u32) {
        let mut parts = self.version.split('.').map(str::parse);
        match (parts.next(), parts.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
            (Some(Ok(major)), _) => (major, 0),
            _ => (2, 5),
        }
    }
}
