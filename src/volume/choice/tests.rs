//! Headers as scanners write them, and what becomes of them.

use super::*;
use proptest::prelude::*;

const MR: &str = "1.2.840.10008.5.1.4.1.1.4";

fn series(uid: &str, description: &str) -> Candidate {
    Candidate {
        series_uid: uid.to_owned(),
        sop_class_uid: MR.to_owned(),
        tags: SeriesTags {
            modality: Some("MR".into()),
            description: Some(description.to_owned()),
            image_type: ["ORIGINAL", "PRIMARY", "M"].map(str::to_owned).to_vec(),
            ..SeriesTags::default()
        },
        images: 100,
        own_result: false,
    }
}

#[track_caller]
fn check(description: &str, kind: Kind) {
    let got = choose(&[series("1", description)]);
    assert_eq!(
        got.series[0].kind, kind,
        "{description}: {}",
        got.series[0].reason
    );
}

#[test]
fn by_the_names_people_write() {
    for name in [
        "t1_mprage_sag_p2_iso",
        "sub-01_T1w",
        "t1 vibe FA 5",
        "T1 head neck",
        "MPRAGE_EnchancedContrast",
        "Sag 3D BRAVO",
        "T1W_3D_TFE",
        "3D Ax T1 MP-RAGE_R22",
    ] {
        check(name, Kind::T1);
    }
    for name in [
        "t2_tirm_tra_dark-fluid_FLAIR",
        "Sag CUBE T2 FLAIR",
        "3D_Brain_VIEW_FLAIR",
        "AX FLAIR",
        "Ax T2 FLAIR ASSET",
    ] {
        check(name, Kind::Flair);
    }
    check("t2_tse_tra_512", Kind::T2);
    check("Ax T2* GRE", Kind::T2Star);
    check("SWI_Images", Kind::Swi);
    check("STIR sag", Kind::Stir);
    for name in [
        "AAHead_Scout",
        "3-plane loc",
        "Localizer",
        "Survey SHC",
        "localiser",
    ] {
        check(name, Kind::Localiser);
    }
    for name in [
        "t1_mprage_MPR_cor",
        "MIP_Images(SW)",
        "ep2d_diff_ADC",
        "FA",
        "Ax T1 reformat",
    ] {
        check(name, Kind::Derived);
    }
    for name in ["ep2d_diff_b1000", "DTI_64dir", "Ax DWI", "RESOLVE_4scan"] {
        check(name, Kind::Diffusion);
    }
    check("rest_bold_fmri", Kind::Functional);
    check("ep2d_perf", Kind::Perfusion);
    check("3D ASL", Kind::Perfusion);
    check("TOF_3D_multi-slab", Kind::Angiography);
    check("Pha_Images", Kind::Phase);
    check("gre_field_mapping fieldmap", Kind::Calibration);
    check("T2 sag cervical spine", Kind::OtherBodyPart);
    check("AX whatever", Kind::OtherMr);
}

#[test]
fn by_the_times_scanners_write() {
    let timed = |sequence: &str, tr, te, ti, angle| {
        let mut candidate = series("1", "");
        candidate.tags.scanning_sequence = vec![sequence.to_owned()];
        candidate.tags.repetition_time_ms = Some(tr);
        candidate.tags.echo_time_ms = Some(te);
        candidate.tags.inversion_time_ms = ti;
        candidate.tags.flip_angle_deg = Some(angle);
        choose(&[candidate]).series[0].kind
    };
    assert_eq!(timed("GR", 2300.0, 2.98, Some(900.0), 9.0), Kind::T1);
    assert_eq!(timed("SE", 500.0, 10.0, None, 90.0), Kind::T1);
    assert_eq!(timed("SE", 9000.0, 90.0, Some(2500.0), 150.0), Kind::Flair);
    assert_eq!(timed("SE", 5000.0, 100.0, None, 150.0), Kind::T2);
    assert_eq!(timed("SE", 3000.0, 15.0, None, 150.0), Kind::Pd);
    assert_eq!(timed("GR", 700.0, 20.0, None, 20.0), Kind::T2Star);
}

#[test]
fn t1_flair_is_a_t1() {
    let mut candidate = series("1", "Ax T1 FLAIR");
    candidate.tags.echo_time_ms = Some(9.0);
    candidate.tags.inversion_time_ms = Some(780.0);
    assert_eq!(choose(&[candidate]).series[0].kind, Kind::T1);
}

#[test]
fn by_image_type_and_object() {
    let typed = |values: &[&str]| {
        let mut candidate = series("1", "t1_mprage");
        candidate.tags.image_type = values.iter().map(|v| (*v).to_owned()).collect();
        choose(&[candidate]).series[0].kind
    };
    assert_eq!(typed(&["DERIVED", "SECONDARY", "MPR"]), Kind::Derived);
    assert_eq!(typed(&["DERIVED", "SECONDARY"]), Kind::Derived);
    assert_eq!(typed(&["DERIVED", "PRIMARY", "M"]), Kind::T1);
    assert_eq!(typed(&["ORIGINAL", "PRIMARY", "P", "ND"]), Kind::Phase);
    assert_eq!(
        typed(&["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        Kind::Localiser
    );
    assert_eq!(
        typed(&["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"]),
        Kind::Diffusion
    );
    let mut capture = series("1", "T1");
    capture.sop_class_uid = "1.2.840.10008.5.1.4.1.1.7".into();
    assert_eq!(choose(&[capture]).series[0].kind, Kind::NotMr);
    let mut ct = series("1", "Head");
    ct.tags.modality = Some("CT".into());
    assert_eq!(choose(&[ct]).series[0].kind, Kind::NotMr);
    let mut own = series("1", "T1");
    own.own_result = true;
    assert_eq!(choose(&[own]).series[0].kind, Kind::OwnResult);
}

/// A T1 of the given slice spacing (mm), 3D or not, with or without contrast agent.
fn t1(uid: &str, spacing: f64, in_3d: bool, contrast: bool) -> Candidate {
    let mut candidate = series(uid, if contrast { "t1 post gd" } else { "t1" });
    candidate.tags.slice_thickness_mm = Some(spacing);
    candidate.tags.pixel_spacing_mm = Some([1.0, 1.0]);
    candidate.tags.acquisition_type = Some(if in_3d { "3D" } else { "2D" }.to_owned());
    candidate
}

#[track_caller]
fn chosen(candidates: &[Candidate], want: &[&str]) -> Choice {
    let choice = choose(candidates);
    assert_eq!(choice.chosen().collect::<Vec<_>>(), want, "{choice:#?}");
    choice
}

#[test]
fn one_t1_and_one_flair() {
    let choice = chosen(
        &[
            series("1", "AAHead_Scout"),
            series("2", "t2_flair"),
            t1("3", 5.0, false, false),
            t1("4", 1.0, true, false),
            series("5", "t2_tse"),
        ],
        &["4", "2"],
    );
    assert_eq!(choice.kind_of("4"), Some("T1"));
    assert_eq!(
        choice.reason_of("1"),
        Some("localiser: its name says \"scout\"")
    );
    assert!(
        choice
            .reason_of("3")
            .unwrap()
            .contains("another T1 is preferred")
    );
    assert!(choice.reason_of("5").unwrap().contains("looked at first"));
    assert_eq!(choice.kind_of("9"), None);
}

#[test]
fn without_contrast_agent_before_with_it_unless_it_is_much_finer() {
    chosen(
        &[t1("1", 1.0, true, true), t1("2", 1.0, true, false)],
        &["2"],
    );
    chosen(
        &[t1("1", 1.0, true, true), t1("2", 5.0, false, false)],
        &["1"],
    );
}

#[test]
fn another_contrast_where_neither_is_there_and_nothing_rather_than_a_map() {
    chosen(
        &[
            series("1", "swi"),
            series("2", "t2 tse"),
            series("3", "ADC"),
        ],
        &["2"],
    );
    chosen(&[series("1", "localizer"), series("2", "ADC")], &[]);
    let mut few = series("1", "t1");
    few.images = 9;
    let choice = chosen(&[few], &[]);
    assert_eq!(choice.reason_of("1"), Some("T1: too few images (9)"));
}

#[test]
fn the_record_survives_storage() {
    let choice = choose(&[series("1", "t1"), series("2", "scout")]);
    let text = serde_json::to_string(&choice).unwrap();
    assert_eq!(serde_json::from_str::<Choice>(&text).unwrap(), choice);
}

proptest! {
    #[test]
    fn the_order_of_arrival_never_matters(
        order in Just((0..6_usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let all = [
            t1("1", 1.0, true, true), t1("2", 1.0, true, false), t1("3", 1.0, true, false),
            series("4", "flair"), series("5", "flair"), series("6", "scout"),
        ];
        let shuffled: Vec<Candidate> = order.iter().map(|&n| all[n].clone()).collect();
        let choice = choose(&shuffled);
        prop_assert_eq!(choice.chosen().collect::<Vec<_>>(), ["2", "4"]);
    }
}
