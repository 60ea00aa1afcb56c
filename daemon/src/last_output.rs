//! The last lines that a worker's process wrote: they usually say why it failed (R-CLI-4, R-CLIENT-11).

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Lines that are kept.
const LINES: usize = 5;
/// Limit for a line in bytes; the rest is cut off.
const LONGEST: usize = 300;
/// Shorter values of variables are no secrets, and would blacken words.
const SHORTEST_SECRET: usize = 6;
const HIDDEN: &str = "***";

/// Of one worker's current process, or of its last one.
#[derive(Debug, Default)]
pub struct LastOutput(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    lines: VecDeque<String>,
    unfinished: Vec<u8>,
    secrets: Vec<String>,
}

impl LastOutput {
    /// A new process starts, with these values in its variables; they are never shown.
    pub fn begin(&self, secrets: impl Iterator<Item = String>) {
        let mut secrets: Vec<_> = secrets.filter(|value| value.len() >= SHORTEST_SECRET).collect();
        // A value that contains another one is hidden first.
        secrets.sort_by_key(|value| std::cmp::Reverse(value.len()));
        *self.lock() = Inner { secrets, ..Inner::default() };
    }

    pub fn push(&self, bytes: &[u8]) {
        let kept = bytes.len().saturating_sub(LINES * LONGEST * 2);
        let mut inner = self.lock();
        if kept > 0 {
            inner.unfinished.clear();
        }
        for piece in bytes[kept..].split_inclusive(|byte| *byte == b'\n') {
            inner.push(piece);
        }
    }

    /// Oldest first, without control characters.
    pub fn lines(&self) -> Vec<String> {
        let inner = self.lock();
        let unfinished = shown(&inner.unfinished);
        let all = inner.lines.iter().cloned().chain(unfinished);
        let all: Vec<_> = all.map(|line| inner.hide(line)).collect();
        all[all.len().saturating_sub(LINES)..].to_vec()
    }

    pub fn last(&self) -> Option<String> {
        self.lines().pop()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn push(&mut self, piece: &[u8]) {
        let room = LONGEST.saturating_sub(self.unfinished.len());
        let (text, ends) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
        self.unfinished.extend_from_slice(&text[..text.len().min(room)]);
        if ends {
            let line = shown(&std::mem::take(&mut self.unfinished));
            self.lines.extend(line);
            let surplus = self.lines.len().saturating_sub(LINES);
            self.lines.drain(..surplus);
        }
    }

    fn hide(&self, line: String) -> String {
        self.secrets.iter().fold(line, |line, secret| line.replace(secret.as_str(), HIDDEN))
    }
}

/// A line as text that is safe to print; `None` if nothing is left.
fn shown(line: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(line);
    let text: String = without_escapes(&text).chars().filter(|it| !it.is_control()).collect();
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Without the sequences that colour a terminal's text (ECMA-48, 5.4: ESC `[`, parameters, a final byte).
fn without_escapes(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|it: char| ('@'..='~').contains(&it)).map_or(part.len(), |at| at + 1);
        plain.push_str(&part[end..]);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_lines_are_kept_without_colours_and_secrets() {
        let output = LastOutput::default();
        output.begin(["hunter2secret".to_owned(), "short".to_owned()].into_iter());
        for number in 1..=9 {
            output.push(format!("line {number}\n").as_bytes());
        }
        output.push(b"\x1b[31mError\x1b[0m: token hunter2");
        output.push(b"secret is short\r\n\n");
        assert_eq!(output.lines(), ["line 6", "line 7", "line 8", "line 9", "Error: token *** is short"]);
        output.push(b"no line end");
        assert_eq!(output.last().as_deref(), Some("no line end"));
        output.begin(std::iter::empty());
        assert_eq!(output.last(), None);
    }

    proptest! {
        /// Whatever comes in whatever pieces: little memory, no control characters.
        #[test]
        fn any_output(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..5000), 0..20)) {
            let output = LastOutput::default();
            pieces.iter().for_each(|piece| output.push(piece));
            let lines = output.lines();
            prop_assert!(lines.len() <= LINES);
            for line in lines {
                // A byte that is no UTF-8 becomes a character of three.
                prop_assert!(line.len() <= 3 * LONGEST && !line.contains(char::is_control));
            }
        }
    }
}
