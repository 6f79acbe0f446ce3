//! Destinations that administrators make on the page: which fields each kind has, and what they mean.
//!
//! What was filled in is kept as text, in versions, and read here each time it is used. Their names begin with `page:`,
//! so that none can be taken for one of the settings file, and steps there can name them. Secrets are pointed to: the
//! name of a file in `secrets` in the data folder, or `env:` and a variable that begins with `FIRSTREAD_SECRET_`.
//! Whoever may use the page can so make no file of the machine go out but those that were put there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::alerts::{DestinationSettings, Secret};
use crate::dicom::send::DestinationSettings as ObjectDestination;
use crate::hl7::Hl7Destination;
use crate::outbox::Shared;

/// What names begin with.
pub const PREFIX: &str = "page:";
/// Folder of files that fields may name, in the data folder.
pub const FOLDER: &str = "secrets";
/// Environment variables that a secret may stand in begin with it.
pub const VARIABLE: &str = "FIRSTREAD_SECRET_";
/// Longest value but a template's, in characters.
const VALUE_CHARS_MAX: usize = 500;
/// Longest template, in characters.
const TEMPLATE_CHARS_MAX: usize = 20_000;

/// What is typed into a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// A line.
    Line,
    /// A whole number.
    Number,
    /// Several lines.
    Lines,
    /// Yes or no.
    Check,
    /// One of these.
    Choice(&'static [&'static str]),
    /// Name of a file in the folder.
    File,
    /// Where the secret is.
    Secret,
}

/// A field of a form.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// As in the settings file.
    pub name: &'static str,
    /// For people.
    pub label: &'static str,
    /// For people, behind it.
    pub hint: &'static str,
    /// What is typed.
    pub input: Input,
}

const fn field(name: &'static str, label: &'static str, hint: &'static str, input: Input) -> Field {
    Field {
        name,
        label,
        hint,
        input,
    }
}

const QUIET_HOURS: Field = field(
    "quiet_hours",
    "Quiet hours",
    "like 22:00-06:00; below critical another is told then",
    Input::Line,
);
const QUIET_INSTEAD: Field = field(
    "quiet_instead",
    "Told instead in quiet hours",
    "name of another destination",
    Input::Line,
);
const TLS: Field = field("tls", "TLS", "", Input::Check);
const TLS_NAME: Field = field(
    "tls_name",
    "Name in its certificate",
    "if it is not the host of the address",
    Input::Line,
);
const CA_FILE: Field = field(
    "ca_file",
    "Authority of its certificate",
    "only it is trusted then",
    Input::File,
);
const CERTIFICATE_FILE: Field = field(
    "certificate_file",
    "Our certificate",
    "only where it asks for one",
    Input::File,
);
const KEY_FILE: Field = field("key_file", "Its key", "", Input::File);
/// Kinds of objects, each a check of its own.
const OBJECTS: [&str; 4] = ["seg", "sr", "pdf", "sc"];

/// Kinds with what they are called and their fields.
pub const KINDS: [(&str, &str, &[Field]); 6] = [
    (
        "mail",
        "Mail",
        &[
            field(
                "to",
                "Mail address",
                "one; a list is a list of the mail server",
                Input::Line,
            ),
            QUIET_HOURS,
            QUIET_INSTEAD,
        ],
    ),
    (
        "pager",
        "Pager by mail",
        &[
            field(
                "to",
                "Mail address",
                "of the gateway, for this number",
                Input::Line,
            ),
            QUIET_HOURS,
            QUIET_INSTEAD,
        ],
    ),
    (
        "snpp",
        "Pager by SNPP",
        &[
            field("to", "Pager number", "", Input::Line),
            field(
                "server",
                "Paging server",
                "host:port, usually port 444",
                Input::Line,
            ),
            field(
                "level",
                "Level",
                "3 takes answers of two-way pagers",
                Input::Choice(&["1", "2", "3"]),
            ),
            field(
                "user",
                "User",
                "only where the server asks for a login",
                Input::Line,
            ),
            field("secret", "Password", "", Input::Secret),
            QUIET_HOURS,
            QUIET_INSTEAD,
        ],
    ),
    (
        "webhook",
        "Webhook",
        &[
            field("to", "Address", "https://", Input::Line),
            field(
                "preset",
                "What the receiver understands",
                "",
                Input::Choice(&["json", "pagerduty", "ntfy", "template"]),
            ),
            field("template", "Template", "only for template", Input::Lines),
            field("secret", "Key, routing key or token", "", Input::Secret),
            field(
                "ca_file",
                "Authority of its certificate",
                "only where the system does not trust it",
                Input::File,
            ),
            QUIET_HOURS,
            QUIET_INSTEAD,
        ],
    ),
    (
        "hl7",
        "RIS by HL7",
        &[
            field("address", "Address", "host:port", Input::Line),
            field("application", "Its application", "MSH-5", Input::Line),
            field("facility", "Its facility", "MSH-6", Input::Line),
            field(
                "mapping",
                "How it is told that a study moves up",
                "",
                Input::Choice(&["obx8", "segment", "order", "template"]),
            ),
            field("template", "Template", "only for template", Input::Lines),
            field(
                "only_moving_up",
                "Tell it only of studies that move up",
                "",
                Input::Check,
            ),
            field(
                "enhanced",
                "Ask for a commit acknowledgement",
                "enhanced mode",
                Input::Check,
            ),
            field(
                "answer_timeout_seconds",
                "Longest wait for an answer",
                "seconds, 30 if empty",
                Input::Number,
            ),
            TLS,
            TLS_NAME,
            CA_FILE,
            CERTIFICATE_FILE,
            KEY_FILE,
        ],
    ),
    (
        "dicom",
        "PACS by DICOM",
        &[
            field("ae_title", "Its AE title", "", Input::Line),
            field("host", "Host", "name or address", Input::Line),
            field("port", "Port", "usually 104 or 11112", Input::Number),
            field("seg", "Segmentation", "", Input::Check),
            field("sr", "Measurement report", "", Input::Check),
            field("pdf", "Report as PDF", "", Input::Check),
            field(
                "sc",
                "Key images",
                "for viewers that show nothing else",
                Input::Check,
            ),
            field(
                "commitment",
                "Ask it to commit to keep them",
                "storage commitment",
                Input::Check,
            ),
            field(
                "connect_timeout_seconds",
                "Longest wait for an association",
                "seconds, 10 if empty",
                Input::Number,
            ),
            field(
                "answer_timeout_seconds",
                "Longest wait for an answer",
                "seconds, 60 if empty",
                Input::Number,
            ),
            TLS,
            TLS_NAME,
            CA_FILE,
            CERTIFICATE_FILE,
            KEY_FILE,
        ],
    ),
];

/// A destination, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    /// Told of alerts.
    Alert(Box<DestinationSettings>),
    /// Gets results by HL7.
    Hl7(Box<Hl7Destination>),
    /// Gets results as DICOM objects.
    Dicom(Box<ObjectDestination>),
}

/// Those that get results, as they are in force; a clone is the same lists.
#[derive(Debug, Clone, Default)]
pub struct MadeResults {
    /// By HL7.
    pub hl7: Arc<Shared<Hl7Destination>>,
    /// As DICOM objects.
    pub objects: Arc<Shared<ObjectDestination>>,
}

impl Made {
    /// "mail to mri@hospital.example"
    #[must_use]
    pub fn reached(&self) -> String {
        match self {
            Self::Alert(d) => format!("{} to {}", d.channel.as_str(), d.to),
            Self::Hl7(d) => d.reached(),
            Self::Dicom(d) => format!("DICOM to {}", d.reached()),
        }
    }
}

/// Fields of a kind.
#[must_use]
pub fn fields(kind: &str) -> Option<&'static [Field]> {
    let found = KINDS.iter().find(|(name, _, _)| *name == kind);
    found.map(|(_, _, fields)| *fields)
}

/// What is filled in before anybody typed.
#[must_use]
pub fn defaults(kind: &str) -> BTreeMap<String, String> {
    let on: &[&str] = if kind == "dicom" { &OBJECTS[..3] } else { &[] };
    on.iter()
        .map(|name| ((*name).to_owned(), "yes".to_owned()))
        .collect()
}

/// Reads what was filled in. Empty fields are at their default.
///
/// # Errors
/// In words, which field is wrong and what it may be.
pub fn read(
    kind: &str,
    name: &str,
    filled: &BTreeMap<String, String>,
    data: &Path,
) -> Result<Made, String> {
    let bare = name.strip_prefix(PREFIX).unwrap_or_default();
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if bare.is_empty() || bare.len() > 34 || !bare.chars().all(fits) {
        return Err("the name must be 1 to 34 letters, digits, - _ .".into());
    }
    let fields = fields(kind).ok_or("there is no such kind of destination")?;
    let mut settings = Map::new();
    let mut secret = String::new();
    for field in fields {
        let Some(value) = filled.get(field.name).map(|v| v.trim()) else {
            continue;
        };
        let most = if field.input == Input::Lines {
            TEMPLATE_CHARS_MAX
        } else {
            VALUE_CHARS_MAX
        };
        if value.chars().count() > most {
            return Err(format!("{} has more than {most} characters", field.label));
        }
        if value.is_empty() {
            continue;
        }
        let value = match field.input {
            Input::Secret => {
                value.clone_into(&mut secret);
                continue;
            }
            Input::Check => Value::Bool(value == "yes"),
            Input::Number => number(field, value)?,
            Input::Choice(all) if !all.contains(&value) => {
                return Err(format!("{} must be one of {}", field.label, all.join(", ")));
            }
            Input::Choice(_) if field.name == "level" => number(field, value)?,
            Input::File => {
                let path = file(field.label, value, data)?;
                Value::from(path.to_string_lossy().into_owned())
            }
            Input::Line | Input::Lines | Input::Choice(_) => Value::from(value),
        };
        settings.insert(field.name.to_owned(), value);
    }
    settings.insert("name".into(), Value::from(name));
    if kind == "dicom" {
        let mut wanted = OBJECTS.to_vec();
        wanted.retain(|kind| settings.remove(*kind) == Some(Value::Bool(true)));
        settings.insert("objects".into(), Value::from(wanted));
        let made: ObjectDestination =
            serde_json::from_value(Value::Object(settings)).map_err(missing)?;
        made.check_fields()?;
        made.connector()?;
        return Ok(Made::Dicom(Box::new(made)));
    }
    if kind == "hl7" {
        let made: Hl7Destination =
            serde_json::from_value(Value::Object(settings)).map_err(missing)?;
        made.check_fields()?;
        made.connector()?;
        return Ok(Made::Hl7(Box::new(made)));
    }
    settings.insert("channel".into(), Value::from(kind));
    let mut made: DestinationSettings =
        serde_json::from_value(Value::Object(settings)).map_err(missing)?;
    if let Some(variable) = secret.strip_prefix("env:") {
        let known = variable.starts_with(VARIABLE);
        let value = std::env::var(variable).ok().filter(|_| known);
        made.secret = Secret(value.ok_or_else(|| {
            format!("the secret env:{variable} must be set for the server, under a name that begins with {VARIABLE}")
        })?);
    } else if !secret.is_empty() {
        made.secret_file = file("the secret", &secret, data)?;
    }
    made.check_fields()?;
    made.read_secret()?;
    Ok(Made::Alert(Box::new(made)))
}

#[expect(clippy::needless_pass_by_value, reason = "handed to map_err")]
fn missing(e: serde_json::Error) -> String {
    format!("not everything is filled in: {e}")
}

fn number(field: &Field, value: &str) -> Result<Value, String> {
    let number: u64 = value
        .parse()
        .map_err(|_| format!("{} must be a number", field.label))?;
    Ok(Value::from(number))
}

/// A file of the folder, by its bare name.
fn file(label: &str, name: &str, data: &Path) -> Result<PathBuf, String> {
    let bare = !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
    let path = data.join(FOLDER).join(name);
    if bare && path.is_file() {
        return Ok(path);
    }
    Err(format!(
        "{label} names {name:?}, which must be a file in the folder {FOLDER} of the data folder"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: &str, name: &str, filled: &[(&str, &str)], word: &str) {
        let data = tempfile::tempdir().unwrap();
        std::fs::create_dir(data.path().join(FOLDER)).unwrap();
        std::fs::write(data.path().join(FOLDER).join("key"), "s3cret\n").unwrap();
        std::fs::write(data.path().join("links.key"), "x").unwrap();
        let filled: BTreeMap<String, String> = filled
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        match read(kind, name, &filled, data.path()) {
            Ok(made) => {
                assert_eq!(word, "", "{made:?}");
                assert!(!format!("{made:?}").contains("s3cret"));
            }
            Err(error) => assert!(!word.is_empty() && error.contains(word), "{error}"),
        }
    }

    #[test]
    fn what_is_filled_in_is_read_or_the_field_is_named() {
        check("mail", "page:room", &[("to", "a@b.example")], "");
        check("mail", "page:room", &[("to", "nobody")], "mail address");
        check("mail", "page:room", &[], "to");
        check("mail", "room", &[("to", "a@b.example")], "name");
        check("mail", "page:a b", &[("to", "a@b.example")], "name");
        check("fax", "page:room", &[], "kind");
        let pager = [("to", "555"), ("server", "p.example:444"), ("level", "3")];
        check("snpp", "page:p", &pager, "");
        check(
            "snpp",
            "page:p",
            &[&pager[..2], &[("level", "4")]].concat(),
            "Level",
        );
        let hook = ("to", "https://hub.example/x");
        check("webhook", "page:h", &[hook, ("secret", "key")], "");
        check(
            "webhook",
            "page:h",
            &[hook, ("preset", "fax")],
            "must be one of",
        );
        for bad in ["../links.key", "/etc/passwd", "none", ".", ""] {
            let word = if bad.is_empty() { "" } else { "folder secrets" };
            check("webhook", "page:h", &[hook, ("secret", bad)], word);
        }
        check(
            "webhook",
            "page:h",
            &[hook, ("secret", "env:PATH")],
            VARIABLE,
        );
        check("webhook", "page:h", &[("to", "http://hub.example")], "TLS");
        let ris = ("address", "ris.example:2575");
        check("hl7", "page:ris", &[ris, ("only_moving_up", "yes")], "");
        check(
            "hl7",
            "page:ris",
            &[ris, ("answer_timeout_seconds", "x")],
            "number",
        );
        check(
            "hl7",
            "page:ris",
            &[ris, ("mapping", "template")],
            "template",
        );
        check("hl7", "page:ris", &[ris, ("ca_file", "key")], "tls = true");
        check(
            "hl7",
            "page:ris",
            &[ris, ("tls", "yes"), ("ca_file", "key")],
            "certificate",
        );
        check("hl7", "page:ris", &[("address", "ris")], "host and a port");
        let quiet = [("to", "a@b.example"), ("quiet_hours", "22:00-06:00")];
        let instead = ("quiet_instead", "pager");
        check("mail", "page:room", &[&quiet[..], &[instead]].concat(), "");
        check("mail", "page:room", &quiet, "quiet_instead");
        check(
            "mail",
            "page:room",
            &[quiet[0], ("quiet_hours", "at night"), instead],
            "quiet_hours",
        );
        check(
            "hl7",
            "page:ris",
            &[ris, ("application", &"x".repeat(501))],
            "characters",
        );
    }

    #[test]
    fn a_pacs_is_read_or_the_field_is_named() {
        let pacs = [
            ("ae_title", "PACS"),
            ("host", "10.0.0.5"),
            ("port", "104"),
            ("sr", "yes"),
        ];
        check("dicom", "page:pacs", &pacs, "");
        check("dicom", "page:pacs", &pacs[..3], "objects");
        check("dicom", "page:pacs", &pacs[1..], "ae_title");
        let (tls, ca) = (("tls", "yes"), ("ca_file", "key"));
        check(
            "dicom",
            "page:pacs",
            &[&pacs[..], &[ca]].concat(),
            "tls = true",
        );
        check(
            "dicom",
            "page:pacs",
            &[&pacs[..], &[tls, ca]].concat(),
            "certificate",
        );
        for (key, value, word) in [
            ("port", "0", "port"),
            ("port", "70000", "filled in"),
            ("host", "a b", "host"),
            ("ae_title", "AN AE TITLE THAT IS LONG", "ae_title"),
            ("answer_timeout_seconds", "0", "answer_timeout_seconds"),
        ] {
            let mut wrong = pacs.to_vec();
            wrong.retain(|(other, _)| *other != key);
            wrong.push((key, value));
            check("dicom", "page:pacs", &wrong, word);
        }
    }
}
