//! Keeps the house in order: every invariant of `docs/ARCHITECTURE.md` that a test can see.
//!
//! A rule looks at one file and says on which lines it is broken.
//! What is looked at is what git tracks or would track, so build output and data never count.
//! Each rule has an example below that breaks it and one that keeps it: a rule that cannot fail is none.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

#[path = "tidy/packaging.rs"]
mod packaging;
#[path = "tidy/rules.rs"]
mod rules;

use rules::{RULES, Rule, Source, has_extension, has_word};

/// The sentence that every page carries, or a name that stands for it in a template.
const RESEARCH_USE: [&str; 3] = [firstread::RESEARCH_USE, "RESEARCH_USE", ".research_use"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Pages, by which template they extend, that do not carry the sentence.
fn pages_without_sentence(templates: &[Source]) -> Vec<String> {
    fn carries(page: &Source, templates: &[Source], depth: usize) -> bool {
        let parent = page
            .text
            .split("{% extends \"")
            .nth(1)
            .and_then(|rest| rest.split('"').next());
        let parent = parent.and_then(|name| {
            templates
                .iter()
                .find(|t| t.path == format!("templates/{name}"))
        });
        RESEARCH_USE
            .iter()
            .any(|sentence| page.text.contains(sentence))
            || depth > 0 && parent.is_some_and(|parent| carries(parent, templates, depth - 1))
    }
    templates
        .iter()
        .filter(|t| t.text.contains("<html") || t.text.contains("{% extends"))
        .filter(|page| !carries(page, templates, 4))
        .map(|page| page.path.clone())
        .collect()
}

/// Commands in the fenced blocks of a document: words of each line, without prompts and comments.
fn commands(document: &str) -> Vec<Vec<&str>> {
    let fenced = document.split("```").skip(1).step_by(2);
    fenced
        .filter(|block| block.starts_with("sh\n"))
        .flat_map(|block| block.lines().skip(1))
        .map(|line| {
            line.split('#')
                .next()
                .unwrap_or_default()
                .split_whitespace()
                .collect()
        })
        .filter(|words: &Vec<_>| !words.is_empty())
        .collect()
}

/// What git tracks, and what it would track if it were added.
fn tracked() -> Vec<String> {
    let git = Command::new("git")
        .args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "-z",
        ])
        .current_dir(root())
        .output()
        .expect("git lists the files");
    assert!(
        git.status.success(),
        "git ls-files: {}",
        String::from_utf8_lossy(&git.stderr)
    );
    let listed: BTreeSet<String> = String::from_utf8_lossy(&git.stdout)
        .split_terminator('\0')
        .filter(|path| root().join(path).is_file())
        .map(str::to_owned)
        .collect();
    assert!(
        listed.contains("Cargo.toml"),
        "git ls-files saw no Cargo.toml"
    );
    listed.into_iter().collect()
}

/// The tracked text files, without what tools write.
fn sources() -> Vec<Source> {
    let read = |path: String| {
        let text = String::from_utf8(std::fs::read(root().join(&path)).ok()?).ok()?;
        Some(Source { path, text })
    };
    tracked()
        .into_iter()
        .filter(|path| !path.ends_with("Cargo.lock"))
        .filter_map(read)
        .collect()
}

#[test]
fn rules_hold() {
    let sources = sources();
    let mut report = String::new();
    for rule in &RULES {
        for source in &sources {
            for (line, what) in (rule.check)(source) {
                let Rule {
                    section, sentence, ..
                } = rule;
                writeln!(
                    report,
                    "{}:{line}: {what}: {sentence} (docs/ARCHITECTURE.md, \"{section}\")",
                    source.path
                )
                .expect("a string takes every line");
            }
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

#[test]
fn rules_stand_in_the_architecture() {
    let text =
        std::fs::read_to_string(root().join("docs/ARCHITECTURE.md")).expect("docs/ARCHITECTURE.md");
    for rule in &RULES {
        let heading = format!("## {}\n", rule.section);
        assert!(
            text.contains(&heading),
            "docs/ARCHITECTURE.md has no section \"{}\"",
            rule.section
        );
    }
}

#[test]
fn every_folder_stands_in_the_map() {
    let text =
        std::fs::read_to_string(root().join("docs/ARCHITECTURE.md")).expect("docs/ARCHITECTURE.md");
    let folders = std::fs::read_dir(root().join("src"))
        .expect("src")
        .flatten()
        .filter(|entry| entry.path().is_dir());
    for name in folders.map(|folder| folder.file_name().to_string_lossy().into_owned()) {
        let entry = format!("`src/{name}/`");
        assert!(
            text.contains(&entry),
            "src/{name} is not in the map of docs/ARCHITECTURE.md"
        );
    }
}

#[test]
fn every_page_says_research_use() {
    let templates: Vec<_> = sources()
        .into_iter()
        .filter(|s| s.path.starts_with("templates/"))
        .collect();
    let silent = pages_without_sentence(&templates);
    assert!(
        silent.is_empty(),
        "without \"{}\": {silent:?}",
        RESEARCH_USE[0]
    );
}

#[test]
fn documented_commands_exist() {
    let help = Command::new(env!("CARGO_BIN_EXE_firstread"))
        .arg("--help")
        .output()
        .expect("firstread --help");
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    for document in ["README.md", "CONTRIBUTING.md"] {
        let text = std::fs::read_to_string(root().join(document)).expect("the document is there");
        for words in commands(&text) {
            for script in words.iter().filter(|word| word.starts_with("scripts/")) {
                assert!(
                    root().join(script).is_file(),
                    "{document} names {script}, which does not exist"
                );
            }
            let named = words[0].rsplit('/').next() == Some("firstread");
            if let Some(subcommand) = words.get(1).filter(|_| named) {
                assert!(
                    has_word(&help, subcommand),
                    "{document} names `firstread {subcommand}`, which --help does not"
                );
            }
        }
    }
}

#[test]
fn every_model_has_a_card_with_its_sum() {
    let tracked = tracked();
    for model in tracked
        .iter()
        .filter(|path| Path::new(path).starts_with("models") && has_extension(path, "onnx"))
    {
        let place = Path::new(model).with_extension("toml");
        let card = std::fs::read_to_string(root().join(&place)).unwrap_or_else(|e| {
            panic!(
                "{model} has no card {}: {e} (docs/ARCHITECTURE.md, \"Files\")",
                place.display()
            )
        });
        let card: toml::Table = card
            .parse()
            .unwrap_or_else(|e| panic!("{}: {e}", place.display()));
        let sum = Sha256::digest(std::fs::read(root().join(model)).expect("the model can be read"));
        let sum = sum
            .iter()
            .fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        assert_eq!(
            card["sha256"].as_str(),
            Some(&*sum),
            "{} is of another file",
            place.display()
        );
    }
}

/// The rule with this sentence breaks on the bad text and not on the good one.
#[track_caller]
fn check(sentence: &str, path: &str, bad: &str, good: &str) {
    let rule = RULES
        .iter()
        .find(|rule| rule.sentence.contains(sentence))
        .expect("the rule is there");
    let broken = |text: &str| {
        (rule.check)(&Source {
            path: path.to_owned(),
            text: text.to_owned(),
        })
    };
    assert!(!broken(bad).is_empty(), "holds on {bad:?}");
    assert_eq!(broken(good), vec![], "breaks on {good:?}");
}

#[test]
fn each_rule_can_break() {
    check(
        "pure folders",
        "src/triage/a.rs",
        "use std::fs::File;",
        "// not std::fs\nuse std::fmt;",
    );
    check(
        "pure folders",
        "src/volume/a.rs",
        "pub async fn f() {}",
        "fn f() {}\n#[cfg(test)]\nmod tests { use std::fs; }",
    );
    check(
        "speaks DICOM",
        "src/intake/a.rs",
        "use dicom_ul::Pdu;",
        "use dicom_object::Tag;",
    );
    check(
        "know the database",
        "src/web/a.rs",
        "use sea_orm::Entity;",
        "use crate::store::Store;",
    );
    check(
        "wall clock",
        "src/jobs/a.rs",
        "let t = Utc::now();",
        "let t = Instant::now();",
    );
    check(
        "only the command line prints",
        "src/jobs/a.rs",
        "println!(\"x\");",
        "writeln!(out, \"x\")?;",
    );
    check(
        "only the command line prints",
        "src/cli.rs",
        "x.unwrap();",
        "println!(\"x\");",
    );
    check(
        "never logged",
        "src/intake/a.rs",
        "info!(\n    name = patient_name,\n);",
        "info!(study.uid = uid);\nlet x = patient_name;",
    );
    check(
        "only with a reason",
        "src/a.rs",
        concat!("#[all", "ow(dead_code)]"),
        concat!(
            "#[exp",
            "ect(\n    dead_code,\n    reason = \"read by a macro\"\n)]"
        ),
    );
    check(
        "never name a disease",
        "templates/a.html",
        "<p>Normal study</p>",
        "<p>Abnormality map: not flagged</p>",
    );
    check(
        "never name a disease",
        "templates/a.html",
        "<td>\u{2713}</td>",
        "<td>done</td>",
    );
    check(
        "never name a disease",
        "src/triage/a.rs",
        "text: \"like Alzheimer\"",
        "let normal = 1; // tumour",
    );
    check(
        "600 lines",
        "training/a.py",
        &"x\n".repeat(601),
        &"x\n".repeat(600),
    );
    check("begins by saying", "src/a.rs", "use a;", "//! A.\nuse a;");
    check(
        "registry's host",
        "README.md",
        &["see pypi", ".org"].concat(),
        "see the registry",
    );
    check(
        "registry's host",
        "a.sh",
        &["cd /wo", "rk/x"].concat(),
        "cd $root/src/wo",
    );
    check(
        "pointed to exists",
        "README.md",
        &["see do", "cs/NOT_THERE.md."].concat(),
        "see docs/ARCHITECTURE.md, other/docs/X.md",
    );
}

#[test]
fn each_rule_of_the_outbox_can_break() {
    check(
        "mail client",
        "src/web/a.rs",
        "use lettre::Message;",
        "// not lettre\nuse crate::alerts::Alerts;",
    );
    check(
        "HTTP client",
        "src/alerts/a.rs",
        "use hyper::Request;",
        "use crate::outbox::http::Endpoint; // not hyper",
    );
    check(
        "calls a courier",
        "src/alerts/a.rs",
        "courier.deliver(x).await;",
        "async fn deliver(&self) {}",
    );
}

#[test]
fn a_page_without_the_sentence_is_found() {
    let page = |path: &str, text: &str| Source {
        path: format!("templates/{path}"),
        text: text.to_owned(),
    };
    let templates = [
        page(
            "base.html",
            "<html>{{ crate::RESEARCH_USE }}{% block b %}{% endblock %}</html>",
        ),
        page("list.html", "{% extends \"base.html\" %}"),
        page("alone.html", "<html></html>"),
        page("row.html", "<tr></tr>"),
    ];
    assert_eq!(pages_without_sentence(&templates), ["templates/alone.html"]);
}

#[test]
fn commands_are_read_from_fenced_blocks() {
    let text = "`no`\n```sh\nscripts/demo  # shows it\n```\n```toml\nx = 1\n```\n";
    assert_eq!(commands(text), [["scripts/demo"]]);
}
