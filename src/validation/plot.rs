//! Pictures of a validation: scores by row, and differences against means (Bland and Altman).

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 24.0;
const ROW: f64 = 22.0;
const TOP: f64 = 48.0;
const PLOT_HEIGHT: f64 = 360.0;
/// Differences beyond it stand at the edge, percent.
const PERCENT_SHOWN_MAX: f64 = 60.0;

/// A row of dots from 0 to 1 for each name, with a bar at the mean; an SVG.
#[must_use]
pub fn scores(title: &str, rows: &[(&str, Vec<f64>)]) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a few rows")]
    let bottom = TOP + ROW * rows.len() as f64;
    let place = |score: f64| LEFT + (WIDTH - LEFT - RIGHT) * score.clamp(0.0, 1.0);
    let mut out = head(title, bottom + 40.0);
    for tenth in (0..=10).step_by(2) {
        let (x, label) = (place(f64::from(tenth) / 10.0), f64::from(tenth) / 10.0);
        let _ = writeln!(
            out,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\" stroke=\"#ddd\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
            bottom + 16.0
        );
    }
    for (n, (name, values)) in rows.iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "a few rows")]
        let y = TOP + ROW * (n as f64 + 0.5);
        let _ = writeln!(
            out,
            "<text x=\"16\" y=\"{:.1}\">{}</text>",
            y + 4.0,
            escape(name)
        );
        for value in values {
            let _ = writeln!(
                out,
                "<circle cx=\"{:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"#1f5fa8\" fill-opacity=\"0.5\"/>",
                place(*value)
            );
        }
        if let Some(mean) = super::mean(values.iter().copied()) {
            let x = place(mean);
            let _ = writeln!(
                out,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"#c33\" stroke-width=\"2\"/>",
                y - 8.0,
                y + 8.0
            );
        }
    }
    out + "</svg>\n"
}

/// Difference in percent of the mean against the mean, on a log scale of mm3; an SVG. Pairs are
/// (truth, prediction); those without a positive mean are left out.
#[must_use]
pub fn differences(title: &str, pairs: &[(f64, f64)]) -> String {
    let points: Vec<(f64, f64)> = pairs
        .iter()
        .map(|(truth, predicted)| (f64::midpoint(*truth, *predicted), predicted - truth))
        .filter(|(mean, _)| *mean > 0.0)
        .map(|(mean, difference)| (mean, 100.0 * difference / mean))
        .collect();
    let logs = || points.iter().map(|(mean, _)| mean.log10());
    let low = logs().fold(f64::INFINITY, f64::min).floor().min(6.0);
    let high = logs()
        .fold(f64::NEG_INFINITY, f64::max)
        .ceil()
        .max(low + 1.0);
    let bottom = TOP + PLOT_HEIGHT;
    let x_of = |mean: f64| LEFT + (WIDTH - LEFT - RIGHT) * (mean.log10() - low) / (high - low);
    let y_of = |percent: f64| {
        let shown = percent.clamp(-PERCENT_SHOWN_MAX, PERCENT_SHOWN_MAX);
        TOP + PLOT_HEIGHT * (1.0 - (shown + PERCENT_SHOWN_MAX) / (2.0 * PERCENT_SHOWN_MAX))
    };
    let mut out = head(title, bottom + 44.0);
    for percent in [-60, -40, -20, 0, 20, 40, 60] {
        let y = y_of(f64::from(percent));
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{percent} %</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            y + 4.0
        );
    }
    let percents: Vec<(f64, f64)> = points.iter().map(|(_, percent)| (0.0, *percent)).collect();
    if let Some(limits) = super::bland_altman(&percents) {
        for (percent, dash) in [(limits.bias, ""), (limits.low, "6 4"), (limits.high, "6 4")] {
            let y = y_of(percent);
            let _ = writeln!(
                out,
                "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#c33\" stroke-dasharray=\"{dash}\"/>",
                WIDTH - RIGHT
            );
        }
    }
    for (mean, percent) in &points {
        let _ = writeln!(
            out,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\" fill=\"#1f5fa8\" fill-opacity=\"0.5\"/>",
            x_of(*mean),
            y_of(*percent)
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"{LEFT}\" y=\"{:.1}\">mean of truth and prediction, 10^{low} to 10^{high} mm3; line: bias, dashed: limits of agreement</text>\n</svg>",
        bottom + 28.0
    );
    out
}

fn head(title: &str, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"16\" y=\"24\" font-size=\"14\">{}</text>\n",
        escape(title)
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_score_is_a_dot_and_names_are_escaped() {
        let svg = scores("Dice <b>", &[("a & b", vec![0.5, 0.7]), ("c", vec![])]);
        assert_eq!(svg.matches("<circle").count(), 2);
        assert_eq!(svg.matches("stroke=\"#c33\"").count(), 1, "one mean");
        assert!(svg.contains("a &amp; b") && svg.contains("&lt;b>"));
    }

    #[test]
    fn differences_have_their_limits() {
        let pairs = [(1000.0, 1100.0), (2000.0, 1900.0), (0.0, 0.0)];
        let svg = differences("volumes", &pairs);
        assert_eq!(svg.matches("<circle").count(), 2);
        assert_eq!(svg.matches("stroke=\"#c33\"").count(), 3);
        assert!(differences("none", &[]).ends_with("</svg>\n"));
    }
}
