//! A site to test on: store, clock that stands still, web server on a free port, helpers for clients.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::path::Path;
use std::sync::Arc;

use firstread::alerts::{AlertSettings, Alerts, ChannelKind, DestinationSettings, StepSettings};
use firstread::clock::{Clock, ManualClock};
use firstread::fhir::FhirSettings;
use firstread::hl7::{Hl7Destination, Hl7Settings};
use firstread::norms::Norms;
use firstread::report::{ReportSettings, Reporter};
use firstread::secrets::Vault;
use firstread::store::Store;
use firstread::store::accounts::Role;
use firstread::store::entity::{instance, quarantine, screening, series, study};
use firstread::store::ranks::{Ranker, Standing};
use firstread::store::search::Searched;
use firstread::triage::{Band, Evidence, Finding, Ranking, Reason, Screening, TriageSettings};
use firstread::web::{self, Desk, Health, SignOn, Subscribing, WebSettings, WebState};
use firstread::worklist::NewsDesk;
use reqwest::{Client, Response, StatusCode, redirect::Policy};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, Database, DatabaseConnection, EntityTrait,
    QueryFilter, sea_query::Expr,
};
use tokio_util::sync::CancellationToken;

use crate::common;

/// 2026-11-23T12:00:00Z
pub const NOON_MS: i64 = 1_795_435_200_000;
pub const PASSWORD: &str = "a long test password";
/// When a claim ends by itself, by default.
pub const CLAIM_IDLE_MS: i64 = 30 * 60_000;
/// The network that screened them.
const MODEL: &str = "screening 0.0.1";
/// Root of the UIDs of test studies.
pub const UID: &str = "1.2.826.0.1.3680043.10.1";

pub struct Site {
    pub base: String,
    /// Of the database.
    pub database_url: String,
    pub store: Store,
    pub news: NewsDesk,
    pub health: Health,
    pub clock: Arc<ManualClock>,
    pub alerts: Arc<Alerts>,
    pub ranker: Arc<Ranker>,
    pub data: tempfile::TempDir,
    db: DatabaseConnection,
    stop: CancellationToken,
}

impl Site {
    pub async fn start() -> Self {
        Self::with(&common::Database::Sqlite, WebSettings::default()).await
    }

    pub async fn on(database: &common::Database) -> Self {
        Self::with(database, WebSettings::default()).await
    }

    pub async fn with(database: &common::Database, settings: WebSettings) -> Self {
        let data = tempfile::tempdir().unwrap();
        let alerts = alerts(data.path());
        Self::alerting(database, settings, alerts, data, |state| state).await
    }

    /// A site with single sign-on, which is given the site's vault.
    pub async fn signing_on(
        database: &common::Database,
        sign_on: impl FnOnce(Vault) -> SignOn,
    ) -> Self {
        let data = tempfile::tempdir().unwrap();
        let alerts = alerts(data.path());
        let sign_on = sign_on(Vault::open(data.path()).unwrap());
        let more = |state: WebState| state.signing_on(Some(sign_on));
        Self::alerting(database, WebSettings::default(), alerts, data, more).await
    }

    /// A site whose audit trail is sent on to this address.
    pub async fn recording_to(database: &common::Database, address: String) -> Self {
        let data = tempfile::tempdir().unwrap();
        let alerts = alerts(data.path());
        let more = |state: WebState| state.recording_to(Some(address));
        Self::alerting(database, WebSettings::default(), alerts, data, more).await
    }

    /// A site where these are told.
    pub async fn telling(database: &common::Database, settings: &AlertSettings) -> Self {
        let data = tempfile::tempdir().unwrap();
        let alerts = of_settings(settings, data.path());
        Self::alerting(database, WebSettings::default(), alerts, data, |s| s).await
    }

    async fn alerting(
        database: &common::Database,
        settings: WebSettings,
        alerts: Alerts,
        data: tempfile::TempDir,
        more: impl FnOnce(WebState) -> WebState,
    ) -> Self {
        let mut url = database.fresh_url();
        if url.is_empty() {
            url = format!(
                "sqlite://{}?mode=rwc",
                data.path().join("test.db").display()
            );
        }
        let store = Store::open(Some(&url), data.path()).await.unwrap();
        let db = Database::connect(&url).await.unwrap();
        let clock = Arc::new(ManualClock::at(NOON_MS));
        let (news, health) = (NewsDesk::default(), Health::default());
        health.worker_beat(NOON_MS);
        let alerts = Arc::new(alerts);
        let rules = store
            .settle_settings(&TriageSettings::default(), NOON_MS)
            .await
            .unwrap();
        assert_eq!(rules.version, 1);
        let ranker = Arc::new(Ranker::new(rules, alerts.policy.clone()));
        let https = settings.tls().unwrap();
        let state = WebState::new(
            store.clone(),
            news.clone(),
            clock.clone(),
            settings,
            data.path().to_path_buf(),
            ranker.clone(),
            health.clone(),
            alerts.clone(),
        )
        .reporting(Arc::new(reporter()))
        .subscribed_by(
            Subscribing {
                settings: FhirSettings {
                    subscription_hosts: vec!["127.0.0.1".into(), "ris.example".into()],
                    ..FhirSettings::default()
                },
                vault: Arc::new(Vault::open(data.path()).unwrap()),
            },
            Arc::default(),
        )
        .at_desk(Desk {
            hl7: Hl7Settings {
                destinations: vec![Hl7Destination::new("ris", "127.0.0.1:1")],
                ..Hl7Settings::default()
            },
            mails: true,
            ..Desk::default()
        });
        let state = more(state);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let scheme = if https.is_some() { "https" } else { "http" };
        let base = format!("{scheme}://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        tokio::spawn(web::serve(listener, https, state, stop.clone()));
        Self {
            database_url: url,
            base,
            store,
            news,
            health,
            clock,
            alerts,
            ranker,
            data,
            db,
            stop,
        }
    }

    pub fn port(&self) -> u16 {
        let port = self.base.rsplit(':').next().unwrap();
        port.parse().unwrap()
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub async fn user(&self, name: &str, role: Role) {
        self.store
            .create_user(name, PASSWORD, role, self.clock.now_ms())
            .await
            .unwrap();
    }

    pub async fn token(&self, role: Role) -> String {
        self.token_of("test", role).await
    }

    pub async fn token_of(&self, name: &str, role: Role) -> String {
        self.store
            .create_token(name, role, self.clock.now_ms())
            .await
            .unwrap()
    }

    /// A browser in which a user of this role is signed in.
    pub async fn signed_in(&self, role: Role) -> Client {
        self.signed_in_as(role.as_str(), role).await
    }

    pub async fn signed_in_as(&self, name: &str, role: Role) -> Client {
        self.user(name, role).await;
        let client = browser();
        let answer = self.sign_in(&client, name, PASSWORD).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        client
    }

    /// Fills in the login form.
    pub async fn sign_in(&self, client: &Client, name: &str, password: &str) -> Response {
        let form = client.get(self.url("/login")).send().await.unwrap();
        let form_token = field(&form.text().await.unwrap(), "form_token");
        let filled = [
            ("form_token", form_token.as_str()),
            ("name", name),
            ("password", password),
        ];
        let login = client.post(self.url("/login")).form(&filled);
        login.send().await.unwrap()
    }

    pub async fn page(&self, client: &Client, path: &str) -> String {
        let answer = client.get(self.url(path)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        answer.text().await.unwrap()
    }

    /// Keeps a study that arrived so many minutes before noon, screened with these minutes.
    pub async fn study(&self, n: u32, minutes_ago: i64, minutes: f64) -> study::Model {
        self.study_with(n, minutes_ago, minutes, |_| {}).await
    }

    pub async fn study_with(
        &self,
        n: u32,
        minutes_ago: i64,
        minutes: f64,
        change: impl FnOnce(&mut study::ActiveModel),
    ) -> study::Model {
        let mut row = study_row(n, NOON_MS - minutes_ago * 60_000, minutes);
        change(&mut row);
        let text = |value: &sea_orm::ActiveValue<Option<String>>| value.clone().take().flatten();
        row.search_text = Set(Searched {
            name: text(&row.patient_name).as_deref(),
            patient_id: text(&row.patient_id).as_deref(),
            accession: text(&row.accession).as_deref(),
            description: text(&row.description).as_deref(),
            referrer: text(&row.referrer).as_deref(),
        }
        .text());
        row.insert(&self.db).await.unwrap()
    }

    pub async fn series_with(
        &self,
        study: &study::Model,
        change: impl FnOnce(&mut series::ActiveModel),
    ) -> series::Model {
        let mut row = series::ActiveModel {
            study_id: Set(study.id),
            series_uid: Set(format!("{}.1", study.study_uid)),
            sop_class_uid: Set("1.2.840.10008.5.1.4.1.1.4".into()),
            header_json: Set("{}".into()),
            own_result: Set(false),
            first_received_at: Set(study.arrived_at),
            last_received_at: Set(study.arrived_at),
            quiet_ms: Set(2000),
            settled_images: Set(Some(1)),
            ..Default::default()
        };
        change(&mut row);
        let kept = row.insert(&self.db).await.unwrap();
        self.image_of(&kept, study.arrived_at).await;
        kept
    }

    pub async fn image_of(&self, series: &series::Model, received_at: i64) -> instance::Model {
        let image = instance::ActiveModel {
            series_id: Set(series.id),
            sop_uid: Set(format!("{}.{received_at}", series.series_uid)),
            sop_class_uid: Set("1.2.840.10008.5.1.4.1.1.4".into()),
            transfer_syntax_uid: Set("1.2.840.10008.1.2.1".into()),
            frames: Set(1),
            digest: Set("00".into()),
            size_bytes: Set(1),
            path: Set("objects/none".into()),
            received_at: Set(received_at),
            ..Default::default()
        };
        image.insert(&self.db).await.unwrap()
    }

    pub async fn screening_with(
        &self,
        study: &study::Model,
        change: impl FnOnce(&mut screening::ActiveModel),
    ) {
        let mut row = screening::ActiveModel {
            study_id: Set(study.id),
            series_uid: Set(format!("{}.1", study.study_uid)),
            input: Set("input".into()),
            outcome: Set("screened".into()),
            partial_volume: Set(false),
            model: Set(MODEL.into()),
            provider: Set("cpu".into()),
            result_json: Set("{}".into()),
            created_at: Set(NOON_MS),
            ..Default::default()
        };
        change(&mut row);
        row.insert(&self.db).await.unwrap();
    }

    pub async fn kept_aside(&self, study_uid: &str, reason: &str, calling_ae: &str) {
        let row = quarantine::ActiveModel {
            sop_uid: Set("1.2.3".into()),
            study_uid: Set(Some(study_uid.into())),
            calling_ae: Set(calling_ae.into()),
            reason: Set(reason.into()),
            size_bytes: Set(1),
            received_at: Set(NOON_MS),
            ..Default::default()
        };
        row.insert(&self.db).await.unwrap();
    }

    /// Screening finds so much in a study that it is urgent, or more so critical.
    pub async fn flag(&self, study: &study::Model, critical: bool) {
        let now_ms = self.clock.now_ms();
        let flagged = |standing: &mut Standing| flag(&mut standing.evidence, critical);
        let changed = self
            .store
            .change_standing(study.id, &self.ranker, now_ms, flagged);
        changed.await.unwrap();
    }

    pub async fn set_reading(&self, study: &study::Model, reading: &str) {
        let row = study::ActiveModel {
            id: Set(study.id),
            reading: Set(reading.into()),
            ..Default::default()
        };
        row.update(&self.db).await.unwrap();
    }

    /// Takes every study off the list.
    pub async fn read_all(&self) {
        study::Entity::update_many()
            .col_expr(study::Column::Reading, Expr::value("read"))
            .exec(&self.db)
            .await
            .unwrap();
    }

    /// The row as it is now.
    pub async fn row(&self, n: u32) -> study::Model {
        let found = study::Entity::find().filter(study::Column::StudyUid.eq(uid(n)));
        found.one(&self.db).await.unwrap().unwrap()
    }

    pub fn picture(&self, study_uid: &str, name: &str, bytes: &[u8]) {
        let folder = self.data.path().join("pictures").join(study_uid);
        let folder = folder.join(format!("{study_uid}.1"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(Path::new(name)), bytes).unwrap();
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Evidence that makes a study urgent, or critical.
pub fn flag(evidence: &mut Evidence, critical: bool) {
    evidence.screening = Some(Screening {
        p_calibrated: 0.999_99,
        prevalence_train: 0.1,
    });
    evidence.findings = vec![Finding {
        code: "x".into(),
        group: "x".into(),
        text: "a region differs".into(),
        minutes: 1.0,
        critical,
    }];
}

/// The reading room at once, the pager when nobody acknowledged for ten minutes.
fn alerts(data: &Path) -> Alerts {
    let destination = |name: &str, channel| {
        DestinationSettings::new(name, channel, &format!("{name}@hospital.example"))
    };
    let step = |after_minutes, to: &str| StepSettings {
        after_minutes,
        to: vec![to.into()],
    };
    let settings = AlertSettings {
        bands: vec![Band::Urgent, Band::Critical],
        base_url: "https://firstread.hospital.example".into(),
        destinations: vec![
            destination("room", ChannelKind::Mail),
            destination("pager", ChannelKind::Pager),
        ],
        steps: vec![step(0, "room"), step(10, "pager")],
        ..AlertSettings::default()
    };
    of_settings(&settings, data)
}

/// Alerts by these settings; a claim ends after half an hour, as by default.
pub fn of_settings(settings: &AlertSettings, data: &Path) -> Alerts {
    settings.check().unwrap();
    let policy = settings.policy(chrono_tz::UTC, CLAIM_IDLE_MS);
    Alerts::new(settings, policy, "North", data).unwrap()
}

fn reporter() -> Reporter {
    // A hippocampus of 6251 mm3 in a head of 1432.1 ml has z -2.44 by these at 60.5 years, F: curves are drawn
    // where they agree with the table.
    let offsets = "model_sha256 = \"00\"\nscans = 12\n[structures]\n\
                   \"total hippocampus\" = { offset = 0.0265, sd = 0.09 }\n\
                   \"total intracranial\" = { offset = 0.07, sd = 0.06 }\n";
    Reporter {
        settings: ReportSettings::default(),
        norms: Arc::new(Norms::parse(firstread::serve::NORM_TABLE).unwrap()),
        time_zone: chrono_tz::Tz::UTC,
        screening: Some((MODEL.into(), toml::from_str(offsets).unwrap())),
        measuring: None,
    }
}

pub fn uid(n: u32) -> String {
    format!("{UID}.{n}")
}

fn study_row(n: u32, arrived_at: i64, minutes: f64) -> study::ActiveModel {
    #[expect(clippy::cast_possible_truncation, reason = "a few hours")]
    let head_start_ms = (minutes * 60_000.0) as i64;
    let ranking = Ranking {
        head_start_ms,
        order_minutes: 0.0,
        ai_minutes: minutes,
        findings_minutes: 0.0,
        site_rules_minutes: 0.0,
        p_abnormal: Some(0.42),
        band: Band::Routine,
        reasons: vec![Reason {
            code: "screening".into(),
            text: "screening".into(),
            minutes,
        }],
    };
    study::ActiveModel {
        study_uid: Set(uid(n)),
        patient_id: Set(Some(format!("PAT-{n}"))),
        patient_name: Set(Some(format!("Family{n}^Given"))),
        sex: Set(Some("F".into())),
        age_years: Set(Some(60.5)),
        study_date: Set(Some("20261123".into())),
        accession: Set(Some(format!("ACC-{n}"))),
        description: Set(Some("MR brain".into())),
        modality: Set(Some("MR".into())),
        arrived_at: Set(arrived_at),
        last_received_at: Set(arrived_at),
        reading: Set("open".into()),
        state: Set("screened".into()),
        volumetry: Set("pending".into()),
        order_priority: Set("routine".into()),
        evidence_json: Set("{\"order\":\"routine\",\"screening\":null,\"not_analysed\":null,\"findings\":[],\"site_rules\":[]}".into()),
        ranking_json: Set(serde_json::to_string(&ranking).unwrap()),
        settings_version: Set(1),
        head_start_ms: Set(head_start_ms),
        effective_arrival_ms: Set(arrived_at - head_start_ms),
        band: Set("routine".into()),
        highest_band: Set("routine".into()),
        p_abnormal: Set(Some(0.42)),
        screened_at: Set(Some(arrived_at + 60_000)),
        changed_at: Set(arrived_at),
        ..Default::default()
    }
}

/// Keeps cookies, follows no redirects.
pub fn browser() -> Client {
    Client::builder()
        .cookie_store(true)
        .redirect(Policy::none())
        .build()
        .unwrap()
}

/// Value of a hidden field.
pub fn field(page: &str, name: &str) -> String {
    common::hidden(page, name)
}
