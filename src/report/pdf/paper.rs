//! A sheet of A4 to write and draw on: measured text, lines, boxes, pictures. Places are in points
//! from the top left.

use std::path::Path;
use std::sync::Arc;

use krilla::color::rgb;
use krilla::geom::{PathBuilder, Point, Rect, Size, Transform};
use krilla::image::Image;
use krilla::num::NormalizedF32;
use krilla::paint::{Fill, Stroke};
use krilla::surface::Surface;
use krilla::text::{Font, TextDirection};

/// Largest font file that is read, bytes.
const FONT_BYTES_MAX: u64 = 8 << 20;
/// What stands for a letter that the font lacks.
const LACKING: char = '\u{b7}';

/// Colours on paper.
pub(super) const INK: [u8; 3] = [20, 26, 32];
pub(super) const PAPER: [u8; 3] = [255, 255, 255];
pub(super) const PALE: [u8; 3] = [92, 102, 112];
pub(super) const RULE: [u8; 3] = [200, 206, 212];
pub(super) const BAND: [u8; 3] = [190, 205, 222];
pub(super) const BAND_OUTER: [u8; 3] = [224, 232, 240];
pub(super) const MARK: [u8; 3] = [176, 58, 0];

/// A face with what its letters measure.
#[derive(Clone)]
struct Face {
    font: Font,
    data: Arc<Vec<u8>>,
}

/// The two faces that a report is set in.
#[derive(Clone)]
pub struct Fonts {
    regular: Face,
    bold: Face,
}

impl Fonts {
    /// Reads `DejaVuSans.ttf` and `DejaVuSans-Bold.ttf` of a folder.
    ///
    /// # Errors
    /// Names the file and the setting.
    pub fn read(folder: &Path) -> Result<Self, String> {
        Ok(Self {
            regular: Face::read(&folder.join("DejaVuSans.ttf"))?,
            bold: Face::read(&folder.join("DejaVuSans-Bold.ttf"))?,
        })
    }

    fn face(&self, bold: bool) -> &Face {
        if bold { &self.bold } else { &self.regular }
    }

    /// Width of a text in points.
    pub(super) fn width(&self, text: &str, size: f32, bold: bool) -> f32 {
        self.face(bold).width(text, size)
    }

    /// Text whose every letter the font has.
    pub(super) fn writable(&self, text: &str) -> String {
        let Ok(face) = ttf_parser::Face::parse(&self.regular.data, 0) else {
            return text.to_owned();
        };
        let known = |c: char| c == ' ' || face.glyph_index(c).is_some();
        text.chars()
            .filter(|c| !c.is_control())
            .map(|c| if known(c) { c } else { LACKING })
            .collect()
    }

    /// Cut with an ellipsis where it is wider than there is room.
    pub(super) fn cut(&self, text: &str, size: f32, bold: bool, room: f32) -> String {
        if self.width(text, size, bold) <= room {
            return text.to_owned();
        }
        let mut kept = text.to_owned();
        while kept.pop().is_some() {
            let shown = format!("{}\u{2026}", kept.trim_end());
            if self.width(&shown, size, bold) <= room {
                return shown;
            }
        }
        String::new()
    }

    /// Broken at spaces into lines that fit; a word wider than a line is cut.
    pub(super) fn wrap(&self, text: &str, size: f32, room: f32) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        let mut line = String::new();
        for word in text.split(' ').filter(|w| !w.is_empty()) {
            let longer = if line.is_empty() {
                word.to_owned()
            } else {
                format!("{line} {word}")
            };
            if self.width(&longer, size, false) <= room {
                line = longer;
            } else {
                if !line.is_empty() {
                    lines.push(std::mem::take(&mut line));
                }
                line = self.cut(word, size, false, room);
            }
        }
        if !line.is_empty() {
            lines.push(line);
        }
        lines
    }
}

impl Face {
    fn read(path: &Path) -> Result<Self, String> {
        let says = |e: &dyn std::fmt::Display| {
            format!(
                "could not read the font {} (report.fonts; Debian's package fonts-dejavu-core has it): {e}",
                path.display()
            )
        };
        let about = std::fs::metadata(path).map_err(|e| says(&e))?;
        if about.len() > FONT_BYTES_MAX {
            return Err(says(&"it is too large for a font"));
        }
        let data = Arc::new(std::fs::read(path).map_err(|e| says(&e))?);
        let font = Font::new(data.clone().into(), 0).ok_or_else(|| says(&"it is no font"))?;
        Ok(Self { font, data })
    }

    fn width(&self, text: &str, size: f32) -> f32 {
        let Ok(face) = ttf_parser::Face::parse(&self.data, 0) else {
            return 0.0;
        };
        let advance = |c: char| {
            let glyph = face.glyph_index(c).unwrap_or_default();
            f32::from(face.glyph_hor_advance(glyph).unwrap_or(0))
        };
        text.chars().map(advance).sum::<f32>() * size / f32::from(face.units_per_em())
    }
}

/// Where a text stands between its edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
    Middle,
}

/// How a text looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    pub size: f32,
    pub bold: bool,
    pub color: [u8; 3],
    pub align: Align,
}

impl Style {
    pub const fn of(size: f32) -> Self {
        Self {
            size,
            bold: false,
            color: INK,
            align: Align::Left,
        }
    }

    pub const fn bold(self) -> Self {
        Self { bold: true, ..self }
    }

    pub const fn pale(self) -> Self {
        Self {
            color: PALE,
            ..self
        }
    }

    pub const fn align(self, align: Align) -> Self {
        Self { align, ..self }
    }
}

fn fill(color: [u8; 3]) -> Fill {
    Fill {
        paint: rgb::Color::new(color[0], color[1], color[2]).into(),
        opacity: NormalizedF32::ONE,
        rule: krilla::paint::FillRule::default(),
    }
}

/// One page.
pub(super) struct Paper<'a, 'b> {
    pub surface: &'a mut Surface<'b>,
    pub fonts: &'a Fonts,
}

impl Paper<'_, '_> {
    /// Writes a line with its baseline at `y`, from, to or around `x`.
    pub fn text(&mut self, text: &str, x: f32, y: f32, style: Style) {
        let text = self.fonts.writable(text);
        if text.trim().is_empty() {
            return;
        }
        let width = self.fonts.width(&text, style.size, style.bold);
        let x = match style.align {
            Align::Left => x,
            Align::Right => x - width,
            Align::Middle => x - width / 2.0,
        };
        self.surface.set_stroke(None);
        self.surface.set_fill(Some(fill(style.color)));
        let font = self.fonts.face(style.bold).font.clone();
        self.surface.draw_text(
            Point::from_xy(x, y),
            font,
            style.size,
            &text,
            false,
            TextDirection::Auto,
        );
    }

    /// Writes a paragraph and gives the baseline for what follows; at most so many lines.
    pub fn paragraph(
        &mut self,
        text: &str,
        [x, y]: [f32; 2],
        room: f32,
        style: Style,
        lines_max: usize,
    ) -> f32 {
        let text = self.fonts.writable(text);
        let mut lines = self.fonts.wrap(&text, style.size, room);
        if lines.len() > lines_max {
            lines.truncate(lines_max);
            if let Some(last) = lines.last_mut() {
                let more = format!("{last} \u{2026}");
                *last = self.fonts.cut(&more, style.size, false, room);
            }
        }
        let mut y = y;
        for line in lines {
            self.text(&line, x, y, style);
            y += style.size * 1.35;
        }
        y
    }

    /// A filled box.
    pub fn area(&mut self, [x, y, width, height]: [f32; 4], color: [u8; 3]) {
        let Some(rect) = Rect::from_xywh(x, y, width, height) else {
            return;
        };
        let mut path = PathBuilder::new();
        path.push_rect(rect);
        if let Some(path) = path.finish() {
            self.surface.set_stroke(None);
            self.surface.set_fill(Some(fill(color)));
            self.surface.draw_path(&path);
        }
    }

    /// A line through points.
    pub fn line(&mut self, points: &[[f32; 2]], width: f32, color: [u8; 3]) {
        self.path(points, false, |surface| {
            surface.set_fill(None);
            surface.set_stroke(Some(Stroke {
                paint: rgb::Color::new(color[0], color[1], color[2]).into(),
                width,
                ..Stroke::default()
            }));
        });
    }

    /// An area between points.
    pub fn polygon(&mut self, points: &[[f32; 2]], color: [u8; 3]) {
        self.path(points, true, |surface| {
            surface.set_stroke(None);
            surface.set_fill(Some(fill(color)));
        });
    }

    fn path(&mut self, points: &[[f32; 2]], close: bool, paint: impl Fn(&mut Surface<'_>)) {
        let mut path = PathBuilder::new();
        for (i, [x, y]) in points.iter().enumerate() {
            if i == 0 {
                path.move_to(*x, *y);
            } else {
                path.line_to(*x, *y);
            }
        }
        if close {
            path.close();
        }
        if let Some(path) = path.finish() {
            paint(self.surface);
            self.surface.draw_path(&path);
        }
    }

    /// A dot.
    pub fn dot(&mut self, [x, y]: [f32; 2], radius: f32, color: [u8; 3]) {
        const CORNERS: u8 = 24;
        let corner = |i: u8| {
            let turn = f32::from(i) / f32::from(CORNERS) * std::f32::consts::TAU;
            [x + radius * turn.cos(), y + radius * turn.sin()]
        };
        let points: Vec<[f32; 2]> = (0..CORNERS).map(corner).collect();
        self.polygon(&points, color);
    }

    /// A PNG picture.
    ///
    /// # Errors
    /// When it is none.
    pub fn picture(&mut self, png: &[u8], [x, y]: [f32; 2], size: [f32; 2]) -> Result<(), String> {
        let image = Image::from_png(Arc::new(png.to_vec()).into(), true)?;
        if let Some(size) = Size::from_wh(size[0], size[1]) {
            self.surface
                .push_transform(&Transform::from_translate(x, y));
            self.surface.draw_image(image, size);
            self.surface.pop();
        }
        Ok(())
    }
}
