//! The hospital's information systems: orders, patients and reports come in as HL7 v2, results go out.
//!
//! `message` is HL7 itself and knows nothing of studies; `inbound` reads what a message asks for;
//! `receive` has it done and answers; `outbound` words results, `courier` sends them for the outbox;
//! `listen` and `mllp` are the connection.

pub mod courier;
pub mod inbound;
pub mod listen;
pub mod message;
pub mod mllp;
pub mod outbound;
pub mod receive;
mod settings;

pub use receive::Receiver;
pub use settings::{Hl7Destination, Hl7Settings};
