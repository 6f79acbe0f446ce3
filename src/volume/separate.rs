//! One stack out of a series: strays, echoes, time points and repeats set aside, or refused.

use super::NotAVolume;
use super::affine::{Vector, dot};
use super::slice::{Slice, SliceGeometry, SliceLabels};
use std::collections::BTreeMap;

/// Two slices less than this apart lie at the same place, mm.
const SAME_PLACE_MM: f64 = 0.01;
/// Cosine of the angle up to which two directions are one (about half a degree).
const SAME_DIRECTION: f64 = 0.999_96;
/// A part of the images that is at least this much of the series is the series; the rest are strays.
const MAIN_PART: f64 = 0.9;

/// Picks the slices of one volume and says what it left out.
///
/// No two of the slices returned lie at the same height; all have one size and one direction.
/// # Errors
/// [`NotAVolume`] where nothing, or nothing but a guess, would remain.
pub(super) fn one_stack(slices: Vec<Slice>) -> Result<(Vec<Slice>, Vec<String>), NotAVolume> {
    if slices.is_empty() {
        return Err(NotAVolume::because("the series has no images"));
    }
    let mut notes = Vec::new();
    let slices = main_part(slices, &mut notes)?;
    let normal = slices[0].geometry.normal();
    if slices.len() > 1 && places(&slices, normal) == 1 {
        return Err(NotAVolume(format!(
            "all {} images lie at the same place",
            slices.len()
        )));
    }
    let slices = one_of_each(slices, normal, &mut notes);
    let slices = without_repeats(slices, normal, &mut notes)?;
    Ok((slices, notes))
}

/// Sets images that share one size and one direction together, the largest part first; of two as large the one that
/// begins first.
pub fn parts_of<T>(images: Vec<T>, geometry: impl Fn(&T) -> &SliceGeometry) -> Vec<Vec<T>> {
    let mut parts: Vec<Vec<T>> = Vec::new();
    for image in images {
        match parts
            .iter_mut()
            .find(|part| alike(geometry(&part[0]), geometry(&image)))
        {
            Some(part) => part.push(image),
            None => parts.push(vec![image]),
        }
    }
    parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
    parts
}

/// The slices that share one size and one direction.
fn main_part(slices: Vec<Slice>, notes: &mut Vec<String>) -> Result<Vec<Slice>, NotAVolume> {
    let count = slices.len();
    let mut parts = parts_of(slices, |slice| &slice.geometry);
    #[allow(clippy::cast_precision_loss, reason = "slice counts are small")]
    let share = parts[0].len() as f64 / count as f64;
    if parts.len() > 1 && share < MAIN_PART {
        return Err(mixed(&parts));
    }
    let main = parts.swap_remove(0);
    if main.len() < count {
        notes.push(format!(
            "{} of {count} images have another size or direction and are left out",
            count - main.len()
        ));
    }
    Ok(main)
}

fn mixed(parts: &[Vec<Slice>]) -> NotAVolume {
    let first = &parts[0][0].geometry;
    let directions = parts
        .iter()
        .filter(|part| !same_direction(first, &part[0].geometry))
        .count();
    NotAVolume(if directions > 0 {
        "the images point in different directions (a localiser, or several stacks in one series)"
            .to_owned()
    } else {
        "the images have different sizes or pixel spacings".to_owned()
    })
}

fn alike(a: &SliceGeometry, b: &SliceGeometry) -> bool {
    let same_spacing = a
        .pixel_spacing
        .iter()
        .zip(b.pixel_spacing)
        .all(|(x, y)| (x - y).abs() < 1e-3 * x);
    a.rows == b.rows && a.columns == b.columns && same_spacing && same_direction(a, b)
}

fn same_direction(a: &SliceGeometry, b: &SliceGeometry) -> bool {
    dot(a.along_row, b.along_row) > SAME_DIRECTION
        && dot(a.along_column, b.along_column) > SAME_DIRECTION
}

/// How many different heights the slices have.
fn places(slices: &[Slice], normal: Vector) -> usize {
    let mut heights: Vec<f64> = slices.iter().map(|s| s.geometry.height(normal)).collect();
    heights.sort_by(f64::total_cmp);
    1 + heights
        .windows(2)
        .filter(|pair| pair[1] - pair[0] >= SAME_PLACE_MM)
        .count()
}

/// A label that may tell slices at one place apart: its name for people, and its value.
struct Label {
    name: &'static str,
    value: fn(&SliceLabels) -> Key,
}

/// Sortable value of a label. Times are in thousandths so that they can be compared exactly.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Number(i64),
    Text(String),
    Absent,
}

impl Key {
    fn thousandths(value: Option<f64>) -> Self {
        #[allow(
            clippy::cast_possible_truncation,
            reason = "saturates, and is only compared"
        )]
        value.map_or(Self::Absent, |v| Self::Number((v * 1000.0).round() as i64))
    }

    fn whole(value: Option<i64>) -> Self {
        value.map_or(Self::Absent, Self::Number)
    }
}

/// In the order in which they are tried; the smallest value is kept.
const LABELS: [Label; 9] = [
    Label {
        name: "kinds of image (magnitude, phase ...)",
        value: |l| {
            Key::Text(format!(
                "{}{}",
                image_type_rank(&l.image_type),
                l.image_type
            ))
        },
    },
    Label {
        name: "stacks",
        value: |l| l.stack.clone().map_or(Key::Absent, Key::Text),
    },
    Label {
        name: "b-values",
        value: |l| Key::thousandths(l.b_value),
    },
    Label {
        name: "echoes",
        value: |l| Key::thousandths(l.echo_time_ms),
    },
    Label {
        name: "inversion times",
        value: |l| Key::thousandths(l.inversion_time_ms),
    },
    Label {
        name: "flip angles",
        value: |l| Key::thousandths(l.flip_angle_deg),
    },
    Label {
        name: "time points",
        value: |l| Key::whole(l.temporal_position),
    },
    Label {
        name: "trigger times",
        value: |l| Key::thousandths(l.trigger_time_ms),
    },
    Label {
        name: "acquisitions",
        value: |l| Key::whole(l.acquisition),
    },
];

/// Original magnitude images before derived ones, phase, real and imaginary last.
fn image_type_rank(image_type: &str) -> u8 {
    let upper = image_type.to_ascii_uppercase();
    let has = |names: &[&str]| upper.split('\\').any(|value| names.contains(&value));
    if has(&["P", "R", "I", "PHASE", "REAL", "IMAGINARY", "PHASE MAP"]) {
        2
    } else {
        u8::from(has(&["DERIVED"]))
    }
}

/// While slices lie at the same place, keeps one value of the first label that tells them apart.
fn one_of_each(mut slices: Vec<Slice>, normal: Vector, notes: &mut Vec<String>) -> Vec<Slice> {
    for label in &LABELS {
        let places_before = places(&slices, normal);
        if places_before == slices.len() {
            break;
        }
        let mut groups: BTreeMap<Key, Vec<usize>> = BTreeMap::new();
        for (index, slice) in slices.iter().enumerate() {
            let key = (label.value)(&slice.labels);
            groups.entry(key).or_default().push(index);
        }
        if groups.len() < 2 || !covers(&groups, &slices, normal, places_before) {
            continue;
        }
        notes.push(format!(
            "{} {} in one series: the first is used",
            groups.len(),
            label.name
        ));
        slices = keep_best(slices, groups, normal);
    }
    slices
}

/// Whether the best group alone still reaches (nearly) every place.
fn covers(
    groups: &BTreeMap<Key, Vec<usize>>,
    slices: &[Slice],
    normal: Vector,
    places_before: usize,
) -> bool {
    let best = groups
        .values()
        .map(|group| group_places(group, slices, normal))
        .max()
        .unwrap_or(0);
    best * 10 >= places_before * 9
}

fn group_places(group: &[usize], slices: &[Slice], normal: Vector) -> usize {
    let mut heights: Vec<f64> = group
        .iter()
        .map(|&index| slices[index].geometry.height(normal))
        .collect();
    heights.sort_by(f64::total_cmp);
    heights.dedup_by(|a, b| (*a - *b).abs() < SAME_PLACE_MM);
    heights.len()
}

/// The group that reaches the most places; of equals the one with the smallest key.
fn keep_best(slices: Vec<Slice>, groups: BTreeMap<Key, Vec<usize>>, normal: Vector) -> Vec<Slice> {
    let mut best = (0, Vec::new());
    for group in groups.into_values() {
        let reached = group_places(&group, &slices, normal);
        if reached > best.0 {
            best = (reached, group);
        }
    }
    let mut keep = vec![false; slices.len()];
    for index in best.1 {
        keep[index] = true;
    }
    let mut keep = keep.into_iter();
    let mut slices = slices;
    slices.retain(|_| keep.next().unwrap_or(false));
    slices
}

/// Drops exact copies; refuses two different pictures of one place.
fn without_repeats(
    mut slices: Vec<Slice>,
    normal: Vector,
    notes: &mut Vec<String>,
) -> Result<Vec<Slice>, NotAVolume> {
    let before = slices.len();
    slices.sort_by(|a, b| {
        let height = |s: &Slice| s.geometry.height(normal);
        height(a).total_cmp(&height(b))
    });
    let mut kept: Vec<Slice> = Vec::with_capacity(slices.len());
    let mut differing = 0;
    for slice in slices {
        let height = slice.geometry.height(normal);
        match kept.last() {
            Some(last) if height - last.geometry.height(normal) < SAME_PLACE_MM => {
                differing += usize::from(last.pixels != slice.pixels);
            }
            _ => kept.push(slice),
        }
    }
    if differing > 0 {
        return Err(NotAVolume(format!(
            "{} images lie where another image already lies, and nothing in their headers \
             tells them apart",
            before - kept.len()
        )));
    }
    if kept.len() < before {
        notes.push(format!("{} repeated images left out", before - kept.len()));
    }
    Ok(kept)
}
