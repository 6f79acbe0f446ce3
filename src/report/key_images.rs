//! Key images with their outlines and the notice in one picture each, for viewers that show nothing else.

use std::path::Path;

use ab_glyph::{Font as _, FontVec, PxScale, ScaleFont as _, point};

use super::Content;
use super::pdf::{PlanePicture, Planes};

/// Pixels of the picture for one of the plane.
const ZOOM: usize = 3;
/// Height of the strip with words below, pixels.
const STRIP: usize = 66;
/// Size of letters, pixels.
const LETTERS: f32 = 19.0;
/// Largest side of a plane, pixels.
const SIDE_MAX: u32 = 1024;
/// Largest font that is read, bytes.
const FONT_BYTES_MAX: u64 = 8 << 20;

/// A finished picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPicture {
    /// What it shows.
    pub comment: String,
    /// Pixels across and down.
    pub size: [usize; 2],
    /// Red, green, blue.
    pub rgb: Vec<u8>,
    /// 0 axial, 1 coronal, 2 sagittal.
    pub plane: usize,
}

/// Draws all planes of all rows.
///
/// # Errors
/// In words: the font, or a picture that cannot be read.
pub fn key_pictures(
    content: &Content,
    rows: &[Planes],
    fonts: &Path,
) -> Result<Vec<KeyPicture>, String> {
    let font = font(&fonts.join("DejaVuSans.ttf"))?;
    let notes = content.pictures.iter().flat_map(|p| &p.rows);
    let mut pictures = Vec::new();
    for (row, about) in rows.iter().zip(notes) {
        for (plane, (name, picture)) in row.iter().enumerate() {
            let mut canvas = Canvas::of(picture)?;
            let [left, right] = if plane == 2 { ["A", "P"] } else { ["R", "L"] };
            let [across, down] = canvas.size;
            let middle = (down - STRIP) as f32 / 2.0;
            canvas.write(&font, left, [6.0, middle], across);
            canvas.write(&font, right, [across as f32 - 22.0, middle], across);
            let strip = (down - STRIP) as f32;
            let line = format!("{name} \u{b7} firstread {}", env!("CARGO_PKG_VERSION"));
            canvas.write(&font, &line, [8.0, strip + 26.0], across);
            canvas.write(&font, crate::RESEARCH_USE, [8.0, strip + 52.0], across);
            pictures.push(KeyPicture {
                comment: format!("{name}. {} {}", about.note, content.notice),
                size: canvas.size,
                rgb: canvas.rgb,
                plane,
            });
        }
    }
    Ok(pictures)
}

fn font(path: &Path) -> Result<FontVec, String> {
    let says = |e: &dyn std::fmt::Display| {
        format!(
            "could not read the font {} (report.fonts): {e}",
            path.display()
        )
    };
    let about = std::fs::metadata(path).map_err(|e| says(&e))?;
    if about.len() > FONT_BYTES_MAX {
        return Err(says(&"it is too large for a font"));
    }
    let bytes = std::fs::read(path).map_err(|e| says(&e))?;
    FontVec::try_from_vec(bytes).map_err(|e| says(&e))
}

struct Canvas {
    size: [usize; 2],
    rgb: Vec<u8>,
}

impl Canvas {
    /// The plane with its layers, enlarged, over a dark strip.
    fn of(picture: &PlanePicture) -> Result<Self, String> {
        let (width, height, mut small) = rgb_of(&picture.grey, None)?;
        for layer in &picture.layers {
            let (_, _, over) = rgb_of(layer, Some(small))?;
            small = over;
        }
        let size = [width * ZOOM, height * ZOOM + STRIP];
        let mut rgb = vec![16; size[0] * size[1] * 3];
        for y in 0..height * ZOOM {
            for x in 0..size[0] {
                let from = ((y / ZOOM) * width + x / ZOOM) * 3;
                let to = (y * size[0] + x) * 3;
                rgb[to..to + 3].copy_from_slice(&small[from..from + 3]);
            }
        }
        Ok(Self { size, rgb })
    }

    /// Writes a line with its baseline there; what does not fit is left out.
    fn write(&mut self, font: &FontVec, text: &str, [x, y]: [f32; 2], width: usize) {
        let scale = PxScale::from(LETTERS);
        let mut x = x;
        for letter in text.chars() {
            let id = font.glyph_id(letter);
            let advance = font.as_scaled(scale).h_advance(id);
            if x + advance > width as f32 {
                return;
            }
            let glyph = id.with_scale_and_position(scale, point(x, y));
            if let Some(outlined) = font.outline_glyph(glyph) {
                let corner = outlined.px_bounds().min;
                outlined.draw(|gx, gy, cover| {
                    self.lighten(corner.x + gx as f32, corner.y + gy as f32, cover);
                });
            }
            x += advance;
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a pixel inside the picture, a level of grey"
    )]
    fn lighten(&mut self, x: f32, y: f32, cover: f32) {
        let [width, height] = self.size;
        if x < 0.0 || y < 0.0 || x as usize >= width || y as usize >= height {
            return;
        }
        let at = (y as usize * width + x as usize) * 3;
        for value in &mut self.rgb[at..at + 3] {
            let was = f32::from(*value);
            *value = (was + (235.0 - was) * cover.clamp(0.0, 1.0)) as u8;
        }
    }
}

/// A PNG as RGB; one with transparency is laid over `below`.
fn rgb_of(file: &[u8], below: Option<Vec<u8>>) -> Result<(usize, usize, Vec<u8>), String> {
    let bad = |e: &dyn std::fmt::Display| format!("could not read a picture: {e}");
    let mut reader = png::Decoder::new(std::io::Cursor::new(file))
        .read_info()
        .map_err(|e| bad(&e))?;
    let (width, height) = reader.info().size();
    if width > SIDE_MAX || height > SIDE_MAX {
        return Err(bad(&"it is too large"));
    }
    let mut bytes = vec![0; reader.output_buffer_size().unwrap_or(0)];
    let frame = reader.next_frame(&mut bytes).map_err(|e| bad(&e))?;
    let pixels = width as usize * height as usize;
    let mut rgb = below.unwrap_or_else(|| vec![0; pixels * 3]);
    if rgb.len() != pixels * 3 {
        return Err(bad(&"its layers have different sizes"));
    }
    match frame.color_type {
        png::ColorType::Grayscale => {
            for (to, grey) in rgb.chunks_exact_mut(3).zip(&bytes) {
                to.fill(*grey);
            }
        }
        png::ColorType::Rgba => {
            for (to, from) in rgb.chunks_exact_mut(3).zip(bytes.chunks_exact(4)) {
                let cover = u16::from(from[3]);
                for (under, over) in to.iter_mut().zip(&from[..3]) {
                    let mixed = u16::from(*under) * (255 - cover) + u16::from(*over) * cover;
                    *under = u8::try_from(mixed / 255).unwrap_or(u8::MAX);
                }
            }
        }
        _ => return Err(bad(&"it is neither grey nor has transparency")),
    }
    Ok((width as usize, height as usize, rgb))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(color: png::ColorType, bytes: &[u8]) -> Vec<u8> {
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, 2, 1);
        encoder.set_color(color);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(bytes).unwrap();
        drop(writer);
        file
    }

    #[test]
    fn layers_lie_over_the_grey() {
        let picture = PlanePicture {
            grey: png(png::ColorType::Grayscale, &[100, 200]),
            layers: vec![png(png::ColorType::Rgba, &[255, 0, 0, 255, 255, 0, 0, 0])],
            size: [2, 1],
        };
        let canvas = Canvas::of(&picture).unwrap();
        assert_eq!(canvas.size, [2 * ZOOM, ZOOM + STRIP]);
        assert_eq!(canvas.rgb[..3], [255, 0, 0]);
        assert_eq!(canvas.rgb[ZOOM * 3..ZOOM * 3 + 3], [200, 200, 200]);
    }

    #[test]
    fn what_is_no_picture_is_an_error() {
        assert!(rgb_of(b"no picture", None).is_err());
    }
}
