//! Packages carry all that a server needs, and every unit protects the machine alike.

use std::collections::BTreeSet;
use std::path::Path;

use super::root;

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).expect("the file is there")
}

/// Lines of a unit that take rights away or bound what it may use.
fn protections(unit: &str) -> BTreeSet<String> {
    const OTHERS: [&str; 5] = [
        "ExecStart",
        "EnvironmentFile",
        "Description",
        "Documentation",
        "WantedBy",
    ];
    let unit = read(unit);
    let lines = unit
        .lines()
        .filter(|l| l.contains('=') && !l.starts_with('#'));
    let lines = lines.filter(|l| !OTHERS.iter().any(|other| l.starts_with(other)));
    lines.map(str::to_owned).collect()
}

#[test]
fn both_units_protect_alike() {
    let one = protections("packaging/systemd/firstread.service");
    let role = protections("packaging/systemd/firstread@.service");
    assert_eq!(one, role);
    for line in ["NoNewPrivileges=yes", "ProtectSystem=strict", "UMask=0027"] {
        assert!(one.contains(line), "{line}");
    }
}

/// What the Debian package takes: patterns from the checkout's root.
fn in_debian_package() -> Vec<String> {
    let manifest: toml::Table = read("Cargo.toml").parse().expect("the manifest is TOML");
    let deb = &manifest["package"]["metadata"]["deb"];
    let assets = deb["assets"].as_array().expect("a list");
    let sources = assets
        .iter()
        .map(|a| a[0].as_str().expect("a path").to_owned());
    sources.collect()
}

/// What the container takes.
fn in_container() -> Vec<String> {
    let file = read("packaging/Dockerfile");
    let copies = file.lines().filter_map(|l| l.strip_prefix("COPY "));
    let sources = copies.flat_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words[..words.len() - 1]
            .iter()
            .map(|w| (*w).to_owned())
            .collect::<Vec<_>>()
    });
    sources.collect()
}

#[test]
fn packages_hold_what_a_server_needs() {
    let (deb, container) = (in_debian_package(), in_container());
    for needed in [
        "target/release/firstread",
        ".cache/onnxruntime/libonnxruntime.so",
        "models",
        "config/firstread.toml",
        "target/notices",
    ] {
        for (package, sources) in [("deb", &deb), ("container", &container)] {
            let there = sources
                .iter()
                .any(|s| s.trim_end_matches(['/', '*']) == needed);
            assert!(there, "{needed} is not in the {package}: {sources:?}");
        }
    }
    for source in deb.iter().chain(&container) {
        let built = source.starts_with("target/") || source.starts_with(".cache/");
        let folder = source.split('*').next().unwrap();
        assert!(
            built || Path::new(&root()).join(folder).exists(),
            "{source} is not there"
        );
    }
}

#[test]
fn what_the_container_takes_reaches_its_builder() {
    let let_through = read(".dockerignore");
    let let_through: Vec<&str> = let_through
        .lines()
        .filter_map(|l| l.strip_prefix('!'))
        .collect();
    for source in in_container() {
        let there = let_through
            .iter()
            .any(|l| l.trim_end_matches('/') == source.trim_end_matches('/'));
        assert!(there, "{source} is kept out by .dockerignore");
    }
}
