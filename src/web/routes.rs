//! What exists and who may use it: one table. Nothing is reachable that is not in it.

use actix_web::http::Method;
use actix_web::{Route, web};

use super::{
    account, accounts, acknowledge, api, assets, budget, deliveries, destinations, fhir, filters,
    intake, live, login, messages, opinion, preview, probes, quality, ranking, reading,
    reading_api, report, shown, simulate, sso, study, subscriptions, system, trail, worklist,
};
use crate::store::accounts::Role;

/// Who may use a route, and how they show who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anyone; says nothing about patients.
    Public,
    /// A signed-in browser with one of these roles.
    Page(&'static [Role]),
    /// A bearer token with one of these roles.
    Api(&'static [Role]),
}

/// A route.
pub struct Rule {
    /// HTTP method.
    pub method: Method,
    /// Path as actix-web matches it.
    pub path: &'static str,
    /// Who may use it.
    pub access: Access,
    handler: fn() -> Route,
}

const EVERYONE: &[Role] = &Role::ALL;
/// Those who may see findings.
const READING: &[Role] = &[Role::Reader, Role::Admin, Role::Auditor];
/// Those who work through the list.
const WORKING: &[Role] = &Role::READERS;
/// Those who may see what arrived.
const DOOR: &[Role] = &[Role::Technologist, Role::Reader, Role::Admin, Role::Auditor];
/// Those who may see what was delivered, what was shown, and who did what.
const DELIVERIES: &[Role] = &[Role::Admin, Role::Auditor];
/// Those who may change how the server works, and what is delivered.
const ADMIN: &[Role] = &[Role::Admin];
/// Programs that may read the list.
const READING_API: &[Role] = &[Role::Reader, Role::Admin, Role::Auditor, Role::Integration];
/// Programs that may change order priorities.
const ORDERS_API: &[Role] = &[Role::Integration];

/// Programs that may be notified.
const SUBSCRIBING_API: &[Role] = &[Role::Integration, Role::Admin];

static RULES: &[Rule] = &[
    get("/", Access::Page(EVERYONE), || web::get().to(login::home)),
    get("/login", Access::Public, || web::get().to(login::form)),
    post("/login", Access::Public, || web::post().to(login::submit)),
    get("/login/sso", Access::Public, || web::get().to(sso::begin)),
    get("/login/sso/back", Access::Public, || {
        web::get().to(sso::back)
    }),
    post("/logout", Access::Page(EVERYONE), || {
        web::post().to(login::logout)
    }),
    get("/worklist", Access::Page(READING), || {
        web::get().to(worklist::page)
    }),
    get("/events", Access::Page(READING), || {
        web::get().to(live::events)
    }),
    get("/studies/{study_uid}", Access::Page(READING), || {
        web::get().to(study::page)
    }),
    get(
        "/studies/{study_uid}/series/{series_uid}/{picture}.png",
        Access::Page(READING),
        || web::get().to(study::picture),
    ),
    get("/studies/{study_uid}/report", Access::Page(READING), || {
        web::get().to(report::page)
    }),
    get(
        "/studies/{study_uid}/report.pdf",
        Access::Page(READING),
        || web::get().to(report::pdf),
    ),
    post("/worklist/next", Access::Page(WORKING), || {
        web::post().to(reading::next_case)
    }),
    post("/worklist/filters", Access::Page(READING), || {
        web::post().to(filters::save)
    }),
    post("/worklist/filters/{id}", Access::Page(READING), || {
        web::post().to(filters::remove)
    }),
    post(
        "/studies/{study_uid}/acknowledge",
        Access::Page(WORKING),
        || web::post().to(acknowledge::in_app),
    ),
    post("/studies/{study_uid}/claim", Access::Page(WORKING), || {
        web::post().to(reading::claim)
    }),
    post(
        "/studies/{study_uid}/release",
        Access::Page(WORKING),
        || web::post().to(reading::release),
    ),
    post(
        "/studies/{study_uid}/hand-over",
        Access::Page(WORKING),
        || web::post().to(reading::hand_over),
    ),
    post("/studies/{study_uid}/read", Access::Page(WORKING), || {
        web::post().to(reading::read)
    }),
    post("/studies/{study_uid}/undo", Access::Page(WORKING), || {
        web::post().to(reading::undo)
    }),
    post(
        "/studies/{study_uid}/feedback",
        Access::Page(WORKING),
        || web::post().to(reading::feedback),
    ),
    get("/settings", Access::Page(READING), || {
        web::get().to(ranking::page)
    }),
    post("/settings", Access::Page(ADMIN), || {
        web::post().to(ranking::apply)
    }),
    get("/simulate", Access::Page(READING), || {
        web::get().to(simulate::page)
    }),
    get("/agreement", Access::Page(READING), || {
        web::get().to(quality::agreement_page)
    }),
    get("/second-opinion", Access::Page(READING), || {
        web::get().to(opinion::page)
    }),
    post(
        "/studies/{study_uid}/outcome",
        Access::Page(WORKING),
        || web::post().to(reading::outcome),
    ),
    get("/audit", Access::Page(WORKING), || {
        web::get().to(quality::audit_page)
    }),
    post("/audit/{study_uid}", Access::Page(WORKING), || {
        web::post().to(quality::answer)
    }),
    get("/shown", Access::Page(DELIVERIES), || {
        web::get().to(shown::page)
    }),
    get("/system", Access::Page(DELIVERIES), || {
        web::get().to(system::page)
    }),
    get("/intake", Access::Page(DOOR), || {
        web::get().to(intake::page)
    }),
    get("/deliveries", Access::Page(DELIVERIES), || {
        web::get().to(deliveries::page)
    }),
    get("/alerts", Access::Page(READING), || {
        web::get().to(budget::page)
    }),
    get("/deliveries/{id}", Access::Page(DELIVERIES), || {
        web::get().to(messages::page)
    }),
    post("/deliveries/{id}/message", Access::Page(DELIVERIES), || {
        web::post().to(messages::uncover)
    }),
    post("/deliveries/{id}", Access::Page(ADMIN), || {
        web::post().to(deliveries::steer)
    }),
    get("/destinations", Access::Page(DELIVERIES), || {
        web::get().to(destinations::page)
    }),
    get("/destinations/{name}/form", Access::Page(ADMIN), || {
        web::get().to(destinations::form)
    }),
    post("/destinations/{name}/form", Access::Page(ADMIN), || {
        web::post().to(destinations::keep)
    }),
    get("/destinations/{name}/preview", Access::Page(ADMIN), || {
        web::get().to(preview::page)
    }),
    post("/destinations/{name}/preview", Access::Page(ADMIN), || {
        web::post().to(preview::uncover)
    }),
    post("/destinations/{name}", Access::Page(ADMIN), || {
        web::post().to(deliveries::destination_action)
    }),
    get("/account", Access::Page(EVERYONE), || {
        web::get().to(account::page)
    }),
    post("/account/password", Access::Page(EVERYONE), || {
        web::post().to(account::change)
    }),
    get("/accounts", Access::Page(DELIVERIES), || {
        web::get().to(accounts::page)
    }),
    post("/accounts", Access::Page(ADMIN), || {
        web::post().to(accounts::make)
    }),
    post("/accounts/{id}", Access::Page(ADMIN), || {
        web::post().to(accounts::change)
    }),
    post("/tokens", Access::Page(ADMIN), || {
        web::post().to(accounts::make_token)
    }),
    post("/tokens/{id}", Access::Page(ADMIN), || {
        web::post().to(accounts::revoke_token)
    }),
    get("/trail", Access::Page(DELIVERIES), || {
        web::get().to(trail::page::page)
    }),
    get("/trail/export", Access::Page(DELIVERIES), || {
        web::get().to(trail::page::export)
    }),
    get("/trail/patient", Access::Page(DELIVERIES), || {
        web::get().to(trail::patient::page)
    }),
    get("/trail/patient/export", Access::Page(DELIVERIES), || {
        web::get().to(trail::patient::export)
    }),
    // The link itself is the proof; the page says nothing about patients.
    get("/a/{token}", Access::Public, || {
        web::get().to(acknowledge::page)
    }),
    post("/a/{token}", Access::Public, || {
        web::post().to(acknowledge::submit)
    }),
    get("/static/{name}", Access::Public, || {
        web::get().to(assets::file)
    }),
    get("/favicon.ico", Access::Public, || {
        web::get().to(assets::icon)
    }),
    get("/api/v1/worklist", Access::Api(READING_API), || {
        web::get().to(api::worklist)
    }),
    get(
        "/api/v1/studies/{study_uid}",
        Access::Api(READING_API),
        || web::get().to(api::study),
    ),
    post("/api/v1/worklist/next", Access::Api(WORKING), || {
        web::post().to(reading_api::next_case)
    }),
    post(
        "/api/v1/studies/{study_uid}/claim",
        Access::Api(WORKING),
        || web::post().to(reading_api::claim),
    ),
    delete(
        "/api/v1/studies/{study_uid}/claim",
        Access::Api(WORKING),
        || web::delete().to(reading_api::release),
    ),
    post(
        "/api/v1/studies/{study_uid}/hand-over",
        Access::Api(WORKING),
        || web::post().to(reading_api::hand_over),
    ),
    post(
        "/api/v1/studies/{study_uid}/read",
        Access::Api(WORKING),
        || web::post().to(reading_api::read),
    ),
    delete(
        "/api/v1/studies/{study_uid}/read",
        Access::Api(WORKING),
        || web::delete().to(reading_api::undo),
    ),
    post(
        "/api/v1/studies/{study_uid}/feedback",
        Access::Api(WORKING),
        || web::post().to(reading_api::feedback),
    ),
    post(
        "/api/v1/studies/{study_uid}/outcome",
        Access::Api(WORKING),
        || web::post().to(reading_api::outcome),
    ),
    Rule {
        method: Method::PUT,
        path: "/api/v1/orders/{accession}",
        access: Access::Api(ORDERS_API),
        handler: || web::put().to(api::put_order),
    },
    get("/fhir/metadata", Access::Public, || {
        web::get().to(fhir::metadata)
    }),
    get("/fhir/Subscription", Access::Api(SUBSCRIBING_API), || {
        web::get().to(subscriptions::search)
    }),
    post("/fhir/Subscription", Access::Api(SUBSCRIBING_API), || {
        web::post().to(subscriptions::create)
    }),
    get(
        "/fhir/Subscription/{id}",
        Access::Api(SUBSCRIBING_API),
        || web::get().to(subscriptions::read),
    ),
    delete(
        "/fhir/Subscription/{id}",
        Access::Api(SUBSCRIBING_API),
        || web::delete().to(subscriptions::remove),
    ),
    get("/fhir/{type}", Access::Api(READING_API), || {
        web::get().to(fhir::search)
    }),
    get("/fhir/{type}/{id}", Access::Api(READING_API), || {
        web::get().to(fhir::read)
    }),
    Rule {
        method: Method::PUT,
        path: "/fhir/{type}/{id}",
        access: Access::Api(ORDERS_API),
        handler: || web::put().to(fhir::update),
    },
    get("/healthz", Access::Public, || {
        web::get().to(probes::healthz)
    }),
    get("/readyz", Access::Public, || web::get().to(probes::readyz)),
    get("/metrics", Access::Public, || {
        web::get().to(probes::metrics)
    }),
    get("/robots.txt", Access::Public, || {
        web::get().to(assets::robots)
    }),
];

const fn get(path: &'static str, access: Access, handler: fn() -> Route) -> Rule {
    Rule {
        method: Method::GET,
        path,
        access,
        handler,
    }
}

const fn post(path: &'static str, access: Access, handler: fn() -> Route) -> Rule {
    Rule {
        method: Method::POST,
        path,
        access,
        handler,
    }
}

const fn delete(path: &'static str, access: Access, handler: fn() -> Route) -> Rule {
    Rule {
        method: Method::DELETE,
        path,
        access,
        handler,
    }
}

/// The table.
#[must_use]
pub fn rules() -> &'static [Rule] {
    RULES
}

/// The rule of a request, by the pattern its path matched.
pub(super) fn rule_of(method: &Method, pattern: &str) -> Option<&'static Rule> {
    RULES
        .iter()
        .find(|rule| rule.method == method && rule.path == pattern)
}

/// Methods that a pattern answers to, for `Allow`.
pub(super) fn methods_of(pattern: &str) -> String {
    let methods: Vec<&str> = RULES
        .iter()
        .filter(|rule| rule.path == pattern)
        .map(|rule| rule.method.as_str())
        .collect();
    methods.join(", ")
}

/// What machines that watch ask for.
const PROBES: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// Makes the routes. The gate refuses what has no rule, so nothing is reachable beside the table.
pub(super) fn register(config: &mut web::ServiceConfig, only_probes: bool) {
    let mut done: Vec<&str> = Vec::new();
    let wanted = |rule: &&Rule| !only_probes || PROBES.contains(&rule.path);
    for rule in RULES.iter().filter(wanted) {
        if done.contains(&rule.path) {
            continue;
        }
        done.push(rule.path);
        let resource = RULES
            .iter()
            .filter(|other| other.path == rule.path)
            .fold(web::resource(rule.path), |resource, other| {
                resource.route((other.handler)())
            });
        config.service(resource);
    }
}
