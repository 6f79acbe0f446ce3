//! What is told reaches its destination: the outbox on both databases, alerts through a real mail server.

#![allow(
    clippy::unwrap_used,
    clippy::duration_suboptimal_units,
    reason = "a test fails where it stands"
)]

mod common;

#[path = "outbox/alerting.rs"]
mod alerting;
#[path = "outbox/claims.rs"]
mod claims;
#[path = "outbox/docs.rs"]
mod docs;
#[path = "outbox/made.rs"]
mod made;
#[path = "outbox/mail.rs"]
mod mail;
#[path = "outbox/oncall.rs"]
mod oncall;
#[path = "outbox/packaging.rs"]
mod packaging;
#[path = "outbox/paging.rs"]
mod paging;
#[path = "outbox/queue.rs"]
mod queue;
#[path = "outbox/scenarios.rs"]
mod scenarios;
#[path = "outbox/sending.rs"]
mod sending;
#[path = "outbox/server.rs"]
mod server;
#[path = "web/site.rs"]
mod site;
#[path = "outbox/subscriptions.rs"]
mod subscriptions;
#[path = "outbox/webhooks.rs"]
mod webhooks;
