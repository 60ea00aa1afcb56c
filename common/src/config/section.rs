//! Reads one table of the file: returns typed values, reports wrong ones, and at the end reports unknown
//! keys.

use std::collections::BTreeSet;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistakes;
use super::problem::{Found, Location, Notes};
use super::{duration, nearest};
use crate::ids::Port;

/// A table that is being read.
pub(super) struct Section<'a> {
    /// Empty for the top level, else `workers.alpha`.
    name: String,
    table: &'a DeTable<'a>,
    /// The keys that were read; all others are unknown.
    known: BTreeSet<&'static str>,
    at: Location,
    notes: &'a Notes,
}

impl<'a> Section<'a> {
    /// The top level of the file.
    pub fn top(table: &'a DeTable<'a>, notes: &'a Notes) -> Self {
        Self { name: String::new(), table, known: BTreeSet::new(), at: None, notes }
    }

    /// The table under `key`, if there is one.
    pub fn section(&mut self, key: &'static str) -> Option<Section<'a>> {
        let (at, value) = self.entry(key)?;
        self.below(key, at, value)
    }

    /// All tables in this one, in the order of the file, such as `[workers.alpha]` and `[workers.beta]`.
    pub fn sections(self) -> Vec<(Found<String>, Section<'a>)> {
        let mut entries: Vec<_> = self.table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        entries
            .into_iter()
            .filter_map(|(key, value)| {
                let at = Some(key.span().start);
                let name: &str = AsRef::<str>::as_ref(key.get_ref());
                let section = self.below(name, at, value)?;
                Some((Found { value: name.to_owned(), at }, section))
            })
            .collect()
    }

    /// The string under `key`.
    pub fn text(&mut self, key: &'static str) -> Option<Found<String>> {
        let (_, value) = self.entry(key)?;
        self.expect_text(key, value)
    }

    /// The string under `key`; an empty one is a problem.
    pub fn filled_text(&mut self, key: &'static str) -> Option<Found<String>> {
        let found = self.text(key)?;
        if found.value.trim().is_empty() {
            self.value_error(
                found.at,
                key,
                "is empty".to_owned(),
                Some("write a value, or omit the key".to_owned()),
            );
            return None;
        }
        Some(found)
    }

    /// The list of strings under `key`.
    pub fn texts(&mut self, key: &'static str) -> Option<Found<Vec<Found<String>>>> {
        let (_, value) = self.entry(key)?;
        let Some(items) = value.get_ref().as_array() else {
            let help = match value.get_ref().as_str() {
                Some(text) => mistakes::as_list(key, text),
                None => format!("write a list of strings: {key} = [\"...\", \"...\"]"),
            };
            self.mistyped(key, value, "a list", Some(help));
            return None;
        };
        let texts = items.iter().filter_map(|item| self.expect_text(key, item)).collect();
        Some(Found { value: texts, at: Some(value.span().start) })
    }

    /// The command under `key`: a list of strings, the program first.
    pub fn command(&mut self, key: &'static str) -> Option<Found<Vec<Found<String>>>> {
        let found = self.texts(key)?;
        if found.value.first().is_none_or(|program| program.value.trim().is_empty()) {
            let help =
                format!("write the program and its arguments: {key} = [\"uv\", \"run\", \"server.py\"]");
            self.value_error(found.at, key, "names no program".to_owned(), Some(help));
            return None;
        }
        if let Some(part) = found.value.iter().find(|part| part.value.contains('\0')) {
            self.value_error(
                part.at,
                key,
                "contains a NUL byte".to_owned(),
                Some("remove it: no argument can have one".to_owned()),
            );
            return None;
        }
        Some(found)
    }

    /// The strings in the table under `key`, with their keys.
    pub fn text_table(&mut self, key: &'static str) -> Vec<(String, Found<String>)> {
        let Some(section) = self.section(key) else { return Vec::new() };
        section
            .table
            .iter()
            .filter_map(|(name, value)| {
                let name: &str = AsRef::<str>::as_ref(name.get_ref());
                Some((name.to_owned(), section.expect_text(name, value)?))
            })
            .collect()
    }

    /// The boolean under `key`.
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
        let allowed = "write a number from 1 to 65535, or omit the key to have one derived";
        let Some(number) = value.get_ref().as_integer() else {
            self.mistyped(key, value, "a number", Some(allowed.to_owned()));
            return None;
        };
        let port = i64::from_str_radix(number.as_str(), number.radix()).ok().and_then(Port::new);
        if port.is_none() {
            let message = format!("is {}, which is not a port", number.as_str());
            self.value_error(Some(value.span().start), key, message, Some(allowed.to_owned()));
        }
        Some(Found { value: port?, at: Some(value.span().start) })
    }

    /// The number from 1 to `most` under `key`.
    pub fn number(&mut self, key: &'static str, most: u16) -> Option<u16> {
        let (_, value) = self.entry(key)?;
        let allowed = format!("write a number from 1 to {most}");
        let Some(number) = value.get_ref().as_integer() else {
            self.mistyped(key, value, "a number", Some(allowed));
            return None;
        };
        let found = u16::from_str_radix(number.as_str(), number.radix()).ok();
        let found = found.filter(|found| (1..=most).contains(found));
        if found.is_none() {
            let message = format!("is {}, which is not allowed", number.as_str());
            self.value_error(Some(value.span().start), key, message, Some(allowed));
        }
        found
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
                self.value_error(
                    at,
                    key,
                    format!("is {shown}, which {why}"),
                    Some(duration::ALLOWED.to_owned()),
                );
                None
            }
        }
    }

    /// The value that the string under `key` stands for; `choices` lists all allowed strings.
    pub fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let found = self.text(key)?;
        let chosen = choices.iter().find(|(text, _)| *text == found.value).map(|(_, value)| *value);
        if chosen.is_none() {
            let allowed: Vec<_> = choices.iter().map(|(text, _)| format!("\"{text}\"")).collect();
            let help = format!("write {}", allowed.join(" or "));
            let message = format!("is \"{}\", which is unknown", found.value.escape_debug());
            self.value_error(found.at, key, message, Some(help));
        }
        chosen
    }

    /// Reports the keys that were not read, with the most similar known key.
    pub fn end(self) {
        for key in self.table.keys() {
            let written: &str = AsRef::<str>::as_ref(key.get_ref());
            if !self.known.contains(written) {
                let help = nearest::help(written, self.known.iter().copied());
                let message = format!("unknown key \"{written}\"{}", self.in_table());
                self.notes.error(Some(key.span().start), &self.path(written), message, Some(help));
            }
        }
    }

    /// Reports a problem with the value of `key`: "port in [workers.alpha] ...".
    pub fn value_error(&self, at: Location, key: &str, message: String, help: Option<String>) {
        let message = format!("{key}{} {message}", self.in_table());
        self.notes.error(at, &self.path(key), message, help);
    }

    /// Reports a problem with the table as a whole.
    pub fn table_error(&self, message: &str, help: &str) {
        self.notes.error(self.at, &self.name, format!("[{}] {message}", self.name), Some(help.to_owned()));
    }

    fn entry(&mut self, key: &'static str) -> Option<(Location, &'a Spanned<DeValue<'a>>)> {
        self.known.insert(key);
        self.table.get_key_value(key).map(|(key, value)| (Some(key.span().start), value))
    }

    fn below(&self, key: &str, at: Location, value: &'a Spanned<DeValue<'a>>) -> Option<Section<'a>> {
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
            self.mistyped(key, value, "a string", Some("put it in quotes".to_owned()));
        }
        Some(Found { value: found?.to_owned(), at: Some(value.span().start) })
    }

    fn mistyped(&self, key: &str, value: &Spanned<DeValue>, wanted: &str, help: Option<String>) {
        let is = value.get_ref().type_str();
        self.value_error(Some(value.span().start), key, format!("must be {wanted}, not {is}"), help);
    }

    /// " in [workers.alpha]"; empty for the top level.
    fn in_table(&self) -> String {
        if self.name.is_empty() { String::new() } else { format!(" in [{}]", self.name) }
    }

    fn path(&self, key: &str) -> String {
        match self.name.as_str() {
            "" => key.to_owned(),
            name => format!("{name}.{key}"),
        }
    }
}
