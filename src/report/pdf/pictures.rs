//! The key images on the first page: one row of planes across it, several rows two beside each other.

use super::paper::{Align, Fonts, Paper, Style};
use super::{MARGIN, Planes, ROOM};
use crate::report::content::Pictures;

/// Space between the planes, points.
const GAP: f32 = 6.0;
/// Space between two rows beside each other, points.
const BETWEEN: f32 = 16.0;
/// Names of the planes and the note below a row, points.
const CAPTIONS: f32 = 42.0;
const NOTE: f32 = 7.5;
/// Lines of a note.
const NOTE_LINES_MAX: usize = 3;

/// Draws all rows between two heights, and gives where they end.
#[expect(clippy::cast_precision_loss, reason = "a handful of rows")]
pub(super) fn rows(
    paper: &mut Paper<'_, '_>,
    about: &Pictures,
    pictures: &[Planes],
    [top, bottom]: [f32; 2],
) -> Result<f32, String> {
    let all: Vec<_> = about.rows.iter().zip(pictures).collect();
    let beside = if all.len() > 1 { 2 } else { 1 };
    let cell = (ROOM - BETWEEN * (beside as f32 - 1.0)) / beside as f32;
    let lines = all.len().div_ceil(beside).max(1) as f32;
    let height = ((bottom - top) / lines - CAPTIONS).max(0.0);
    let widths = pictures.iter().map(|planes| width_within(planes, height));
    let room = widths.fold(cell, f32::min);
    let mut y = top;
    for line in all.chunks(beside) {
        let mut lowest = y;
        for (i, (row, planes)) in line.iter().enumerate() {
            let x = MARGIN + (cell + BETWEEN) * i as f32;
            let under = draw(paper, planes, [x, y], room)?;
            let style = Style::of(NOTE).pale();
            let end = paper.paragraph(&row.note, [x, under], cell, style, NOTE_LINES_MAX);
            lowest = lowest.max(end + 2.0);
        }
        y = lowest;
    }
    Ok(y)
}

/// How wide a row is whose tallest plane is that high.
#[expect(clippy::cast_precision_loss, reason = "pixels of a picture")]
fn width_within(planes: &Planes, height: f32) -> f32 {
    let across: f32 = planes.iter().map(|(_, p)| p.size[0] as f32).sum();
    let tallest = planes.iter().map(|(_, p)| p.size[1]).max().unwrap_or(1) as f32;
    height / tallest * across + GAP * (planes.len() as f32 - 1.0).max(0.0)
}

#[expect(clippy::cast_precision_loss, reason = "pixels of a picture")]
fn draw(
    paper: &mut Paper<'_, '_>,
    planes: &Planes,
    [left, y]: [f32; 2],
    room: f32,
) -> Result<f32, String> {
    let across: f32 = planes.iter().map(|(_, p)| p.size[0] as f32).sum();
    if across < 1.0 {
        return Ok(y);
    }
    let gaps = GAP * (planes.len() as f32 - 1.0);
    // One scale for all planes: millimetres are as long in each.
    let scale = (room - gaps) / across;
    let top = y - 6.0;
    let tallest = planes.iter().map(|(_, p)| p.size[1]).max().unwrap_or(0) as f32 * scale;
    let mut x = left;
    for (i, (name, picture)) in planes.iter().enumerate() {
        let size = [
            picture.size[0] as f32 * scale,
            picture.size[1] as f32 * scale,
        ];
        paper.area([x, top, size[0], tallest], [0, 0, 0]);
        let at = [x, top + (tallest - size[1]) / 2.0];
        paper.picture(&picture.grey, at, size)?;
        for layer in &picture.layers {
            paper.picture(layer, at, size)?;
        }
        let letters = if i == 2 { ["A", "P"] } else { ["R", "L"] };
        let white = Style {
            color: [235, 235, 235],
            ..Style::of(7.5)
        };
        let middle = top + tallest / 2.0;
        let right = x + size[0];
        for (letter, edge) in letters.into_iter().zip([x, right - 10.0]) {
            paper.area([edge, middle - 7.5, 10.0, 10.0], [0, 0, 0]);
            paper.text(letter, edge + 5.0, middle, white.align(Align::Middle));
        }
        let caption = Style::of(7.5).pale().align(Align::Middle);
        paper.text(name, x + size[0] / 2.0, top + tallest + 9.0, caption);
        x += size[0] + GAP;
    }
    Ok(top + tallest + 19.0)
}

/// Room of a colour of the legend with its gap to the name, points.
const COLOR: f32 = 11.0;

pub(super) fn legend(paper: &mut Paper<'_, '_>, about: &Pictures, y: f32) -> f32 {
    let mut x = MARGIN;
    let apart = legend_apart(paper.fonts, about);
    for (color, name) in &about.legend {
        paper.area([x, y - 6.0, 8.0, 6.0], *color);
        paper.text(name, x + COLOR, y, Style::of(NOTE));
        x += COLOR + paper.fonts.width(name, NOTE, false) + apart;
    }
    y + 11.0
}

/// Points between two entries of the legend: long words come nearer to each other rather than leave the page.
#[expect(clippy::cast_precision_loss, reason = "a handful of names")]
pub(super) fn legend_apart(fonts: &Fonts, about: &Pictures) -> f32 {
    const APART: f32 = 14.0;
    let widths = (about.legend.iter()).map(|(_, name)| COLOR + fonts.width(name, NOTE, false));
    let gaps = about.legend.len().saturating_sub(1).max(1) as f32;
    ((ROOM - widths.sum::<f32>()) / gaps).min(APART)
}
