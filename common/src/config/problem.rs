//! Problems of a configuration: file, line, what is wrong, and what to write instead.

use std::cell::RefCell;
use std::fmt;

/// How much of the configuration a problem makes unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// One worker or resource; the rest runs (R-CONF-4). `check-config` and `--strict` treat it as an error.
    Worker,
    /// The whole configuration.
    Error,
}

/// One problem. `Display` gives `FILE:LINE: MESSAGE; HELP`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How much of the configuration it makes unusable.
    pub severity: Severity,
    /// The file, as the user named it.
    pub file: String,
    /// The line, from 1; `None` if the value is in no text (a default, an argument).
    pub line: Option<u32>,
    /// The column in characters, from 1.
    pub column: Option<u32>,
    /// The key with its table, `workers.alpha.port`; empty if the text is not valid TOML.
    pub key: String,
    /// What is wrong, without a full stop.
    pub message: String,
    /// What to write or do instead.
    pub help: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}", self.message)?;
        if let Some(help) = &self.help {
            write!(f, "; {help}")?;
        }
        Ok(())
    }
}

/// A position in the text, as a byte offset; `None` for a value that is in no text.
pub(super) type Location = Option<usize>;

/// A value and its position in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found<T> {
    pub value: T,
    pub at: Location,
}

/// Collects the problems of one text while it is read. Reading continues after a problem.
pub(super) struct Notes {
    name: String,
    text: String,
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<String>>,
}

impl Notes {
    /// `name` stands for the file in messages.
    pub fn new(name: String, text: String) -> Self {
        Self { name, text, problems: RefCell::default(), warnings: RefCell::default() }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Adds a problem that makes the configuration unusable.
    pub fn error(&self, at: Location, key: &str, message: impl Into<String>, help: Option<String>) {
        self.note(Severity::Error, at, key, message.into(), help);
    }

    /// Adds a problem that makes one worker or resource unusable.
    pub fn worker(&self, at: Location, key: &str, message: impl Into<String>, help: Option<String>) {
        self.note(Severity::Worker, at, key, message.into(), help);
    }

    /// Adds a warning.
    pub fn warning(&self, text: impl Into<String>) {
        self.warnings.borrow_mut().push(text.into());
    }

    /// Whether a problem has made the configuration unusable.
    pub fn has_errors(&self) -> bool {
        self.problems.borrow().iter().any(|problem| problem.severity == Severity::Error)
    }

    /// The problems in the order of their lines, and the warnings in the order in which they were added.
    pub fn into_parts(self) -> (Vec<Problem>, Vec<String>) {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| (problem.line, problem.column));
        (problems, self.warnings.into_inner())
    }

    fn note(&self, severity: Severity, at: Location, key: &str, message: String, help: Option<String>) {
        let (line, column) = self.position(at);
        self.problems.borrow_mut().push(Problem {
            severity,
            file: self.name.clone(),
            line,
            column,
            key: key.to_owned(),
            message,
            help,
        });
    }

    /// `config.toml:12` or, without a location, `config.toml`.
    pub fn locate(&self, at: Location) -> String {
        match self.position(at).0 {
            Some(line) => format!("{}:{line}", self.name),
            None => self.name.clone(),
        }
    }

    fn position(&self, at: Location) -> (Option<u32>, Option<u32>) {
        let Some(before) = at.and_then(|at| self.text.as_bytes().get(..at)) else { return (None, None) };
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let begin = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        // Continuation bytes of UTF-8 (10xxxxxx) don't count as characters.
        let column = before[begin..].iter().filter(|byte| **byte & 0xc0 != 0x80).count() + 1;
        (u32::try_from(line).ok(), u32::try_from(column).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_offset_becomes_line_and_column() {
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
