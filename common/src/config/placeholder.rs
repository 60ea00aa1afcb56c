//! `{port}`, `{repo}` and `{name}` in commands and environments.
//!
//! Only a lower-case word in braces is a placeholder, so that JSON, shell and template texts
//! pass as they are: `{"a": 1}`, `${HOME}` and `{{.Name}}` stay. `{{port}}` is the text `{port}`.

/// What placeholders stand for.
pub(super) struct Values<'a> {
    pub port: String,
    pub repo: &'a str,
    pub name: &'a str,
}

impl Values<'_> {
    /// The text with its placeholders filled in.
    pub fn fill(&self, text: &str) -> String {
        let mut filled = String::with_capacity(text.len());
        for part in split(text) {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Literal(word) => filled.extend(["{", word, "}"]),
                Part::Placeholder(word) => match self.value(word) {
                    Some(value) => filled.push_str(value),
                    None => filled.extend(["{", word, "}"]),
                },
            }
        }
        filled
    }

    fn value(&self, word: &str) -> Option<&str> {
        match word {
            "port" => Some(&self.port),
            "repo" => Some(self.repo),
            "name" => Some(self.name),
            _ => None,
        }
    }
}

/// The words in placeholders that stand for nothing.
pub(super) fn unknown(text: &str) -> Vec<&str> {
    let word = |part| match part {
        Part::Placeholder(word) if !matches!(word, "port" | "repo" | "name") => Some(word),
        _ => None,
    };
    split(text).into_iter().filter_map(word).collect()
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
        match word_in(&rest[brace..]).filter(|_| !shell) {
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

/// The placeholder that begins `text`, and its length.
fn word_in(text: &str) -> Option<(Part<'_>, usize)> {
    if let Some(inner) = text.strip_prefix("{{") {
        let word = &inner[..word_length(inner)?];
        return inner[word.len()..].starts_with("}}").then_some((Part::Literal(word), word.len() + 4));
    }
    let inner = text.strip_prefix('{')?;
    let word = &inner[..word_length(inner)?];
    inner[word.len()..].starts_with('}').then_some((Part::Placeholder(word), word.len() + 2))
}

fn word_length(text: &str) -> Option<usize> {
    let length = text.bytes().take_while(|byte| byte.is_ascii_lowercase() || *byte == b'_').count();
    (length > 0).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fill(text: &str) -> String {
        Values { port: "8081".to_owned(), repo: "/src/a", name: "a" }.fill(text)
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
