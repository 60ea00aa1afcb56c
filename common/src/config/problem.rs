//! What is wrong with a configuration: file, line, what, and what is allowed instead.

use std::cell::RefCell;
use std::fmt;

/// How far a problem reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// It spoils one worker or resource; the rest runs (R-CONF-4). `check-config` and `--strict`
    /// take it for an error.
    Worker,
    /// The configuration can't be used.
    Error,
}

/// A problem, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How far it reaches.
    pub severity: Severity,
    /// The file, as the user named it.
    pub file: String,
    /// The line, from 1; `None` where no line is to blame (a default, an argument).
    pub line: Option<u32>,
    /// The column in characters, from 1.
    pub column: Option<u32>,
    /// The key with its table, `workers.alpha.port`; empty where the text is no TOML.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What is allowed, or what to do.
    pub help: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}", self.message)?;
        self.help.as_ref().map_or(Ok(()), |help| write!(f, "; {help}"))
    }
}

/// Where in the text something stands: a byte's number. `None` for what is in no text.
pub(super) type Place = Option<usize>;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found<T> {
    pub value: T,
    pub at: Place,
}

/// Collects what is wrong with one text while it is read. Reading goes on after each problem.
pub(super) struct Notes {
    name: String,
    text: String,
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<String>>,
}

impl Notes {
    /// Notes on this text, called `name` in messages.
    pub fn new(name: String, text: String) -> Self {
        Self { name, text, problems: RefCell::default(), warnings: RefCell::default() }
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Notes something that makes the configuration unusable.
    pub fn error(&self, at: Place, key: &str, message: impl Into<String>, help: Option<String>) {
        self.note(Severity::Error, at, key, message.into(), help);
    }

    /// Notes something that makes one worker or resource unusable.
    pub fn worker(&self, at: Place, key: &str, message: impl Into<String>, help: Option<String>) {
        self.note(Severity::Worker, at, key, message.into(), help);
    }

    /// Notes something that is put up with.
    pub fn warning(&self, text: impl Into<String>) {
        self.warnings.borrow_mut().push(text.into());
    }

    /// Whether the configuration is unusable already.
    pub fn has_errors(&self) -> bool {
        self.problems.borrow().iter().any(|problem| problem.severity == Severity::Error)
    }

    /// Everything noted: problems in the order of their lines, warnings as they came.
    pub fn into_parts(self) -> (Vec<Problem>, Vec<String>) {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| (problem.line, problem.column));
        (problems, self.warnings.into_inner())
    }

    fn note(&self, severity: Severity, at: Place, key: &str, message: String, help: Option<String>) {
        let (line, column) = self.position(at);
        let (file, key) = (self.name.clone(), key.to_owned());
        self.problems.borrow_mut().push(Problem { severity, file, line, column, key, message, help });
    }

    /// `config.toml:12` or, without a place, `config.toml`.
    pub fn locate(&self, at: Place) -> String {
        match self.position(at).0 {
            Some(line) => format!("{}:{line}", self.name),
            None => self.name.clone(),
        }
    }

    fn position(&self, at: Place) -> (Option<u32>, Option<u32>) {
        let Some(before) = at.and_then(|at| self.text.as_bytes().get(..at)) else { return (None, None) };
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let begin = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        // Continuation bytes of UTF-8 are no characters of their own.
        let column = before[begin..].iter().filter(|byte| **byte & 0xc0 != 0x80).count() + 1;
        (u32::try_from(line).ok(), u32::try_from(column).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_becomes_line_and_column() {
        let notes = Notes::new("c.toml".to_owned(), "a = 1\nüb = 2\n".to_owned());
        notes.error(Some(6), "b", "second line", None);
        notes.error(Some(8), "b", "one character on", Some("help".to_owned()));
        notes.error(Some(999), "c", "nowhere", None);
        let (problems, _) = notes.into_parts();
        let shown: Vec<_> = problems.iter().map(Problem::to_string).collect();
        assert_eq!(shown, ["c.toml: nowhere", "c.toml:2: second line", "c.toml:2: one character on; help"]);
        assert_eq!(problems[2].column, Some(2));
    }
}
