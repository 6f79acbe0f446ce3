//! What the list can be filtered and sorted by: reading it from an address, writing addresses, and the
//! filters that people keep.

use std::sync::{Arc, PoisonError};

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;

use super::WebState;
use super::answer::{PageError, Problem};
use super::gate::{self, Visitor};
use super::words;
use crate::store::filters::{Choice, Choices, SAVED_MAX};
use crate::triage::Band;
use crate::worklist::{Assignment, Reading, Sort, WorklistQuery, display_name};

/// Longest text of a search or a filter, in characters.
pub(super) const SEARCH_CHARS_MAX: usize = 200;
/// Last page that may be asked for.
pub(super) const PAGE_MAX: u64 = 1_000_000;
/// Longest name of a kept filter, in characters.
pub(super) const NAME_CHARS_MAX: usize = 40;
/// How long the choices of the filters are good for.
const CHOICES_MS: i64 = 10_000;
/// Values of `assigned`.
pub(super) const ME: &str = "me";
pub(super) const UNASSIGNED: &str = "unassigned";
const OF_READER: &str = "reader:";
/// Value of `reading` for what was read.
const READ: &str = "read";
const STATES: [&str; 4] = ["received", "screened", "not_analysed", "failed"];

/// Bands that the list can be filtered by, most urgent first.
pub(super) const BANDS: [Band; 5] = [
    Band::Critical,
    Band::Urgent,
    Band::Elevated,
    Band::Routine,
    Band::Pending,
];

/// Parameters that make a list, in the order in which addresses carry them.
const NAMES: [&str; 11] = [
    "band", "state", "modality", "region", "location", "referrer", "assigned", "reading", "q",
    "sort", "dir",
];

/// Name and value of each parameter, once; what cannot be read is left out.
pub(super) fn parameters(req: &HttpRequest) -> Vec<(String, String)> {
    pairs(req.query_string())
}

fn pairs(query: &str) -> Vec<(String, String)> {
    web::Query::<Vec<(String, String)>>::from_query(query)
        .map(web::Query::into_inner)
        .unwrap_or_default()
}

/// The first value of a parameter that is not empty.
pub(super) fn value<'a>(parameters: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut found = parameters
        .iter()
        .filter(|(n, v)| n == name && !v.trim().is_empty());
    found.next().map(|(_, v)| v.as_str())
}

/// Reads the parameters of a list; `me` is the account that asks.
pub(super) fn query(parameters: &[(String, String)], me: &str) -> Result<WorklistQuery, Problem> {
    let value = |name: &str| value(parameters, name);
    let band = value("band")
        .map(|text| {
            Band::parse(text).ok_or_else(|| {
                let all: Vec<&str> = BANDS.iter().map(|b| b.as_str()).collect();
                one_of("unknown_band", "band", &all)
            })
        })
        .transpose()?;
    let state = value("state")
        .map(|text| {
            let known = STATES.contains(&text).then(|| text.to_owned());
            known.ok_or_else(|| one_of("unknown_state", "state", &STATES))
        })
        .transpose()?;
    let page = value("page").unwrap_or("1").parse::<u64>().ok();
    let Some(page) = page.filter(|p| (1..=PAGE_MAX).contains(p)) else {
        let detail = format!("page must be a whole number from 1 to {PAGE_MAX}.");
        return Err(Problem::bad_request("bad_page", detail));
    };
    let text = |name: &'static str| {
        let text = value(name).map(str::trim);
        if text.is_some_and(|t| t.chars().count() > SEARCH_CHARS_MAX || t.contains('\0')) {
            let detail =
                format!("{name} must have at most {SEARCH_CHARS_MAX} characters and no NUL.");
            return Err(Problem::bad_request("bad_search", detail));
        }
        Ok(text.map(str::to_owned))
    };
    let reading = match value("reading") {
        None | Some("unread") => Reading::Unread,
        Some(READ) => Reading::Read,
        Some(_) => return Err(one_of("unknown_reading", "reading", &["unread", READ])),
    };
    let sort = match value("sort") {
        None => Sort::default(),
        Some(text) => Sort::parse(text)
            .ok_or_else(|| one_of("unknown_sort", "sort", &Sort::ALL.map(Sort::as_str)))?,
    };
    let descending = match value("dir") {
        None | Some("asc") => false,
        Some("desc") => true,
        Some(_) => return Err(one_of("unknown_dir", "dir", &["asc", "desc"])),
    };
    Ok(WorklistQuery {
        band,
        state,
        modality: text("modality")?,
        region: text("region")?,
        location: text("location")?,
        referrer: text("referrer")?,
        q: text("q")?,
        assigned: assigned(value("assigned"), me)?,
        reading,
        sort,
        descending,
        page,
    })
}

fn assigned(text: Option<&str>, me: &str) -> Result<Option<Assignment>, Problem> {
    match text {
        None => Ok(None),
        Some(ME) => Ok(Some(Assignment::Reader(me.to_owned()))),
        Some(UNASSIGNED) => Ok(Some(Assignment::Nobody)),
        Some(other) => match other.strip_prefix(OF_READER) {
            Some(name) if !name.is_empty() && name.len() <= SEARCH_CHARS_MAX => {
                Ok(Some(Assignment::Reader(name.to_owned())))
            }
            _ => {
                let detail = format!(
                    "assigned must be {ME}, {UNASSIGNED} or {OF_READER}NAME, or be left out."
                );
                Err(Problem::bad_request("unknown_assigned", detail))
            }
        },
    }
}

fn one_of(code: &'static str, name: &str, all: &[&str]) -> Problem {
    let detail = format!("{name} must be one of {}, or be left out.", all.join(", "));
    Problem::bad_request(code, detail)
}

/// A list as the address bar has it, without the page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Address(Vec<(&'static str, String)>);

impl Address {
    /// Keeps what makes the list.
    pub fn of(parameters: &[(String, String)]) -> Self {
        let kept = NAMES.into_iter().filter_map(|name| {
            let value = value(parameters, name)?.trim();
            Some((name, value.to_owned()))
        });
        Self(kept.collect())
    }

    /// The value of a parameter, or nothing.
    pub fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(n, _)| *n == name);
        found.map_or("", |(_, value)| value)
    }

    /// The same list with another value of one parameter; empty takes it out.
    pub fn with(&self, name: &'static str, value: &str) -> Self {
        let mut pairs: Vec<(String, String)> = self
            .0
            .iter()
            .filter(|(n, _)| *n != name)
            .map(|(n, v)| ((*n).to_owned(), v.clone()))
            .collect();
        pairs.push((name.to_owned(), value.to_owned()));
        Self::of(&pairs)
    }

    /// What stands after the question mark.
    pub fn query(&self) -> String {
        let pairs = self
            .0
            .iter()
            .map(|(name, value)| format!("{name}={}", encoded(value)));
        pairs.collect::<Vec<_>>().join("&")
    }

    /// Where this list is.
    pub fn url(&self) -> String {
        if self.0.is_empty() {
            "/worklist".to_owned()
        } else {
            format!("/worklist?{}", self.query())
        }
    }

    /// Where it is, with one more parameter that makes no other list.
    pub fn url_and(&self, name: &str, value: &str) -> String {
        let join = if self.0.is_empty() { '?' } else { '&' };
        format!("{}{join}{name}={}", self.url(), encoded(value))
    }

    /// Reads what [`Address::query`] writes.
    pub fn parse(query: &str) -> Self {
        Self::of(&pairs(query))
    }

    fn pairs(&self) -> Vec<(String, String)> {
        let owned = self.0.iter().map(|(n, v)| ((*n).to_owned(), v.clone()));
        owned.collect()
    }

    /// What is asked for here.
    pub fn asked(&self, me: &str) -> Result<WorklistQuery, Problem> {
        query(&self.pairs(), me)
    }
}

pub(super) fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        use std::fmt::Write as _;
        if byte.is_ascii_alphanumeric() || b"_-.".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

/// A filter with its choices.
pub(super) struct Select {
    pub name: &'static str,
    pub text: &'static str,
    pub options: Vec<Opt>,
}

pub(super) struct Opt {
    pub value: String,
    pub text: String,
    pub here: bool,
}

/// A filter that is on, and the list without it.
pub(super) struct Active {
    pub text: String,
    pub href: String,
}

/// The filters that stand behind the button, and which of them are on.
pub(super) fn selects(at: &Address, choices: &Choices, readers: &[String]) -> Vec<Select> {
    let plain = |v: &str| v.to_owned();
    let counted = |choices: &[Choice], say: &dyn Fn(&str) -> String| -> Vec<(String, String)> {
        let named = choices.iter();
        named
            .map(|c| {
                (
                    c.value.clone(),
                    format!("{} ({})", say(&c.value), c.studies),
                )
            })
            .collect()
    };
    let mut of_readers = vec![
        (ME.to_owned(), "Me".to_owned()),
        (UNASSIGNED.to_owned(), "Nobody".to_owned()),
    ];
    of_readers.extend(
        readers
            .iter()
            .map(|r| (format!("{OF_READER}{r}"), r.clone())),
    );
    let read = vec![(READ.to_owned(), "Read, the last first".to_owned())];
    [
        (
            "state",
            "State",
            "Any",
            counted(&choices.state, &|v| words::state_name(v).to_owned()),
        ),
        (
            "modality",
            "Modality",
            "Any",
            counted(&choices.modality, &plain),
        ),
        (
            "region",
            "Body region",
            "Any",
            counted(&choices.region, &plain),
        ),
        (
            "location",
            "Location",
            "Any",
            counted(&choices.location, &plain),
        ),
        (
            "referrer",
            "Referrer",
            "Any",
            counted(&choices.referrer, &display_name),
        ),
        ("assigned", "Assigned to", "Anyone", of_readers),
        ("reading", "Reading", "Unread", read),
    ]
    .into_iter()
    .map(|(name, text, any, mut values)| {
        let here = at.get(name);
        if !here.is_empty() && !values.iter().any(|(v, _)| v == here) {
            // chosen once, and no study has it any more
            values.push((here.to_owned(), shown(name, here)));
        }
        let option = |(value, text): (String, String)| Opt {
            here: value == here,
            value,
            text,
        };
        let any = (String::new(), any.to_owned());
        Select {
            name,
            text,
            options: std::iter::once(any).chain(values).map(option).collect(),
        }
    })
    .collect()
}

/// What is on of them, in words.
pub(super) fn active(at: &Address) -> Vec<Active> {
    let names = [
        ("state", "State"),
        ("modality", "Modality"),
        ("region", "Body region"),
        ("location", "Location"),
        ("referrer", "Referrer"),
        ("assigned", "Assigned to"),
        ("reading", "Reading"),
        ("q", "Search"),
    ];
    names
        .into_iter()
        .filter(|(name, _)| !at.get(name).is_empty())
        .map(|(name, text)| Active {
            text: format!("{text}: {}", shown(name, at.get(name))),
            href: at.with(name, "").url(),
        })
        .collect()
}

fn shown(name: &str, value: &str) -> String {
    match name {
        "state" => words::state_name(value).to_owned(),
        "referrer" => display_name(value),
        "assigned" => match value {
            ME => "me".to_owned(),
            UNASSIGNED => "nobody".to_owned(),
            other => other.trim_start_matches(OF_READER).to_owned(),
        },
        _ => value.to_owned(),
    }
}

/// The choices, not older than a few seconds.
pub(super) async fn choices(state: &WebState) -> Result<Arc<Choices>, PageError> {
    let now_ms = state.clock.now_ms();
    let kept = state
        .choices
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    if let Some((at_ms, choices)) = kept
        && now_ms - at_ms < CHOICES_MS
    {
        return Ok(choices);
    }
    let fresh = Arc::new(state.store.filter_choices().await?);
    let mut kept = state.choices.lock().unwrap_or_else(PoisonError::into_inner);
    *kept = Some((now_ms, fresh.clone()));
    Ok(fresh)
}

#[derive(Deserialize)]
pub(super) struct Kept {
    csrf: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    list: String,
}

/// `POST /worklist/filters`: keeps the list of an address under a name.
pub(super) async fn save(
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
    form: web::Form<Kept>,
) -> Result<HttpResponse, PageError> {
    gate::check_csrf(&form.csrf, &visitor)?;
    let me = &visitor.user.name;
    let name = form.name.trim();
    if name.is_empty()
        || name.chars().count() > NAME_CHARS_MAX
        || name.chars().any(char::is_control)
    {
        let detail = format!("A name has 1 to {NAME_CHARS_MAX} characters.");
        return Err(Problem::unprocessable("bad_name", detail).into());
    }
    let list = Address::parse(&form.list);
    list.asked(me)?;
    let now_ms = state.clock.now_ms();
    if !state
        .store
        .save_filter(me, name, &list.query(), now_ms)
        .await?
    {
        let detail = format!("There are {SAVED_MAX} of yours already. Remove one first.");
        return Err(Problem::unprocessable("too_many", detail).into());
    }
    Ok(to(&list.url()))
}

/// `POST /worklist/filters/{id}`: removes one.
pub(super) async fn remove(
    id: web::Path<i64>,
    state: web::Data<WebState>,
    visitor: web::ReqData<Visitor>,
    form: web::Form<Kept>,
) -> Result<HttpResponse, PageError> {
    gate::check_csrf(&form.csrf, &visitor)?;
    if !state.store.remove_filter(&visitor.user.name, *id).await? {
        return Err(Problem::not_found("You keep no such filter.").into());
    }
    Ok(to(&Address::parse(&form.list).url()))
}

fn to(location: &str) -> HttpResponse {
    HttpResponse::SeeOther()
        .insert_header((header::LOCATION, location))
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = pairs
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        owned.collect()
    }

    fn read(pairs: &[(&str, &str)]) -> Result<WorklistQuery, &'static str> {
        query(&given(pairs), "anna").map_err(|p| p.code)
    }

    #[test]
    fn a_wrong_parameter_is_named() {
        let long = "x".repeat(201);
        for (pair, code) in [
            (("band", "high"), "unknown_band"),
            (("state", "done"), "unknown_state"),
            (("assigned", "bert"), "unknown_assigned"),
            (("assigned", "reader:"), "unknown_assigned"),
            (("reading", "prior"), "unknown_reading"),
            (("sort", "age"), "unknown_sort"),
            (("dir", "up"), "unknown_dir"),
            (("page", "0"), "bad_page"),
            (("page", "x"), "bad_page"),
            (("q", &*long), "bad_search"),
            (("referrer", &*long), "bad_search"),
            (("modality", "M\0R"), "bad_search"),
        ] {
            assert_eq!(read(&[pair]), Err(code), "{pair:?}");
        }
    }

    #[test]
    fn mine_is_who_asks() {
        let assigned = |value| read(&[("assigned", value)]).map(|q| q.assigned);
        assert_eq!(assigned(ME), Ok(Some(Assignment::Reader("anna".into()))));
        assert_eq!(
            assigned("reader:bert"),
            Ok(Some(Assignment::Reader("bert".into())))
        );
        assert_eq!(assigned(UNASSIGNED), Ok(Some(Assignment::Nobody)));
        assert_eq!(assigned(""), Ok(None));
    }

    #[test]
    fn empty_parameters_are_as_good_as_none() {
        let expected = WorklistQuery {
            page: 1,
            ..WorklistQuery::default()
        };
        assert_eq!(
            read(&[("band", ""), ("q", " "), ("page", "")]),
            Ok(expected)
        );
    }

    #[test]
    fn an_address_says_what_makes_the_list_and_nothing_else() {
        let all = [
            ("q", "a&b=ü"),
            ("page", "7"),
            ("band", "urgent"),
            ("read", "1.2"),
            ("state", ""),
        ];
        let at = Address::of(&given(&all));
        assert_eq!(at.url(), "/worklist?band=urgent&q=a%26b%3D%C3%BC");
        assert_eq!(Address::parse(&at.query()), at);
        assert_eq!(
            at.with("band", "").url_and("page", "2"),
            "/worklist?q=a%26b%3D%C3%BC&page=2"
        );
        assert_eq!(Address::default().url_and("none", "1"), "/worklist?none=1");
        assert_eq!(active(&at).len(), 1, "the band stands in its own row");
        assert_eq!(active(&at)[0].text, "Search: a&b=ü");
    }
}
