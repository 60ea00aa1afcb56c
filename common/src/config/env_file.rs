//! Parses an `env_file`: lines of `NAME=VALUE`.
//!
//! Empty lines and lines that begin with `#` are skipped, a leading `export ` is accepted, and quotes
//! around a value are removed (double quotes allow the escapes `\n`, `\t`, `\"`, `\\` and `\$`). Variables
//! are not expanded. Values are often secrets, so no message contains one.

/// Parses the text of a file; an error names the line.
pub(super) fn parse(text: &str) -> Result<Vec<(String, String)>, String> {
    let lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines().zip(1..);
    let entries = lines.filter(|(line, _)| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with('#')
    });
    entries.map(|(line, number)| entry(line.trim()).map_err(|why| format!("line {number} {why}"))).collect()
}

fn entry(line: &str) -> Result<(String, String), &'static str> {
    let line = line.strip_prefix("export ").map_or(line, str::trim_start);
    let (name, value) = line.split_once('=').ok_or("has no '='; write NAME=VALUE")?;
    let name = name.trim_end();
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    if !first || !bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Err("has an invalid name; write letters, digits and '_', no digit first");
    }
    if value.contains('\0') {
        return Err("contains a NUL byte; remove it");
    }
    Ok((name.to_owned(), unquoted(value.trim())?))
}

fn unquoted(value: &str) -> Result<String, &'static str> {
    match value.chars().next() {
        Some('\'') => {
            let (inner, _) =
                value[1..].split_once('\'').ok_or("has a quote that is not closed; add the closing quote")?;
            Ok(inner.to_owned())
        }
        Some('"') => double_quoted(&value[1..]),
        // A comment needs a space before its '#': "a#b" is a value.
        _ => Ok(value.split_once(" #").map_or(value, |(value, _)| value.trim_end()).to_owned()),
    }
}

fn double_quoted(text: &str) -> Result<String, &'static str> {
    let mut value = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(next) = chars.next() {
        match next {
            '"' => return Ok(value),
            '\\' => match chars.next() {
                Some('n') => value.push('\n'),
                Some('t') => value.push('\t'),
                Some(other @ ('"' | '\\' | '$')) => value.push(other),
                Some(other) => value.extend(['\\', other]),
                None => break,
            },
            other => value.push(other),
        }
    }
    Err("has a quote that is not closed; add the closing quote")
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

    #[test]
    fn an_error_names_the_line_and_no_value() {
        for (text, line) in [("A=1\nsecret", "line 2"), ("1A=secret", "line 1"), ("A=\"secret", "line 1")] {
            let error = parse(text).expect_err("not an entry");
            assert!(error.starts_with(line) && !error.contains("secret"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[A-Z=\"'\\\\ #\n\u{e9}\0]{0,40}") {
            let _ = parse(&text);
        }
    }
}
