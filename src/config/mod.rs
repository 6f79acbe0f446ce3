//! Settings: defaults, then `config/*.toml` or the file given, then the environment.
//!
//! One struct per concern, beside the code it sets. `FIRSTREAD_SECTION__KEY=value` in the
//! environment overrides `key` of `[section]`. Every failure names the key.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::error::Kind;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::{Deserialize, Serialize};

use crate::alerts::{AlertSettings, SmtpSettings};
use crate::analysis::EngineSettings;
use crate::atna::AtnaSettings;
use crate::dicom::receive::ReceiveSettings;
use crate::fhir::FhirSettings;
use crate::hl7::Hl7Settings;
use crate::intake::IntakeSettings;
use crate::outbox::OutboxSettings;
use crate::priors::PriorSettings;
use crate::report::ReportSettings;
use crate::serve::{ProcessSettings, RetentionSettings};
use crate::sso::SsoSettings;
use crate::store::POSTGRES_CONNECTIONS;
use crate::telemetry::LogSettings;
use crate::triage::TriageSettings;
use crate::web::WebSettings;
use crate::worklist::WorklistSettings;

/// Longest name of a site, in characters: it stands in the one line that a pager shows.
const SITE_NAME_CHARS_MAX: usize = 24;

/// Settings that are secret: their variables are taken as they are written, and no error shows them.
const SECRETS: [&str; 3] = ["database.url", "smtp.password", "sso.client_secret"];
/// Settings with secrets in them: no error shows them either.
const WITH_SECRETS: &str = "alerts.destinations";

/// Everything that can be set.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The site.
    pub site: SiteSettings,
    /// The log.
    pub log: LogSettings,
    /// When images go.
    pub retention: RetentionSettings,
    /// What this process does.
    pub process: ProcessSettings,
    /// The database.
    pub database: DatabaseSettings,
    /// Where the server listens.
    pub listen: ListenSettings,
    /// Reception.
    pub dicom: ReceiveSettings,
    /// Completeness, priors, quarantine.
    pub intake: IntakeSettings,
    /// Networks.
    pub analysis: EngineSettings,
    /// Ranking.
    pub triage: TriageSettings,
    /// The list.
    pub worklist: WorklistSettings,
    /// Pages.
    pub web: WebSettings,
    /// Who is told of what.
    pub alerts: AlertSettings,
    /// The mail server.
    pub smtp: SmtpSettings,
    /// Deliveries.
    pub outbox: OutboxSettings,
    /// Reports.
    pub report: ReportSettings,
    /// The PACS that is asked for earlier studies.
    pub priors: PriorSettings,
    /// HL7.
    pub hl7: Hl7Settings,
    /// FHIR.
    pub fhir: FhirSettings,
    /// Single sign-on.
    pub sso: SsoSettings,
    /// The audit record repository.
    pub atna: AtnaSettings,
}

/// The site.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SiteSettings {
    /// `site.name`: how messages call this site; may be empty.
    pub name: String,
    /// `site.time_zone`: IANA name; DICOM and HL7 local times are read in it, pages show it.
    pub time_zone: String,
}

impl Default for SiteSettings {
    fn default() -> Self {
        Self {
            name: String::new(),
            time_zone: "UTC".into(),
        }
    }
}

/// The database.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseSettings {
    /// `database.url`: `postgres://...`; empty is SQLite in the data folder.
    pub url: String,
    /// `database.connections_max`: connections of one process to PostgreSQL, and one more to listen.
    pub connections_max: u32,
}

impl Default for DatabaseSettings {
    fn default() -> Self {
        Self {
            url: String::new(),
            connections_max: POSTGRES_CONNECTIONS,
        }
    }
}

/// Where the server listens.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenSettings {
    /// `listen.data`: the data folder.
    pub data: PathBuf,
    /// `listen.http`: pages and API.
    pub http: SocketAddr,
    /// `listen.dicom`: C-ECHO and C-STORE.
    pub dicom: SocketAddr,
    /// `listen.dicom_tls`: the same by TLS (PS3.15 B), usually on port 2762; empty is off.
    pub dicom_tls: String,
    /// `listen.hl7`: HL7 v2 over MLLP, usually on port 2575; empty is off.
    pub hl7: String,
}

impl ListenSettings {
    /// Where HL7 is, `None` where it is off.
    ///
    /// # Errors
    /// When it is no address.
    pub fn hl7(&self) -> Result<Option<SocketAddr>, String> {
        address("hl7", &self.hl7, "0.0.0.0:2575")
    }

    /// Where DICOM by TLS is, `None` where it is off.
    ///
    /// # Errors
    /// When it is no address.
    pub fn dicom_tls(&self) -> Result<Option<SocketAddr>, String> {
        address("dicom_tls", &self.dicom_tls, "0.0.0.0:2762")
    }
}

fn address(key: &str, text: &str, example: &str) -> Result<Option<SocketAddr>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let address = text.parse().map_err(|_| {
        format!("listen.{key} is {text:?}, must be an address and port like {example}, or empty")
    })?;
    Ok(Some(address))
}

impl Default for ListenSettings {
    fn default() -> Self {
        Self {
            data: "data".into(),
            http: SocketAddr::from(([127, 0, 0, 1], 8080)),
            dicom: SocketAddr::from(([0, 0, 0, 0], 11112)),
            dicom_tls: String::new(),
            hl7: String::new(),
        }
    }
}

impl Config {
    /// Reads all settings. `file` stands in for `config/*.toml` of the working folder.
    ///
    /// # Errors
    /// Names the key, what it is and what it may be.
    pub fn read(file: Option<&Path>) -> Result<Self, String> {
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        match file {
            Some(file) if !file.is_file() => {
                return Err(format!("settings file {} is not there", file.display()));
            }
            Some(file) => figment = figment.merge(Toml::file_exact(file)),
            None => {
                for path in config_files(Path::new("config")) {
                    figment = figment.merge(Toml::file_exact(path));
                }
            }
        }
        let environment = Env::prefixed("FIRSTREAD_")
            .filter(|key| key.as_str().contains("__"))
            .split("__");
        let variables = environment
            .iter()
            .map(|(key, value)| (key.to_string(), value));
        let secrets = secrets(variables);
        figment = figment.merge(environment);
        for (key, value) in secrets {
            figment = figment.merge(Serialized::default(&key, value));
        }
        let mut config: Self = figment
            .extract()
            .map_err(|e| format!("settings: {}", in_words(e)))?;
        config.check()?;
        config.web.time_zone = config.site.time_zone.parse().map_err(|_| {
            format!(
                "site.time_zone {:?} is no IANA time zone",
                config.site.time_zone
            )
        })?;
        config.web.worklist = config.worklist.clone();
        config.dicom.spool_dir = config.listen.data.join("spool");
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        let url = &self.database.url;
        if !(url.is_empty() || url.starts_with("postgres") || url.starts_with("sqlite:")) {
            return Err(
                "database.url must begin with postgres:// or sqlite://, or be empty".into(),
            );
        }
        let connections = self.database.connections_max;
        if !(4..=1000).contains(&connections) {
            return Err(format!(
                "database.connections_max is {connections}, must be between 4 and 1000"
            ));
        }
        let name = &self.site.name;
        if name.chars().count() > SITE_NAME_CHARS_MAX || name.chars().any(char::is_control) {
            return Err(format!(
                "site.name is {name:?}, must have at most {SITE_NAME_CHARS_MAX} characters"
            ));
        }
        self.dicom.check().map_err(|e| format!("dicom.{e}"))?;
        self.intake.check()?;
        self.retention.check()?;
        self.log.check()?;
        self.priors.check()?;
        self.analysis.check()?;
        self.triage.check()?;
        self.worklist.check()?;
        self.listen.hl7()?;
        self.listen.dicom_tls()?;
        self.hl7.check()?;
        self.fhir.check()?;
        self.web.check()?;
        self.sso.check()?;
        self.atna.check()?;
        self.alerts.check()?;
        let by_mail = self.alerts.destinations.iter().any(|d| d.channel.is_mail());
        self.smtp.check(by_mail)?;
        let twice = |d: &&crate::hl7::Hl7Destination| {
            self.alerts.destinations.iter().any(|a| a.name == d.name)
        };
        if let Some(d) = self.hl7.destinations.iter().find(twice) {
            return Err(format!(
                "hl7.destinations and alerts.destinations both have the name {:?}",
                d.name
            ));
        }
        for d in &self.dicom.destinations {
            let alerts = self.alerts.destinations.iter().map(|a| &a.name);
            let mut others = alerts.chain(self.hl7.destinations.iter().map(|h| &h.name));
            if others.any(|name| *name == d.name) {
                return Err(format!(
                    "dicom.destinations has the name {:?}, which another destination has",
                    d.name
                ));
            }
        }
        self.outbox.check()
    }

    /// The database's URL, `None` for SQLite in the data folder.
    #[must_use]
    pub fn database_url(&self) -> Option<&str> {
        Some(self.database.url.as_str()).filter(|url| !url.is_empty())
    }
}

/// Variables that are secret, as they are written but for the end of a line: figment takes `00123` for the number 123,
/// and quotes for its own.
fn secrets(variables: impl Iterator<Item = (String, String)>) -> Vec<(String, String)> {
    variables
        .filter(|(key, _)| SECRETS.contains(&key.as_str()))
        .map(|(key, value)| (key, value.trim_end_matches(['\r', '\n']).to_owned()))
        .collect()
}

/// What is wrong, without what stands in a secret's place.
fn in_words(error: figment::Error) -> String {
    let told = error.into_iter().map(|mut e| {
        // a list has numbers where a section has names
        let named = |part: &&String| part.parse::<u32>().is_err();
        let key: Vec<&str> = e
            .path
            .iter()
            .take_while(named)
            .map(String::as_str)
            .collect();
        let key = key.join(".");
        // a secret's own key, and a section in whose place something else stands, which may be the secret
        let in_it = |secret: &str| {
            let below = secret.strip_prefix(key.as_str());
            below.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let hidden =
            SECRETS.into_iter().chain([WITH_SECRETS]).any(in_it) || key.starts_with(WITH_SECRETS);
        e.kind = match e.kind {
            Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) if hidden => {
                Kind::Message(format!("what is set is not shown, it must be {expected}"))
            }
            Kind::Message(text) => Kind::Message(without_source(&text)),
            other => other,
        };
        e.to_string()
    });
    told.collect::<Vec<_>>().join("\n")
}

/// An error of TOML without the line that it quotes, which may be a secret's.
fn without_source(text: &str) -> String {
    let quotes = |line: &&str| {
        let number = |c: char| c.is_ascii_digit() || c == ' ';
        line.trim_start_matches(number).starts_with('|')
    };
    let told = text.lines().filter(|line| !quotes(line));
    told.collect::<Vec<_>>().join("\n")
}

fn config_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|x| x == "toml"))
        .collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(toml: &str) -> Result<Config, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), toml).unwrap();
        Config::read(Some(file.path()))
    }

    #[track_caller]
    fn check_fails(toml: &str, words: &[&str]) {
        let error = read(toml).unwrap_err();
        for word in words {
            assert!(error.contains(word), "{error:?} does not say {word:?}");
        }
    }

    #[test]
    fn a_wrong_setting_is_named() {
        check_fails(
            "[triage]\nk_minutes_per_logit = -1.0",
            &["triage.k_minutes_per_logit", "-1"],
        );
        check_fails("[triage]\nk_minutes = 3", &["k_minutes"]);
        check_fails("[intake]\nquiet_ms = \"soon\"", &["intake.quiet_ms"]);
        check_fails(
            "[site]\ntime_zone = \"Mars/Base\"",
            &["site.time_zone", "Mars/Base"],
        );
        check_fails(
            "[analysis]\nprovider = \"tpu\"",
            &["analysis.provider", "tpu"],
        );
        check_fails(
            "[worklist]\nclaim_idle_minutes = 0",
            &["worklist.claim_idle_minutes", "0"],
        );
        check_fails(
            "[site]\nname = \"a name that no pager has room for\"",
            &["site.name"],
        );
        check_fails("[listen]\nhl7 = \"2575\"", &["listen.hl7", "2575"]);
        check_fails("[hl7]\nconnections_max = 0", &["hl7.connections_max"]);
        check_fails("[hl7]\naccession = [\"OBR\"]", &["hl7.accession", "OBR"]);
        check_fails(
            "[retention]\ndisk_percent_max = 20",
            &["disk_percent_max", "20"],
        );
        check_fails("[process]\nrole = \"boss\"", &["process.role", "boss"]);
        check_fails("[database]\nconnections_max = 1", &["connections_max"]);
        check_fails("[database]\nurl = \"mysql://x\"", &["database.url"]);
        check_fails(
            "[dicom]\ndestinations = [{ name = \"ris\", ae_title = \"A\", host = \"h\", port = 104 }]\n\
             [[hl7.destinations]]\nname = \"ris\"\naddress = \"h:2575\"",
            &["dicom.destinations", "ris"],
        );
    }

    #[test]
    fn a_secret_is_what_was_written() {
        let set = |value: &str| {
            let config = read(&format!("[smtp]\npassword = {value}"));
            config.map(|c| c.smtp.password.0)
        };
        assert_eq!(set("\"00123\"").unwrap(), "00123");
        assert_eq!(set("12345678").unwrap(), "12345678");
        assert_eq!(set("-5").unwrap(), "-5");
        assert_eq!(set("true").unwrap(), "true");
        let listed = "[alerts]\nbase_url = 'https://f.example'\n[[alerts.destinations]]\nname = 'h'\n\
                      channel = 'webhook'\nto = 'https://h.example'\nsecret = 42";
        let config = read(listed).unwrap();
        assert_eq!(config.alerts.destinations[0].secret.0, "42");
    }

    #[test]
    fn variables_of_secrets_are_taken_as_they_are_written() {
        let set = [
            ("smtp.password", "00123\n"),
            ("smtp.port", "0587"),
            ("sso.client_secret", "\"quoted\""),
            ("database.url", "[1]"),
        ];
        let kept = secrets(set.map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter());
        let mut figment = Figment::from(Serialized::defaults(Config::default()));
        for (key, value) in kept {
            figment = figment.merge(Serialized::default(&key, value));
        }
        let config: Config = figment.extract().unwrap();
        assert_eq!(config.smtp.password.0, "00123");
        assert_eq!(config.smtp.port, SmtpSettings::default().port);
        assert_eq!(config.sso.client_secret.0, "\"quoted\"");
        assert_eq!(config.database.url, "[1]");
    }

    #[test]
    fn no_error_shows_a_secret() {
        for (toml, key) in [
            ("[smtp]\npassword = 4711.50", "smtp.password"),
            ("[smtp]\npassword = [\"4711\"]", "smtp.password"),
            ("[smtp]\npassword = 004711", "line 2"),
            ("[smtp]\npassword = x4711", "line 2"),
            ("[sso]\nclient_secret = 4711-11-26", "sso.client_secret"),
            ("[database]\nurl = 4711", "database.url"),
            ("database = \"postgres://u:4711@h/x\"", "database"),
            ("smtp = \"4711\"", "smtp"),
            ("sso = 4711", "sso"),
            ("alerts = \"4711\"", "alerts"),
            ("database = [4711]", "database"),
            (
                "[alerts]\ndestinations = \"[{secret=4711\"",
                "alerts.destinations",
            ),
            (
                "[[alerts.destinations]]\nname = \"h\"\nsecret = 4711.5",
                "alerts.destinations",
            ),
        ] {
            let error = read(toml).unwrap_err();
            assert!(!error.contains("4711"), "{error}");
            assert!(error.contains(key), "{error:?} does not say {key}");
        }
    }

    #[test]
    fn every_secret_is_known_to_be_one() {
        let default = serde_json::to_value(Config::default()).unwrap();
        let secret = |key: &&String| {
            let named = key.contains("password") || key.contains("secret");
            named && !key.ends_with("_file")
        };
        for key in keys(&default).iter().filter(secret) {
            assert!(SECRETS.contains(&key.as_str()), "{key}");
        }
    }

    /// Each key of a setting, as `section.key`.
    fn keys(settings: &serde_json::Value) -> Vec<String> {
        let sections = settings.as_object().unwrap().iter();
        sections
            .flat_map(|(section, keys)| {
                let keys = keys.as_object().unwrap().keys();
                keys.map(move |key| format!("{section}.{key}"))
            })
            .collect()
    }

    #[test]
    fn the_shipped_file_says_every_default() {
        let path = Path::new("config/firstread.toml");
        let text = std::fs::read_to_string(path).unwrap();
        let written = keys(&toml::from_str(&text).unwrap());
        let default = serde_json::to_value(Config::default()).unwrap();
        // The spool follows the data folder and is not set by itself.
        for key in keys(&default)
            .iter()
            .filter(|key| *key != "dicom.spool_dir")
        {
            assert!(written.contains(key), "{key} is not in {}", path.display());
        }
        let shipped = serde_json::to_value(Config::read(Some(path)).unwrap()).unwrap();
        assert_eq!(shipped, serde_json::to_value(read("").unwrap()).unwrap());
    }
}
