//! A table of the file: hands out typed values, notes what is wrong with them, and in the end
//! what nobody asked for.

use std::collections::BTreeSet;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Found, Notes, Place};
use super::{duration, nearest};
use crate::ids::Port;

/// A table that is being read.
pub(super) struct Section<'a> {
    /// "" at the top, else `workers.alpha`.
    name: String,
    table: &'a DeTable<'a>,
    known: BTreeSet<&'static str>,
    at: Place,
    notes: &'a Notes,
}

impl<'a> Section<'a> {
    /// The whole file.
    pub fn top(table: &'a DeTable<'a>, notes: &'a Notes) -> Self {
        Self { name: String::new(), table, known: BTreeSet::new(), at: None, notes }
    }

    /// The table under `key`, if there is one.
    pub fn section(&mut self, key: &'static str) -> Option<Section<'a>> {
        let (at, value) = self.entry(key)?;
        self.below(key, at, value)
    }

    /// All tables in this one, in the order of the file: `[workers.alpha]` and its siblings.
    pub fn sections(self) -> Vec<(Found<String>, Section<'a>)> {
        let mut entries: Vec<_> = self.table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let named = |(key, value): (&'a Spanned<_>, &'a Spanned<DeValue<'a>>)| {
            let at = Some(key.span().start);
            let name: &str = AsRef::<str>::as_ref(key.get_ref());
            let section = self.below(name, at, value)?;
            Some((Found { value: name.to_owned(), at }, section))
        };
        entries.into_iter().filter_map(named).collect()
    }

    /// The text under `key`.
    pub fn text(&mut self, key: &'static str) -> Option<Found<String>> {
        let (_, value) = self.entry(key)?;
        self.expect_text(key, value)
    }

    /// The text under `key`, which may not be empty.
    pub fn filled_text(&mut self, key: &'static str) -> Option<Found<String>> {
        let found = self.text(key)?;
        if found.value.trim().is_empty() {
            self.wrong(found.at, key, "is empty".to_owned(), None);
            return None;
        }
        Some(found)
    }

    /// The list of texts under `key`.
    pub fn texts(&mut self, key: &'static str) -> Option<Found<Vec<Found<String>>>> {
        let (_, value) = self.entry(key)?;
        let Some(items) = value.get_ref().as_array() else {
            let help = format!("write a list of texts: {key} = [\"...\", \"...\"]");
            self.mistyped(key, value, "a list", Some(help));
            return None;
        };
        let texts = items.iter().filter_map(|item| self.expect_text(key, item)).collect();
        Some(Found { value: texts, at: Some(value.span().start) })
    }

    /// A command: a list of texts, the program first.
    pub fn command(&mut self, key: &'static str) -> Option<Found<Vec<Found<String>>>> {
        let found = self.texts(key)?;
        let missing = match found.value.first() {
            Some(program) => program.value.trim().is_empty(),
            None => true,
        };
        if missing {
            let help =
                format!("write the program and its arguments: {key} = [\"uv\", \"run\", \"server.py\"]");
            self.wrong(found.at, key, "names no program".to_owned(), Some(help));
            return None;
        }
        let nul = found.value.iter().find(|part| part.value.contains('\0'));
        if let Some(part) = nul {
            self.wrong(part.at, key, "contains a zero byte, which no argument can".to_owned(), None);
            return None;
        }
        Some(found)
    }

    /// The texts in the table under `key`, by their own keys.
    pub fn text_table(&mut self, key: &'static str) -> Vec<(String, Found<String>)> {
        let Some(section) = self.section(key) else { return Vec::new() };
        let texts = section.table.iter().filter_map(|(name, value)| {
            let name: &str = AsRef::<str>::as_ref(name.get_ref());
            Some((name.to_owned(), section.expect_text(name, value)?))
        });
        texts.collect()
    }

    /// The truth value under `key`.
    pub fn boolean(&mut self, key: &'static str) -> Option<bool> {
        let (_, value) = self.entry(key)?;
        let found = value.get_ref().as_bool();
        if found.is_none() {
            self.mistyped(key, value, "true or false", None);
        }
        found
    }

    /// The port under `key`.
    pub fn port(&mut self, key: &'static str) -> Option<Found<Port>> {
        let (_, value) = self.entry(key)?;
        let allowed = "write a number from 1 to 65535, or leave it out to have one derived";
        let Some(number) = value.get_ref().as_integer() else {
            self.mistyped(key, value, "a number", Some(allowed.to_owned()));
            return None;
        };
        let port = i64::from_str_radix(number.as_str(), number.radix()).ok().and_then(Port::new);
        if port.is_none() {
            let message = format!("is {}, which is no port", number.as_str());
            self.wrong(Some(value.span().start), key, message, Some(allowed.to_owned()));
        }
        Some(Found { value: port?, at: Some(value.span().start) })
    }

    /// The duration under `key`.
    pub fn duration(&mut self, key: &'static str) -> Option<Found<Duration>> {
        let (_, value) = self.entry(key)?;
        let (shown, read) = match value.get_ref() {
            DeValue::String(text) => (format!("\"{text}\""), duration::from_text(text)),
            DeValue::Integer(number) => {
                let seconds = i64::from_str_radix(number.as_str(), number.radix()).unwrap_or(i64::MAX);
                (number.as_str().to_owned(), duration::from_seconds(seconds as f64))
            }
            DeValue::Float(number) => {
                let seconds = number.as_str().parse().unwrap_or(f64::NAN);
                (number.as_str().to_owned(), duration::from_seconds(seconds))
            }
            _ => {
                self.mistyped(key, value, "a duration", Some(duration::ALLOWED.to_owned()));
                return None;
            }
        };
        let at = Some(value.span().start);
        match read {
            Ok(value) => Some(Found { value, at }),
            Err(why) => {
                self.wrong(at, key, format!("is {shown}, which {why}"), Some(duration::ALLOWED.to_owned()));
                None
            }
        }
    }

    /// One of some words under `key`.
    pub fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let found = self.text(key)?;
        let meant = words.iter().find(|(word, _)| *word == found.value).map(|(_, meaning)| *meaning);
        if meant.is_none() {
            let allowed: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            let help = format!("write {}", allowed.join(" or "));
            self.wrong(found.at, key, format!("is \"{}\", which is not known", found.value), Some(help));
        }
        meant
    }

    /// Notes the keys that nobody asked for, with the nearest one that somebody did.
    pub fn end(self) {
        for key in self.table.keys() {
            let written: &str = AsRef::<str>::as_ref(key.get_ref());
            if !self.known.contains(written) {
                let place = if self.name.is_empty() { String::new() } else { format!(" in [{}]", self.name) };
                let help = nearest::help(written, self.known.iter().copied());
                let message = format!("unknown key \"{written}\"{place}");
                self.notes.error(Some(key.span().start), &self.path(written), message, Some(help));
            }
        }
    }

    /// Notes something wrong with the value of `key`: "port in [workers.alpha] ...".
    pub fn wrong(&self, at: Place, key: &str, message: String, help: Option<String>) {
        let place = if self.name.is_empty() { String::new() } else { format!(" in [{}]", self.name) };
        let message = format!("{key}{place} {message}");
        self.notes.error(at, &self.path(key), message, help);
    }

    /// Notes something wrong with the table as a whole.
    pub fn faulty(&self, message: &str, help: &str) {
        self.notes.error(self.at, &self.name, format!("[{}] {message}", self.name), Some(help.to_owned()));
    }

    fn entry(&mut self, key: &'static str) -> Option<(Place, &'a Spanned<DeValue<'a>>)> {
        self.known.insert(key);
        self.table.get_key_value(key).map(|(key, value)| (Some(key.span().start), value))
    }

    fn below(&self, key: &str, at: Place, value: &'a Spanned<DeValue<'a>>) -> Option<Section<'a>> {
        let name = self.path(key);
        match value.get_ref().as_table() {
            Some(table) => Some(Section { name, table, known: BTreeSet::new(), at, notes: self.notes }),
            None => {
                let help = format!("write it as [{name}]");
                self.mistyped(key, value, "a table", Some(help));
                None
            }
        }
    }

    fn expect_text(&self, key: &str, value: &Spanned<DeValue>) -> Option<Found<String>> {
        let found = value.get_ref().as_str();
        if found.is_none() {
            self.mistyped(key, value, "a text", Some("put it in quotes".to_owned()));
        }
        Some(Found { value: found?.to_owned(), at: Some(value.span().start) })
    }

    fn mistyped(&self, key: &str, value: &Spanned<DeValue>, wanted: &str, help: Option<String>) {
        let is = value.get_ref().type_str();
        self.wrong(Some(value.span().start), key, format!("must be {wanted}, not {is}"), help);
    }

    fn path(&self, key: &str) -> String {
        match self.name.as_str() {
            "" => key.to_owned(),
            name => format!("{name}.{key}"),
        }
    }
}
