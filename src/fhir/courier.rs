//! Notifies subscribers (R4 2.46.1, rest-hook): a POST without a body, or a PUT of the report
//! or order where they asked for one.

use std::sync::Arc;

use async_trait::async_trait;

use super::settings::FhirSettings;
use super::subscription::{Criteria, Subscription};
use super::{Study, diagnostic_report, service_request};
use crate::clock::UnixMillis;
use crate::outbox::http::{Endpoint, HttpClient};
use crate::outbox::machine::Outcome;
use crate::outbox::{Attempt, Courier};
use crate::secrets::Vault;
use crate::store::Store;
use crate::store::outbox::{Batch, TEST};

/// Sends what is due to subscribers.
pub struct FhirCourier {
    store: Store,
    settings: FhirSettings,
    client: HttpClient,
    vault: Arc<Vault>,
}

impl FhirCourier {
    /// With what the settings point to.
    ///
    /// # Errors
    /// Names the setting that does not fit.
    pub fn new(store: Store, settings: FhirSettings, vault: Arc<Vault>) -> Result<Self, String> {
        let pem =
            crate::tls::authorities("fhir.subscription_ca_file", &settings.subscription_ca_file)?;
        Ok(Self {
            client: HttpClient::new(pem.as_deref())?,
            store,
            settings,
            vault,
        })
    }

    /// Method, address, headers and body of a notification.
    async fn request(
        &self,
        subscription: &Subscription,
        batch: &Batch,
    ) -> Result<(&'static str, Endpoint, Vec<(String, String)>, String), Outcome> {
        let endpoint = Endpoint::parse(&subscription.endpoint).map_err(Outcome::Never)?;
        // The list may have become shorter since.
        self.settings.admits(&endpoint).map_err(Outcome::Later)?;
        let mut headers = match &subscription.headers_sealed {
            None => Vec::new(),
            Some(sealed) => self.headers(sealed).ok_or_else(|| {
                let why = "its headers were sealed with another key: it has to be made again";
                Outcome::Never(why.into())
            })?,
        };
        headers.push(("idempotency-key".into(), batch.dedup_key.clone()));
        if batch.kind == TEST {
            return Ok(("OPTIONS", endpoint, headers, String::new()));
        }
        let Some(payload) = &subscription.payload else {
            return Ok(("POST", endpoint, headers, String::new()));
        };
        let later = |e: crate::store::StoreError| Outcome::Later(format!("database: {e}"));
        let study = self.store.notice_study(batch.id).await.map_err(later)?;
        let (key, detail) =
            study.ok_or_else(|| Outcome::Never("its study is not known any more".into()))?;
        let study = Study { key, detail };
        let told = match Criteria::parse(&subscription.criteria) {
            Ok(Criteria::Order(_)) => service_request(&study).ok_or_else(|| {
                Outcome::Never("its study has no accession number any more".into())
            })?,
            _ => diagnostic_report(&study),
        };
        let text = |key: &str| told[key].as_str().unwrap_or_default();
        let endpoint = endpoint.below(&format!("{}/{}", text("resourceType"), text("id")));
        headers.push(("content-type".into(), payload.clone()));
        Ok(("PUT", endpoint, headers, told.to_string()))
    }

    fn headers(&self, sealed: &str) -> Option<Vec<(String, String)>> {
        serde_json::from_str(&self.vault.unseal(sealed)?).ok()
    }
}

#[async_trait]
impl Courier for FhirCourier {
    fn serves(&self, destination: &str) -> bool {
        Subscription::of_destination(destination).is_some()
    }

    async fn deliver(&self, destination: &str, batch: &Batch, now_ms: UnixMillis) -> Attempt {
        let id = Subscription::of_destination(destination).unwrap_or(-1);
        let subscription = match self.store.served_subscription(id, now_ms).await {
            Ok(Some(found)) => found,
            Ok(None) => {
                let why = "its subscription is over, or no token of its name works any more";
                return Outcome::Never(why.into()).into();
            }
            Err(e) => return Outcome::Later(format!("database: {e}")).into(),
        };
        let (method, endpoint, headers, body) = match self.request(&subscription, batch).await {
            Ok(request) => request,
            Err(outcome) => return outcome.into(),
        };
        let headers: Vec<(&str, String)> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone()))
            .collect();
        let message = format!("{method} {}\n\n{body}", subscription.criteria);
        let sent = self.client.send(method, &endpoint, &headers, body).await;
        let attempt = match sent {
            // Whatever is answered, the address is reached and its certificate fits.
            Ok(answer) if batch.kind == TEST && answer.status < 500 => Outcome::Delivered.into(),
            Ok(answer) => answer.attempt(),
            Err(why) => Outcome::Later(why).into(),
        };
        Attempt {
            message: (batch.kind != TEST).then(|| message.trim_end().to_owned()),
            ..attempt
        }
    }
}
