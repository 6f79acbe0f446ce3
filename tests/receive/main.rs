//! Reception over real sockets: our own odd clients, stock dcmtk, and the hostile set.

#![expect(
    clippy::unwrap_used,
    reason = "allowed in tests, and helpers of tests are tests"
)]

mod client;
mod data;
mod dimse;
mod limits;
mod real;
mod server;
mod tls;

#[allow(dead_code, reason = "others use the rest")]
#[path = "../common/papers.rs"]
mod papers;
