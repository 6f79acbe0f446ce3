//! Whether a page has a marker that is not escaped.

use crate::marked::SIGN;

/// What may stand before a marker's name: its beginning, escaped for HTML or for an address.
const ESCAPED: [&str; 4] = ["&#60;b ", "&#60;b/", "&lt;b ", "%3Cb%20"];

/// The first place at which a marker is a part of the page, or stands without its beginning.
pub fn unescaped(page: &str) -> Option<String> {
    let around = |at: usize| {
        let (from, to) = (
            page.floor_char_boundary(at.saturating_sub(80)),
            page.ceil_char_boundary(page.len().min(at + 40)),
        );
        page[from..to].to_owned()
    };
    let lower = page.to_lowercase();
    for bad in ["<script>hit", "<b zq", "\"'>", "\"'&#62;", "\"'&gt;"] {
        if let Some(at) = lower.find(bad) {
            return Some(format!("{bad} in …{}…", around(at)));
        }
    }
    let mut places = page.match_indices(SIGN).map(|(at, _)| at);
    places
        .find(|at| !ESCAPED.iter().any(|e| page[..*at].ends_with(e)))
        .map(around)
}

#[test]
fn what_is_not_escaped_is_found() {
    use crate::marked::mark;
    let text = mark("1");
    let escaped = text
        .replace('"', "&#34;")
        .replace('\'', "&#39;")
        .replace('<', "&#60;")
        .replace('>', "&#62;");
    assert_eq!(
        unescaped(&format!("<p title=\"{escaped}\">{escaped}</p>")),
        None
    );
    for page in [
        format!("<p>{text}</p>"),
        format!(
            "<p title=\"{}\">",
            escaped.replace("&#34;", "\"").replace("&#39;", "'")
        ),
        text.to_uppercase(),
        "<p>zq1</p>".to_owned(),
    ] {
        assert!(unescaped(&page).is_some(), "{page}");
    }
}
