//! `/worklist`: the list, as a page and as the fragment its script fetches.

use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use super::WebState;
use super::answer::{PageError, html};
use super::filters::{self, Active, Address, BANDS, ME, Select, UNASSIGNED, parameters, value};
use super::gate::Visitor;
use super::shown::{self, Asks};
use super::view::{Frame, Row};
use super::words;
use crate::store::files::is_uid;
use crate::store::filters::SavedFilter;

use crate::worklist::{ITEMS_PER_PAGE, READ_MAX, Reading, Sort, WorklistQuery};

/// How often the page reloads itself where there is no JavaScript.
const RELOAD_SECONDS: u32 = 30;

#[derive(Template)]
#[template(path = "worklist.html")]
struct ListPage {
    frame: Frame,
    list: List,
}

#[derive(Template)]
#[template(path = "worklist_list.html")]
struct Fragment {
    frame: Frame,
    list: List,
}

struct List {
    rows: Vec<Row>,
    total_text: String,
    page: u64,
    pages: u64,
    at: Address,
    bands: Vec<Filter>,
    /// Whose studies.
    whose: Vec<Filter>,
    /// Filters behind the button.
    selects: Vec<Select>,
    /// Those that are on.
    active: Vec<Active>,
    saved: Vec<Saved>,
    columns: Vec<Column>,
    /// Studies that were read, not those that wait.
    of_read: bool,
    filtered: bool,
    /// The study that was marked read just now, to be undone: UID and name.
    undo: Option<(String, String)>,
    /// The reader asked for the next case and there is none.
    none_left: bool,
    now_ms: i64,
    now: String,
    /// Bound on overtaking, minutes.
    bound_minutes: f64,
}

struct Filter {
    value: &'static str,
    text: &'static str,
    href: String,
    here: bool,
    count: u64,
}

/// A filter that the visitor keeps.
struct Saved {
    id: i64,
    name: String,
    href: String,
    here: bool,
}

/// A column's head.
struct Column {
    class: &'static str,
    text: &'static str,
    /// Where its order is one click away.
    href: Option<String>,
    /// As `aria-sort` says it, where the list is in its order.
    sorted: Option<&'static str>,
}

pub(super) async fn page(
    req: HttpRequest,
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
) -> Result<HttpResponse, PageError> {
    let parameters = parameters(&req);
    let asked = filters::query(&parameters, &visitor.user.name)?;
    let frame = Frame {
        reload_seconds: RELOAD_SECONDS,
        ..Frame::new("Worklist", "worklist", &visitor, &state)
    };
    let asks = Asks::for_page(&parameters);
    let list = List {
        undo: undo(&state, &visitor, value(&parameters, "read")).await?,
        none_left: value(&parameters, "none").is_some(),
        ..list(&state, &visitor, Address::of(&parameters), asked, asks).await?
    };
    if asks == Asks::Script {
        html(&Fragment { frame, list })
    } else {
        html(&ListPage { frame, list })
    }
}

/// The study that this visitor marked read, if it still is.
async fn undo(
    state: &WebState,
    visitor: &Visitor,
    study_uid: Option<&str>,
) -> Result<Option<(String, String)>, PageError> {
    let Some(study_uid) = study_uid.filter(|uid| visitor.may_work() && is_uid(uid)) else {
        return Ok(None);
    };
    let found = state
        .store
        .study_detail(study_uid, state.held_since_ms())
        .await?;
    let read = found.filter(|study| study.reading == "read");
    Ok(read.map(|study| {
        let row = Row::new(&study.item, &visitor.user.name, state);
        (row.study_uid, row.name)
    }))
}

async fn list(
    state: &WebState,
    visitor: &Visitor,
    at: Address,
    mut asked: WorklistQuery,
    asks: Asks,
) -> Result<List, PageError> {
    let me = &visitor.user.name;
    let held_since_ms = state.held_since_ms();
    let mut found = state.store.worklist(&asked, held_since_ms).await?;
    let pages = found.total.div_ceil(ITEMS_PER_PAGE).max(1);
    if asked.page > pages {
        // the list became shorter: show its end, not an empty page
        asked.page = pages;
        found = state.store.worklist(&asked, held_since_ms).await?;
    }
    shown::list(state, me, &at, &found, asks);
    let choices = filters::choices(state).await?;
    let readers = state.store.readers().await?;
    let saved = state.store.saved_filters(me).await?;
    let now_ms = state.clock.now_ms();
    let of_read = asked.reading == Reading::Read;
    let what = if of_read { "read " } else { "open " };
    let (bands, whose) = quick_filters(state, &at, me).await?;
    Ok(List {
        rows: found
            .items
            .iter()
            .map(|item| Row::new(item, me, state))
            .collect(),
        total_text: if of_read && found.total >= READ_MAX {
            format!("The last {READ_MAX} read studies")
        } else {
            words::studies(found.total, what)
        },
        page: asked.page,
        pages,
        bands,
        whose,
        selects: filters::selects(&at, &choices, &readers),
        active: filters::active(&at),
        saved: saved.into_iter().map(|s| kept(s, &at)).collect(),
        columns: columns(&at, &asked),
        of_read,
        filtered: asked.is_filtered(),
        at,
        undo: None,
        none_left: false,
        now_ms,
        now: words::clock_time(now_ms, now_ms, state.settings.time_zone),
        bound_minutes: state.ranker.rules().settings.overtaking_bound_minutes(),
    })
}

/// Bands, and whose studies: always in sight, with counts.
async fn quick_filters(
    state: &WebState,
    at: &Address,
    me: &str,
) -> Result<(Vec<Filter>, Vec<Filter>), PageError> {
    let counts = state.store.open_studies_by_band().await?;
    let claims = state.store.claim_counts(state.acting(me)).await?;
    let count_of = |b: &str| {
        let counted = counts.iter().filter(|(name, _)| b.is_empty() || name == b);
        u64::try_from(counted.map(|(_, n)| n).sum::<i64>()).unwrap_or(0)
    };
    let filter = |name: &'static str, value: &'static str, text: &'static str, count| Filter {
        value,
        text,
        href: at.with(name, value).url(),
        here: at.get(name) == value,
        count,
    };
    let open = count_of("");
    let bands = std::iter::once(filter("band", "", "All", open))
        .chain(BANDS.iter().map(|b| {
            let value = b.as_str();
            filter("band", value, words::band(*b), count_of(value))
        }))
        .collect();
    let free = open.saturating_sub(claims.held);
    let whose = vec![
        filter("assigned", "", "Anyone's", open),
        filter("assigned", ME, "Mine", claims.mine),
        filter("assigned", UNASSIGNED, "Unclaimed", free),
    ];
    Ok((bands, whose))
}

fn kept(saved: SavedFilter, at: &Address) -> Saved {
    let list = Address::parse(&saved.query);
    Saved {
        id: saved.id,
        name: saved.name,
        href: list.url(),
        here: list == *at,
    }
}

fn columns(at: &Address, asked: &WorklistQuery) -> Vec<Column> {
    let sortable = |class, text, sort: Sort| {
        let here = asked.sort == sort;
        // once more turns it round, a third time back to the order of the list
        let (order, dir) = match (here, asked.descending, sort) {
            (true, false, _) => (sort.as_str(), "desc"),
            (true, true, _) | (false, _, Sort::Place) => ("", ""),
            (false, ..) => (sort.as_str(), ""),
        };
        Column {
            class,
            text,
            href: Some(at.with("sort", order).with("dir", dir).url()),
            sorted: (here && (sort != Sort::Place || asked.descending)).then_some(
                if asked.descending {
                    "descending"
                } else {
                    "ascending"
                },
            ),
        }
    };
    let plain = |class, text| Column {
        class,
        text,
        href: None,
        sorted: None,
    };
    let (waited, why) = match asked.reading {
        Reading::Unread => ("Waiting", "Why it stands here"),
        Reading::Read => ("Arrived", "Why it stood there"),
    };
    vec![
        sortable("c-rank", "#", Sort::Place),
        plain("c-band", "Band"),
        sortable("c-patient", "Patient", Sort::Patient),
        sortable("c-study", "Study", Sort::Study),
        sortable("c-wait", waited, Sort::Arrived),
        plain("c-why", why),
        sortable("c-state", "State", Sort::State),
        plain("c-hand", "Reader"),
    ]
}
