//! The report as a PDF of two A4 pages: what was measured and seen, then how it compares and how it
//! came about.

mod changes;
mod paper;
mod pictures;
mod second;

use std::path::Path;

use krilla::Document;
use krilla::metadata::{DateTime, Metadata};
use krilla::page::PageSettings;

use chrono::{Datelike as _, Timelike as _};

use super::Content;
use super::content::{PictureRow, Pictures, TableRow};
pub use paper::Fonts;
use paper::{Align, MARK, Paper, RULE, Style};

/// A4, points.
const WIDTH: f32 = 595.0;
const HEIGHT: f32 = 842.0;
/// White around the text.
const MARGIN: f32 = 40.0;
/// Text width.
const ROOM: f32 = WIDTH - 2.0 * MARGIN;
/// Largest picture that is read, bytes.
const PICTURE_BYTES_MAX: u64 = 16 << 20;
/// Lines of a note below the table.
const NOTE_LINES_MAX: usize = 3;

/// One plane's picture and the layers over it, as PNG files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanePicture {
    /// Grey picture.
    pub grey: Vec<u8>,
    /// Transparent layers, lowest first.
    pub layers: Vec<Vec<u8>>,
    /// Pixels across and down.
    pub size: [u32; 2],
}

/// A row of planes: each with its name in the language.
pub type Planes = Vec<(String, PlanePicture)>;

/// Reads the pictures of a series from its folder, row by row. A plane that cannot be read is left
/// out: the numbers count more.
#[must_use]
pub fn read_pictures(folder: &Path, pictures: &Pictures) -> Vec<Planes> {
    let rows = pictures.rows.iter();
    rows.map(|row| read_row(folder, row)).collect()
}

fn read_row(folder: &Path, row: &PictureRow) -> Planes {
    let planes = row.planes.iter();
    planes
        .filter_map(|(plane, name)| {
            let grey = read_bounded(&folder.join(format!("{plane}.png")))?;
            let size = png_size(&grey)?;
            let layers = row
                .layers
                .iter()
                .filter_map(|layer| read_bounded(&folder.join(format!("{plane}_{layer}.png"))))
                .collect();
            Some((name.clone(), PlanePicture { grey, layers, size }))
        })
        .collect()
}

fn read_bounded(path: &Path) -> Option<Vec<u8>> {
    let about = std::fs::metadata(path).ok()?;
    (about.is_file() && about.len() <= PICTURE_BYTES_MAX)
        .then(|| std::fs::read(path).ok())
        .flatten()
}

/// Width and height from the first chunk (ISO/IEC 15948, 11.2.2).
fn png_size(png: &[u8]) -> Option<[u32; 2]> {
    let number = |at: usize| {
        let bytes = png.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_be_bytes(bytes))
    };
    (png.get(12..16)? == b"IHDR").then_some(())?;
    Some([number(16)?, number(20)?])
}

/// Whether the second page has room for everything (what it has none for is left to the report's page,
/// and said), and the first for its legend.
#[cfg(test)]
pub(super) fn fits(content: &Content, fonts: &Fonts) -> bool {
    const APART_LEAST: f32 = 6.0;
    let legend =
        (content.pictures.iter()).all(|about| pictures::legend_apart(fonts, about) >= APART_LEAST);
    legend && second::share(content, fonts).1
}

/// Sets the report. The same content and pictures give the same bytes.
///
/// # Errors
/// In words: a picture that is none, or a failure of the PDF writer.
pub fn render(
    content: &Content,
    pictures: &[Planes],
    fonts: &Fonts,
    made_ms: i64,
) -> Result<Vec<u8>, String> {
    let mut document = Document::new();
    document.set_metadata(metadata(content, made_ms));
    for number in 1..=2 {
        let settings = PageSettings::from_wh(WIDTH, HEIGHT).ok_or("no such paper")?;
        let mut page = document.start_page_with(settings);
        let mut surface = page.surface();
        let mut paper = Paper {
            surface: &mut surface,
            fonts,
        };
        if number == 1 {
            first_page(&mut paper, content, pictures)?;
        } else {
            second::page(&mut paper, content);
        }
        footer(&mut paper, content, number);
        surface.finish();
        page.finish();
    }
    document
        .finish()
        .map_err(|e| format!("could not write the PDF: {e:?}"))
}

fn metadata(content: &Content, made_ms: i64) -> Metadata {
    let at = chrono::DateTime::from_timestamp_millis(made_ms).unwrap_or_default();
    let small = |n: u32| u8::try_from(n).unwrap_or(0);
    let made = DateTime::new(u16::try_from(at.year()).unwrap_or(1970))
        .month(small(at.month()))
        .day(small(at.day()))
        .hour(small(at.hour()))
        .minute(small(at.minute()))
        .second(small(at.second()))
        .utc_offset_hour(0)
        .utc_offset_minute(0);
    Metadata::new()
        .title(content.title.clone())
        .language(content.language.as_str().to_owned())
        .creator(concat!("firstread ", env!("CARGO_PKG_VERSION")).to_owned())
        .description(content.notice.clone())
        .creation_date(made)
}

fn first_page(
    paper: &mut Paper<'_, '_>,
    content: &Content,
    pictures: &[Planes],
) -> Result<(), String> {
    let mut y = head(paper, content);
    y = about(paper, content, y);
    if let Some(about) = &content.pictures {
        y = section(paper, content.headings[1], y);
        let below = below_pictures(paper, content);
        y = pictures::rows(paper, about, pictures, [y, HEIGHT - MARGIN - below])?;
        y = pictures::legend(paper, about, y);
        y = paper.paragraph(&about.note, [MARGIN, y], ROOM, Style::of(7.5).pale(), 2) - 2.0;
    }
    y = section(paper, &content.table_title, y);
    if !content.rows.is_empty() {
        y = table(paper, content, y);
    }
    for note in &content.table_notes {
        let small = Style::of(7.5).pale();
        y = paper.paragraph(note, [MARGIN, y], ROOM, small, NOTE_LINES_MAX);
    }
    Ok(())
}

/// Title, the notice, and how the study stands.
fn head(paper: &mut Paper<'_, '_>, content: &Content) -> f32 {
    let mut y = MARGIN + 12.0;
    paper.text(&content.title, MARGIN, y, Style::of(15.0).bold());
    paper.text(
        &content.standing,
        WIDTH - MARGIN,
        y,
        Style::of(11.0).bold().align(Align::Right),
    );
    y += 15.0;
    paper.text(
        &content.notice,
        MARGIN,
        y,
        Style {
            color: MARK,
            ..Style::of(8.5)
        }
        .bold(),
    );
    y += 11.0;
    y = paper.paragraph(&content.scope, [MARGIN, y], ROOM, Style::of(8.0).pale(), 2);
    y
}

/// Who and which study, in three columns.
fn about(paper: &mut Paper<'_, '_>, content: &Content, y: f32) -> f32 {
    const COLUMNS: usize = 3;
    const STEP: f32 = 21.0;
    let column = ROOM / 3.0;
    let mut lowest = y;
    let mut x_and_y = (MARGIN, y + 8.0);
    for (i, field) in content.about.iter().enumerate() {
        let at = i % COLUMNS;
        if at == 0 && i > 0 {
            x_and_y.1 += STEP;
        }
        #[expect(clippy::cast_precision_loss, reason = "one of three columns")]
        let x = MARGIN + column * at as f32;
        let y = x_and_y.1;
        paper.text(&field.label, x, y, Style::of(7.0).pale());
        let value = paper.fonts.writable(&field.value);
        let value = paper.fonts.cut(&value, 9.0, false, column - 8.0);
        paper.text(&value, x, y + 10.0, Style::of(9.0));
        lowest = y + 14.0;
    }
    lowest
}

/// Points that what stands below the pictures takes: legend, note, table and its notes.
#[expect(clippy::cast_precision_loss, reason = "lines of a page")]
fn below_pictures(paper: &Paper<'_, '_>, content: &Content) -> f32 {
    /// Legend, note and heading of the table.
    const AROUND: f32 = 70.0;
    /// A line of a note.
    const LINE: f32 = 10.2;
    let lines = content.table_notes.iter().map(|note| {
        let wrapped = paper.fonts.wrap(note, 7.5, ROOM);
        wrapped.len().min(NOTE_LINES_MAX)
    });
    let lines: usize = lines.sum();
    AROUND + ROW * content.rows.len() as f32 + LINE * lines as f32
}

/// A heading with a rule over it; gives the baseline of what follows.
fn section(paper: &mut Paper<'_, '_>, title: &str, y: f32) -> f32 {
    let y = y + 4.0;
    paper.line(&[[MARGIN, y], [WIDTH - MARGIN, y]], 0.6, RULE);
    paper.text(title, MARGIN, y + 12.0, Style::of(9.5).bold());
    y + 24.0
}

/// Right edges of the columns after the first, points from the left margin.
const EDGES: [f32; 6] = [215.0, 290.0, 335.0, 400.0, 458.0, ROOM];
/// Height of a row, points.
const ROW: f32 = 12.2;

fn table(paper: &mut Paper<'_, '_>, content: &Content, y: f32) -> f32 {
    let heading = Style::of(7.5).pale();
    paper.text(&content.columns[0], MARGIN, y, heading);
    for (title, edge) in content.columns[1..].iter().zip(EDGES) {
        paper.text(title, MARGIN + edge, y, heading.align(Align::Right));
    }
    let mut y = y + 3.5;
    for row in &content.rows {
        paper.line(&[[MARGIN, y], [WIDTH - MARGIN, y]], 0.4, RULE);
        y += ROW;
        table_row(paper, row, y - 3.6);
    }
    y + 10.0
}

fn table_row(paper: &mut Paper<'_, '_>, row: &TableRow, y: f32) {
    let style = Style {
        bold: row.far,
        ..Style::of(8.5)
    };
    paper.text(&row.name, MARGIN, y, style);
    let values = row.cells.iter().chain(&row.sides);
    for (value, edge) in values.zip(EDGES) {
        paper.text(value, MARGIN + edge, y, style.align(Align::Right));
    }
}

fn footer(paper: &mut Paper<'_, '_>, content: &Content, number: u32) {
    let y = HEIGHT - MARGIN + 14.0;
    let style = Style::of(7.0).pale();
    paper.line(&[[MARGIN, y - 9.0], [WIDTH - MARGIN, y - 9.0]], 0.4, RULE);
    let value = |i: usize| content.about.get(i).map_or("", |f| f.value.as_str());
    // Who it is about stands on each sheet: sheets get separated.
    let who = format!("{} \u{b7} {} \u{b7} {}", value(0), value(1), value(6));
    let who = paper
        .fonts
        .cut(&paper.fonts.writable(&who), 7.0, false, ROOM * 0.5);
    paper.text(&who, MARGIN, y, style);
    let page = content.language.say(
        format!("{} \u{b7} page {number} of 2", crate::RESEARCH_USE),
        format!("{} \u{b7} Seite {number} von 2", crate::RESEARCH_USE),
    );
    paper.text(&page, WIDTH - MARGIN, y, style.align(Align::Right));
}
