//! How long a body is (RFC 9112, section 6). Pure. Anything ambiguous is refused, nothing is repaired.

use super::chunked::{self, Chunks};
use super::fields::elements;

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// There is none.
    None,
    /// As many bytes.
    Known(u64),
    /// By its last chunk.
    Chunked,
    /// By the end of the connection; only responses.
    UntilClose,
}

impl BodyLength {
    /// The length of the same body when all of its bytes are there.
    pub fn of_whole(self, bytes: &[u8]) -> Self {
        match self {
            Self::None => Self::None,
            Self::Known(_) | Self::Chunked | Self::UntilClose => Self::Known(bytes.len() as u64),
        }
    }
}

/// Why the length of a body is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLength {
    #[error("Content-Length must be one number")]
    ContentLength,
    #[error("Content-Length beside Transfer-Encoding")]
    Both,
    #[error("Transfer-Encoding must be chunked")]
    TransferEncoding,
    /// It would be lost: only `chunked` is decoded.
    #[error("no other transfer coding than chunked is understood")]
    LostCoding,
}

/// What the fields of a head say about the length.
#[derive(Debug, Default)]
pub struct LengthFields {
    content_length: Option<u64>,
    codings: usize,
    is_last_chunked: bool,
    is_repeated: bool,
    is_bad: bool,
}

impl LengthFields {
    pub fn add_content_length(&mut self, value: &[u8]) {
        self.is_bad |= self.content_length.is_some();
        self.content_length = decimal(value);
        self.is_bad |= self.content_length.is_none();
    }

    pub fn add_transfer_encoding(&mut self, value: &[u8]) {
        for coding in elements(value) {
            self.is_repeated |= self.is_last_chunked;
            self.codings += 1;
            self.is_last_chunked = coding.eq_ignore_ascii_case(b"chunked");
        }
        // An empty list is a coding that is none.
        self.codings = self.codings.max(1);
    }

    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// The length that they declare, if they do.
    ///
    /// # Errors
    /// See [`BadLength`].
    pub fn declared(&self) -> Result<Option<BodyLength>, BadLength> {
        if self.is_bad {
            return Err(BadLength::ContentLength);
        }
        match (self.codings, self.content_length) {
            (0, length) => Ok(length.map(BodyLength::Known)),
            (_, Some(_)) => Err(BadLength::Both),
            _ if !self.is_last_chunked || self.is_repeated => Err(BadLength::TransferEncoding),
            (1, None) => Ok(Some(BodyLength::Chunked)),
            (_, None) => Err(BadLength::LostCoding),
        }
    }
}

/// Digits only: no sign, no list.
fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// Takes a body out of the bytes of its connection.
#[derive(Debug)]
pub enum Decoder {
    Length(u64),
    Chunked(Chunks),
    UntilClose { is_closed: bool },
}

impl Decoder {
    pub fn new(length: BodyLength) -> Self {
        match length {
            BodyLength::None => Self::Length(0),
            BodyLength::Known(length) => Self::Length(length),
            BodyLength::Chunked => Self::Chunked(Chunks::default()),
            BodyLength::UntilClose => Self::UntilClose { is_closed: false },
        }
    }

    /// Appends the body's bytes to `out`, and returns how many of `input` belong to the body with its framing.
    ///
    /// # Errors
    /// When the chunks are malformed.
    pub fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, chunked::Malformed> {
        match self {
            Self::Length(rest) => {
                let used = usize::try_from(*rest).unwrap_or(usize::MAX).min(input.len());
                *rest -= used as u64;
                out.extend_from_slice(&input[..used]);
                Ok(used)
            }
            Self::Chunked(chunks) => chunks.decode(input, out),
            Self::UntilClose { .. } => {
                out.extend_from_slice(input);
                Ok(input.len())
            }
        }
    }

    /// The connection has ended: whether the body is complete.
    pub fn close(&mut self) -> bool {
        if let Self::UntilClose { is_closed } = self {
            *is_closed = true;
        }
        self.is_done()
    }

    pub fn is_done(&self) -> bool {
        match self {
            Self::Length(rest) => *rest == 0,
            Self::Chunked(chunks) => chunks.is_done(),
            Self::UntilClose { is_closed } => *is_closed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(lengths: &[&str], codings: &[&str]) -> Result<Option<BodyLength>, BadLength> {
        let mut fields = LengthFields::default();
        lengths.iter().for_each(|length| fields.add_content_length(length.as_bytes()));
        codings.iter().for_each(|coding| fields.add_transfer_encoding(coding.as_bytes()));
        fields.declared()
    }

    #[test]
    fn one_length_is_accepted_and_nothing_ambiguous() {
        assert_eq!(declared(&[], &[]), Ok(None));
        assert_eq!(declared(&["007"], &[]), Ok(Some(BodyLength::Known(7))));
        for bad in ["", "+5", "-1", "5, 5", "0x5", "5 ", "99999999999999999999"] {
            assert_eq!(declared(&[bad], &[]), Err(BadLength::ContentLength), "{bad:?}");
        }
        assert_eq!(declared(&["5", "5"], &[]), Err(BadLength::ContentLength));
        assert_eq!(declared(&["5"], &["chunked"]), Err(BadLength::Both));
        assert_eq!(declared(&[], &["Chunked"]), Ok(Some(BodyLength::Chunked)));
        assert_eq!(declared(&[], &["gzip, chunked"]), Err(BadLength::LostCoding));
        assert_eq!(declared(&[], &["gzip", "chunked"]), Err(BadLength::LostCoding));
        for bad in ["", "identity", "xchunked", "chunked, identity", "chunked, chunked"] {
            assert_eq!(declared(&[], &[bad]), Err(BadLength::TransferEncoding), "{bad:?}");
        }
    }
}
