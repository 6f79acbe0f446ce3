//! Single sign-on of the site: `OpenID` Connect, authorization code flow with PKCE, state and nonce (RFC 7636,
//! `OpenID` Connect Core 1.0). The provider says who somebody is and in which groups; settings say which role that is.
//!
//! What a browser brings back counts only with the sealed ticket that the same browser was given.

mod settings;

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreAuthenticationFlow, CoreClientAuthMethod,
    CoreErrorResponseType, CoreGenderClaim, CoreJsonWebKey, CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm, CoreProviderMetadata, CoreRevocableToken, CoreRevocationErrorResponse,
    CoreTokenIntrospectionResponse, CoreTokenType,
};
use openidconnect::{
    AccessToken, AdditionalClaims, AuthType, AuthorizationCode, ClaimsVerificationError, Client,
    ClientId, ClientSecret, CsrfToken, EmptyExtraTokenFields, EndpointMaybeSet, EndpointNotSet,
    EndpointSet, HttpRequest, HttpResponse, IdToken, IdTokenFields, IssuerUrl, Nonce,
    OAuth2TokenResponse as _, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope,
    StandardErrorResponse, StandardTokenResponse, SubjectIdentifier, TokenResponse as _,
    UserInfoClaims, UserInfoError,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use subtle::ConstantTimeEq as _;
use tokio::sync::{Mutex, Semaphore};

use crate::clock::UnixMillis;
use crate::outbox::http::{Endpoint, HttpClient, is_this_machine};
use crate::secrets::Vault;
pub use settings::{GroupRole, SsoSettings};

/// Longest wait for an answer of the provider, and for a place to ask it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests to the provider at once: strangers can cause them.
const ASKED_AT_ONCE_MAX: usize = 16;
/// What the provider says of itself, its keys included, is asked again after so long.
const KNOWN_FOR: Duration = Duration::from_mins(15);
/// One that did not answer is not asked again sooner.
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// How long somebody may take to sign in there.
pub const TICKET_MINUTES: i64 = 15;
/// How far the provider's clock may be behind ours.
const CLOCK_SKEW_SECONDS: i64 = 60;
/// Path to which the provider sends browsers back.
pub const BACK_PATH: &str = "/login/sso/back";
/// What a sealed ticket begins with: nothing else that the key has sealed is one.
const TICKET_HEAD: &str = "single sign-on ticket ";
/// Groups of one person that are looked at.
const GROUPS_MAX: usize = 10_000;

/// Signatures by a key that only the provider has. None that our own secret could make.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// Every claim of an ID token that has no name of its own in the library.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Claims(serde_json::Map<String, Value>);

impl AdditionalClaims for Claims {}

type Fields = IdTokenFields<
    Claims,
    EmptyExtraTokenFields,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;

type Token =
    IdToken<Claims, CoreGenderClaim, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm>;

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

/// What a browser brings back from the provider.
#[derive(Debug, Clone, Copy)]
pub struct Brought<'a> {
    /// To be exchanged for what the provider says.
    pub code: &'a str,
    /// What we gave it on its way.
    pub state: &'a str,
    /// Who sends it back, where that is said (RFC 9207).
    pub issuer: Option<&'a str>,
    /// The ticket that this browser was given.
    pub ticket: &'a str,
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

/// What the provider said of itself the last time it was asked, or why it did not.
type Known = Option<(Instant, Result<CoreProviderMetadata, String>)>;

/// Speaks with the provider.
pub struct Sso {
    settings: SsoSettings,
    secret: String,
    http: HttpClient,
    /// Held while it is asked, so that many who wait ask once.
    known: Mutex<Known>,
    places: Semaphore,
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
        let secret = settings
            .client_secret
            .read("sso.client_secret_file", file)?;
        if secret.is_empty() && !file.as_os_str().is_empty() {
            return Err(format!(
                "sso.client_secret_file {} is empty",
                file.display()
            ));
        }
        Ok(Some(Self {
            secret,
            http: HttpClient::new(pem.as_deref()).map_err(|e| format!("sso.ca_file: {e}"))?,
            settings: settings.clone(),
            known: Mutex::default(),
            places: Semaphore::new(ASKED_AT_ONCE_MAX),
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
        let provider = self.provider(KNOWN_FOR).await?;
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
        let ticket = serde_json::to_string(&ticket).map_err(|e| SsoError::Provider(chain(&e)))?;
        let sealed = vault.seal(&format!("{TICKET_HEAD}{ticket}"));
        Ok((url.into(), sealed.map_err(SsoError::Provider)?))
    }

    /// Who came back, by the ticket of the same browser.
    ///
    /// # Errors
    /// When the ticket does not fit, the provider refuses, or what it says does not hold.
    pub async fn finish(
        &self,
        brought: Brought<'_>,
        vault: &Vault,
        now_ms: UnixMillis,
    ) -> Result<Vouched, SsoError> {
        let ticket = read_ticket(brought, vault, now_ms).ok_or(SsoError::Ticket)?;
        if brought.issuer.is_some_and(|i| i != self.settings.issuer) {
            return Err(SsoError::Token("another provider sent it back".into()));
        }
        let provider = self.provider(KNOWN_FOR).await?;
        let ask = |request| self.ask(request);
        let answer = provider
            .exchange_code(AuthorizationCode::new(brought.code.to_owned()))
            .map_err(|e| SsoError::Provider(chain(&e)))?
            .set_pkce_verifier(PkceCodeVerifier::new(ticket.verifier))
            .request_async(&ask)
            .await
            .map_err(|e| refused(&e))?;
        let token = answer.id_token();
        let token = token.ok_or_else(|| SsoError::Token("there is no ID token".into()))?;
        let nonce = Nonce::new(ticket.nonce);
        let claims = match said(&provider, token, &nonce, now_ms) {
            Err(ClaimsVerificationError::SignatureVerification(_)) => {
                // perhaps its keys are new
                let provider = self.provider(Duration::ZERO).await?;
                said(&provider, token, &nonce, now_ms)
            }
            other => other,
        };
        let (subject, mut claims) = claims.map_err(|e| SsoError::Token(chain(&e)))?;
        if self.name(&claims).is_none() || self.groups(&claims).is_none() {
            let more = self
                .asked_more(&provider, answer.access_token(), &subject)
                .await?;
            for (claim, value) in more {
                let known = claims.entry(claim).or_insert(Value::Null);
                if known.is_null() {
                    *known = value;
                }
            }
        }
        let claims = &claims;
        let Some(name) = self.name(claims) else {
            let claim = &self.settings.name_claim;
            return Err(SsoError::Token(format!("there is no claim {claim:?}")));
        };
        Ok(Vouched {
            subject: format!("{} {}", self.settings.issuer, subject.as_str()),
            name,
            groups: self.groups(claims).unwrap_or_default(),
            next: ticket.next,
        })
    }

    fn name(&self, claims: &serde_json::Map<String, Value>) -> Option<String> {
        let name = claims.get(&self.settings.name_claim)?.as_str()?.trim();
        (!name.is_empty()).then(|| name.to_owned())
    }

    /// `None` where nothing is said of groups; one group may stand without a list.
    fn groups(&self, claims: &serde_json::Map<String, Value>) -> Option<Vec<String>> {
        let claim = &self.settings.groups_claim;
        let found = match claim.strip_prefix('/').and_then(|way| way.split_once('/')) {
            Some((first, rest)) => claims.get(first)?.pointer(&format!("/{rest}")),
            None => claims.get(claim.trim_start_matches('/')),
        };
        match found? {
            Value::String(one) => Some(vec![one.clone()]),
            Value::Array(many) => {
                let texts = many.iter().filter_map(Value::as_str).take(GROUPS_MAX);
                Some(texts.map(str::to_owned).collect())
            }
            _ => None,
        }
    }

    /// What the ID token left out, where the provider answers such questions (`OpenID` Connect Core 5.3).
    async fn asked_more(
        &self,
        provider: &Provider,
        access: &AccessToken,
        subject: &SubjectIdentifier,
    ) -> Result<serde_json::Map<String, Value>, SsoError> {
        let Ok(asking) = provider.user_info(access.clone(), Some(subject.clone())) else {
            return Ok(serde_json::Map::new());
        };
        let ask = |request| self.ask(request);
        let answer = asking.request_async(&ask).await;
        let answer: UserInfoClaims<Claims, CoreGenderClaim> = answer.map_err(|e| match e {
            UserInfoError::ClaimsVerification(_) => SsoError::Token(chain(&e)),
            _ => SsoError::Provider(chain(&e)),
        })?;
        Ok(object(&answer))
    }

    /// The provider as it described itself at most so long ago.
    async fn provider(&self, at_most: Duration) -> Result<Provider, SsoError> {
        let mut known = self.known.lock().await;
        let remembered = known.as_ref().and_then(|(at, found)| {
            let for_so_long = if found.is_ok() {
                at_most
            } else {
                ASKED_AGAIN_AFTER
            };
            (at.elapsed() < for_so_long).then(|| found.clone())
        });
        let found = if let Some(found) = remembered {
            found
        } else {
            let found = self.discover().await;
            *known = Some((Instant::now(), found.clone()));
            found
        };
        drop(known);
        self.client(found.map_err(SsoError::Provider)?)
            .map_err(SsoError::Provider)
    }

    async fn discover(&self) -> Result<CoreProviderMetadata, String> {
        let issuer = IssuerUrl::new(self.settings.issuer.clone()).map_err(|e| chain(&e))?;
        let ask = |request| self.ask(request);
        // refuses another issuer than the one we asked
        let found = CoreProviderMetadata::discover_async(issuer, &ask).await;
        found.map_err(|e| chain(&e))
    }

    fn client(&self, metadata: CoreProviderMetadata) -> Result<Provider, String> {
        let methods = metadata.token_endpoint_auth_methods_supported();
        // RFC 6749 2.3.1: every server takes Basic, unless it says otherwise
        let in_body = methods.is_some_and(|all| {
            all.contains(&CoreClientAuthMethod::ClientSecretPost)
                && !all.contains(&CoreClientAuthMethod::ClientSecretBasic)
        });
        let secret = Some(self.secret.clone()).filter(|s| !s.is_empty());
        let base = self.settings.base_url.trim_end_matches('/');
        let back = RedirectUrl::new(format!("{base}{BACK_PATH}")).map_err(|e| chain(&e))?;
        let provider = Client::from_provider_metadata(
            metadata,
            ClientId::new(self.settings.client_id.clone()),
            secret.map(ClientSecret::new),
        );
        let provider = provider.set_redirect_uri(back);
        Ok(if in_body {
            provider.set_auth_type(AuthType::RequestBody)
        } else {
            provider
        })
    }

    /// One request to the provider: TLS or this machine, no redirects, bounded in size, time and number.
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
        let asked = async {
            let place = self.places.acquire().await.map_err(|e| e.to_string())?;
            let whole = self.http.fetch(method, &at, &headers, body).await;
            drop(place);
            whole
        };
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

fn read_ticket(brought: Brought<'_>, vault: &Vault, now_ms: UnixMillis) -> Option<Ticket> {
    let opened = vault.unseal(brought.ticket)?;
    let ticket: Ticket = serde_json::from_str(opened.strip_prefix(TICKET_HEAD)?).ok()?;
    let same = bool::from(ticket.state.as_bytes().ct_eq(brought.state.as_bytes()));
    (same && now_ms <= ticket.until_ms).then_some(ticket)
}

/// What the ID token says, once signature, issuer, audience, end and nonce are right (`OpenID` Connect Core 3.1.3.7).
fn said(
    provider: &Provider,
    token: &Token,
    nonce: &Nonce,
    now_ms: UnixMillis,
) -> Result<(SubjectIdentifier, serde_json::Map<String, Value>), ClaimsVerificationError> {
    let at = chrono::DateTime::from_timestamp_millis(now_ms).unwrap_or_default();
    let at = at - TimeDelta::seconds(CLOCK_SKEW_SECONDS);
    let verifier = provider
        .id_token_verifier()
        .set_allowed_algs(ALGORITHMS)
        .set_time_fn(move || at);
    let claims = token.claims(&verifier, nonce)?;
    Ok((claims.subject().clone(), object(claims)))
}

fn object(claims: &impl Serialize) -> serde_json::Map<String, Value> {
    match serde_json::to_value(claims) {
        Ok(Value::Object(all)) => all,
        _ => serde_json::Map::new(),
    }
}

/// Why there is no token: the provider said no, or said nothing that can be understood.
fn refused<RE, T>(error: &openidconnect::RequestTokenError<RE, T>) -> SsoError
where
    RE: std::error::Error + 'static,
    T: openidconnect::ErrorResponse + 'static,
{
    match error {
        openidconnect::RequestTokenError::ServerResponse(_) => SsoError::Refused(chain(error)),
        _ => SsoError::Provider(chain(error)),
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
