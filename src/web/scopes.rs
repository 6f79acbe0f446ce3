//! What a bearer token may be narrowed to, beside its role. Every route of the API has exactly one scope.

use actix_web::http::Method;

use crate::store::accounts::Role;

/// A scope, what it allows, and whose roles can have it.
pub(super) struct Scope {
    pub name: &'static str,
    pub means: &'static str,
    pub roles: &'static [Role],
}

use Role::{Admin, Auditor, Integration, Reader};

/// All of them.
pub(super) const SCOPES: [Scope; 5] = [
    Scope {
        name: "list",
        means: "read the list and its studies",
        roles: &[Reader, Admin, Auditor, Integration],
    },
    Scope {
        name: "work",
        means: "claim, mark read, give views",
        roles: &[Reader, Admin],
    },
    Scope {
        name: "orders",
        means: "set order priorities",
        roles: &[Integration],
    },
    Scope {
        name: "fhir",
        means: "read FHIR",
        roles: &[Reader, Admin, Auditor, Integration],
    },
    Scope {
        name: "subscriptions",
        means: "make and end FHIR subscriptions",
        roles: &[Integration, Admin],
    },
];

/// The scope of a route of the API; `None` where there is none, so that nothing but a token for all is let in.
#[must_use]
pub fn scope_of(method: &Method, path: &str) -> Option<&'static str> {
    if path.starts_with("/fhir/Subscription") {
        return Some("subscriptions");
    }
    if path.starts_with("/fhir/") {
        return match *method {
            Method::GET => Some("fhir"),
            Method::PUT => Some("orders"),
            _ => None,
        };
    }
    if path == "/api/v1/orders/{accession}" {
        return Some("orders");
    }
    let rest = path.strip_prefix("/api/v1/")?;
    let known = rest == "worklist" || rest.starts_with("worklist/") || rest.starts_with("studies/");
    match *method {
        _ if !known => None,
        Method::GET => Some("list"),
        Method::POST | Method::DELETE => Some("work"),
        _ => None,
    }
}

/// Reads names of scopes that this role can have.
///
/// # Errors
/// In words, when one is unknown, not for this role, or there is none.
pub fn read_scopes<'a>(
    given: impl IntoIterator<Item = &'a str>,
    role: Role,
) -> Result<Vec<&'static str>, String> {
    let of_role: Vec<&str> = SCOPES
        .iter()
        .filter(|s| s.roles.contains(&role))
        .map(|s| s.name)
        .collect();
    let mut found = Vec::new();
    for name in given {
        let known = SCOPES.iter().find(|s| s.name == name);
        match known.filter(|s| s.roles.contains(&role)) {
            Some(scope) if !found.contains(&scope.name) => found.push(scope.name),
            Some(_) => {}
            None => {
                return Err(format!(
                    "{name:?} is no scope of the role {}, which has: {}",
                    role.as_str(),
                    of_role.join(", ")
                ));
            }
        }
    }
    if found.is_empty() {
        return Err(format!("name at least one scope: {}", of_role.join(", ")));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::routes::{Access, rules};
    use super::*;

    #[test]
    fn every_route_of_the_api_has_a_scope_that_its_roles_can_have() {
        for rule in rules() {
            let Access::Api(roles) = rule.access else {
                continue;
            };
            let what = format!("{} {}", rule.method, rule.path);
            let scope = scope_of(&rule.method, rule.path).expect(&what);
            let scope = SCOPES.iter().find(|s| s.name == scope).expect(&what);
            for role in roles {
                assert!(scope.roles.contains(role), "{what}: {}", role.as_str());
            }
        }
        assert_eq!(scope_of(&Method::GET, "/api/v1/else"), None);
        assert_eq!(scope_of(&Method::PATCH, "/api/v1/worklist"), None);
    }

    #[test]
    fn scopes_that_a_role_does_not_have_are_refused() {
        assert_eq!(
            read_scopes(["list", "list"], Role::Reader),
            Ok(vec!["list"])
        );
        assert!(read_scopes(["orders"], Role::Reader).is_err());
        assert!(read_scopes(["all"], Role::Admin).is_err());
        assert!(read_scopes([], Role::Integration).is_err());
    }
}
