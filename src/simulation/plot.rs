//! A picture of the waits: mean with its interval, 95th percentile and longest, on a log scale.

use std::fmt::Write as _;

use super::{GROUPS, Groups};

const WIDTH: f64 = 720.0;
const LEFT: f64 = 96.0;
const ROW: f64 = 36.0;
const TOP: f64 = 56.0;
/// Decades of the scale: 0.1 to 10 000 minutes.
const DECADES: (i32, i32) = (-1, 4);

/// An SVG of one run; `title` is escaped.
#[must_use]
pub fn svg(groups: &Groups, title: &str) -> String {
    #[expect(clippy::cast_precision_loss, reason = "six rows")]
    let bottom = TOP + ROW * GROUPS.len() as f64;
    let height = bottom + 44.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"16\" y=\"24\" font-size=\"14\">{}</text>\n",
        escape(title)
    );
    for decade in DECADES.0..=DECADES.1 {
        let (x, minutes) = (place(10_f64.powi(decade)), 10_f64.powi(decade));
        let _ = writeln!(
            out,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\" stroke=\"#ddd\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{minutes}</text>",
            bottom + 16.0
        );
    }
    for (number, (name, g)) in GROUPS.into_iter().zip(groups.each()).enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "six rows")]
        let y = TOP + ROW * (number as f64 + 0.5);
        let _ = writeln!(out, "<text x=\"16\" y=\"{:.1}\">{name}</text>", y + 4.0);
        let (Some(mean), Some(p95), Some(max)) = (g.mean, g.p95, g.max) else {
            continue;
        };
        let (a, b, c) = (place(mean), place(p95), place(max));
        let _ = writeln!(
            out,
            "<line x1=\"{a:.1}\" x2=\"{c:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#999\"/>\
             <circle cx=\"{b:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"none\" stroke=\"#555\"/>\
             <line x1=\"{c:.1}\" x2=\"{c:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"#999\"/>\
             <circle cx=\"{a:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"#1f5fa8\"/>",
            y - 4.0,
            y + 4.0
        );
        if let Some([low, high]) = g.ci95 {
            let _ = writeln!(
                out,
                "<line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#1f5fa8\" stroke-width=\"3\"/>",
                place(low),
                place(high)
            );
        }
    }
    let _ = writeln!(
        out,
        "<text x=\"{LEFT}\" y=\"{:.1}\">minutes waited: mean with its 95 % interval (filled), 95th percentile (ring), longest (bar)</text>\n</svg>",
        bottom + 36.0
    );
    out
}

fn place(minutes: f64) -> f64 {
    let (low, high) = (f64::from(DECADES.0), f64::from(DECADES.1));
    let at = minutes.max(1e-9).log10().clamp(low, high);
    LEFT + (WIDTH - LEFT - 24.0) * (at - low) / (high - low)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// A discipline's name, and its waits in each group.
pub type CompareRow<'a> = (&'a str, [super::GroupStats; 3]);

/// A picture for a page: the disciplines under each other, group by group, in the page's own colours
/// (classes `mean`, `p95`, `longest`, `scale`). `names` and rows are of our own making.
#[must_use]
pub fn compare_svg(names: &[&str; 3], rows: &[CompareRow<'_>]) -> String {
    const LINE: f64 = 22.0;
    const NAME: f64 = 190.0;
    let place = |minutes: f64| {
        let (low, high) = (f64::from(DECADES.0), f64::from(DECADES.1));
        let at = minutes.max(1e-9).log10().clamp(low, high);
        NAME + (WIDTH - NAME - 24.0) * (at - low) / (high - low)
    };
    let block = LINE * (rows.len() as f64 + 1.5);
    let bottom = block * names.len() as f64;
    let mut out = format!(
        "<svg class=\"waitplot\" viewBox=\"0 0 {WIDTH} {:.0}\" role=\"img\" \
         aria-label=\"Waits by discipline; the table says the same in numbers\">\n",
        bottom + 26.0
    );
    for decade in DECADES.0..=DECADES.1 {
        let (x, minutes) = (place(10_f64.powi(decade)), 10_f64.powi(decade));
        let _ = writeln!(
            out,
            "<path class=\"scale\" d=\"M{x:.1} 0V{bottom:.1}\"/><text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\">{minutes}</text>",
            bottom + 16.0
        );
    }
    for (number, name) in names.iter().enumerate() {
        let top = block * number as f64 + LINE;
        let _ = writeln!(
            out,
            "<text class=\"group\" x=\"0\" y=\"{:.1}\">{}</text>",
            top - 6.0,
            escape(name)
        );
        for (line, (discipline, groups)) in rows.iter().enumerate() {
            let y = top + LINE * (line as f64 + 0.5);
            let _ = writeln!(
                out,
                "<text x=\"8\" y=\"{:.1}\">{}</text>",
                y + 4.0,
                escape(discipline)
            );
            let g = &groups[number];
            let (Some(mean), Some(p95), Some(max)) = (g.mean, g.p95, g.max) else {
                continue;
            };
            let (a, b, c) = (place(mean), place(p95), place(max));
            let _ = writeln!(
                out,
                "<path class=\"longest\" d=\"M{a:.1} {y:.1}H{c:.1}M{c:.1} {:.1}v8\"/>\
                 <circle class=\"p95\" cx=\"{b:.1}\" cy=\"{y:.1}\" r=\"3\"/>\
                 <circle class=\"mean\" cx=\"{a:.1}\" cy=\"{y:.1}\" r=\"4\"/>",
                y - 4.0
            );
        }
    }
    out.push_str("</svg>");
    out
}
