//! The RIS as a peer: messages over real connections, both databases, real senders and receivers.

#![allow(
    clippy::unwrap_used,
    clippy::duration_suboptimal_units,
    reason = "a test fails where it stands"
)]

mod common;

#[path = "hl7/conformance.rs"]
mod conformance;
#[path = "hl7/inbound.rs"]
mod inbound;
#[path = "hl7/killed.rs"]
mod killed;
#[path = "hl7/outbound.rs"]
mod outbound;
#[allow(dead_code, reason = "others use the rest")]
#[path = "common/papers.rs"]
mod papers;
#[path = "hl7/peer.rs"]
mod peer;
#[path = "hl7/server.rs"]
mod server;
#[path = "web/site.rs"]
mod site;
#[path = "hl7/templates.rs"]
mod templates;
#[path = "hl7/tls.rs"]
mod tls;
#[path = "hl7/wire.rs"]
mod wire;
