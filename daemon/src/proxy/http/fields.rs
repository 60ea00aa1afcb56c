//! Header fields: which ones mcpd reads or replaces, and the copy of all others as they are. Pure.

use httparse::Header;

/// Heads with more fields are refused.
pub const MAX_FIELDS: usize = 100;

/// A field that mcpd reads, replaces or removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Accept,
    Connection,
    ContentLength,
    ContentType,
    Expect,
    Host,
    LastEventId,
    Origin,
    SessionId,
    TransferEncoding,
    /// Concerns one connection only (RFC 9110, section 7.6.1), or is `Accept-Encoding`: mcpd reads what it forwards.
    Hop,
    /// Anything else: forwarded as it is.
    Other,
}

impl Field {
    pub fn of(name: &str) -> Self {
        let candidates: &[(&str, Self)] = match name.len() {
            2 => &[("te", Self::Hop)],
            4 => &[("host", Self::Host)],
            6 => &[("accept", Self::Accept), ("origin", Self::Origin), ("expect", Self::Expect)],
            7 => &[("upgrade", Self::Hop), ("trailer", Self::Hop)],
            10 => &[("connection", Self::Connection), ("keep-alive", Self::Hop)],
            12 => &[("content-type", Self::ContentType)],
            13 => &[("last-event-id", Self::LastEventId)],
            14 => &[("content-length", Self::ContentLength), ("mcp-session-id", Self::SessionId)],
            15 => &[("accept-encoding", Self::Hop)],
            16 => &[("proxy-connection", Self::Hop)],
            17 => &[("transfer-encoding", Self::TransferEncoding)],
            _ => &[],
        };
        // Nearly all programs write the names as they are here.
        let is_name = |known: &str| known == name || known.eq_ignore_ascii_case(name);
        let found = candidates.iter().find(|(known, _)| is_name(known));
        found.map_or(Self::Other, |(_, field)| *field)
    }

    /// Whether mcpd removes it, or writes one of its own instead.
    fn is_replaced(self) -> bool {
        match self {
            Self::Accept | Self::ContentType | Self::Host | Self::Origin | Self::Other => false,
            Self::Connection
            | Self::ContentLength
            | Self::Expect
            | Self::Hop
            | Self::LastEventId
            | Self::SessionId
            | Self::TransferEncoding => true,
        }
    }
}

/// What the fields of one head are, in their order.
pub struct Kinds([Field; MAX_FIELDS]);

impl Kinds {
    pub fn of(fields: &[Header<'_>]) -> Self {
        let mut kinds = [Field::Other; MAX_FIELDS];
        for (kind, field) in kinds.iter_mut().zip(fields) {
            *kind = Field::of(field.name);
        }
        Self(kinds)
    }

    pub fn iter(&self) -> impl Iterator<Item = Field> {
        self.0.iter().copied()
    }
}

/// Appends the lines of all fields that are forwarded, as they are in `head`, which ends with its empty line.
pub fn copy_forwarded(head: &[u8], fields: &[Header<'_>], kinds: &Kinds, named: &[&str], out: &mut Vec<u8>) {
    let start_of = |field: &Header<'_>| field.name.as_ptr().addr() - head.as_ptr().addr();
    let end = head.len() - b"\r\n".len();
    let Some(mut from) = fields.first().map(start_of) else { return };
    // Runs of lines are copied together.
    for (at, (field, kind)) in fields.iter().zip(kinds.iter()).enumerate() {
        // `Host` belongs to the request even if `Connection` names it.
        let is_named = kind != Field::Host && named.iter().any(|name| name.eq_ignore_ascii_case(field.name));
        if kind.is_replaced() || is_named {
            out.extend_from_slice(&head[from..start_of(field)]);
            from = fields.get(at + 1).map_or(end, start_of);
        }
    }
    out.extend_from_slice(&head[from..end]);
}

/// The elements of a list, RFC 9110, section 5.6.1.
pub fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// What `Connection` says.
#[derive(Debug, Default)]
pub struct ConnectionOptions<'a> {
    pub close: bool,
    /// Names of fields that concern one connection only.
    pub named: Vec<&'a str>,
}

impl<'a> ConnectionOptions<'a> {
    pub fn add(&mut self, value: &'a [u8]) {
        for option in elements(value) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if !option.eq_ignore_ascii_case(b"keep-alive") {
                self.named.extend(str::from_utf8(option));
            }
        }
    }
}

/// Whether a content type is this one, whatever its parameters are.
pub fn is_kind(value: &[u8], kind: &str) -> bool {
    let given = value.trim_ascii_start().get(..kind.len());
    given.is_some_and(|given| given.eq_ignore_ascii_case(kind.as_bytes()))
}

/// `name: value` and the end of the line.
pub fn push_line(out: &mut Vec<u8>, name: &str, value: &str) {
    for part in [name, ": ", value, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// A number in decimal digits.
pub fn push_number(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    let mut from = digits.len();
    let mut rest = number;
    loop {
        from -= 1;
        digits[from] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[from..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(head: &str, named: &[&str]) -> String {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let (_, fields) =
            httparse::parse_headers(head.as_bytes(), &mut fields).expect("valid fields").unwrap();
        let mut out = vec![];
        copy_forwarded(head.as_bytes(), fields, &Kinds::of(fields), named, &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn fields_are_forwarded_as_they_are() {
        assert_eq!(forwarded("Host: a\r\nX-B:c \r\n\r\n", &[]), "Host: a\r\nX-B:c \r\n");
        assert_eq!(
            forwarded("TE: x\r\nHost: a\r\nConnection: x\r\nB: c\r\nUpgrade: h2c\r\n\r\n", &[]),
            "Host: a\r\nB: c\r\n"
        );
        assert_eq!(
            forwarded("x-hop: 1\r\nhost: a\r\nX-HOP: 2\r\nz: \r\n\r\n", &["X-Hop", "host"]),
            "host: a\r\nz: \r\n"
        );
        assert_eq!(forwarded("\r\n", &[]), "");
    }

    #[test]
    fn options_of_a_connection_are_read() {
        let mut options = ConnectionOptions::default();
        options.add(b"keep-alive, X-Hop ,");
        assert!(!options.close && options.named == ["X-Hop"]);
        options.add(b"Close");
        assert!(options.close);
    }

    #[test]
    fn a_number_is_written_in_digits() {
        for number in [0, 7, 10, 1024, u64::MAX] {
            let mut out = vec![];
            push_number(&mut out, number);
            assert_eq!(out, number.to_string().into_bytes());
        }
    }

    #[test]
    fn a_content_type_may_have_parameters() {
        assert!(is_kind(b" Application/JSON; charset=utf-8", "application/json"));
        assert!(!is_kind(b"application/jso", "application/json"));
    }
}
