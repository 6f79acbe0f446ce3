//! What an administrator can set about FHIR.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::outbox::http::{Endpoint, is_this_machine};

/// Settings of FHIR.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FhirSettings {
    /// `fhir.subscription_hosts`: hosts, or `host:port`, that notifications may go to; none refuses all subscriptions.
    pub subscription_hosts: Vec<String>,
    /// `fhir.subscription_ca_file`: PEM of the authority that signed their certificates, beside those the system trusts.
    pub subscription_ca_file: PathBuf,
}

impl FhirSettings {
    /// Checks every value.
    ///
    /// # Errors
    /// Names the setting that is wrong and what it may be.
    pub fn check(&self) -> Result<(), String> {
        let wrong = self.subscription_hosts.iter().find(|host| {
            let endpoint = Endpoint::parse(&format!("https://{host}/"));
            host.contains('/') || endpoint.is_err()
        });
        wrong.map_or(Ok(()), |host| {
            Err(format!(
                "fhir.subscription_hosts has {host:?}, must be a host like ris.hospital.example, or with a port"
            ))
        })
    }

    /// Whether notifications may go there: to a listed host, by TLS where it is another machine.
    ///
    /// # Errors
    /// Says what an administrator has to do.
    pub fn admits(&self, endpoint: &Endpoint) -> Result<(), String> {
        let (host, port) = (endpoint.host().to_ascii_lowercase(), endpoint.port());
        let listed = self.subscription_hosts.iter().any(|allowed| {
            let allowed = allowed.to_ascii_lowercase();
            allowed == host || allowed == format!("{host}:{port}")
        });
        if !listed {
            return Err(format!(
                "notifications may not go to {host:?}: an administrator has to list it in fhir.subscription_hosts"
            ));
        }
        if endpoint.is_tls() || is_this_machine(&host) {
            Ok(())
        } else {
            Err("an endpoint without TLS is only for this machine: use https://".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_hosts_are_admitted() {
        let settings = FhirSettings {
            subscription_hosts: vec!["RIS.example".into(), "127.0.0.1:8443".into()],
            ..FhirSettings::default()
        };
        assert_eq!(settings.check(), Ok(()));
        let check = |url: &str, admitted: bool| {
            let endpoint = Endpoint::parse(url).unwrap();
            assert_eq!(settings.admits(&endpoint).is_ok(), admitted, "{url}");
        };
        check("https://ris.example/hook", true);
        check("https://ris.example:8443/hook", true);
        check("http://ris.example/hook", false);
        check("http://127.0.0.1:8443/", true);
        check("http://127.0.0.1:8444/", false);
        check("https://ris.example.evil.example/", false);
        check("https://evil.example/ris.example", false);
        for bad in ["", "a b", "https://ris.example", "ris.example/x"] {
            let wrong = FhirSettings {
                subscription_hosts: vec![bad.into()],
                ..FhirSettings::default()
            };
            assert!(wrong.check().is_err(), "{bad}");
        }
    }
}
