//! What `packaging/` shows and alarms about is what a server says on `/metrics`: every name and every label of it.

use std::collections::BTreeSet;
use std::path::Path;

/// Expressions of the dashboard with how their lines are named, and of the alarm rules.
fn expressions() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
    let dashboard = std::fs::read(root.join("grafana/firstread.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_slice(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap());
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let mut all: Vec<String> = targets.map(|t| text(&t["expr"])).collect();
    let rules = std::fs::read_to_string(root.join("prometheus/firstread.rules.yml")).unwrap();
    let rules = rules
        .lines()
        .filter_map(|l| l.trim().strip_prefix("expr: "));
    let before = all.len();
    all.extend(rules.map(str::to_owned));
    assert!(before >= 15 && all.len() >= before + 8, "{all:?}");
    all
}

fn words(expression: &str) -> impl Iterator<Item = &str> {
    let other = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    expression.split(other).filter(|word| !word.is_empty())
}

/// Labels that an expression groups by or asks for.
fn labels(expression: &str) -> BTreeSet<&str> {
    let grouped = expression.split("by (").skip(1);
    let grouped = grouped.flat_map(|rest| words(rest.split(')').next().unwrap()));
    let asked = expression.split('{').skip(1);
    let asked = asked.flat_map(|rest| rest.split('}').next().unwrap().split(','));
    let asked = asked.filter_map(|pair| pair.split('=').next());
    grouped.chain(asked).collect()
}

/// Compares with what a server says that has received, screened and told; names the metric or the label that there is not.
pub fn is_told_by(metrics: &str) {
    for expression in expressions() {
        let names = words(&expression).filter(|word| word.starts_with("firstread_"));
        for name in names {
            let lines = metrics.lines().filter_map(|l| l.strip_prefix(name));
            let lines: Vec<&str> = lines.filter(|l| l.starts_with(['{', ' '])).collect();
            if lines.is_empty() {
                // where nothing waits there is nothing to count, by kind, but there is a word for it
                let told = metrics.contains(&format!("# TYPE {name} "));
                let of_atna = name.starts_with("firstread_audit_unsent"); // tests/web/atna.rs
                assert!(told || of_atna, "no {name} in {metrics}");
                continue;
            }
            for label in labels(&expression) {
                let there = lines.iter().any(|l| l.contains(&format!("{label}=\"")));
                assert!(there, "no label {label} of {name}: {lines:?}");
            }
        }
    }
}

#[test]
fn names_and_labels_are_found_in_expressions() {
    let found = labels("sum by (le, kind) (rate(a_bucket{what=\"x\",role=\"y\"}[15m]))");
    assert_eq!(found, ["kind", "le", "role", "what"].into());
    assert!(labels("max(firstread_stuck) > 0").is_empty());
    let gone =
        std::panic::catch_unwind(|| is_told_by("firstread_objects_total{outcome=\"new\"} 1"));
    assert!(gone.is_err());
}
