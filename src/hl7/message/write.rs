//! A message to text (2.6).

use super::{Field, Message, Segment, Separators, escape, is_header};

impl Message {
    /// As it goes over the wire, in UTF-8; each segment ends with CR.
    ///
    /// Say `UNICODE UTF-8` in MSH-18 where it is not ASCII.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        for segment in &self.segments {
            write_segment(segment, &self.separators, &mut out);
            out.push('\r');
        }
        out
    }
}

fn write_segment(segment: &Segment, separators: &Separators, out: &mut String) {
    out.push_str(&segment.name);
    if is_header(&segment.name) {
        out.extend([
            separators.field,
            separators.component,
            separators.repetition,
        ]);
        out.extend(separators.escape);
        out.extend(separators.subcomponent);
    }
    for field in &segment.fields {
        out.push(separators.field);
        write_field(field, separators, out);
    }
}

fn write_field(field: &Field, separators: &Separators, out: &mut String) {
    for (at, repetition) in field.0.iter().enumerate() {
        if at > 0 {
            out.push(separators.repetition);
        }
        for (at, component) in repetition.0.iter().enumerate() {
            if at > 0 {
                out.push(separators.component);
            }
            for (at, sub) in component.0.iter().enumerate() {
                if at > 0 {
                    out.push(separators.subcomponent.unwrap_or('&'));
                }
                escape::encode(sub, separators, out);
            }
        }
    }
}
