//! Three planes of a measured picture as PNG, with outlines of structures and lesions in a layer
//! of its own. One pixel a voxel of the measuring grid, in radiological convention: the
//! patient's right is on the left.

use std::io;
use std::path::Path;

use super::lesions::LESION_CODE;
use crate::volume::components::touching;
use crate::volume::measuring_grid::GRID;

/// Names of the pictures; each has a layer `NAME_overlay`.
pub const OUTLINED: [&str; 3] = ["measured_axial", "measured_coronal", "measured_sagittal"];
/// The same through the largest lesion, where there is one.
pub const LESION_OUTLINED: [&str; 3] = ["lesion_axial", "lesion_coronal", "lesion_sagittal"];
/// What the names of [`LESION_OUTLINED`] begin with.
pub const LESION_VIEW: &str = "lesion_";

/// Colours that stay apart on grey, also for colour-blind readers (Okabe and Ito's palette).
const ORANGE: [u8; 3] = [230, 159, 0];
const SKY: [u8; 3] = [86, 180, 233];
const GREEN: [u8; 3] = [0, 158, 115];
const YELLOW: [u8; 3] = [240, 228, 66];
const VERMILION: [u8; 3] = [255, 100, 20];
const PURPLE: [u8; 3] = [204, 121, 167];

/// What is outlined, for the words beside a picture: name and colour.
pub const LEGEND: [(&str, [u8; 3]); 6] = [
    ("ventricles", SKY),
    ("hippocampus and amygdala", YELLOW),
    ("basal nuclei", GREEN),
    ("thalamus", PURPLE),
    ("lesions", VERMILION),
    ("white matter", ORANGE),
];

/// The group of [`LEGEND`] that a code belongs to.
fn group(code: u8) -> Option<usize> {
    match code {
        4 | 43 | 5 | 44 | 14 | 15 => Some(0),
        17 | 53 | 18 | 54 => Some(1),
        11 | 50 | 12 | 51 | 13 | 52 | 26 | 58 => Some(2),
        10 | 49 => Some(3),
        LESION_CODE => Some(4),
        2 | 41 => Some(5),
        _ => None,
    }
}

/// A plane: the voxel at a column and a row, if it lies inside.
#[derive(Clone, Copy)]
struct Plane {
    axis: usize,
    through: usize,
}

impl Plane {
    /// Columns and rows.
    fn size(self) -> [usize; 2] {
        let [x, y, z] = GRID;
        [[y, z], [x, z], [x, y]][self.axis]
    }

    /// Right to left (or front to back), top to bottom.
    fn voxel(self, column: usize, row: usize) -> usize {
        let [columns, rows] = self.size();
        let (across, up) = (columns - 1 - column, rows - 1 - row);
        let [x, y, z] = match self.axis {
            0 => [self.through, across, up],
            1 => [across, self.through, up],
            _ => [across, up, self.through],
        };
        (x * GRID[1] + y) * GRID[2] + z
    }
}

/// Draws the planes through the ventricles (axial) and the hippocampi (coronal, and the left one
/// sagittal), the same through the largest lesion where there is one, and gives the names drawn.
///
/// # Errors
/// When a file cannot be written.
pub fn draw(folder: &Path, image: &[f32], codes: &[u8]) -> io::Result<Vec<String>> {
    std::fs::create_dir_all(folder)?;
    let mut views = vec![(OUTLINED, focus(codes))];
    views.extend(largest_lesion(codes).map(|through| (LESION_OUTLINED, through)));
    let all = views.into_iter().flat_map(|(names, through)| {
        let planes = names.into_iter().zip([2, 1, 0]);
        planes.map(move |(name, axis)| (name, axis, through))
    });
    let mut drawn = Vec::new();
    for (name, axis, through) in all {
        let plane = Plane {
            axis,
            through: through[axis],
        };
        let [columns, rows] = plane.size();
        let (mut grey, mut layer) = (Vec::new(), Vec::new());
        for row in 0..rows {
            for column in 0..columns {
                let at = plane.voxel(column, row);
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a grey level, clamped to a byte"
                )]
                grey.push((image[at] / 1.2 * 255.0).clamp(0.0, 255.0) as u8);
                layer.extend_from_slice(&rim(codes, plane, column, row));
            }
        }
        write(
            folder,
            name,
            [columns, rows],
            png::ColorType::Grayscale,
            &grey,
        )?;
        let over = format!("{name}_overlay");
        write(folder, &over, [columns, rows], png::ColorType::Rgba, &layer)?;
        drawn.push(name.to_owned());
    }
    Ok(drawn)
}

/// A pixel of the outlines: coloured where a group ends.
fn rim(codes: &[u8], plane: Plane, column: usize, row: usize) -> [u8; 4] {
    let of = |column: usize, row: usize| group(codes[plane.voxel(column, row)]);
    let Some(here) = of(column, row) else {
        return [0; 4];
    };
    let [columns, rows] = plane.size();
    let around = [
        (column.wrapping_sub(1), row),
        (column + 1, row),
        (column, row.wrapping_sub(1)),
        (column, row + 1),
    ];
    let ends = around
        .into_iter()
        .any(|(c, r)| c >= columns || r >= rows || of(c, r) != Some(here));
    if ends {
        let [r, g, b] = LEGEND[here].1;
        // White matter is large: its outline stays in the background.
        [r, g, b, if here == 5 { 110 } else { 255 }]
    } else {
        [0; 4]
    }
}

fn index_of(at: usize) -> [usize; 3] {
    [
        at / (GRID[1] * GRID[2]),
        at / GRID[2] % GRID[1],
        at % GRID[2],
    ]
}

/// The voxel of the largest lesion that is nearest to its middle: planes through it show it, however
/// it is bent.
fn largest_lesion(codes: &[u8]) -> Option<[usize; 3]> {
    let lesions = touching(GRID, |at| codes[at] == LESION_CODE);
    let largest = lesions.into_iter().max_by_key(Vec::len)?;
    let mut sum = [0_usize; 3];
    for at in &largest {
        for (s, i) in sum.iter_mut().zip(index_of(*at)) {
            *s += i;
        }
    }
    let middle = sum.map(|s| s / largest.len());
    let away = |at: &usize| -> usize {
        let index = index_of(*at);
        let apart = index.iter().zip(middle).map(|(i, m)| i.abs_diff(m).pow(2));
        apart.sum()
    };
    largest.into_iter().min_by_key(away).map(index_of)
}

/// Where the planes go: the middle of the hippocampi, one side's for the sagittal plane.
fn focus(codes: &[u8]) -> [usize; 3] {
    let middle = |wanted: &[u8]| {
        let (mut sum, mut count) = ([0_usize; 3], 0_usize);
        for (at, _) in codes.iter().enumerate().filter(|(_, c)| wanted.contains(c)) {
            for (s, i) in sum.iter_mut().zip(index_of(at)) {
                *s += i;
            }
            count += 1;
        }
        (count > 0).then(|| sum.map(|s| s / count))
    };
    let both = middle(&[17, 53]).unwrap_or(GRID.map(|n| n / 2));
    let ventricles = middle(&[4, 43]).unwrap_or(both);
    let left = middle(&[17]).unwrap_or(both);
    [left[0], both[1], ventricles[2]]
}

fn write(
    folder: &Path,
    name: &str,
    size: [usize; 2],
    color: png::ColorType,
    bytes: &[u8],
) -> io::Result<()> {
    let [width, height] = size.map(|n| u32::try_from(n).unwrap_or(0));
    let file = std::fs::File::create(folder.join(format!("{name}.png")))?;
    let mut encoder = png::Encoder::new(io::BufWriter::new(file), width, height);
    encoder.set_color(color);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().map_err(io::Error::other)?;
    writer.write_image_data(bytes).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patients_left_is_on_the_right_of_the_picture() {
        let mut codes = vec![0; GRID.iter().product()];
        // x grows to the patient's right: a block on the left has small x.
        for x in 40..50 {
            for y in 90..100 {
                for z in 70..90 {
                    codes[(x * GRID[1] + y) * GRID[2] + z] = 17;
                }
            }
        }
        let plane = Plane {
            axis: 2,
            through: 80,
        };
        let [columns, rows] = plane.size();
        let mut coloured = Vec::new();
        for row in 0..rows {
            for column in 0..columns {
                if rim(&codes, plane, column, row)[3] > 0 {
                    coloured.push((column, row));
                }
            }
        }
        assert_eq!(coloured.len(), 36, "the rim of a square of 10 pixels");
        assert!(coloured.iter().all(|(column, _)| *column >= columns / 2));
        assert_eq!(focus(&codes)[0], 44);
    }

    #[test]
    fn planes_go_through_the_largest_lesion() {
        let mut codes = vec![2; GRID.iter().product()];
        assert_eq!(largest_lesion(&codes), None);
        let mut lesion = |index: [usize; 3]| {
            codes[(index[0] * GRID[1] + index[1]) * GRID[2] + index[2]] = LESION_CODE;
        };
        lesion([10, 10, 10]);
        // An arc, whose middle lies outside of it.
        for x in 40..61 {
            lesion([x, 90, 70]);
        }
        for y in 90..111 {
            lesion([40, y, 70]);
            lesion([60, y, 70]);
        }
        let [x, y, z] = largest_lesion(&codes).unwrap();
        assert_eq!((x, z), (50, 70));
        assert_eq!(y, 90, "on the arc");
    }
}
