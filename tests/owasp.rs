//! What OWASP's lists ask of a server, each as a test over every route: scripts in texts, quotes in
//! queries, paths in identifiers, addresses of others.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

#[allow(dead_code, reason = "others use the rest")]
#[path = "receive/client.rs"]
mod client;
mod common;
#[allow(dead_code, reason = "others use the rest")]
#[path = "receive/data.rs"]
mod data;
#[path = "owasp/elsewhere.rs"]
mod elsewhere;
#[path = "owasp/inject.rs"]
mod inject;
#[path = "owasp/marked.rs"]
mod marked;
#[path = "owasp/paths.rs"]
mod paths;
#[path = "owasp/reflected.rs"]
mod reflected;
#[path = "owasp/scripts.rs"]
mod scripts;
#[path = "web/site.rs"]
mod site;
