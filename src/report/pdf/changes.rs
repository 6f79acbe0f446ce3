//! Change since the earlier study, on the second page.

use super::paper::{Align, Paper, RULE, Style};
use super::{MARGIN, ROOM, WIDTH, section};
use crate::report::Content;
use crate::report::change::{ChangeRow, Changes};

/// Room for a name, points; right edges of the numbers from the left margin; where words begin.
const NAME: f32 = 134.0;
const EDGES: [f32; 6] = [168.0, 206.0, 252.0, 291.0, 359.0, 405.0];
const WORDS: f32 = 413.0;
/// Height of a row, points.
const ROW: f32 = 10.8;
const TEXT: f32 = 8.0;
const SMALL: f32 = 7.0;
const HEADING: f32 = 6.6;
/// Sentences above the table, lines that each may take, and lines of a note.
const LINES_MAX: usize = 5;
const SENTENCE_LINES_MAX: usize = 2;
const NOTE_LINES_MAX: usize = 2;

/// What changed, in at most so many rows; gives where the next section begins.
pub(super) fn changes(
    paper: &mut Paper<'_, '_>,
    content: &Content,
    rows_max: usize,
    y: f32,
) -> f32 {
    let Some(changes) = &content.changes else {
        return y;
    };
    let mut y = section(paper, changes.heading, y);
    let style = Style::of(TEXT);
    let lines = changes.lines.len().min(LINES_MAX);
    for line in &changes.lines[..lines] {
        y = paper.paragraph(line, [MARGIN, y], ROOM, style, SENTENCE_LINES_MAX);
    }
    let rows = changes.rows.len().min(rows_max);
    if rows > 0 {
        y = table(paper, changes, rows, y + 1.0);
    }
    if lines < changes.lines.len() || rows < changes.rows.len() {
        let rest = content.language.say(
            "The rest of the changes stands on the report's page.",
            "Die übrigen Veränderungen stehen auf der Seite des Berichts.",
        );
        y = paper.paragraph(rest, [MARGIN, y], ROOM, style.pale(), 1);
    }
    for note in &changes.notes {
        let pale = Style::of(SMALL).pale();
        y = paper.paragraph(note, [MARGIN, y], ROOM, pale, NOTE_LINES_MAX);
    }
    y - 4.0
}

fn table(paper: &mut Paper<'_, '_>, changes: &Changes, rows: usize, y: f32) -> f32 {
    let heading = Style::of(HEADING).pale();
    let [structure, numbers @ .., standing] = &changes.columns;
    paper.text(structure, MARGIN, y, heading);
    for (title, edge) in numbers.iter().zip(EDGES) {
        paper.text(title, MARGIN + edge, y, heading.align(Align::Right));
    }
    paper.text(standing, MARGIN + WORDS, y, heading);
    let mut y = y + 3.0;
    for row in &changes.rows[..rows] {
        paper.line(&[[MARGIN, y], [WIDTH - MARGIN, y]], 0.4, RULE);
        y += ROW;
        draw(paper, row, y - 3.0);
    }
    y + 9.0
}

fn draw(paper: &mut Paper<'_, '_>, row: &ChangeRow, y: f32) {
    let style = Style {
        bold: row.stands_out,
        ..Style::of(TEXT)
    };
    let name = paper.fonts.cut(&row.name, TEXT, row.stands_out, NAME);
    paper.text(&name, MARGIN, y, style);
    for (value, edge) in row.cells.iter().zip(EDGES) {
        paper.text(value, MARGIN + edge, y, style.align(Align::Right));
    }
    let small = Style {
        size: SMALL,
        ..style
    };
    paper.text(row.standing, MARGIN + WORDS, y, small);
}
