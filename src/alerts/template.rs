//! The body of a webhook in a site's own words: `{{name}}` stands for what a message says. Pure.

use serde_json::Value;

/// Names that may stand in a template.
pub const NAMES: [&str; 9] = [
    "headline",
    "text",
    "site",
    "band",
    "place",
    "waiting",
    "code",
    "link",
    "acknowledge",
];

/// A template, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
    json: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Name(&'static str),
}

impl Template {
    /// Reads a template. What begins with `{` or `[` must be JSON once it is filled in.
    ///
    /// # Errors
    /// What is wrong, to stand after "has a template that".
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err("is empty".into());
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let Some((name, after)) = after.split_once("}}") else {
                return Err("has {{ without }}".into());
            };
            let known = NAMES.iter().find(|known| **known == name.trim());
            let Some(known) = known else {
                let all = NAMES.join(", ");
                return Err(format!("names {:?}; known are {all}", name.trim()));
            };
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Name(known));
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        let begins = text.trim_start();
        let template = Self {
            parts,
            json: begins.starts_with(['{', '[']) && !begins.starts_with("{{"),
        };
        let sample = template.fill(&|_| "a \"quoted\" word".to_owned());
        match serde_json::from_str::<Value>(&sample) {
            Err(why) if template.json => Err(format!("gives no JSON: {why}")),
            _ => Ok(template),
        }
    }

    /// The media type (RFC 6838) of what it gives.
    #[must_use]
    pub fn media_type(&self) -> &'static str {
        if self.json {
            "application/json"
        } else {
            "text/plain; charset=utf-8"
        }
    }

    /// Puts in what each name stands for; in JSON, escaped as within a string (RFC 8259 7).
    #[must_use]
    pub fn fill(&self, value: &dyn Fn(&str) -> String) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Name(name) if self.json => {
                let quoted = Value::String(value(name)).to_string();
                quoted[1..quoted.len() - 1].to_owned()
            }
            Part::Name(name) => value(name),
        };
        self.parts.iter().map(part).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_filled_in_and_escaped_in_json() {
        let check = |template: &str, expected: &str| {
            let value = |name: &str| match name {
                "headline" => "a \"b\"\n\\".to_owned(),
                other => format!("<{other}>"),
            };
            let found = Template::parse(template).unwrap();
            assert_eq!(found.fill(&value), expected, "{template}");
        };
        check(
            r#"{"text":"{{headline}}","a":{"b":"{{ link }}"}}"#,
            r#"{"text":"a \"b\"\n\\","a":{"b":"<link>"}}"#,
        );
        check("{{code}}: {{headline}}", "<code>: a \"b\"\n\\");
        check("no name", "no name");
    }

    #[test]
    fn what_cannot_be_filled_in_is_refused() {
        let check = |template: &str, word: &str| {
            let error = Template::parse(template).unwrap_err();
            assert!(error.contains(word), "{error:?} does not say {word:?}");
        };
        check(" ", "empty");
        check("{{patient_name}}", "patient_name");
        check("{{link", "without");
        check(r#"{"text": {{headline}}}"#, "JSON");
    }
}
