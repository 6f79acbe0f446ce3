//! Tokens of a search (R4 3.1.1.4.10): alternatives, each perhaps after the system that it is of.

/// One alternative.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// `None` where any will do; empty where it must have none (`|code`).
    pub system: Option<String>,
    /// Never empty.
    pub code: String,
}

/// `a,system|b,|c`. A `\` takes the meaning of a comma, `|`, `$` or `\` after it (R4 3.1.1.4, escaping).
/// `None` where one of them is empty, or has no code.
#[must_use]
pub fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut all = Vec::new();
    let (mut system, mut code) = (None, String::new());
    let mut chars = text.chars();
    loop {
        match chars.next() {
            Some('\\') => code.extend(chars.next()),
            Some('|') if system.is_none() => system = Some(std::mem::take(&mut code)),
            end @ (Some(',') | None) => {
                let token = Token {
                    system: system.take(),
                    code: std::mem::take(&mut code),
                };
                if token.code.is_empty() {
                    return None;
                }
                all.push(token);
                if end.is_none() {
                    return Some(all);
                }
            }
            Some(other) => code.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_alternatives_with_systems() {
        let check = |text: &str, expected: Option<&[(Option<&str>, &str)]>| {
            let found = tokens(text);
            let found: Option<Vec<(Option<&str>, &str)>> = found.as_ref().map(|all| {
                all.iter()
                    .map(|t| (t.system.as_deref(), t.code.as_str()))
                    .collect()
            });
            assert_eq!(found.as_deref(), expected, "{text}");
        };
        check("a", Some(&[(None, "a")]));
        check("a,b", Some(&[(None, "a"), (None, "b")]));
        check("urn:x|a,|b", Some(&[(Some("urn:x"), "a"), (Some(""), "b")]));
        check(r"a\,b\|c\\,d", Some(&[(None, r"a,b|c\"), (None, "d")]));
        check("urn:x|a|b", Some(&[(Some("urn:x"), "a|b")]));
        for empty in ["", ",", "a,", ",a", "urn:x|", "|"] {
            check(empty, None);
        }
    }
}
