//! What is known about a key, and about a table. Texts are Markdown with code between backticks and nothing else.

use serde_json::Value;

/// A table of the file.
#[derive(Clone, Debug)]
pub struct Table {
    /// The first part of its name; empty for the top level.
    pub key: &'static str,
    /// How the table is written.
    pub form: Form,
    /// What it is for, in full sentences.
    pub meaning: &'static str,
    /// Its keys, in the order of the documentation.
    pub keys: Vec<Key>,
}

/// How a table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The keys before the first table.
    Top,
    /// `[KEY]`, once.
    Once,
    /// `[KEY.NAME]`, for each name.
    PerName,
}

/// A key of a table.
#[derive(Clone, Debug)]
pub struct Key {
    /// As it is written.
    pub name: &'static str,
    /// Which values it may have.
    pub kind: Kind,
    /// Its value if it is omitted.
    pub default: KeyDefault,
    /// What it is for, in full sentences.
    pub meaning: &'static str,
}

/// Which values a key may have.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A file or directory.
    Path,
    /// A list of directories.
    Paths,
    /// A list of strings.
    Texts,
    /// A program and its arguments.
    Command,
    /// A table of strings: environment variables.
    Variables,
    /// A text with units, or a number of seconds.
    Duration,
    /// A TCP port.
    Port,
    /// A whole number from 1 to this one.
    Number(u16),
    /// `true` or `false`.
    Boolean,
    /// One of these texts.
    Choice(Vec<Choice>),
    /// `http:/PATH`, `tcp` or `none`.
    Probe,
    /// A path on the worker's server, or an empty text.
    UrlPath,
}

/// A text that a key may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// As it is written.
    pub text: &'static str,
    /// What it does; a part of a sentence.
    pub meaning: &'static str,
}

/// The value of a key that is omitted.
#[derive(Clone, Debug, PartialEq)]
pub enum KeyDefault {
    /// Always the same.
    Value(Value),
    /// Depends on something else: this says on what.
    Derived(&'static str),
    /// Then there is none.
    None,
}

impl Table {
    /// `[shutdown]`, `[workers.NAME]`; empty for the top level.
    pub fn header(&self) -> String {
        match self.form {
            Form::Top => String::new(),
            Form::Once => format!("[{}]", self.key),
            Form::PerName => format!("[{}.NAME]", self.key),
        }
    }
}

impl Key {
    /// What it is for, and what each of its texts does.
    pub fn description(&self) -> String {
        let Kind::Choice(choices) = &self.kind else { return self.meaning.to_owned() };
        let choices: Vec<_> =
            choices.iter().map(|choice| format!("`\"{}\"`: {}", choice.text, choice.meaning)).collect();
        format!("{} {}.", self.meaning, choices.join("; "))
    }
}

impl Kind {
    /// The name of the type, for documentation.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Paths => "list of paths",
            Self::Texts => "list of strings",
            Self::Command => "command",
            Self::Variables => "table of strings",
            Self::Duration => "duration",
            Self::Port => "port",
            Self::Number(_) => "number",
            Self::Boolean => "boolean",
            Self::Choice(_) => "one of the texts",
            Self::Probe => "probe",
            Self::UrlPath => "URL path",
        }
    }
}
