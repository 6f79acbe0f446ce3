//! Style and script, in the binary.

use std::sync::LazyLock;

use actix_web::http::header;
use actix_web::{HttpResponse, web};

use super::answer::{PageError, Problem};
use crate::store::accounts::digest;

const CSS: &str = include_str!("static/firstread.css");
/// Keys and deeds, on both pages.
const WORK_JS: &str = include_str!("static/work.js");
const LIST_JS: &str = include_str!("static/worklist.js");
const NOTIFY_JS: &str = include_str!("static/notify.js");
const STUDY_JS: &str = include_str!("static/study.js");
const INTAKE_JS: &str = include_str!("static/intake.js");
const ICON: &str = include_str!("static/icon.svg");

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Characters of the digest in the address of a file.
const VERSION_CHARS: usize = 12;

/// Changes with the files: browsers may keep them for ever.
pub(super) fn version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(|| {
        let all = [CSS, WORK_JS, LIST_JS, NOTIFY_JS, STUDY_JS, INTAKE_JS, ICON].concat();
        digest(&all)[..VERSION_CHARS].to_owned()
    });
    &VERSION
}

pub(super) async fn file(name: web::Path<String>) -> Result<HttpResponse, PageError> {
    let (kind, text) = match name.as_str() {
        "firstread.css" => ("text/css; charset=utf-8", CSS),
        "work.js" => (SCRIPT, WORK_JS),
        "worklist.js" => (SCRIPT, LIST_JS),
        "notify.js" => (SCRIPT, NOTIFY_JS),
        "study.js" => (SCRIPT, STUDY_JS),
        "intake.js" => (SCRIPT, INTAKE_JS),
        "icon.svg" => ("image/svg+xml", ICON),
        _ => return Err(Problem::not_found("There is nothing at this address.").into()),
    };
    Ok(kept(kind, text))
}

pub(super) async fn icon() -> HttpResponse {
    kept("image/svg+xml", ICON)
}

pub(super) async fn robots() -> HttpResponse {
    kept("text/plain; charset=utf-8", "User-agent: *\nDisallow: /\n")
}

fn kept(kind: &str, text: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, kind))
        .insert_header((header::CACHE_CONTROL, "public, max-age=31536000, immutable"))
        .body(text)
}
