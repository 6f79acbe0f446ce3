//! Single sign-on of the site: `OpenID` Connect, authorization code flow with PKCE, state and nonce (RFC 7636,
//! `OpenID` Connect Core 1.0). The provider says who somebody is and in which groups; settings say which role that is.
//!
//! What a browser brings back counts only with the sealed ticket that the same browser was given.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreAuthenticationFlow, CoreErrorResponseType,
    CoreGenderClaim, CoreJsonWebKey, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm,
    CoreProviderMetadata, CoreRevocableToken, CoreRevocationErrorResponse,
    CoreTokenIntrospectionResponse, CoreTokenType,
};
use openidconnect::{
    AdditionalClaims, AuthorizationCode, Client, ClientId, ClientSecret, CsrfToken,
    EmptyExtraTokenFields, EndpointMaybeSet, EndpointNotSet, EndpointSet, HttpRequest,
    HttpResponse, IdTokenFields, IssuerUrl, Nonce, PkceCodeChallenge, PkceCodeVerifier,
    RedirectUrl, Scope, StandardErrorResponse, StandardTokenResponse, TokenResponse as _,
};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use crate::alerts::Secret;
use crate::clock::UnixMillis;
use crate::outbox::http::{Endpoint, HttpClient, is_this_machine};
use crate::secrets::Vault;
use crate::store::accounts::Role;

/// Longest wait for an answer of the provider.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// What the provider says of itself, its keys included, is asked again after so long.
const KNOWN_FOR: Duration = Duration::from_mins(15);
/// How long somebody may take to sign in there.
pub const TICKET_MINUTES: i64 = 15;
/// Path to which the provider sends browsers back.
pub const BACK_PATH: &str = "/login/sso/back";

/// The provider, and who is who.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SsoSettings {
    /// `sso.issuer`: the provider's address as it writes it itself; empty for local users alone.
    pub issuer: String,
    /// `sso.client_id`: how it knows us.
    pub client_id: String,
    /// `sso.client_secret`
    pub client_secret: Secret,
    /// `sso.client_secret_file`: a file that holds the secret alone.
    pub client_secret_file: PathBuf,
    /// `sso.base_url`: address of firstread in browsers; the provider must allow `/login/sso/back` below it.
    pub base_url: String,
    /// `sso.label`: what the button says.
    pub label: String,
    /// `sso.scopes`: asked for beside `openid`.
    pub scopes: Vec<String>,
    /// `sso.name_claim`: claim of the ID token that is the name of the account.
    pub name_claim: String,
    /// `sso.groups_claim`: claim that lists the groups.
    pub groups_claim: String,
    /// `sso.roles`: the first group that somebody is in decides.
    pub roles: Vec<GroupRole>,
    /// `sso.ca_file`: PEM of the authority that signed its certificate, beside those the system trusts.
    pub ca_file: PathBuf,
}

impl Default for SsoSettings {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            client_id: "firstread".into(),
            client_secret: Secret::default(),
            client_secret_file: PathBuf::new(),
            base_url: String::new(),
            label: "Sign in with your hospital account".into(),
            scopes: vec!["profile".into()],
            name_claim: "preferred_username".into(),
            groups_claim: "groups".into(),
            roles: Vec::new(),
            ca_file: PathBuf::new(),
        }
    }
}

/// Which role a group is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupRole {
    /// As the provider names it.
    pub group: String,
    /// What its members may do.
    pub role: Role,
}

impl SsoSettings {
    /// Whether there is single sign-on.
    #[must_use]
    pub fn on(&self) -> bool {
        !self.issuer.is_empty()
    }

    /// Checks every value.
    ///
    /// # Errors
    /// Names the setting that does not fit.
    pub fn check(&self) -> Result<(), String> {
        if !self.on() {
            return Ok(());
        }
        for (key, url) in [("issuer", &self.issuer), ("base_url", &self.base_url)] {
            let at = Endpoint::parse(url).map_err(|e| format!("sso.{key} {e}"))?;
            if !at.is_tls() && !is_this_machine(at.host()) {
                return Err(format!("sso.{key} must begin with https://"));
            }
        }
        for (key, value) in [
            ("client_id", &self.client_id),
            ("name_claim", &self.name_claim),
            ("groups_claim", &self.groups_claim),
            ("label", &self.label),
        ] {
            if value.is_empty() || value.chars().count() > 200 {
                return Err(format!("sso.{key} must have 1 to 200 characters"));
            }
        }
        let in_file = !self.client_secret_file.as_os_str().is_empty();
        if !self.client_secret.0.is_empty() && in_file {
            return Err("sso.client_secret and sso.client_secret_file are both set: use one".into());
        }
        if self.roles.is_empty() {
            return Err("sso.roles must say which group has which role".into());
        }
        Ok(())
    }

    /// The role of somebody in these groups.
    #[must_use]
    pub fn role_of(&self, groups: &[String]) -> Option<Role> {
        let found = self.roles.iter().find(|r| groups.contains(&r.group));
        found.map(|r| r.role)
    }
}

/// Every claim of an ID token that has no name of its own in the library.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Claims(serde_json::Map<String, serde_json::Value>);

impl AdditionalClaims for Claims {}

type Fields = IdTokenFields<
    Claims,
    EmptyExtraTokenFields,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;

type Provider = Client<
    Claims,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    StandardTokenResponse<Fields, CoreTokenType>,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// What the browser keeps for us, sealed, while somebody signs in.
#[derive(Serialize, Deserialize)]
struct Ticket {
    state: String,
    nonce: String,
    verifier: String,
    next: String,
    until_ms: UnixMillis,
}

/// Somebody whom the provider vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vouched {
    /// Issuer and subject: what never changes.
    pub subject: String,
    /// Name of the account.
    pub name: String,
    /// In which groups.
    pub groups: Vec<String>,
    /// Where the browser wanted to go.
    pub next: String,
}

/// Why nobody is vouched for.
#[derive(Debug, thiserror::Error)]
pub enum SsoError {
    /// The provider does not answer, or says nothing that can be used.
    #[error("the provider of single sign-on cannot be used: {0}")]
    Provider(String),
    /// Another browser's, too old, or made up.
    #[error("the sign-on was not begun in this browser, or took too long")]
    Ticket,
    /// The provider refused.
    #[error("the provider refused: {0}")]
    Refused(String),
    /// What it said of the person does not hold.
    #[error("what the provider said does not hold: {0}")]
    Token(String),
}

/// Speaks with the provider.
pub struct Sso {
    settings: SsoSettings,
    secret: String,
    http: HttpClient,
    known: Mutex<Option<(Instant, CoreProviderMetadata)>>,
}

impl Sso {
    /// By the settings; `None` where it is off.
    ///
    /// # Errors
    /// Names the setting that does not fit.
    pub fn new(settings: &SsoSettings) -> Result<Option<Self>, String> {
        if !settings.on() {
            return Ok(None);
        }
        let pem = crate::tls::authorities("sso.ca_file", &settings.ca_file)?;
        let file = &settings.client_secret_file;
        Ok(Some(Self {
            secret: settings.client_secret.read("sso.client_secret_file", file)?,
            http: HttpClient::new(pem.as_deref()).map_err(|e| format!("sso.ca_file: {e}"))?,
            settings: settings.clone(),
            known: Mutex::default(),
        }))
    }

    /// Its settings.
    #[must_use]
    pub fn settings(&self) -> &SsoSettings {
        &self.settings
    }

    /// Where the browser is to go, and the ticket that it must bring back.
    ///
    /// # Errors
    /// When the provider cannot be used.
    pub async fn begin(
        &self,
        next: &str,
        vault: &Vault,
        now_ms: UnixMillis,
    ) -> Result<(String, String), SsoError> {
        let provider = self.provider().await?;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let flow = CoreAuthenticationFlow::AuthorizationCode;
        let mut asking = provider
            .authorize_url(flow, CsrfToken::new_random, Nonce::new_random)
            .set_pkce_challenge(challenge);
        for scope in &self.settings.scopes {
            asking = asking.add_scope(Scope::new(scope.clone()));
        }
        let (url, state, nonce) = asking.url();
        let ticket = Ticket {
            state: state.secret().clone(),
            nonce: nonce.secret().clone(),
            verifier: verifier.secret().clone(),
            next: next.to_owned(),
            until_ms: now_ms + TICKET_MINUTES * 60_000,
        };
        let ticket = serde_json::to_string(&ticket).map_err(|e| SsoError::Token(e.to_string()))?;
        let sealed = vault.seal(&ticket).map_err(SsoError::Provider)?;
        Ok((url.into(), sealed))
    }

    /// Who came back with this code and state, by the ticket of the same browser.
    ///
    /// # Errors
    /// When the ticket does not fit, the provider refuses, or what it says does not hold.
    pub async fn finish(
        &self,
        code: &str,
        state: &str,
        ticket: &str,
        vault: &Vault,
        now_ms: UnixMillis,
    ) -> Result<Vouched, SsoError> {
        let ticket = vault.unseal(ticket).ok_or(SsoError::Ticket)?;
        let ticket: Ticket = serde_json::from_str(&ticket).map_err(|_| SsoError::Ticket)?;
        let same = bool::from(ticket.state.as_bytes().ct_eq(state.as_bytes()));
        if !same || now_ms > ticket.until_ms {
            return Err(SsoError::Ticket);
        }
        let provider = self.provider().await?;
        let wrong = |e: &dyn std::error::Error| SsoError::Token(chain(e));
        let exchange = provider
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .map_err(|e| SsoError::Provider(e.to_string()))?
            .set_pkce_verifier(PkceCodeVerifier::new(ticket.verifier));
        let ask = |request| self.ask(request);
        let answer = exchange.request_async(&ask).await;
        let answer = answer.map_err(|e| SsoError::Refused(chain(&e)))?;
        let token = answer.id_token();
        let token = token.ok_or_else(|| SsoError::Token("there is no ID token".into()))?;
        let at = chrono::DateTime::from_timestamp_millis(now_ms).unwrap_or_default();
        let verifier = provider.id_token_verifier().set_time_fn(move || at);
        let nonce = Nonce::new(ticket.nonce);
        let claims = token.claims(&verifier, &nonce).map_err(|e| {
            // perhaps its keys are new
            self.forget();
            wrong(&e)
        })?;
        let all = serde_json::to_value(claims).map_err(|e| wrong(&e))?;
        let name = all[&self.settings.name_claim].as_str().unwrap_or_default();
        if name.trim().is_empty() {
            let claim = &self.settings.name_claim;
            return Err(SsoError::Token(format!("it has no claim {claim:?}")));
        }
        let groups = match &all[&self.settings.groups_claim] {
            serde_json::Value::String(one) => vec![one.clone()],
            serde_json::Value::Array(many) => {
                let texts = many.iter().filter_map(|g| g.as_str());
                texts.map(str::to_owned).collect()
            }
            _ => Vec::new(),
        };
        Ok(Vouched {
            subject: format!("{} {}", self.settings.issuer, claims.subject().as_str()),
            name: name.trim().to_owned(),
            groups,
            next: ticket.next,
        })
    }

    fn forget(&self) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn provider(&self) -> Result<Provider, SsoError> {
        let bad = |e: &dyn std::error::Error| SsoError::Provider(chain(e));
        let known = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let fresh = known.as_ref().filter(|(at, _)| at.elapsed() < KNOWN_FOR);
            fresh.map(|(_, metadata)| metadata.clone())
        };
        let metadata = if let Some(metadata) = known {
            metadata
        } else {
            let issuer = IssuerUrl::new(self.settings.issuer.clone()).map_err(|e| bad(&e))?;
            let ask = |request| self.ask(request);
            let found = CoreProviderMetadata::discover_async(issuer, &ask).await;
            let found = found.map_err(|e| bad(&e))?;
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            *known = Some((Instant::now(), found.clone()));
            found
        };
        let secret = Some(self.secret.clone()).filter(|s| !s.is_empty());
        let back = format!("{}{BACK_PATH}", self.settings.base_url.trim_end_matches('/'));
        let provider = Client::from_provider_metadata(
            metadata,
            ClientId::new(self.settings.client_id.clone()),
            secret.map(ClientSecret::new),
        );
        Ok(provider.set_redirect_uri(RedirectUrl::new(back).map_err(|e| bad(&e))?))
    }

    /// One request to the provider: TLS or this machine, no redirects, bounded in size and time.
    async fn ask(&self, request: HttpRequest) -> Result<HttpResponse, std::io::Error> {
        let url = request.uri().to_string();
        let at = Endpoint::parse(&url).map_err(std::io::Error::other)?;
        if !at.is_tls() && !is_this_machine(at.host()) {
            return Err(std::io::Error::other("the provider must be asked by https"));
        }
        let headers: Vec<(&str, String)> = request
            .headers()
            .iter()
            .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?.to_owned())))
            .collect();
        let body = String::from_utf8_lossy(request.body()).into_owned();
        let method = request.method().as_str();
        let asked = self.http.fetch(method, &at, &headers, body);
        let whole = tokio::time::timeout(ANSWER_TIMEOUT, asked).await;
        let whole = whole.map_err(|_| std::io::ErrorKind::TimedOut)?;
        let whole = whole.map_err(std::io::Error::other)?;
        let mut response = openidconnect::http::Response::builder().status(whole.status);
        if let Some(kind) = whole.content_type {
            response = response.header("content-type", kind);
        }
        response.body(whole.body).map_err(std::io::Error::other)
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        said = format!("{said}: {cause}");
        next = cause.source();
    }
    said.chars().take(400).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> SsoSettings {
        let role = |group: &str, role| GroupRole {
            group: group.into(),
            role,
        };
        SsoSettings {
            issuer: "https://login.hospital.example/realms/main".into(),
            client_id: "firstread".into(),
            base_url: "https://firstread.hospital.example".into(),
            label: "Sign in".into(),
            name_claim: "preferred_username".into(),
            groups_claim: "groups".into(),
            roles: vec![role("it", Role::Admin), role("neuro", Role::Reader)],
            ..SsoSettings::default()
        }
    }

    #[test]
    fn the_first_group_of_the_settings_decides() {
        let check = |groups: &[&str], role| {
            let groups: Vec<String> = groups.iter().map(|g| (*g).to_owned()).collect();
            assert_eq!(settings().role_of(&groups), role, "{groups:?}");
        };
        check(&["neuro"], Some(Role::Reader));
        check(&["neuro", "it"], Some(Role::Admin));
        check(&["kitchen"], None);
        check(&[], None);
    }

    #[test]
    fn settings_that_do_not_fit_are_named() {
        assert_eq!(settings().check(), Ok(()));
        assert_eq!(SsoSettings::default().check(), Ok(()), "off");
        let check = |change: fn(&mut SsoSettings), word: &str| {
            let mut bad = settings();
            change(&mut bad);
            let said = bad.check().unwrap_err();
            assert!(said.contains(word), "{said}");
        };
        check(|s| s.issuer = "http://login.example".into(), "sso.issuer");
        check(|s| s.base_url = String::new(), "sso.base_url");
        check(|s| s.client_id = String::new(), "sso.client_id");
        check(|s| s.roles.clear(), "sso.roles");
        check(
            |s| {
                s.client_secret = Secret("x".into());
                s.client_secret_file = "y".into();
            },
            "both set",
        );
    }
}
