//! The web side as its users meet it: a real server on a free port, real databases, real requests.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod common;

#[path = "web/access.rs"]
mod access;
#[path = "web/api.rs"]
mod api;
#[path = "web/atna.rs"]
mod atna;
#[path = "web/broken.rs"]
mod broken;
#[path = "web/compared.rs"]
mod compared;
#[path = "web/csrf.rs"]
mod csrf;
#[path = "web/deliveries.rs"]
mod deliveries;
#[path = "web/destinations.rs"]
mod destinations;
#[path = "web/fhir.rs"]
mod fhir;
#[path = "web/first.rs"]
mod first;
#[path = "web/follow_up.rs"]
mod follow_up;
#[path = "web/left.rs"]
mod left;
#[path = "web/list.rs"]
mod list;
#[path = "web/live.rs"]
mod live;
#[path = "web/login.rs"]
mod login;
#[path = "web/opinion.rs"]
mod opinion;
#[path = "web/order.rs"]
mod order;
#[path = "web/pages.rs"]
mod pages;
#[allow(dead_code, reason = "others use the rest")]
#[path = "common/papers.rs"]
mod papers;
#[path = "web/quality.rs"]
mod quality;
#[path = "web/ranking.rs"]
mod ranking;
#[path = "web/reading.rs"]
mod reading;
#[path = "web/report.rs"]
mod report;
#[path = "web/risen.rs"]
mod risen;
#[path = "web/roles.rs"]
mod roles;
#[path = "web/silence.rs"]
mod silence;
#[path = "web/site.rs"]
mod site;
#[path = "web/sso.rs"]
mod sso;
#[path = "web/subscriptions.rs"]
mod subscriptions;
#[path = "web/tls.rs"]
mod tls;
#[path = "web/trail.rs"]
mod trail;
#[path = "web/watch.rs"]
mod watch;
