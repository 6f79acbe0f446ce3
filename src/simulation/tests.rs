//! Against theory, and what must hold whatever the numbers.

use super::*;

fn scenario(discipline: Discipline) -> Scenario {
    Scenario {
        readers: 1,
        load: 0.8,
        read_minutes: 10.0,
        read_times: ReadTimes::Exponential,
        prevalence: 0.1,
        sensitivity: 0.9,
        specificity: 0.9,
        discipline,
        preemptive: false,
        interrupt_fraction: 0.0,
        interrupt_minutes: 5.0,
        triage: TriageSettings::default(),
        cap_minutes: 120.0,
        cases: 400_000,
        seed: 1,
    }
}

fn near(got: &GroupStats, theory: f64, share: f64) {
    let mean = got.mean.unwrap();
    assert!((mean / theory - 1.0).abs() < share, "{mean} for {theory}");
    let [low, high] = got.ci95.unwrap();
    assert!(
        (high - low) / 2.0 / mean < 0.03,
        "{low} to {high} around {mean}"
    );
}

/// M/M/1, load 0.8: Cobham's formulas for two classes.
#[test]
fn one_reader_as_in_theory() {
    let fifo = simulate(&scenario(Discipline::Fifo)).unwrap();
    near(&fifo.all, 40.0, 0.05);
    let flag = simulate(&scenario(Discipline::Flag)).unwrap();
    near(&flag.flagged, 9.35, 0.05);
    near(&flag.unflagged, 46.73, 0.05);
    near(&flag.diseased, 13.08, 0.05);
}

/// The published example of FDA's `QuCAD` (its manual): two readers, one arrival in ten interrupts.
#[test]
fn interrupted_readers_as_in_theory() {
    let two = |discipline| Scenario {
        readers: 2,
        preemptive: true,
        interrupt_fraction: 0.1,
        ..scenario(discipline)
    };
    let fifo = simulate(&two(Discipline::Fifo)).unwrap();
    let flag = simulate(&two(Discipline::Flag)).unwrap();
    let near = |got: &GroupStats, theory: f64| {
        let mean = got.mean.unwrap();
        assert!((mean / theory - 1.0).abs() < 0.25, "{mean} for {theory}");
    };
    near(&fifo.all, 18.29);
    near(&flag.diseased, 2.57);
    near(&flag.unflagged, 22.16);
}

/// Who is read when does not change how much there is to read (mean read times are the same for all).
#[test]
fn the_mean_wait_of_all_does_not_depend_on_the_order() {
    let short = |discipline| Scenario {
        cases: 50_000,
        ..scenario(discipline)
    };
    let fifo = simulate(&short(Discipline::Fifo))
        .unwrap()
        .all
        .mean
        .unwrap();
    for discipline in Discipline::ALL {
        let mean = simulate(&short(discipline)).unwrap().all.mean.unwrap();
        assert!(
            (mean / fifo - 1.0).abs() < 0.1,
            "{discipline:?}: {mean}, {fifo}"
        );
    }
}

#[test]
fn abnormal_cases_gain_and_the_cap_bounds_the_longest_wait() {
    let busy = |discipline| Scenario {
        readers: 2,
        load: 0.9,
        cases: 60_000,
        ..scenario(discipline)
    };
    let of = |d| simulate(&busy(d)).unwrap();
    let (fifo, score, head, cap) = (
        of(Discipline::Fifo),
        of(Discipline::Score),
        of(Discipline::HeadStart),
        of(Discipline::Cap),
    );
    let mean = |g: &GroupStats| g.mean.unwrap();
    assert!(mean(&score.diseased) < mean(&head.diseased));
    assert!(mean(&head.diseased) < mean(&cap.diseased));
    assert!(mean(&cap.diseased) < mean(&fifo.diseased));
    assert!(mean(&head.missed) < mean(&fifo.missed));
    assert!(head.normal.max < score.normal.max);
    assert!(cap.normal.max.unwrap() < 1.3 * fifo.normal.max.unwrap());
}

/// A head start of k = 0 is no head start.
#[test]
fn without_a_head_start_the_first_come_is_served_first() {
    let short = |discipline| Scenario {
        cases: 5_000,
        triage: TriageSettings {
            k_minutes_per_logit: 0.0,
            ..TriageSettings::default()
        },
        ..scenario(discipline)
    };
    assert_eq!(
        simulate(&short(Discipline::HeadStart)),
        simulate(&short(Discipline::Fifo))
    );
}

#[test]
fn same_seed_same_run() {
    let short = |seed| Scenario {
        cases: 2_000,
        seed,
        ..scenario(Discipline::HeadStart)
    };
    assert_eq!(simulate(&short(7)), simulate(&short(7)));
    assert_ne!(simulate(&short(7)), simulate(&short(8)));
}

#[test]
fn recorded_cases_are_read_and_replayed() {
    let header = "arrival_minutes,p_abnormal,diseased,read_minutes".to_owned();
    // Two come at a time, every 20 minutes; one of them has the higher probability.
    let line = |i: u32| {
        format!(
            "{},{},{},10",
            20 * (i / 2),
            ["0.05", "0.9"][(i % 2) as usize],
            i % 2
        )
    };
    let lines: Vec<String> = std::iter::once(header).chain((0..200).map(line)).collect();
    let csv = lines.join("\n");
    let cases = recorded_cases(&csv).unwrap();
    assert_eq!(cases.len(), 200);
    let got = replay(&scenario(Discipline::Fifo), &cases).unwrap();
    assert_eq!(
        (got.diseased.mean, got.normal.mean),
        (Some(10.0), Some(0.0))
    );
    for (bad, says) in [
        ("", "no header"),
        ("p_abnormal\n0.5", "arrival_minutes"),
        ("arrival_minutes\nnow", "line 2"),
        ("arrival_minutes,p_abnormal\n1,2", "line 2"),
        ("arrival_minutes,p_abnormal\n,0.2", "line 2"),
    ] {
        let error = recorded_cases(bad).unwrap_err();
        assert!(error.contains(says), "{bad:?}: {error}");
    }
    let few = replay(&scenario(Discipline::Fifo), &cases[..99]);
    assert!(few.unwrap_err().contains("99 recorded cases"));
}

#[test]
fn impossible_scenarios_are_named() {
    for (bad, says) in [
        (
            Scenario {
                load: 1.0,
                ..scenario(Discipline::Fifo)
            },
            "load",
        ),
        (
            Scenario {
                readers: 0,
                ..scenario(Discipline::Fifo)
            },
            "readers",
        ),
        (
            Scenario {
                cases: 10,
                ..scenario(Discipline::Fifo)
            },
            "cases",
        ),
        (
            Scenario {
                prevalence: f64::NAN,
                ..scenario(Discipline::Fifo)
            },
            "prevalence",
        ),
    ] {
        assert!(simulate(&bad).unwrap_err().contains(says));
    }
}

#[test]
fn the_plot_shows_every_group_and_escapes_its_title() {
    let short = Scenario {
        cases: 2_000,
        ..scenario(Discipline::Flag)
    };
    let picture = svg(&simulate(&short).unwrap(), "<script>");
    assert!(picture.contains("&lt;script>") && !picture.contains("<script>"));
    assert!(GROUPS.iter().all(|name| picture.contains(name)));
}
