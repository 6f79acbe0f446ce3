//! The second page: curves, lesions, quality, ranking, versions.

use super::paper::{Align, BAND, BAND_OUTER, INK, MARK, PALE, Paper, RULE, Style};
use super::{MARGIN, ROOM, WIDTH, section};
use crate::report::Content;
use crate::report::content::Field;
use crate::report::curves::Curve;

/// Curves beside each other.
const COLUMNS: usize = 3;
/// Size of one curve with its labels, points.
const CELL: [f32; 2] = [ROOM / 3.0, 132.0];
/// What stands around a curve: left, top, right, below.
const AROUND: [f32; 4] = [28.0, 16.0, 10.0, 18.0];

pub(super) fn page(paper: &mut Paper<'_, '_>, content: &Content) {
    let mut y = MARGIN;
    y = section(paper, content.headings[2], y - 8.0);
    y = paper.paragraph(
        &content.curves_note,
        [MARGIN, y],
        ROOM,
        Style::of(8.0).pale(),
        3,
    );
    y = curves(paper, &content.curves, y);
    y = section(paper, content.headings[0], y);
    paper.text(&content.ranked, MARGIN, y, Style::of(9.0));
    y += 14.0;
    for term in &content.terms {
        y = pair(paper, term, y);
    }
    y = section(paper, content.headings[3], y);
    for line in content.lesions.iter().take(6) {
        y = paper.paragraph(line, [MARGIN, y], ROOM, Style::of(8.5), 1) + 1.0;
    }
    y = section(paper, content.headings[4], y);
    for line in content.quality.iter().take(9) {
        y = paper.paragraph(line, [MARGIN, y], ROOM, Style::of(8.5), 2) + 1.0;
    }
    y = section(paper, content.headings[5], y);
    for version in content.versions.iter().take(9) {
        paper.text(&version.label, MARGIN, y, Style::of(8.0).pale());
        let value = paper.fonts.cut(&version.value, 8.0, false, ROOM - 140.0);
        paper.text(&value, MARGIN + 140.0, y, Style::of(8.0));
        y += 11.5;
    }
}

/// A text and a number at the right edge.
fn pair(paper: &mut Paper<'_, '_>, field: &Field, y: f32) -> f32 {
    let label = paper.fonts.writable(&field.label);
    let label = paper.fonts.cut(&label, 8.5, false, ROOM - 60.0);
    paper.text(&label, MARGIN, y, Style::of(8.5));
    let style = Style::of(8.5).align(Align::Right);
    paper.text(&field.value, WIDTH - MARGIN, y, style);
    y + 12.0
}

#[expect(clippy::cast_precision_loss, reason = "a handful of curves")]
fn curves(paper: &mut Paper<'_, '_>, curves: &[Curve], y: f32) -> f32 {
    for (i, curve) in curves.iter().enumerate() {
        let (column, row) = (i % COLUMNS, i / COLUMNS);
        let at = [MARGIN + CELL[0] * column as f32, y + CELL[1] * row as f32];
        draw(paper, curve, at);
    }
    y + CELL[1] * curves.len().div_ceil(COLUMNS) as f32
}

fn draw(paper: &mut Paper<'_, '_>, curve: &Curve, [x, y]: [f32; 2]) {
    let [left, top, right, below] = AROUND;
    let (width, height) = (CELL[0] - left - right, CELL[1] - top - below);
    #[expect(clippy::cast_possible_truncation, reason = "points on paper")]
    let place = |[across, down]: [f64; 2]| {
        [
            x + left + width * across as f32,
            y + top + height * down as f32,
        ]
    };
    paper.text(&curve.title, x + left, y + 11.0, Style::of(8.5).bold());
    let [first, fifth, median, ninety_fifth, ninety_ninth] = &curve.lines;
    for (low, high, color) in [
        (first, ninety_ninth, BAND_OUTER),
        (fifth, ninety_fifth, BAND),
    ] {
        let around = low.iter().chain(high.iter().rev());
        let points: Vec<[f32; 2]> = around.map(|p| place(*p)).collect();
        paper.polygon(&points, color);
    }
    let label = Style::of(6.5).pale();
    for (down, text) in &curve.volume_ticks {
        let [at_x, at_y] = place([0.0, *down]);
        paper.line(&[[at_x - 2.5, at_y], [at_x, at_y]], 0.5, PALE);
        paper.text(text, at_x - 4.0, at_y + 2.3, label.align(Align::Right));
    }
    for (across, text) in &curve.age_ticks {
        let [at_x, at_y] = place([*across, 1.0]);
        paper.line(&[[at_x, at_y], [at_x, at_y + 2.5]], 0.5, PALE);
        paper.text(text, at_x, at_y + 10.0, label.align(Align::Middle));
    }
    let corners = [[0.0, 0.0], [0.0, 1.0], [1.0, 1.0]].map(place);
    paper.line(&corners, 0.6, RULE);
    let middle: Vec<[f32; 2]> = median.iter().map(|p| place(*p)).collect();
    paper.line(&middle, 1.0, INK);
    paper.dot(place(curve.patient), 3.0, MARK);
}
