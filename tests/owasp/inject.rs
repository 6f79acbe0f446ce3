//! Quotes, comments, wildcards, NULs and numbers out of range in every part of a path, every parameter, every
//! field: no route breaks, none shows what it was sent as a part of its page, and what reads changes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use firstread::store::accounts::Role;
use firstread::web::{Access, Rule, rules};
use reqwest::{Client, Method, RequestBuilder};
use sea_orm::{ConnectionTrait as _, DatabaseConnection, Statement};
use serde_json::json;

use crate::common::databases;
use crate::marked::encoded;
use crate::reflected::unescaped;
use crate::site::{Site, browser, field, uid};

/// Ends a text, goes on with SQL, comments the rest out, and is a script besides.
const QUOTES: &str =
    "x' OR '1'='1'; DROP TABLE study; --/*\"'><script>hit()</script><b zqr>%_\\`${7*7}{{7*7}}";
const WRONG: [&str; 4] = [QUOTES, "a\0b", "99999999999999999999", "-1"];
/// What is not percent-encoded well, or is no UTF-8.
const BROKEN: [&str; 3] = ["%ff%fe", "%c0%ae", "%zz"];

/// What is written while others read: who did it, when somebody was last there, what was drawn.
const LOGS: [&str; 9] = [
    "api_token",
    "audit",
    "audit_head",
    "audit_mark",
    "audit_trail",
    "login_failure",
    "message_view",
    "shown_log",
    "web_session",
];

const LIST: &[&str] = &[
    "band", "state", "modality", "region", "location", "referrer", "assigned", "reading", "q",
    "sort", "dir", "page", "read", "none", "fragment",
];
const TRAIL: &[&str] = &[
    "actor", "action", "outcome", "study", "patient", "issuer", "from", "until", "before", "format",
];
const RANKING: &[&str] = &[
    "k_minutes_per_logit",
    "p_floor",
    "ai_cap_minutes",
    "findings_cap_minutes",
    "site_rules_cap_minutes",
    "stat_minutes",
    "asap_minutes",
    "urgent_from_minutes",
    "elevated_from_minutes",
    "site_prevalence",
    "readers",
    "read_minutes",
    "applied",
    "note",
    "based_on",
];
const FHIR: &[&str] = &[
    "_id",
    "identifier",
    "subject:identifier",
    "conclusion",
    "status",
    "priority",
    "_count",
    "_offset",
    "_format",
    "other",
];
const FORM: &[&str] = &["csrf", "quiet", "to", "said", "comment", "list"];

/// Parameters and fields of routes, by how their paths begin; the longest fits. A route that none fits, and each
/// of the others once more, is asked with all names there are at once.
const NAMES: &[(&str, &[&str])] = &[
    ("/login", &["next", "form_token", "name", "password"]),
    ("/login/sso", &["next", "code", "state", "iss", "error"]),
    ("/worklist", LIST),
    ("/worklist/filters", &["csrf", "name", "list"]),
    ("/api/v1/worklist", LIST),
    ("/studies/", FORM),
    ("/studies/{study_uid}/report", &["lang"]),
    ("/audit", &["csrf", "answer", "comment", "skip", "kept"]),
    ("/settings", RANKING),
    ("/simulate", &["read_times", "seed", "readers", "cap"]),
    ("/agreement", &["months"]),
    ("/second-opinion", &["months", "kind", "source", "page"]),
    ("/shown", &["study", "who", "until"]),
    ("/alerts", &["days"]),
    ("/deliveries", &["csrf", "action"]),
    ("/destinations", &["csrf", "action", "told", "study"]),
    (
        "/destinations/{name}/form",
        &[
            "csrf", "kind", "name", "note", "to", "address", "url", "version",
        ],
    ),
    ("/account/password", &["csrf", "old", "new", "again"]),
    ("/accounts", &["csrf", "name", "role", "deed"]),
    ("/tokens", &["csrf", "name", "role", "scope", "days"]),
    ("/trail", TRAIL),
    ("/a/", &["name"]),
    ("/fhir/", FHIR),
];

fn names(path: &str) -> &'static [&'static str] {
    let fits = NAMES.iter().filter(|(begin, _)| path.starts_with(begin));
    fits.max_by_key(|(begin, _)| begin.len())
        .map_or(&[], |(_, names)| names)
}

fn every_name() -> Vec<&'static str> {
    let mut all: Vec<&str> = NAMES
        .iter()
        .flat_map(|(_, names)| names.iter().copied())
        .filter(|name| *name != "csrf")
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// What stands for each part of a path where it is not what is wrong.
const PARTS: [(&str, &str); 8] = [
    ("{study_uid}", ""),
    ("{series_uid}", "1.2.3"),
    ("{picture}", "axial"),
    ("{accession}", "ACC-1"),
    ("{type}", "ImagingStudy"),
    ("{name}", "ris"),
    ("{token}", "1.x"),
    ("{id}", "1"),
];

/// The path, and the same with each of its parts replaced.
fn paths(pattern: &str, wrong: &str) -> Vec<String> {
    let whole = |but: &str| {
        PARTS.iter().fold(pattern.to_owned(), |path, (part, fit)| {
            let fit = if fit.is_empty() {
                uid(1)
            } else {
                (*fit).to_owned()
            };
            path.replace(part, if *part == but { wrong } else { &fit })
        })
    };
    let wrong = PARTS.iter().map(|(part, _)| *part);
    wrong
        .filter(|part| pattern.contains(part))
        .map(whole)
        .collect()
}

struct Asker {
    site: Site,
    person: Client,
    csrf: String,
    tokens: BTreeMap<&'static str, String>,
    asked: usize,
}

impl Asker {
    async fn on(database: &crate::common::Database) -> Self {
        let site = Site::on(database).await;
        for n in 1..=3 {
            site.study(n, 10, 5.0).await;
        }
        let now_ms = firstread::clock::Clock::now_ms(&*site.clock);
        site.store
            .know_destinations(&["room".to_owned()])
            .await
            .unwrap();
        assert!(site.store.send_test("room", now_ms).await.unwrap());
        let person = site.signed_in(Role::Admin).await;
        let csrf = field(&site.page(&person, "/account").await, "csrf");
        let mut tokens = BTreeMap::new();
        for role in Role::ALL {
            tokens.insert(role.as_str(), site.token(role).await);
        }
        Self {
            site,
            person,
            csrf,
            tokens,
            asked: 0,
        }
    }

    fn request(&self, rule: &Rule, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(rule.method.as_str().as_bytes()).unwrap();
        let url = self.site.url(path);
        match rule.access {
            Access::Api(roles) => {
                let token = &self.tokens[roles[0].as_str()];
                browser().request(method, url).bearer_auth(token)
            }
            _ => self.person.request(method, url),
        }
    }

    /// Asks, and wants an answer that is none of a server that broke.
    async fn ask(&mut self, what: &str, request: RequestBuilder) {
        self.asked += 1;
        let answer = tokio::time::timeout(Duration::from_secs(20), request.send());
        let answer = answer.await.unwrap().unwrap();
        let (status, headers) = (answer.status(), answer.headers().clone());
        assert!(!status.is_server_error(), "{what}: {status}");
        let kind = headers.get("content-type").map(|v| v.to_str().unwrap());
        let kind = kind.unwrap_or_default().to_owned();
        if kind.starts_with("text/event-stream") {
            return;
        }
        let body = answer.bytes().await.unwrap();
        let body = String::from_utf8_lossy(&body);
        if kind.starts_with("text/html") {
            assert_eq!(unescaped(&body), None, "{what}");
        }
        for leak in ["SELECT ", "sqlite", "syntax error", "22021"] {
            assert!(!body.contains(leak), "{what}: {body}");
        }
    }

    /// A body that the route takes, but for one field.
    fn body(
        &self,
        rule: &Rule,
        request: RequestBuilder,
        name: &str,
        wrong: &str,
    ) -> RequestBuilder {
        if rule.path.starts_with("/api/") || rule.path.starts_with("/fhir/") {
            let body = json!({
                "to": wrong, "finding": wrong, "verdict": wrong, "comment": wrong, "outcome": wrong,
                "priority": wrong, "resourceType": wrong, "id": wrong, "criteria": wrong,
                "status": wrong, "reason": wrong,
            });
            let mut kept = body.as_object().unwrap().clone();
            if !name.is_empty() {
                kept.retain(|key, _| key == name);
            }
            return request.body(json!(kept).to_string());
        }
        let mut form: Vec<(&str, String)> = vec![
            ("csrf", self.csrf.clone()),
            ("form_token", "x".into()),
            ("password", "x".into()),
            ("to", "other".into()),
            ("said", "agree screening".into()),
            ("action", "test".into()),
            ("deed", "unlock".into()),
            ("role", "reader".into()),
            ("scope", "list".into()),
            ("days", "3".into()),
            ("name", "fitting".into()),
            ("kind", "mail".into()),
            ("outcome", "abnormal".into()),
            ("answer", "agree".into()),
        ];
        if rule.path == "/settings" {
            let rules = self.site.ranker.rules();
            let values = serde_json::to_value(&rules.settings).unwrap();
            let number = |name: &&&str| values[**name].is_number();
            form.extend(
                RANKING
                    .iter()
                    .filter(number)
                    .map(|name| (*name, values[*name].to_string())),
            );
            form.push(("based_on", rules.version.to_string()));
            form.push(("note", "why".into()));
        }
        form.retain(|(key, _)| *key != name);
        form.push((name, wrong.to_owned()));
        request.form(&form)
    }

    async fn ask_all(&mut self, rule: &'static Rule) {
        let what = format!("{} {}", rule.method, rule.path);
        let encoded_wrong = WRONG.map(encoded);
        let in_path = encoded_wrong.iter().map(String::as_str).chain(BROKEN);
        for wrong in in_path {
            for path in paths(rule.path, wrong) {
                let request = self.request(rule, &path);
                let request = if rule.method == "GET" {
                    request
                } else {
                    self.body(rule, request, "", "x")
                };
                self.ask(&format!("{what} as {path}"), request).await;
            }
        }
        let path = paths(rule.path, "1").pop();
        let path = path.unwrap_or_else(|| rule.path.to_owned());
        let path = PARTS.iter().fold(path, |path, (part, fit)| {
            let fit = if fit.is_empty() {
                uid(1)
            } else {
                (*fit).to_owned()
            };
            path.replace(part, &fit)
        });
        let reads = rule.method == "GET";
        for wrong in WRONG {
            for name in names(rule.path) {
                let request = if reads {
                    self.request(
                        rule,
                        &format!("{path}?{}={}", encoded(name), encoded(wrong)),
                    )
                } else {
                    self.body(rule, self.request(rule, &path), name, wrong)
                };
                self.ask(&format!("{what}, {name} {wrong:?}"), request)
                    .await;
            }
            let all: Vec<String> = every_name()
                .into_iter()
                .map(|name| format!("{}={}", encoded(name), encoded(wrong)))
                .collect();
            let request = self.request(rule, &format!("{path}?{}", all.join("&")));
            let request = if reads {
                request
            } else {
                self.body(rule, request, "", wrong)
            };
            self.ask(&format!("{what}, all {wrong:?}"), request).await;
        }
        if rule.method == "PUT" {
            let request = self
                .request(rule, &path)
                .header("idempotency-key", "x' OR 1=1; --");
            let request = request.body("{\"priority\":\"stat\"}");
            self.ask(&format!("{what}, key"), request).await;
        }
    }
}

/// Every row of every table that is no log.
async fn rows(db: &DatabaseConnection) -> BTreeMap<String, String> {
    let backend = db.get_database_backend();
    let postgres = backend == sea_orm::DbBackend::Postgres;
    let texts = async |sql: String| -> Vec<String> {
        let rows = db
            .query_all_raw(Statement::from_string(backend, sql))
            .await
            .unwrap();
        rows.iter()
            .map(|row| {
                row.try_get::<Option<String>>("", "x")
                    .unwrap()
                    .unwrap_or_default()
            })
            .collect()
    };
    let tables = if postgres {
        "SELECT tablename::text AS x FROM pg_tables WHERE schemaname = 'public'"
    } else {
        "SELECT name AS x FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
    };
    let mut all = BTreeMap::new();
    for table in texts(tables.to_owned()).await {
        if LOGS.contains(&table.as_str()) || table.ends_with("_view") {
            continue;
        }
        let sql = if postgres {
            format!("SELECT string_agg(t::text, E'\\n' ORDER BY t::text) AS x FROM \"{table}\" t")
        } else {
            let columns = format!("SELECT name AS x FROM pragma_table_info('{table}')");
            let quoted: Vec<String> = texts(columns)
                .await
                .iter()
                .map(|c| format!("quote(\"{c}\")"))
                .collect();
            format!(
                "SELECT group_concat(r, char(10)) AS x FROM (SELECT {} AS r FROM \"{table}\" ORDER BY 1)",
                quoted.join("||'|'||")
            )
        };
        let text = texts(sql).await.join("\n");
        all.insert(table, text);
    }
    assert!(all.len() > 20 && all["study"].contains("PAT-1"), "{all:?}");
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_sent_becomes_sql_or_a_part_of_a_page() {
    for database in databases() {
        let mut asker = Asker::on(&database).await;
        let db = sea_orm::Database::connect(&asker.site.database_url)
            .await
            .unwrap();
        let before = rows(&db).await;
        // nothing works here: whoever watches is told so, with a 503
        let reading = |r: &&Rule| r.method == "GET" && r.path != "/readyz";
        for rule in rules().iter().filter(reading) {
            asker.ask_all(rule).await;
        }
        let after = rows(&db).await;
        for (table, rows) in &before {
            assert_eq!(
                Some(rows),
                after.get(table),
                "{table} was changed by a read"
            );
        }
        let reads = asker.asked;
        let deeds = rules()
            .iter()
            .filter(|r| r.method != "GET" && r.path != "/logout");
        for rule in deeds {
            asker.ask_all(rule).await;
        }
        eprintln!("{database:?}: {reads} reads, {} in all", asker.asked);
        assert!(reads > 400 && asker.asked > 900, "{reads}, {}", asker.asked);
        let last = rows(&db).await;
        let studies = |rows: &BTreeMap<String, String>| rows["study"].lines().count();
        assert_eq!(studies(&last), studies(&before), "studies are gone");
        assert!(last["user_account"].contains("admin"));
        for n in 1..=3 {
            assert!(last["study"].contains(&format!("PAT-{n}")));
        }
    }
}

/// Wildcards of LIKE are letters: they find nothing that does not have them.
#[tokio::test]
async fn wildcards_and_quotes_find_what_has_them_and_nothing_else() {
    for database in databases() {
        let site = Site::on(&database).await;
        for (n, name) in ["O'Brien^100%", "Under_score^A", "Back\\slash^B", "Plain^C"]
            .into_iter()
            .enumerate()
        {
            let n = u32::try_from(n + 1).unwrap();
            site.study_with(n, 10, 5.0, |row| {
                row.patient_name = sea_orm::ActiveValue::Set(Some(name.into()));
            })
            .await;
        }
        let token = site.token(Role::Reader).await;
        let found = async |asked: &str| {
            let url = site.url(&format!("/api/v1/worklist?q={}", encoded(asked)));
            let answer = browser().get(url).bearer_auth(&token).send().await.unwrap();
            let list: serde_json::Value = answer.json().await.unwrap();
            let items = list["items"].as_array().unwrap().clone();
            items
                .iter()
                .map(|i| i["study_uid"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        for (asked, expected) in [
            ("%", vec![uid(1)]),
            ("_", vec![uid(2)]),
            ("\\", vec![uid(3)]),
            ("o'brien", vec![uid(1)]),
            ("' OR '1'='1", vec![]),
            ("%' OR 1=1 --", vec![]),
            ("pl_in", vec![]),
            ("pl%n", vec![]),
        ] {
            assert_eq!(found(asked).await, expected, "{asked}");
        }
    }
}
