//! The rules that look at one file at a time.

use std::path::Path;

use super::root;

/// Longest file that a person writes.
const LINES_MAX: usize = 600;
/// Folders that compute and do nothing else.
const PURE: [&str; 9] = [
    "src/volume/",
    "src/norms/",
    "src/followup/",
    "src/triage/",
    "src/hl7/message/",
    "src/validation/",
    "src/simulation/",
    "src/outbox/machine",
    "src/alerts/policy",
];
/// Where the words that a reader sees are written.
const READER_TEXT: [&str; 5] = [
    "src/triage/",
    "src/norms/",
    "src/worklist/",
    "src/web/",
    "src/alerts/",
];

/// A tracked text file: path from the checkout's root, content.
pub struct Source {
    pub path: String,
    pub text: String,
}

impl Source {
    fn is(&self, extension: &str) -> bool {
        has_extension(&self.path, extension)
    }

    fn within(&self, folders: &[&str]) -> bool {
        folders.iter().any(|folder| self.path.starts_with(folder))
    }

    /// Rust of the product: no tests, no benches.
    fn is_product(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        self.is("rs")
            && self.within(&["src/", "migrations/"])
            && name != "tests.rs"
            && !self.path.contains("/tests/")
    }

    /// Numbered lines without comments, up to the unit tests, which stand last in a file.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .take_while(|(_, line)| !line.trim_start().starts_with("#[cfg(test)]"))
            .map(|(number, line)| (number + 1, line.split("//").next().unwrap_or_default()))
    }

    /// Numbered lines as they are.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .map(|(number, line)| (number + 1, line))
    }
}

/// Whether a file's name ends so.
pub fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path).extension().is_some_and(|e| e == extension)
}

/// What is wrong on which line.
pub type Broken = Vec<(usize, String)>;

/// A sentence of the architecture that one file can break.
pub struct Rule {
    /// Heading in `docs/ARCHITECTURE.md`.
    pub section: &'static str,
    /// What it asks for.
    pub sentence: &'static str,
    /// Finds where it is broken.
    pub check: fn(&Source) -> Broken,
}

/// All of them.
pub const RULES: [Rule; 15] = [
    Rule {
        section: "Pure folders",
        sentence: "pure folders do no IO, know no async and read no clock",
        check: |source| {
            const BANNED: [&str; 11] = [
                "std::fs",
                "std::net",
                "std::process",
                "std::thread",
                "std::env",
                "tokio",
                "async",
                "await",
                "Instant",
                "SharedClock",
                "tracing",
            ];
            let pure = source.is_product() && source.within(&PURE);
            names_any(source, pure, &BANNED)
        },
    },
    Rule {
        section: "Who may name what",
        sentence: "only src/dicom speaks DICOM on the network",
        check: |source| {
            let outside = source.is_product() && !source.within(&["src/dicom/"]);
            names_any(source, outside, &["dicom_ul"])
        },
    },
    Rule {
        section: "Who may name what",
        sentence: "only src/store and migrations know the database",
        check: |source| {
            let outside = source.is_product() && !source.within(&["src/store/", "migrations/"]);
            names_any(source, outside, &["sea_orm", "sea_orm_migration", "sqlx"])
        },
    },
    Rule {
        section: "Who may name what",
        sentence: "only src/alerts names the mail client",
        check: |source| {
            let outside = source.is_product() && !source.within(&["src/alerts/"]);
            names_any(source, outside, &["lettre"])
        },
    },
    Rule {
        section: "Who may name what",
        sentence: "only src/outbox/http.rs names the HTTP client",
        check: |source| {
            let elsewhere = source.is_product() && source.path != "src/outbox/http.rs";
            names_any(source, elsewhere, &["hyper", "reqwest"])
        },
    },
    Rule {
        section: "Who may name what",
        sentence: "only src/outbox calls a courier",
        check: |source| {
            let outside = source.is_product() && !source.within(&["src/outbox/"]);
            contains_any(source, outside, &[".deliver("])
        },
    },
    Rule {
        section: "One clock",
        sentence: "only src/clock.rs reads the wall clock; everything else is given a Clock",
        check: |source| {
            let elsewhere = source.is_product() && source.path != "src/clock.rs";
            contains_any(
                source,
                elsewhere,
                &[
                    "SystemTime::now",
                    "Utc::now",
                    "Local::now",
                    "OffsetDateTime::now",
                ],
            )
        },
    },
    Rule {
        section: "Errors and logs",
        sentence: "the product neither prints nor gives up half-way; only the command line prints",
        check: |source| {
            let command_line = source.within(&["src/cli"]);
            let mut broken = contains_any(
                source,
                source.is_product(),
                &["dbg!(", "todo!(", "unimplemented!(", ".unwrap()"],
            );
            broken.extend(contains_any(
                source,
                source.is_product() && !command_line,
                &["println!(", "print!("],
            ));
            broken
        },
    },
    Rule {
        section: "Errors and logs",
        sentence: "names, birth dates and raw headers of patients are never logged",
        check: logs_a_person,
    },
    Rule {
        section: "Errors and logs",
        sentence: "a lint is allowed only with a reason",
        check: allows_without_reason,
    },
    Rule {
        section: "What a reader is told",
        sentence: "say \"not flagged\", never \"normal\"; no green ticks; never name a disease",
        check: words_for_readers,
    },
    Rule {
        section: "Files",
        sentence: "no file that a person writes is longer than 600 lines",
        check: |source| {
            let written = ["rs", "py", "js", "css", "html"]
                .iter()
                .any(|e| source.is(e));
            let lines = source.text.lines().count();
            if written && lines > LINES_MAX {
                vec![(lines, format!("{lines} lines"))]
            } else {
                vec![]
            }
        },
    },
    Rule {
        section: "Files",
        sentence: "every Rust file begins by saying what it is (//!)",
        check: |source| {
            let silent = source.is("rs") && !source.text.starts_with("//!");
            if silent {
                vec![(1, "does not begin with //!".to_owned())]
            } else {
                vec![]
            }
        },
    },
    Rule {
        section: "Files",
        sentence: "nothing names a package registry's host or a place on somebody's machine",
        check: places,
    },
    Rule {
        section: "Files",
        sentence: "a document that is pointed to exists",
        check: |source| missing_documents(source, &|path| root().join(path).exists()),
    },
];

/// Lines of code that contain one of the texts.
fn contains_any(source: &Source, applies: bool, texts: &[&str]) -> Broken {
    if !applies {
        return vec![];
    }
    let found = |line: &str| {
        texts
            .iter()
            .find(|text| line.contains(**text))
            .map(|text| format!("has {text}"))
    };
    source
        .code()
        .filter_map(|(number, line)| Some((number, found(line)?)))
        .collect()
}

/// Lines of code that name one of the paths as whole words.
fn names_any(source: &Source, applies: bool, names: &[&str]) -> Broken {
    if !applies {
        return vec![];
    }
    let found = |line: &str| {
        names
            .iter()
            .find(|name| has_word(line, name))
            .map(|name| format!("names {name}"))
    };
    source
        .code()
        .filter_map(|(number, line)| Some((number, found(line)?)))
        .collect()
}

/// Whether `word` stands in `line` with no letter, digit or underscore beside it.
pub fn has_word(line: &str, word: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(inside) && !after.is_some_and(inside)
    })
}

fn logs_a_person(source: &Source) -> Broken {
    const MACROS: [&str; 6] = [
        "trace!(", "debug!(", "info!(", "warn!(", "error!(", "span!(",
    ];
    const PERSON: [&str; 6] = [
        "patient_name",
        "person_name",
        "birth_date",
        "birthdate",
        "raw_header",
        "headers",
    ];
    let mut broken = vec![];
    let mut in_call = false;
    for (number, line) in source.code() {
        let logs = MACROS.iter().any(|name| line.contains(name));
        in_call |= source.is_product() && logs;
        if in_call {
            broken.extend(
                PERSON
                    .iter()
                    .filter(|name| line.contains(**name))
                    .map(|name| (number, format!("logs {name}"))),
            );
            in_call = !line.trim_end().ends_with(");") && !line.trim_end().ends_with("),");
        }
    }
    broken
}

fn allows_without_reason(source: &Source) -> Broken {
    let mut broken = vec![];
    for (at, _) in source
        .text
        .match_indices("[allow(")
        .chain(source.text.match_indices("[expect("))
    {
        let attribute = source.text[at..].split(")]").next().unwrap_or_default();
        if source.is("rs")
            && source.text[..at].ends_with(['#', '!'])
            && !attribute.contains("reason = \"")
        {
            let line = source.text[..at].lines().count();
            broken.push((line, "gives no reason".to_owned()));
        }
    }
    broken
}

fn words_for_readers(source: &Source) -> Broken {
    const TICKS: [&str; 6] = [
        "\u{2713}", "\u{2714}", "\u{2705}", "&check;", "&#10003;", "&#10004;",
    ];
    const DISEASES: [&str; 15] = [
        "alzheimer",
        "dementia",
        "parkinson",
        "multiple sclerosis",
        "tumour",
        "tumor",
        "glioma",
        "glioblastoma",
        "metastasis",
        "metastases",
        "infarct",
        "ischaemi",
        "ischemi",
        "haemorrhage",
        "hemorrhage",
    ];
    let template = source.within(&["templates/"]);
    let in_code = source.is_product() && source.within(&READER_TEXT);
    let mut broken = vec![];
    for (number, line) in source.code().filter(|_| template || in_code) {
        // In code, only what stands in quotes can reach a reader.
        let shown: String = if in_code {
            line.split('"')
                .skip(1)
                .step_by(2)
                .collect::<Vec<_>>()
                .join(" ")
        } else {
            line.to_owned()
        };
        let lower = shown.to_lowercase();
        let mut say = |what: &str| broken.push((number, format!("says {what}")));
        if has_word(&lower, "normal") && !lower.contains("white-space:") && !lower.contains("font-")
        {
            say("\"normal\"");
        }
        TICKS
            .iter()
            .filter(|tick| shown.contains(**tick))
            .for_each(|tick| say(tick));
        DISEASES
            .iter()
            .filter(|name| lower.contains(**name))
            .for_each(|name| say(name));
    }
    broken
}

fn places(source: &Source) -> Broken {
    // Put together here, so that this file keeps the rule too.
    let hosts = [
        ["pypi", ".org"],
        ["pythonhosted", ".org"],
        ["registry.npmjs", ".org"],
        ["static.crates", ".io"],
        ["index.crates", ".io"],
        ["deb.debian", ".org"],
        ["security.debian", ".org"],
        ["snapshot.debian", ".org"],
        ["/ho", "me/"],
        ["/wo", "rk/"],
        ["/ro", "ot/"],
    ]
    .map(|halves| halves.concat());
    let found = |line: &str| {
        hosts
            .iter()
            .find(|host| names_place(line, host))
            .map(|host| format!("names {host}"))
    };
    source
        .lines()
        .filter_map(|(number, line)| Some((number, found(line)?)))
        .collect()
}

/// A host anywhere; a folder only where a path begins with it.
fn names_place(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !place.starts_with('/')
            || !before.is_some_and(|c| c.is_alphanumeric() || "}._-/~*".contains(c))
    })
}

/// `docs/….md` that nobody wrote.
fn missing_documents(source: &Source, exists: &dyn Fn(&str) -> bool) -> Broken {
    let mut broken = vec![];
    for (number, line) in source.lines() {
        for (at, _) in line.match_indices("docs/") {
            let rest = &line[at..];
            let end = rest
                .find(|c: char| !c.is_ascii_alphanumeric() && !"_./-".contains(c))
                .unwrap_or(rest.len());
            let path = rest[..end].trim_end_matches('.');
            let elsewhere = line[..at].ends_with(['/', '.']);
            let file = Path::new(path)
                .extension()
                .is_some_and(|e| e == "md" || e == "png");
            if file && !elsewhere && !exists(path) {
                broken.push((number, format!("{path} does not exist")));
            }
        }
    }
    broken
}
