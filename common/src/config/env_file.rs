//! Parses an `env_file`: lines of `NAME=VALUE`.
//!
//! Empty lines and lines that begin with `#` are skipped, a leading `export ` is accepted, and quotes
//! around a value are removed (double quotes allow the escapes `\n`, `\t`, `\"`, `\\` and `\$`). A value in
//! quotes may have several lines, as keys in PEM format do. CRLF ends a line as LF does, and is read as LF in
//! a value. Variables are not expanded. Values are often secrets, so no message contains one.

const NOT_CLOSED: &str = "has a quote that is not closed; add the closing quote";

/// Parses the text of a file; an error names the line.
pub(super) fn parse(text: &str) -> Result<Vec<(String, String)>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let mut entries = Vec::new();
    let mut number = 1;
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let line = first_line(rest).trim();
        let mut end = 0;
        if !line.is_empty() && !line.starts_with('#') {
            let (name, value, length) = entry(rest).map_err(|why| format!("line {number} {why}"))?;
            entries.push((name, value));
            end = length;
        }
        end += first_line(&rest[end..]).len();
        // The last line may have no line end.
        end = rest.len().min(end + 1);
        number += rest[..end].matches('\n').count();
        rest = &rest[end..];
    }
    Ok(entries)
}

fn first_line(text: &str) -> &str {
    text.split_once('\n').map_or(text, |(line, _)| line)
}

/// The first entry of the text, and its length.
fn entry(text: &str) -> Result<(String, String, usize), &'static str> {
    let line = first_line(text);
    let (before, after) = line.split_once('=').ok_or("has no '='; write NAME=VALUE")?;
    let name = before.trim();
    let name = name.strip_prefix("export ").unwrap_or(name).trim();
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    if !first || !bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Err("has an invalid name; write letters, digits and '_', no digit first");
    }
    let start = line.len() - after.trim_start().len();
    let (value, length) = value(&text[start..])?;
    if value.contains('\0') {
        return Err("contains a NUL byte; remove it");
    }
    Ok((name.to_owned(), value, start + length))
}

/// The value at the beginning of the text, and its length.
fn value(text: &str) -> Result<(String, usize), &'static str> {
    let (value, length) = match text.chars().next() {
        Some('\'') => {
            let (inner, _) = text[1..].split_once('\'').ok_or(NOT_CLOSED)?;
            (inner.to_owned(), inner.len() + 2)
        }
        Some('"') => double_quoted(text)?,
        _ => {
            let line = first_line(text);
            // A comment needs a space before its '#': "a#b" is a value.
            let value = line.split_once(" #").map_or(line, |(value, _)| value);
            return Ok((value.trim_end().to_owned(), line.len()));
        }
    };
    let after = first_line(&text[length..]).trim_start();
    // The quote that was found is most likely the first one of another entry.
    if text[..length].contains('\n') && !after.is_empty() && !after.starts_with('#') {
        return Err("has a quote that is not closed, or text after the closing quote; \
                    write only a comment after it");
    }
    Ok((value, length))
}

fn double_quoted(text: &str) -> Result<(String, usize), &'static str> {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, next)) = chars.next() {
        match next {
            '"' => return Ok((value, at + 1)),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 't')) => value.push('\t'),
                Some((_, other @ ('"' | '\\' | '$'))) => value.push(other),
                Some((_, other)) => value.extend(['\\', other]),
                None => break,
            },
            other => value.push(other),
        }
    }
    Err(NOT_CLOSED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn common_notations_are_accepted() {
        let text =
            "# comment\n\nA=1\nexport B = two words # why\nC='x # y'\nD=\"a\\n\\\"b\\\"\"\nE=\nF=a#b=c\r\n";
        let read = parse(text).expect("readable");
        let pairs: Vec<_> = read.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let expected =
            [("A", "1"), ("B", "two words"), ("C", "x # y"), ("D", "a\n\"b\""), ("E", ""), ("F", "a#b=c")];
        assert_eq!(pairs, expected);
    }

    /// As keys in PEM format are written.
    #[test]
    fn a_value_in_quotes_may_have_several_lines() {
        let key = "-----BEGIN KEY-----\nMII=\n# no comment\n\n-----END KEY-----\n";
        for quote in ['"', '\''] {
            let text = format!("A=1\nexport KEY = {quote}{key}{quote} # its use\nB=2\n");
            for text in [text.clone(), text.replace('\n', "\r\n")] {
                let read = parse(&text).expect("readable");
                let expected = [("A", "1"), ("KEY", key), ("B", "2")];
                assert_eq!(read, expected.map(|(name, value)| (name.to_owned(), value.to_owned())), "{text}");
            }
        }
        let escaped = parse("A=\"x\\\"y\nz\\\\\"\nB='\\\n'").expect("readable");
        assert_eq!([escaped[0].1.as_str(), escaped[1].1.as_str()], ["x\"y\nz\\", "\\\n"]);
    }

    #[test]
    fn an_error_names_the_line_and_no_value() {
        for (text, line) in [
            ("A=1\nsecret", "line 2 has no '='"),
            ("1A=secret", "line 1 has an invalid name"),
            ("A=\"secret", "line 1 has a quote that is not closed;"),
            ("A='\nsecret\n'\n\nB=\"\n\"\nsecret", "line 7 has no '='"),
            ("A='\r\nsecret\r\n'\r\nsecret", "line 4 has no '='"),
            ("A=1\nB='secret\nC=2\n", "line 2 has a quote that is not closed;"),
            ("A=1\nB='secret\nC='2'\n", "line 2 has a quote that is not closed, or text"),
            ("A='x\n\0secret'", "line 1 contains a NUL byte"),
        ] {
            let error = parse(text).expect_err("not an entry");
            assert!(error.starts_with(line) && !error.contains("secret"), "{error}");
        }
    }

    /// An entry with this value, in one of the three notations; single quotes can't contain themselves.
    fn written(value: &str, notation: u8) -> String {
        match notation {
            0 if !value.contains('\'') => format!("A='{value}'"),
            1 => format!("A=\"{}\" # \"'", value.replace('\\', "\\\\").replace('"', "\\\"")),
            _ => format!(
                "export A = \"{}\"",
                value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
            ),
        }
    }

    proptest! {
        #[test]
        fn what_was_quoted_is_read(
            values in proptest::collection::vec(("[A-Z='\"\\\\ #$\n\u{e9}]{0,12}", 0..3u8), 0..6),
            crlf: bool,
        ) {
            let mut text = String::new();
            for (value, notation) in &values {
                text.push_str(&written(value, *notation));
                text.push('\n');
            }
            let lines = text.matches('\n').count();
            let file = |text: &str| if crlf { text.replace('\n', "\r\n") } else { text.to_owned() };
            let read: Vec<_> = parse(&file(&text)).expect("readable").into_iter().map(|(_, it)| it).collect();
            let expected: Vec<_> = values.into_iter().map(|(value, _)| value).collect();
            prop_assert_eq!(read, expected);
            let error = parse(&file(&format!("{text}no entry\n"))).expect_err("no entry");
            prop_assert!(error.starts_with(&format!("line {} has no", lines + 1)), "{}", error);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[A-Z=\"'\\\\ #\n\u{e9}\0]{0,40}") {
            let _ = parse(&text);
        }
    }
}
