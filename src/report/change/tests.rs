//! What changed, in both languages.

use super::*;

pub(crate) fn change(structure: &str, standing: Standing, percent: f64) -> Change {
    Change {
        structure: structure.into(),
        prior_mm3: 7000.0,
        present_mm3: 7000.0 * (1.0 + percent / 100.0),
        percent,
        percent_per_year: Some(percent / 2.0),
        expected_percent_per_year: Some(-0.04),
        expected_percent: Some(-0.08),
        limit_percent: 16.9,
        standing,
    }
}

fn follow_up() -> FollowUp {
    FollowUp {
        prior_date: "20241122".into(),
        days: 731,
        changes: vec![
            change("total hippocampus", Standing::BeyondAgeing, -20.0),
            change("left caudate", Standing::WithinLimit, 1.0),
            change("right caudate", Standing::BeyondLimit, 30.0),
            change("total pallidum", Standing::WithinLimit, 3.0),
            change(BRAIN, Standing::WithinLimit, -2.0),
        ],
        doubts: vec![Doubt::OtherScanner],
        no_lesions: Some(NoLesions::NoFlair),
        default_limits: true,
        ..FollowUp::default()
    }
}

#[test]
fn what_counts_is_listed_and_the_rest_where_it_stands_out() {
    let said = changes(Some(&follow_up()), None, Language::En);
    let names: Vec<&str> = said.rows.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(
        names,
        ["Brain tissue", "Hippocampus", "Right caudate nucleus"]
    );
    let cells = [
        "7.00",
        "5.60",
        "\u{2212}20.0",
        "\u{2212}10.0",
        "0.0",
        "16.9",
    ];
    assert_eq!(said.rows[1].cells, cells);
    assert!(said.rows[1].stands_out && !said.rows[0].stands_out);
    assert_eq!(
        said.lines,
        [
            "Compared with the study of 2024-11-22, 2.0 years before.",
            "Doubtful: another scanner: scanners differ by more than years do.",
            "Lesions were not compared: no FLAIR in this study.",
        ]
    );
}

#[test]
fn german_says_the_same_numbers() {
    let (en, de) = (
        changes(Some(&follow_up()), None, Language::En),
        changes(Some(&follow_up()), None, Language::De),
    );
    for (e, d) in en.rows.iter().zip(&de.rows) {
        let english = |cell: &String| cell.replace(',', ".");
        assert_eq!(
            e.cells.each_ref(),
            d.cells.each_ref().map(english).each_ref()
        );
        assert_ne!(e.standing, d.standing);
    }
    assert_eq!(
        de.lines[0],
        "Verglichen mit der Untersuchung vom 22.11.2024, 2,0 Jahre zuvor."
    );
    let said = format!("{de:?}");
    for english in ["limit", "healthy", "earlier", "before", "scans"] {
        assert!(!said.contains(english), "{english} is in {said}");
    }
}

#[test]
fn nothing_to_compare_with_is_said() {
    let none = changes(None, None, Language::En);
    assert_eq!(
        none.lines,
        ["No earlier measured study of this patient is here."]
    );
    let why = changes(None, Some(NotCompared::OtherPerson), Language::De);
    assert!(why.lines[0].contains("Geburtsdatum oder Geschlecht"));
    assert!(why.rows.is_empty() && why.notes.is_empty());
}

#[test]
fn lesions_in_words() {
    let change = LesionChange {
        new_count: 1,
        new: vec![ChangedLesion {
            centre_mm: [-20.4, 3.0, 11.6],
            present_mm3: 125.0,
            region: Some(crate::analysis::Region::Deep),
            side: Some("left".into()),
            ..ChangedLesion::default()
        }],
        stable_count: 4,
        not_covered_count: 2,
        present_mm3: 1130.0,
        prior_mm3: 1000.0,
        ..LesionChange::default()
    };
    let en = Language::En;
    assert_eq!(
        lesions(&change, en),
        [
            "1 new lesion, 0 enlarged; 0 smaller, 4 unchanged, 0 no longer marked.",
            "All lesions together: 1.00 ml before, 1.13 ml now.",
            "2 lesions lie outside the other picture and were not compared.",
        ]
    );
    let rows = changed_lesions(&change, 10, en);
    assert_eq!(
        rows[0].place,
        "left deep white matter, at \u{2212}20, 3, 12 mm"
    );
    assert_eq!((rows[0].what, rows[0].before.as_str()), ("new", ""));
    let german = changed_lesions(&change, 10, Language::De);
    assert_eq!(
        german[0].sentence(Language::De),
        "Neu: links, tiefe weiße Substanz, bei \u{2212}20; 3; 12 mm, 0,12 ml."
    );
}

#[test]
fn one_structure_in_a_sentence() {
    let hippocampus = change("total hippocampus", Standing::BeyondAgeing, -20.0);
    assert_eq!(
        in_a_sentence(&hippocampus, "20241122", Language::En),
        "since 2024-11-22: \u{2212}20.0 %, \u{2212}10.0 % a year (healthy people 0.0); \
         test-retest limit 16.9 %; beyond limit and ageing"
    );
}
