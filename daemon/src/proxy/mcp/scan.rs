//! Finds id and method of a JSON-RPC message while its bytes are streamed, for bodies too large to keep. Pure.
//!
//! ```text
//!   {  "id" : 7 ,  "params" : { "id": 1, ... megabytes ... } ,  "method" : "tools/call"  }
//!      key    value            skipped, whatever is in it                    value
//! ```
//!
//! Only the members of the outermost object count. Skipped parts are not validated: the worker does
//! that. Batches are not supported, nor values longer than any id or method.

use serde_json::Value;

use super::message::{Message, Messages};

/// Limit in bytes for an id or a method.
const LONGEST: usize = 4096;

/// Reads a message piece by piece, wherever it is cut.
#[derive(Debug, Default)]
pub struct Scanner {
    place: Place,
    /// The key or value being read, if it matters.
    kept: Option<Vec<u8>>,
    /// It is longer than the limit.
    is_too_long: bool,
    key: Key,
    id: Option<Value>,
    method: Option<String>,
    seen: Seen,
}

/// The position of the next byte in the message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Before the object.
    #[default]
    Before,
    /// Where a key may begin, or the object end.
    BeforeKey,
    /// In a key.
    InKey(Text),
    /// Between key and colon.
    AfterKey,
    /// Between colon and value.
    BeforeValue,
    /// In a string.
    InString(Text),
    /// In a number, `true`, `false` or `null`.
    InWord,
    /// At this depth in arrays and objects.
    Inside(usize),
    /// In a string at this depth.
    StringInside(usize, Text),
    /// Between a value and the comma, or the end of the object.
    AfterValue,
    /// The object has ended.
    After,
    /// Not a single valid message.
    GivenUp,
}

/// Where in a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Text {
    Plain,
    /// After a backslash.
    Escaped,
}

/// Which member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Key {
    #[default]
    Other,
    Id,
    Method,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    id: bool,
    method: bool,
}

impl Scanner {
    /// Reads the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(&byte) = rest.first() {
            // Fast path: nearly all bytes of a large message are in strings that do not matter.
            if self.kept.is_none()
                && let Place::InString(Text::Plain) | Place::StringInside(_, Text::Plain) = self.place
            {
                let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')).unwrap_or(rest.len());
                rest = &rest[plain..];
                if rest.is_empty() {
                    return;
                }
                self.step(rest[0]);
            } else {
                self.step(byte);
            }
            rest = &rest[1..];
        }
    }

    /// Whether id and method are known, or can't be found.
    pub fn is_done(&self) -> bool {
        matches!(self.place, Place::After | Place::GivenUp) || (self.seen.id && self.seen.method)
    }

    /// The message as far as it is known.
    pub fn messages(&self) -> Option<Messages> {
        if self.place == Place::GivenUp {
            return None;
        }
        let message = Message::new(self.id.clone(), self.method.clone())?;
        Some(Messages { all: vec![message], batch: false })
    }

    fn step(&mut self, byte: u8) {
        self.place = match self.place {
            Place::Before | Place::BeforeKey | Place::AfterKey | Place::BeforeValue | Place::AfterValue
                if byte.is_ascii_whitespace() =>
            {
                return;
            }
            Place::Before if byte == b'{' => Place::BeforeKey,
            Place::BeforeKey if byte == b'"' => self.begin(byte, true, Place::InKey(Text::Plain)),
            Place::BeforeKey if byte == b'}' => Place::After,
            Place::InKey(text) => match self.in_text(byte, text) {
                Some(text) => Place::InKey(text),
                None => self.end_key(),
            },
            Place::AfterKey if byte == b':' => Place::BeforeValue,
            Place::BeforeValue => self.begin_value(byte),
            Place::InString(text) => match self.in_text(byte, text) {
                Some(text) => Place::InString(text),
                None => self.end_value(),
            },
            Place::InWord => match byte {
                b',' | b'}' | b' ' | b'\t' | b'\r' | b'\n' => {
                    self.place = self.end_value();
                    return self.step(byte);
                }
                _ => self.keep(byte, Place::InWord),
            },
            Place::Inside(depth) => match byte {
                b'"' => self.keep(byte, Place::StringInside(depth, Text::Plain)),
                b'{' | b'[' => self.keep(byte, Place::Inside(depth + 1)),
                b'}' | b']' => match self.keep(byte, Place::Inside(depth - 1)) {
                    Place::Inside(0) => self.end_value(),
                    deeper => deeper,
                },
                _ => self.keep(byte, Place::Inside(depth)),
            },
            Place::StringInside(depth, text) => match self.in_text(byte, text) {
                Some(text) => Place::StringInside(depth, text),
                None => Place::Inside(depth),
            },
            Place::AfterValue if byte == b',' => Place::BeforeKey,
            Place::AfterValue if byte == b'}' => Place::After,
            Place::After if byte.is_ascii_whitespace() => return,
            _ => Place::GivenUp,
        };
    }

    fn begin(&mut self, byte: u8, matters: bool, place: Place) -> Place {
        self.kept = matters.then(|| vec![byte]);
        self.is_too_long = false;
        place
    }

    fn begin_value(&mut self, byte: u8) -> Place {
        let place = match byte {
            b'"' => Place::InString(Text::Plain),
            b'{' | b'[' => Place::Inside(1),
            _ => Place::InWord,
        };
        self.begin(byte, self.key != Key::Other, place)
    }

    /// A byte in a string; `None` where the string ends.
    fn in_text(&mut self, byte: u8, text: Text) -> Option<Text> {
        self.keep(byte, Place::GivenUp);
        match (text, byte) {
            (Text::Escaped, _) => Some(Text::Plain),
            (Text::Plain, b'\\') => Some(Text::Escaped),
            (Text::Plain, b'"') => None,
            (Text::Plain, _) => Some(Text::Plain),
        }
    }

    fn keep(&mut self, byte: u8, place: Place) -> Place {
        if let Some(kept) = &mut self.kept {
            if kept.len() < LONGEST { kept.push(byte) } else { self.is_too_long = true }
        }
        place
    }

    fn end_key(&mut self) -> Place {
        let key = self.kept.take().and_then(|kept| serde_json::from_slice::<String>(&kept).ok());
        self.key = match key.as_deref() {
            Some("id") => Key::Id,
            Some("method") => Key::Method,
            _ => Key::Other,
        };
        Place::AfterKey
    }

    fn end_value(&mut self) -> Place {
        let Some(kept) = self.kept.take() else { return Place::AfterValue };
        let seen = match self.key {
            Key::Id => &mut self.seen.id,
            Key::Method => &mut self.seen.method,
            Key::Other => return Place::AfterValue,
        };
        // With two, the worker might use the other one.
        let is_second = std::mem::replace(seen, true);
        match (serde_json::from_slice(&kept), self.key) {
            _ if is_second || self.is_too_long => return Place::GivenUp,
            (Err(_), _) => return Place::GivenUp,
            (Ok(id), Key::Id) => self.id = Some(id),
            (Ok(Value::String(method)), _) => self.method = Some(method),
            (Ok(Value::Null), _) => {}
            (Ok(_), _) => return Place::GivenUp,
        }
        Place::AfterValue
    }
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
