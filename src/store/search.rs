//! What a search of the list looks through: one text a study, in an index of the open list.

use super::entity::study;
use crate::dicom::guard::cut;

/// Words of a search that count; of more, the first.
const WORDS_MAX: usize = 8;
/// Bytes of each part that a search finds, and that the list is filtered by. The index of the open list
/// has all of them in one entry, of which PostgreSQL takes 2,704 bytes: a bound on hostile headers, far
/// above what PS3.5 6.2 allows of the plain ones.
const NAME_BYTES: usize = 256;
const NUMBER_BYTES: usize = 80;
pub(super) const TEXT_BYTES: usize = 256;
pub(super) const CODE_BYTES: usize = 64;

/// What else stands in an entry: UID, band, state, numbers, and what PostgreSQL adds.
const REST_BYTES: usize = 256;
const _: () = assert!(
    2 * NAME_BYTES + 2 * NUMBER_BYTES + 4 * TEXT_BYTES + 2 * CODE_BYTES + REST_BYTES < 2704
);

/// The parts of a study that a search looks through.
#[derive(Debug, Clone, Copy, Default)]
pub struct Searched<'a> {
    /// (0010,0010)
    pub name: Option<&'a str>,
    /// (0010,0020)
    pub patient_id: Option<&'a str>,
    /// (0008,0050)
    pub accession: Option<&'a str>,
    /// (0008,1030)
    pub description: Option<&'a str>,
    /// (0008,0090)
    pub referrer: Option<&'a str>,
}

impl<'a> From<&'a study::Model> for Searched<'a> {
    fn from(study: &'a study::Model) -> Self {
        Self {
            name: study.patient_name.as_deref(),
            patient_id: study.patient_id.as_deref(),
            accession: study.accession.as_deref(),
            description: study.description.as_deref(),
            referrer: study.referrer.as_deref(),
        }
    }
}

impl Searched<'_> {
    /// As it is kept. It begins with the name, so that sorting by it sorts by name.
    #[must_use]
    pub fn text(self) -> String {
        let parts = [
            (self.name, NAME_BYTES),
            (self.patient_id, NUMBER_BYTES),
            (self.accession, NUMBER_BYTES),
            (self.description, TEXT_BYTES),
            (self.referrer, NAME_BYTES),
        ];
        parts
            .map(|(part, bytes)| cut(plain(part.unwrap_or_default()), bytes))
            .join("\n")
    }
}

/// The words of a search; a study fits that has all of them.
pub(super) fn words(asked: &str) -> Vec<String> {
    let plain = plain(asked);
    let words = plain.split_whitespace().take(WORDS_MAX);
    words.map(str::to_owned).collect()
}

/// A pattern for `LIKE … ESCAPE '\'` that finds the word anywhere.
pub(super) fn pattern(word: &str) -> String {
    let escaped = word
        .replace('\\', "\\\\")
        .replace('%', "\\%")
        .replace('_', "\\_");
    format!("%{escaped}%")
}

/// In lower case, with a space for what parts the components of a name (PS3.5 6.2).
fn plain(text: &str) -> String {
    text.to_lowercase().replace(['^', '=', '\n'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_begins_with_the_name() {
        let of = Searched {
            name: Some("MÜLLER^Anna"),
            accession: Some("A1"),
            ..Searched::default()
        };
        assert_eq!(of.text(), "müller anna\n\na1\n\n");
    }

    #[test]
    fn a_text_is_bounded() {
        let long = "ß".repeat(5000);
        let of = Searched {
            name: Some(&long),
            patient_id: Some(&long),
            accession: Some(&long),
            description: Some(&long),
            referrer: Some(&long),
        };
        assert_eq!(of.text().len(), 2 * 256 + 2 * 80 + 256 + 4);
    }

    #[test]
    fn words_are_read_as_the_text_is_written() {
        assert_eq!(words(" MÜLLER^a "), ["müller", "a"]);
        assert!(words(" ^ ").is_empty());
        assert_eq!(words(&"x ".repeat(100)).len(), WORDS_MAX);
    }

    #[test]
    fn wildcards_are_letters() {
        assert_eq!(pattern("5%_\\"), "%5\\%\\_\\\\%");
    }
}
