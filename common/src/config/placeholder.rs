//! The placeholders `{port}`, `{repo}` and `{name}` in commands and environment variables.
//!
//! Only a lower-case word in braces is a placeholder, so that JSON, shell and template texts stay
//! unchanged: `{"a": 1}`, `${HOME}`, `{{.Name}}`. `{{port}}` is the escape for the text `{port}`.

use std::fmt;

use crate::ids::Port;

/// A text in which `{port}` is still open: a worker behind the proxy gets a new private port at every start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortText {
    /// The texts between the ports; never empty.
    pieces: Vec<String>,
}

impl PortText {
    /// The text with `{port}` replaced by this port.
    pub fn with(&self, port: Port) -> String {
        self.pieces.join(&port.to_string())
    }

    /// Whether the text contains `{port}`.
    pub fn has_port(&self) -> bool {
        self.pieces.len() > 1
    }
}

impl From<&str> for PortText {
    fn from(text: &str) -> Self {
        Self { pieces: vec![text.to_owned()] }
    }
}

impl fmt::Display for PortText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.pieces.join("{port}"))
    }
}

/// The values of all placeholders but `{port}`.
pub(super) struct Values<'a> {
    pub repo: &'a str,
    pub name: &'a str,
}

impl Values<'_> {
    /// Replaces all placeholders but `{port}`.
    pub fn fill(&self, text: &str) -> PortText {
        let mut pieces = vec![String::with_capacity(text.len())];
        for part in split(text) {
            let filled = pieces.last_mut().expect("never empty");
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Literal(name) => filled.extend(["{", name, "}"]),
                Part::Placeholder("port") => pieces.push(String::new()),
                Part::Placeholder(name) => match self.value(name) {
                    Some(value) => filled.push_str(value),
                    None => filled.extend(["{", name, "}"]),
                },
            }
        }
        PortText { pieces }
    }

    fn value(&self, name: &str) -> Option<&str> {
        match name {
            "repo" => Some(self.repo),
            "name" => Some(self.name),
            _ => None,
        }
    }
}

/// The names in placeholders that are none of the known ones.
pub(super) fn unknown(text: &str) -> Vec<&str> {
    split(text)
        .into_iter()
        .filter_map(|part| match part {
            Part::Placeholder(name) if !matches!(name, "port" | "repo" | "name") => Some(name),
            _ => None,
        })
        .collect()
}

#[derive(Debug, PartialEq, Eq)]
enum Part<'a> {
    Text(&'a str),
    /// `{{word}}`
    Literal(&'a str),
    /// `{word}`
    Placeholder(&'a str),
}

fn split(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = text;
    let mut begin = 0;
    while let Some(brace) = rest[begin..].find('{').map(|found| begin + found) {
        let shell = rest[..brace].ends_with('$');
        match placeholder_at_start(&rest[brace..]).filter(|_| !shell) {
            Some((part, length)) => {
                parts.push(Part::Text(&rest[..brace]));
                parts.push(part);
                rest = &rest[brace + length..];
                begin = 0;
            }
            None => begin = brace + 1,
        }
    }
    parts.push(Part::Text(rest));
    parts
}

/// The placeholder at the beginning of `text`, and its length in bytes.
fn placeholder_at_start(text: &str) -> Option<(Part<'_>, usize)> {
    if let Some(inner) = text.strip_prefix("{{") {
        let name = &inner[..name_length(inner)?];
        return inner[name.len()..].starts_with("}}").then_some((Part::Literal(name), name.len() + 4));
    }
    let inner = text.strip_prefix('{')?;
    let name = &inner[..name_length(inner)?];
    inner[name.len()..].starts_with('}').then_some((Part::Placeholder(name), name.len() + 2))
}

fn name_length(text: &str) -> Option<usize> {
    let length = text.bytes().take_while(|byte| byte.is_ascii_lowercase() || *byte == b'_').count();
    (length > 0).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fill(text: &str) -> String {
        let port = Port::new(8081).expect("a port");
        Values { repo: "/src/a", name: "a" }.fill(text).with(port)
    }

    #[test]
    fn placeholders_are_filled_in_and_other_braces_stay() {
        assert_eq!(fill("--port={port} {repo}/{name}"), "--port=8081 /src/a/a");
        for stays in [r#"{"a": {"b": 1}}"#, "${HOME}", "${port}", "{{.Names}}", "{", "{}", "{Port}", "a}b{"] {
            assert_eq!(fill(stays), stays);
            assert!(unknown(stays).is_empty(), "{stays}");
        }
        assert_eq!(fill("{{port}} {port}"), "{port} 8081");
        assert_eq!(unknown("{prot} {port} {{word}} {repository}"), ["prot", "repository"]);
    }

    proptest! {
        #[test]
        fn any_text_can_be_filled(text in "[{}$a-z\u{e9}_ ]{0,30}") {
            let filled = fill(&text);
            if !text.contains('{') {
                prop_assert_eq!(filled, text);
            }
        }
    }
}
