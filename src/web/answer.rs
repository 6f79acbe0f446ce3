//! What a request that cannot be served is told. One [`Problem`], in two dresses:
//! RFC 9457 JSON for programs, a page for people.
//!
//! `detail` says what to do about it; causes go to the log, never to the client.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, ContentType};
use actix_web::{HttpResponse, ResponseError};
use askama::Template;
use serde_json::json;

use super::view::Frame;
use crate::store::StoreError;
use crate::store::accounts::AccountError;

/// Why a request is not served.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    pub status: StatusCode,
    /// Stable, for programs.
    pub code: &'static str,
    /// For people.
    pub detail: String,
    pub retry_after_seconds: Option<i64>,
}

impl Problem {
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            retry_after_seconds: None,
        }
    }

    pub fn bad_request(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    pub fn forbidden(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, detail)
    }

    pub fn unprocessable(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
    }

    pub fn retry_after(mut self, seconds: i64) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// The cause is logged here, once, with its whole chain.
    pub fn internal(cause: &dyn std::error::Error) -> Self {
        let mut chain = cause.to_string();
        let mut next = cause.source();
        while let Some(cause) = next {
            chain = format!("{chain}: {cause}");
            next = cause.source();
        }
        tracing::error!(cause = chain, "could not serve a request: {chain}");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "The server could not do this. Its log says why; try again in a moment.",
        )
    }

    pub fn json(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        if let Some(seconds) = self.retry_after_seconds {
            response.insert_header((header::RETRY_AFTER, seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.insert_header((header::WWW_AUTHENTICATE, "Bearer realm=\"firstread\""));
        }
        let body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
        });
        response
            .insert_header((header::CONTENT_TYPE, "application/problem+json"))
            .body(body.to_string())
    }

    pub fn page(&self) -> HttpResponse {
        let page = ErrorPage {
            frame: Frame::bare(self.status.canonical_reason().unwrap_or("Error")),
            detail: &self.detail,
        };
        let mut response = HttpResponse::build(self.status);
        if let Some(seconds) = self.retry_after_seconds {
            response.insert_header((header::RETRY_AFTER, seconds));
        }
        match page.render() {
            Ok(html) => response.content_type(ContentType::html()).body(html),
            Err(_) => response.body(self.detail.clone()),
        }
    }
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    frame: Frame,
    detail: &'a str,
}

/// A problem that a program meets.
#[derive(Debug)]
pub(super) struct ApiError(pub Problem);

/// A problem that a person meets.
#[derive(Debug)]
pub(super) struct PageError(pub Problem);

macro_rules! dress {
    ($name:ident, $response:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0.detail)
            }
        }

        impl ResponseError for $name {
            fn status_code(&self) -> StatusCode {
                self.0.status
            }

            fn error_response(&self) -> HttpResponse {
                self.0.$response()
            }
        }

        impl From<Problem> for $name {
            fn from(problem: Problem) -> Self {
                Self(problem)
            }
        }

        impl From<StoreError> for $name {
            fn from(cause: StoreError) -> Self {
                Self(Problem::internal(&cause))
            }
        }

        impl From<AccountError> for $name {
            fn from(cause: AccountError) -> Self {
                Self(Problem::internal(&cause))
            }
        }

        impl From<askama::Error> for $name {
            fn from(cause: askama::Error) -> Self {
                Self(Problem::internal(&cause))
            }
        }
    };
}

dress!(ApiError, json);
dress!(PageError, page);

/// A rendered page.
pub(super) fn html(page: &impl Template) -> Result<HttpResponse, PageError> {
    Ok(HttpResponse::Ok()
        .content_type(ContentType::html())
        .body(page.render()?))
}
