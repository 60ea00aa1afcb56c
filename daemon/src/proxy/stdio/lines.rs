//! Cuts what a server writes into lines. Pure.

use serde_json::Value;

use crate::proxy::mcp::message::Message;
use crate::proxy::mcp::scan::Scanner;

/// Limit for one line, in bytes (R-STDIO-3).
pub const LONGEST: usize = 16 * 1024 * 1024;

#[derive(Default)]
pub struct Lines {
    /// The line that has not ended yet.
    begin: Vec<u8>,
    /// Of a line that is too long, only what identifies it is kept.
    too_long: Option<Scanner>,
}

/// A line, without its end.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    Whole(&'a [u8]),
    /// It is longer than [`LONGEST`]: the request that it answers, if that can be told.
    TooLong(Option<Value>),
}

impl Lines {
    /// Takes bytes, and calls `each` with every complete line that is not empty.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(Line<'_>)) {
        let mut rest = bytes;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            if self.begin.is_empty() && self.too_long.is_none() {
                whole(line, &mut each);
            } else {
                self.keep(line);
                self.end(&mut each);
            }
            rest = after;
        }
        self.keep(rest);
    }

    fn keep(&mut self, bytes: &[u8]) {
        match &mut self.too_long {
            Some(scanner) => scanner.push(bytes),
            None if self.begin.len() + bytes.len() > LONGEST => {
                let mut scanner = Scanner::default();
                scanner.push(&std::mem::take(&mut self.begin));
                scanner.push(bytes);
                self.too_long = Some(scanner);
            }
            None => self.begin.extend_from_slice(bytes),
        }
    }

    fn end(&mut self, each: &mut impl FnMut(Line<'_>)) {
        match self.too_long.take() {
            Some(scanner) => each(Line::TooLong(answered(&scanner))),
            // The memory of a long line is not kept.
            None => whole(&std::mem::take(&mut self.begin), each),
        }
    }
}

fn whole(line: &[u8], each: &mut impl FnMut(Line<'_>)) {
    let line = line.trim_ascii();
    if !line.is_empty() {
        each(Line::Whole(line));
    }
}

fn answered(scanner: &Scanner) -> Option<Value> {
    let mut messages = scanner.messages()?.all;
    match messages.pop()? {
        Message::Answer { id } => Some(id),
        Message::Request { .. } | Message::Notification { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_that_is_too_long_names_its_request_and_the_next_one_is_read() {
        let mut lines = Lines::default();
        let mut got = vec![];
        let mut push = |bytes: &[u8]| lines.push(bytes, |line| got.push(format!("{line:?}")));
        push(br#"{"jsonrpc":"2.0","result":{"text":""#);
        let chunk = vec![b'x'; 64 * 1024];
        (0..=LONGEST / chunk.len()).for_each(|_| push(&chunk));
        push(b"\"},\"id\":7}\n\n{}\r\n");
        assert_eq!(
            got,
            [format!("{:?}", Line::TooLong(Some(7.into()))), format!("{:?}", Line::Whole(b"{}"))]
        );
        assert_eq!(lines.begin.capacity(), 0);
    }

    proptest! {
        /// However the pipe cuts the bytes, the same lines come out.
        #[test]
        fn cutting_changes_nothing(lines in proptest::collection::vec("[a-z]{0,9}", 0..9), cut in 1usize..7) {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            let mut splitter = Lines::default();
            let mut got = vec![];
            for part in text.as_bytes().chunks(cut) {
                splitter.push(part, |line| {
                    if let Line::Whole(line) = line {
                        got.push(String::from_utf8_lossy(line).into_owned());
                    }
                });
            }
            let expected: Vec<_> = lines.into_iter().filter(|line| !line.is_empty()).collect();
            prop_assert_eq!(got, expected);
        }
    }
}
