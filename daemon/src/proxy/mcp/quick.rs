//! A fast reader for id and method of a complete message. Pure.
//!
//! It reads the bytes once and considers only the members of the outermost object. What it does
//! not expect (a batch, an escaped key, a member twice) it leaves to the parser. It does not validate what
//! it skips: the worker does.

use serde_json::Value;

use super::message::{Message, Messages};

/// The message; `None` if the parser is needed.
pub fn read(body: &[u8]) -> Option<Messages> {
    let mut cursor = Cursor { bytes: body, at: 0 };
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
    let method = match method.map(serde_json::from_slice::<Value>) {
        None => None,
        Some(Ok(Value::String(method))) => Some(method),
        Some(_) => return None,
    };
    let id = id.map(serde_json::from_slice::<Value>).transpose().ok()?;
    Some(Messages { all: vec![Message::new(id, method)?], batch: false })
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// The next byte that is no white space.
    fn next(&mut self) -> Option<u8> {
        loop {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
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
        let rest = &self.bytes[self.at..];
        let length = memchr::memchr2(b'"', b'\\', rest)?;
        self.at += length + 1;
        (rest[length] == b'"').then(|| &rest[..length])
    }

    /// A value of any kind, as it is written.
    fn value(&mut self) -> Option<&'a [u8]> {
        let first = self.next()?;
        let begin = self.at - 1;
        match first {
            b'"' => self.end_string()?,
            b'{' | b'[' => self.end_nest()?,
            _ => {
                let rest = &self.bytes[self.at..];
                let is_end = |byte: &u8| matches!(byte, b',' | b'}' | b' ' | b'\t' | b'\r' | b'\n');
                self.at += rest.iter().position(is_end)?;
            }
        }
        Some(&self.bytes[begin..self.at])
    }

    /// Skips a string whose first quote was just read.
    fn end_string(&mut self) -> Option<()> {
        loop {
            let rest = &self.bytes[self.at..];
            let length = memchr::memchr2(b'"', b'\\', rest)?;
            let is_end = rest[length] == b'"';
            self.at += length + if is_end { 1 } else { 2 };
            if is_end {
                return Some(());
            }
            if self.at > self.bytes.len() {
                return None;
            }
        }
    }

    /// Skips an array or object whose first bracket was just read.
    fn end_nest(&mut self) -> Option<()> {
        let mut depth = 1;
        while depth > 0 {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            match byte {
                b'"' => self.end_string()?,
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
        }
        Some(())
    }
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
