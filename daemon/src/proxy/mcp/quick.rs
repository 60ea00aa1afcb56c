//! A fast reader for id and method of a complete message. Pure.
//!
//! It reads the bytes once and considers only the members of the outermost object. What it does
//! not expect (a batch, an escaped key, a member twice) it leaves to the parser. It does not validate what
//! it skips: the worker does.

use serde_json::Value;

use super::message::{Message, Messages};

/// The message; `None` if the parser is needed.
pub fn read(body: &[u8]) -> Option<Messages> {
    let mut cursor = Cursor { rest: body };
    let mut id = None;
    let mut method = None;
    cursor.expect(b'{')?;
    loop {
        let key = cursor.plain_string()?;
        cursor.expect(b':')?;
        let value = cursor.value()?;
        match key {
            b"id" if id.is_none() => id = Some(value),
            b"method" if method.is_none() => method = Some(value),
            b"id" | b"method" => return None,
            _ => {}
        }
        match cursor.next()? {
            b',' => {}
            b'}' => break,
            _ => return None,
        }
    }
    if cursor.next().is_some() {
        return None;
    }
    let id = id.map(serde_json::from_slice::<Value>).transpose().ok()?;
    let method = method.map(serde_json::from_slice::<String>).transpose().ok()?;
    Some(Messages { all: vec![Message::new(id, method)?], batch: false })
}

/// What is not read yet.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }

    /// The next byte that is no white space.
    fn next(&mut self) -> Option<u8> {
        loop {
            let byte = self.byte()?;
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                return Some(byte);
            }
        }
    }

    fn expect(&mut self, wanted: u8) -> Option<()> {
        (self.next()? == wanted).then_some(())
    }

    /// A string without escapes, without its quotes.
    fn plain_string(&mut self) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let (text, rest) = self.rest.split_at(find_quote(self.rest)?);
        self.rest = rest;
        (self.byte()? == b'"').then_some(text)
    }

    /// A value of any kind, as it is written.
    fn value(&mut self) -> Option<&'a [u8]> {
        let all = self.rest;
        let first = self.next()?;
        let begin = all.len() - self.rest.len() - 1;
        match first {
            b'"' => self.end_string()?,
            b'{' | b'[' => self.end_nest()?,
            _ => {
                let is_end = |byte: &u8| matches!(byte, b',' | b'}' | b' ' | b'\t' | b'\r' | b'\n');
                self.rest = &self.rest[self.rest.iter().position(is_end)?..];
            }
        }
        Some(&all[begin..all.len() - self.rest.len()])
    }

    /// Skips a string whose first quote was just read.
    fn end_string(&mut self) -> Option<()> {
        loop {
            self.rest = &self.rest[find_quote(self.rest)?..];
            if self.byte()? == b'"' {
                return Some(());
            }
            // What is escaped.
            self.byte()?;
        }
    }

    /// Skips an array or object whose first bracket was just read.
    fn end_nest(&mut self) -> Option<()> {
        let mut depth = 1;
        while depth > 0 {
            match self.byte()? {
                b'"' => self.end_string()?,
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
        }
        Some(())
    }
}

/// Where the first quote or backslash is. Most strings are so short that a call of `memchr2` would take longer.
fn find_quote(bytes: &[u8]) -> Option<usize> {
    const SHORT: usize = 16;
    let is_found = |byte: &u8| matches!(byte, b'"' | b'\\');
    let (short, long) = bytes.split_at(bytes.len().min(SHORT));
    let found = short.iter().position(is_found);
    found.or_else(|| memchr::memchr2(b'"', b'\\', long).map(|at| SHORT + at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn what_is_unusual_is_left_to_the_parser() {
        let unusual = [
            r#"[{"id":1,"method":"a"}]"#,
            r#"{"id":1,"id":2,"method":"a"}"#,
            r#"{"\u0069d":1,"method":"a"}"#,
            r#"{"id":1,"method":7}"#,
            r#"{"id":1,"method":"a"} x"#,
            r#"{"id":1,"method":"a""#,
            r#"{"id":1,"method":"a\"#,
            "{}",
            "",
        ];
        for body in unusual {
            assert_eq!(read(body.as_bytes()), None, "{body}");
        }
    }

    proptest! {
        /// The fast reader and the parser agree on usual messages.
        #[test]
        fn it_agrees_with_the_parser(
            id in "[0-9]{1,6}|\"[a-z0-9-]{0,9}\"|null",
            method in "[a-z/]{0,12}",
            text in "[ -~]{0,20}",
            gap in "[ \n]{0,2}",
        ) {
            let params = json!({ "id": 1, "method": "no", "text": text, "more": [[text], {}] });
            let members = [
                "\"jsonrpc\":\"2.0\"".to_owned(),
                format!("\"id\"{gap}:{gap}{id}{gap}"),
                format!("\"method\":{gap}\"{method}\""),
                format!("\"params\":{params}"),
            ];
            let body = format!("{gap}{{{gap}{}}}{gap}", members.join(","));
            prop_assert_eq!(read(body.as_bytes()), Messages::parse(body.as_bytes()));
        }

        #[test]
        fn any_bytes_pass(bytes: Vec<u8>, text in "[\\[\\]{}\"\\\\:, idmetho1n]{0,60}") {
            let _ = (read(&bytes), read(text.as_bytes()));
        }
    }
}
