//! Reads one file of source text: its code, and the paths in its code.

use std::ops::Range;
use std::path::Path;

/// A file, and its code with the same lines: comments, texts and what only tests compile are blank.
#[derive(Debug)]
pub struct Source {
    /// Relative to the workspace.
    pub path: String,
    text: String,
    code: String,
}

/// A path in code, as `["crate", "proxy", "handle"]`, with the line on which its last part is.
pub type CodePath = (usize, Vec<String>);

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let code = without_tests(&without_comments(text));
        Self { path: path.to_owned(), text: text.to_owned(), code }
    }

    pub fn read(workspace: &Path, path: &str) -> Self {
        let text = std::fs::read_to_string(workspace.join(path));
        Self::new(path, &text.unwrap_or_else(|error| panic!("{path}: {error}")))
    }

    /// The lines of code, counted from 1.
    pub fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// Every path that begins with `crate`, `super` or `self`.
    pub fn paths(&self) -> Vec<CodePath> {
        paths(&self.code)
    }

    /// The place, the line and the rule that it breaks.
    pub fn violation(&self, line: usize, rule: &str) -> String {
        format!("{}\n    rule: {rule}", self.shown(line))
    }

    /// `file:line: text`.
    pub fn shown(&self, line: usize) -> String {
        let text = self.text.lines().nth(line - 1).unwrap_or_default().trim();
        format!("{}:{line}: {text}", self.path)
    }

    /// Whether it is a `mod.rs` or `lib.rs` that only lists modules: `mod` and `use`, with attributes.
    pub fn is_only_a_list(&self) -> bool {
        if !matches!(self.path.rsplit('/').next(), Some("mod.rs" | "lib.rs")) {
            return false;
        }
        let code = without_attributes(&self.code);
        let mut items = code.split(';').map(str::trim).filter(|item| !item.is_empty());
        items.all(|item| {
            let words = item.split_whitespace().find(|word| !word.starts_with("pub"));
            matches!(words, Some("mod" | "use"))
        })
    }

    /// What a `pub use` of this file gives another name or place: the name, and the path behind it.
    pub fn exports(&self) -> Vec<(String, Vec<String>)> {
        let mut found = vec![];
        for (begin, _) in self.code.match_indices("use ") {
            let is_public = self.code[..begin].trim_end().ends_with(['b', ')']);
            if is_public && is_boundary(&self.code, begin) {
                read_tree(&self.code, begin + "use ".len(), &[], &mut found);
            }
        }
        let last = |path: &Vec<String>| path.last().cloned().unwrap_or_default();
        found.into_iter().map(|(_, path)| (last(&path), path)).collect()
    }
}

/// Blanks a range, but for its line ends.
fn blank(code: &mut [u8], range: Range<usize>) {
    for byte in &mut code[range] {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

/// Blanks comments and the insides of texts.
fn without_comments(text: &str) -> String {
    let mut code = text.as_bytes().to_vec();
    let mut at = 0;
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        let (length, skipped) = match rest {
            [b'/', b'/', ..] => (find(rest, b"\n").unwrap_or(rest.len()), true),
            [b'/', b'*', ..] => (block_comment(rest), true),
            [b'"', ..] => (quoted(rest), true),
            [b'r', b'"' | b'#', ..] if is_boundary(text, at) => match raw_text(rest) {
                Some(length) => (length, true),
                None => (1, false),
            },
            [b'\'', b'\\', ..] => (2 + find(&rest[3..], b"'").map_or(1, |end| end + 2), true),
            [b'\'', b'"' | b'/', b'\'', ..] => (3, true),
            _ => (1, false),
        };
        if skipped {
            blank(&mut code, at..at + length);
        }
        at += length;
    }
    String::from_utf8(code).expect("whole characters were blanked")
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

/// The length of `/* ... */`, which nests.
fn block_comment(rest: &[u8]) -> usize {
    let mut at = 2;
    let mut depth = 1;
    while depth > 0 && at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (at, depth) = (at + 2, depth + 1),
            [b'*', b'/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
    }
    at
}

fn quoted(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    rest.len()
}

/// The length of `r#"..."#`; `None` for a raw identifier.
fn raw_text(rest: &[u8]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return None;
    }
    let begin = 2 + hashes;
    let end = [&b"\""[..], &b"#".repeat(hashes)].concat();
    Some(find(&rest[begin..], &end).map_or(rest.len(), |at| begin + at + end.len()))
}

/// Whether no word goes on here.
fn is_boundary(text: &str, at: usize) -> bool {
    !text[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_')
}

/// Blanks every item below `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut bytes = code.as_bytes().to_vec();
    for (begin, _) in code.match_indices(MARK) {
        let end = item_end(&bytes, begin + MARK.len());
        blank(&mut bytes, begin..end);
    }
    String::from_utf8(bytes).expect("whole characters were blanked")
}

/// The end of an item: its semicolon, or the brace that closes it.
fn item_end(code: &[u8], begin: usize) -> usize {
    let mut depth = 0;
    for (index, byte) in code.iter().enumerate().skip(begin) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => {
                // The braces of `use a::{b, c};` end no item.
                let next = code[index + 1..].iter().find(|byte| !byte.is_ascii_whitespace());
                return if next == Some(&b';') { index + 2 } else { index + 1 };
            }
            b'}' => depth -= 1,
            b';' if depth == 0 => return index + 1,
            _ => {}
        }
    }
    code.len()
}

fn without_attributes(code: &str) -> String {
    let kept = code.lines().filter(|line| !line.trim_start().starts_with("#"));
    kept.collect::<Vec<_>>().join("\n")
}

/// Every path of the code that begins with `crate`, `super` or `self`, groups expanded.
fn paths(code: &str) -> Vec<CodePath> {
    let mut found = vec![];
    for begin in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(begin) {
            let is_start = is_boundary(code, at) && !code[..at].ends_with("::");
            if is_start {
                read_tree(code, at, &[], &mut found);
            }
        }
    }
    found.sort();
    found
}

/// Reads `a::b`, `a::{b, c as d}` or `a::*` with what comes before it; the index after it.
fn read_tree(code: &str, begin: usize, before: &[String], found: &mut Vec<CodePath>) -> usize {
    let mut path = before.to_vec();
    let mut at = skip_space(code, begin);
    loop {
        let word = code[at..].find(|letter: char| !letter.is_alphanumeric() && letter != '_');
        let end = word.map_or(code.len(), |length| at + length);
        match code.as_bytes().get(at) {
            Some(b'{') => return read_group(code, at + 1, &path, found),
            Some(b'*') => {
                path.push("*".to_owned());
                at += 1;
            }
            _ => {
                if end > at {
                    path.push(code[at..end].to_owned());
                }
                at = end;
            }
        }
        let next = skip_space(code, at);
        match code[next..].strip_prefix("::") {
            Some(_) => at = skip_space(code, next + 2),
            None => break,
        }
    }
    let line = code[..at].matches('\n').count() + 1;
    found.push((line, path));
    at
}

fn read_group(code: &str, begin: usize, before: &[String], found: &mut Vec<CodePath>) -> usize {
    let mut at = skip_space(code, begin);
    while at < code.len() && code.as_bytes()[at] != b'}' {
        at = read_tree(code, at, before, found);
        // Past `as name` and the comma.
        let rest = code[at..].find([',', '}']).unwrap_or(code.len() - at);
        at += rest;
        if code[at..].starts_with(',') {
            at = skip_space(code, at + 1);
        }
    }
    (at + 1).min(code.len())
}

fn skip_space(code: &str, at: usize) -> usize {
    code.len() - code[at..].trim_start().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(usize, String)> {
        let paths = Source::new("a.rs", text).paths();
        paths.into_iter().map(|(line, path)| (line, path.join("::"))).collect()
    }

    #[test]
    fn paths_are_found_with_their_lines() {
        let text = "use crate::a::b;\n\nfn f() -> super::T {\n    crate::c::d(self::e::f())\n}\n";
        let expected = [(1, "crate::a::b"), (3, "super::T"), (4, "crate::c::d"), (4, "self::e::f")];
        assert_eq!(found(text), expected.map(|(line, path)| (line, path.to_owned())));
    }

    #[test]
    fn groups_are_expanded_over_several_lines() {
        let text = "use crate::{\n    a::{self, b},\n    c as d,\n    e::*,\n};\n";
        let expected = [(2, "crate::a::b"), (2, "crate::a::self"), (3, "crate::c"), (4, "crate::e::*")];
        assert_eq!(found(text), expected.map(|(line, path)| (line, path.to_owned())));
    }

    #[test]
    fn comments_texts_and_tests_hold_no_paths() {
        let text = r####"//! crate::a
/* crate::b /* nested */ crate::c */
const URL: &str = "http://crate::d"; use crate::yes;
const RAW: &str = r#"crate::e" "#;
const QUOTE: char = '"'; fn f<'a>() { crate::also() }
#[cfg(test)]
use crate::{f, g};
#[cfg(test)]
mod tests {
    use crate::h;
    fn f() { {} }
}
use crate::last;
"####;
        let expected = [(3, "crate::yes"), (5, "crate::also"), (13, "crate::last")];
        assert_eq!(found(text), expected.map(|(line, path)| (line, path.to_owned())));
    }

    #[test]
    fn a_list_is_a_mod_rs_with_only_modules_and_uses() {
        let list = "//! Text.\n\n#[path = \"x.rs\"]\nmod a;\npub(crate) mod b;\n\npub use a::{B, C as D};\n";
        assert!(Source::new("mod.rs", list).is_only_a_list());
        assert!(!Source::new("mod.rs", "mod a;\npub fn f() {}\n").is_only_a_list());
        assert!(!Source::new("a.rs", "use crate::b;\n").is_only_a_list());
    }

    #[test]
    fn exports_are_named_with_what_is_behind_them() {
        let source = Source::new("mod.rs", "use x::Y;\npub use a::{B, c::D};\npub(crate) use e::F;\n");
        let exports: Vec<_> =
            source.exports().into_iter().map(|(name, path)| (name, path.join("::"))).collect();
        let expected = [("B", "a::B"), ("D", "a::c::D"), ("F", "e::F")];
        assert_eq!(exports, expected.map(|(name, path)| (name.to_owned(), path.to_owned())));
    }

    #[test]
    fn a_violation_shows_file_line_text_and_rule() {
        let source = Source::new("a/b.rs", "\nuse crate::c;\n");
        assert_eq!(source.violation(2, "no c"), "a/b.rs:2: use crate::c;\n    rule: no c");
    }
}
