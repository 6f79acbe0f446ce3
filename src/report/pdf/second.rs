//! The second page: curves, ranking, lesions, ratios and sides, quality, versions.

use super::paper::{Align, BAND, BAND_OUTER, INK, MARK, PALE, Paper, RULE, Style};
use super::{HEIGHT, MARGIN, ROOM, section};
use crate::report::Content;
use crate::report::content::Field;
use crate::report::curves::Curve;

/// Curves beside each other.
const COLUMNS: usize = 3;
/// Size of one curve with its labels, points.
const CELL: [f32; 2] = [ROOM / 3.0, 118.0];
/// What stands around a curve: left, top, right, below.
const AROUND: [f32; 4] = [28.0, 16.0, 10.0, 18.0];
/// Two columns, points: how wide each is, and where the second begins.
const HALF: f32 = (ROOM - 20.0) / 2.0;
const SECOND: f32 = MARGIN + HALF + 20.0;
/// Size of a version's letters, where its value begins, and lines that it may take.
const VERSION: f32 = 8.0;
const VERSION_INDENT: f32 = 140.0;
const VERSION_LINES_MAX: usize = 2;
const VERSIONS_MAX: usize = 9;
/// Where text ends, points from the top.
const BOTTOM: f32 = HEIGHT - MARGIN - 6.0;
const TEXT: f32 = 8.5;

pub(super) fn page(paper: &mut Paper<'_, '_>, content: &Content) {
    let mut y = section(paper, content.headings[2], MARGIN - 8.0);
    let pale = Style::of(8.0).pale();
    y = paper.paragraph(&content.curves_note, [MARGIN, y], ROOM, pale, 3);
    y = curves(paper, &content.curves, y);

    let top = section(paper, content.headings[0], y);
    let left = ranking(paper, content, top);
    title(paper, content.headings[3], top);
    let mut right = top;
    for line in content.lesions.iter().take(6) {
        right = paper.paragraph(line, [SECOND, right], HALF, Style::of(TEXT), 3) + 1.0;
    }
    y = left.max(right) - 4.0;

    if !content.ratios.is_empty() {
        let top = section(paper, content.headings[6], y);
        let mut left = top;
        for ratio in &content.ratios {
            left = wrapped_pair(paper, ratio, left);
        }
        let mut right = top;
        for line in &content.sides {
            right = paper.paragraph(line, [SECOND, right], HALF, Style::of(TEXT), 2) + 1.0;
        }
        y = left.max(right) - 4.0;
    }
    y = section(paper, content.headings[4], y);
    let below = versions_height(paper, content);
    y = quality(paper, content, y, BOTTOM - below);
    y = section(paper, content.headings[5], y);
    versions(paper, content, y);
}

/// The heading of the second column.
fn title(paper: &mut Paper<'_, '_>, title: &str, under: f32) {
    paper.text(title, SECOND, under - 12.0, Style::of(9.5).bold());
}

fn ranking(paper: &mut Paper<'_, '_>, content: &Content, y: f32) -> f32 {
    let style = Style::of(TEXT);
    let mut y = paper.paragraph(&content.ranked, [MARGIN, y], HALF, style, 2) + 1.0;
    for term in &content.terms {
        y = wrapped_pair(paper, term, y);
    }
    y
}

/// A text and a number at the right edge of the first column.
fn wrapped_pair(paper: &mut Paper<'_, '_>, field: &Field, y: f32) -> f32 {
    let style = Style::of(TEXT).align(Align::Right);
    paper.text(&field.value, MARGIN + HALF, y, style);
    let label = paper.fonts.writable(&field.label);
    paper.paragraph(&label, [MARGIN, y], HALF - 48.0, Style::of(TEXT), 3) + 1.0
}

/// As many sentences as there is room for; what is left out is said.
fn quality(paper: &mut Paper<'_, '_>, content: &Content, y: f32, bottom: f32) -> f32 {
    const LINES_MAX: usize = 2;
    const LINE: f32 = 1.35 * TEXT;
    let mut y = y;
    for line in &content.quality {
        let lines = paper.fonts.wrap(line, TEXT, ROOM).len().min(LINES_MAX);
        #[expect(clippy::cast_precision_loss, reason = "one or two lines")]
        let after = y + LINE * (lines + 1) as f32;
        if after > bottom {
            let rest = content.language.say(
                "The rest stands on the report's page.",
                "Der Rest steht auf der Seite des Berichts.",
            );
            return paper.paragraph(rest, [MARGIN, y], ROOM, Style::of(TEXT).pale(), 1) + 1.0;
        }
        y = paper.paragraph(line, [MARGIN, y], ROOM, Style::of(TEXT), LINES_MAX) + 1.0;
    }
    y
}

/// With its heading.
#[expect(clippy::cast_precision_loss, reason = "a handful of lines")]
fn versions_height(paper: &Paper<'_, '_>, content: &Content) -> f32 {
    let lines = content.versions.iter().take(VERSIONS_MAX).map(|version| {
        let wrapped = paper
            .fonts
            .wrap(&version.value, VERSION, ROOM - VERSION_INDENT);
        wrapped.len().clamp(1, VERSION_LINES_MAX)
    });
    24.0 + 1.35 * VERSION * lines.sum::<usize>() as f32
}

fn versions(paper: &mut Paper<'_, '_>, content: &Content, y: f32) {
    let mut y = y;
    for version in content.versions.iter().take(VERSIONS_MAX) {
        let style = Style::of(VERSION);
        paper.text(&version.label, MARGIN, y, style.pale());
        let at = [MARGIN + VERSION_INDENT, y];
        let room = ROOM - VERSION_INDENT;
        y = paper.paragraph(&version.value, at, room, style, VERSION_LINES_MAX);
    }
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
