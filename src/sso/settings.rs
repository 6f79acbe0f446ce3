//! `[sso]`: the provider, how it knows us, and which of its groups has which role.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::alerts::Secret;
use crate::outbox::http::{Endpoint, is_this_machine};
use crate::store::accounts::Role;

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
    /// `sso.name_claim`: claim that is the name of the account.
    pub name_claim: String,
    /// `sso.groups_claim`: claim that lists the groups, or a way to it through objects: `/realm_access/roles`
    /// (RFC 6901).
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
            if key == "base_url" && !at.is_root() {
                return Err("sso.base_url must end with host and port: there is nothing of firstread below a path".into());
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
            return Err(
                "sso.client_secret and sso.client_secret_file are both set: use one".into(),
            );
        }
        if self.roles.is_empty() || self.roles.iter().any(|r| r.group.is_empty()) {
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
        check(|s| s.base_url += "/firstread", "sso.base_url");
        check(|s| s.client_id = String::new(), "sso.client_id");
        check(|s| s.roles.clear(), "sso.roles");
        check(|s| s.roles[0].group.clear(), "sso.roles");
        check(
            |s| {
                s.client_secret = Secret("x".into());
                s.client_secret_file = "y".into();
            },
            "both set",
        );
    }
}
