//! The second page: curves, change, ranking, lesions, ratios and sides, quality, versions.

use super::changes::changes;
use super::paper::{Align, BAND, BAND_OUTER, Fonts, INK, MARK, PALE, PAPER, Paper, RULE, Style};
use super::{HEIGHT, MARGIN, ROOM, WIDTH, section};
use crate::report::Content;
use crate::report::content::Field;
use crate::report::curves::Curve;

/// Curves beside each other.
const COLUMNS: usize = 3;
/// Width of one curve with its labels, points.
const CELL_WIDTH: f32 = ROOM / 3.0;
/// Ways to share the page between curves (their height in points) and changes (rows), the first that
/// leaves room for the rest is taken.
const SHARES: [Share; 8] = [
    Share::of(118.0, 11),
    Share::of(106.0, 11),
    Share::of(96.0, 11),
    Share::of(88.0, 11),
    Share::of(80.0, 11),
    Share::of(80.0, 9),
    Share::of(76.0, 7),
    Share::of(72.0, 4),
];
/// What stands around a curve: left, top, right, below.
const AROUND: [f32; 4] = [28.0, 16.0, 10.0, 18.0];
/// Two columns, points: how wide each is, and where the second begins.
const HALF: f32 = (ROOM - 20.0) / 2.0;
const SECOND: f32 = MARGIN + HALF + 20.0;
/// Size of a version's letters, where its value begins, and lines that it may take.
const VERSION: f32 = 7.6;
const VERSION_INDENT: f32 = 140.0;
const VERSION_LINES_MAX: usize = 2;
const VERSIONS_MAX: usize = 9;
/// Where text ends, points from the top.
const BOTTOM: f32 = HEIGHT - MARGIN - 6.0;
const TEXT: f32 = 8.5;
/// Ratios and sides, which have long names.
const RATIO: f32 = 7.8;
const SIDE: f32 = 7.4;

/// What curves and changes get of the page.
#[derive(Clone, Copy)]
pub(super) struct Share {
    curve_height: f32,
    change_rows: usize,
}

impl Share {
    const fn of(curve_height: f32, change_rows: usize) -> Self {
        Self {
            curve_height,
            change_rows,
        }
    }
}

pub(super) fn page(paper: &mut Paper<'_, '_>, content: &Content) {
    let (share, _) = share(content, paper.fonts);
    set(paper, content, share);
}

/// How the page is shared, and whether everything has its place then.
pub(super) fn share(content: &Content, fonts: &Fonts) -> (Share, bool) {
    let fits = |share: &Share| tried(fonts, content, *share) == Some(true);
    let [.., narrowest] = SHARES;
    let found = SHARES.into_iter().find(fits);
    (found.unwrap_or(narrowest), found.is_some())
}

/// Whether everything has its place, tried on a sheet that is thrown away.
fn tried(fonts: &Fonts, content: &Content, share: Share) -> Option<bool> {
    let mut document = krilla::Document::new();
    let settings = krilla::page::PageSettings::from_wh(WIDTH, HEIGHT)?;
    let mut page = document.start_page_with(settings);
    let mut surface = page.surface();
    let mut paper = Paper {
        surface: &mut surface,
        fonts,
    };
    let whole = set(&mut paper, content, share);
    surface.finish();
    page.finish();
    Some(whole)
}

/// Sets the page; whether there was room for all of it.
fn set(paper: &mut Paper<'_, '_>, content: &Content, share: Share) -> bool {
    let mut y = section(paper, content.headings[2], MARGIN - 8.0);
    let pale = Style::of(8.0).pale();
    y = paper.paragraph(&content.curves_note, [MARGIN, y], ROOM, pale, 3);
    let cell = [CELL_WIDTH, share.curve_height];
    y = curves(paper, &content.curves, cell, y);
    y = changes(paper, content, share.change_rows, y);

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
            left = ratio_pair(paper, ratio, left);
        }
        let mut right = top;
        for line in &content.sides {
            right = paper.paragraph(line, [SECOND, right], HALF, Style::of(SIDE), 2) + 0.5;
        }
        y = left.max(right) - 4.0;
    }
    y = section(paper, content.headings[4], y);
    let below = versions_height(paper, content);
    let whole;
    (y, whole) = quality(paper, content, y, BOTTOM - below);
    y = section(paper, content.headings[5], y);
    versions(paper, content, y) <= BOTTOM + 1.35 * VERSION && whole
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

/// The same, smaller: ratios have long names.
fn ratio_pair(paper: &mut Paper<'_, '_>, field: &Field, y: f32) -> f32 {
    let style = Style::of(RATIO);
    paper.text(&field.value, MARGIN + HALF, y, style.align(Align::Right));
    let room = HALF - 32.0;
    paper.paragraph(&field.label, [MARGIN, y], room, style, 2) + 0.5
}

/// As many sentences as there is room for, and whether that is all; what is left out is said.
fn quality(paper: &mut Paper<'_, '_>, content: &Content, y: f32, bottom: f32) -> (f32, bool) {
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
            let pale = Style::of(TEXT).pale();
            return (
                paper.paragraph(rest, [MARGIN, y], ROOM, pale, 1) + 1.0,
                false,
            );
        }
        y = paper.paragraph(line, [MARGIN, y], ROOM, Style::of(TEXT), LINES_MAX) + 1.0;
    }
    (y, true)
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

/// Gives the baseline of what would follow.
fn versions(paper: &mut Paper<'_, '_>, content: &Content, y: f32) -> f32 {
    let mut y = y;
    for version in content.versions.iter().take(VERSIONS_MAX) {
        let style = Style::of(VERSION);
        paper.text(&version.label, MARGIN, y, style.pale());
        let at = [MARGIN + VERSION_INDENT, y];
        let room = ROOM - VERSION_INDENT;
        y = paper.paragraph(&version.value, at, room, style, VERSION_LINES_MAX);
    }
    y
}

#[expect(clippy::cast_precision_loss, reason = "a handful of curves")]
fn curves(paper: &mut Paper<'_, '_>, curves: &[Curve], cell: [f32; 2], y: f32) -> f32 {
    for (i, curve) in curves.iter().enumerate() {
        let (column, row) = (i % COLUMNS, i / COLUMNS);
        let at = [MARGIN + cell[0] * column as f32, y + cell[1] * row as f32];
        draw(paper, curve, cell, at);
    }
    y + cell[1] * curves.len().div_ceil(COLUMNS) as f32
}

fn draw(paper: &mut Paper<'_, '_>, curve: &Curve, cell: [f32; 2], [x, y]: [f32; 2]) {
    let [left, top, right, below] = AROUND;
    let (width, height) = (cell[0] - left - right, cell[1] - top - below);
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
    let path: Vec<[f32; 2]> = curve
        .earlier
        .iter()
        .chain([&curve.patient])
        .map(|p| place(*p))
        .collect();
    paper.line(&path, 0.7, MARK);
    for earlier in &curve.earlier {
        paper.dot(place(*earlier), 2.6, MARK);
        paper.dot(place(*earlier), 1.6, PAPER);
    }
    paper.dot(place(curve.patient), 3.0, MARK);
}
