//! Chunks of bodies without a length (RFC 9112, section 7.1). Pure. Extensions and trailers are read and dropped.

/// Limit in bytes for all extensions and trailers of a body.
const MAX_IGNORED: usize = 16 * 1024;
/// A larger size does not fit into 64 bits.
const MAX_DIGITS: u8 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed chunks")]
pub struct Malformed;

/// Decodes chunks wherever they are cut.
#[derive(Debug, Default)]
pub struct Chunks {
    place: Place,
    ignored: usize,
}

/// The position of the next byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Before the first digit of a size.
    #[default]
    Size,
    Digits {
        size: u64,
        digits: u8,
    },
    /// After a size: white space or an extension.
    Extension {
        size: u64,
    },
    SizeLineFeed {
        size: u64,
    },
    Data {
        rest: u64,
    },
    DataReturn,
    DataLineFeed,
    /// At the beginning of a line after the last chunk.
    TrailerStart,
    TrailerName,
    Trailer,
    TrailerLineFeed,
    LastLineFeed,
    Done,
}

impl Chunks {
    pub fn is_done(&self) -> bool {
        self.place == Place::Done
    }

    /// Appends the data to `out`, and returns the number of bytes used.
    ///
    /// # Errors
    /// When they are no chunks.
    pub fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, Malformed> {
        let mut used = 0;
        while used < input.len() && !self.is_done() {
            if let Place::Data { rest } = &mut self.place {
                let length = usize::try_from(*rest).unwrap_or(usize::MAX).min(input.len() - used);
                out.extend_from_slice(&input[used..used + length]);
                used += length;
                *rest -= length as u64;
                if *rest == 0 {
                    self.place = Place::DataReturn;
                }
            } else {
                self.place = self.next(input[used])?;
                used += 1;
            }
        }
        Ok(used)
    }

    fn next(&mut self, byte: u8) -> Result<Place, Malformed> {
        Ok(match (self.place, byte) {
            (Place::Size, _) => Place::Digits { size: digit(byte)?, digits: 1 },
            (Place::Digits { size, .. } | Place::Extension { size }, b'\r') => Place::SizeLineFeed { size },
            (Place::Digits { size, .. }, b';' | b' ' | b'\t') => Place::Extension { size },
            (Place::Digits { digits: MAX_DIGITS, .. }, _) => return Err(Malformed),
            (Place::Digits { size, digits }, _) => {
                Place::Digits { size: size << 4 | digit(byte)?, digits: digits + 1 }
            }
            (Place::Extension { .. } | Place::Trailer, _) => self.ignore(byte, self.place)?,
            (Place::SizeLineFeed { size: 0 }, b'\n') => Place::TrailerStart,
            (Place::SizeLineFeed { size }, b'\n') => Place::Data { rest: size },
            (Place::DataReturn, b'\r') => Place::DataLineFeed,
            (Place::DataLineFeed, b'\n') => Place::Size,
            (Place::TrailerStart, b'\r') => Place::LastLineFeed,
            (Place::TrailerName, b':') => self.ignore(byte, Place::Trailer)?,
            (Place::TrailerStart | Place::TrailerName, _) if is_of_name(byte) => {
                self.ignore(byte, Place::TrailerName)?
            }
            (Place::TrailerLineFeed, b'\n') => Place::TrailerStart,
            (Place::LastLineFeed, b'\n') => Place::Done,
            _ => return Err(Malformed),
        })
    }

    fn ignore(&mut self, byte: u8, place: Place) -> Result<Place, Malformed> {
        self.ignored += 1;
        match byte {
            b'\r' if place == Place::Trailer => Ok(Place::TrailerLineFeed),
            b'\t' | b' '..=b'~' | 0x80.. if self.ignored <= MAX_IGNORED => Ok(place),
            _ => Err(Malformed),
        }
    }
}

/// RFC 9110, section 5.6.2.
fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn digit(byte: u8) -> Result<u64, Malformed> {
    char::from(byte).to_digit(16).map(u64::from).ok_or(Malformed)
}

/// Appends a chunk; nothing for no data, because an empty chunk is the last one.
pub fn push_chunk(out: &mut Vec<u8>, data: &[u8]) {
    use std::io::Write;
    const FRAMING: usize = 20;
    if !data.is_empty() {
        out.reserve(data.len() + FRAMING);
        // Writing to a vector can't fail.
        let _ = write!(out, "{:x}\r\n", data.len());
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    }
}

/// The last chunk, without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(text: &[u8]) -> Result<(Vec<u8>, usize, bool), Malformed> {
        let mut chunks = Chunks::default();
        let mut out = vec![];
        let used = chunks.decode(text, &mut out)?;
        Ok((out, used, chunks.is_done()))
    }

    #[test]
    fn extensions_and_trailers_are_dropped() {
        let text = b"3;a=\"b\"\r\nabc\r\nA \r\n0123456789\r\n0\r\nx: y\r\nz:\r\n\r\nGET";
        assert_eq!(decode(text), Ok((b"abc0123456789".to_vec(), text.len() - 3, true)));
    }

    #[test]
    fn what_is_ambiguous_is_refused() {
        for text in [
            "\r\n",
            ";\r\n",
            "+3\r\nabc",
            "0x3\r\nabc",
            "3\nabc",
            "3\r\nabcd",
            "3\r\nabc\n",
            "3;a\nb\r\nabc",
            "11111111111111111\r\n",
            "0\r\nx: y\n\r\n",
            "0\r\nx\r\n\r\n",
            "0\r\n: y\r\n\r\n",
            "0\r\nx : y\r\n\r\n",
            "0\r\n x: y\r\n\r\n",
            "0\r\n\n",
        ] {
            assert_eq!(decode(text.as_bytes()), Err(Malformed), "{text:?}");
        }
        assert_eq!(decode(format!("1;{}\r\n", "a".repeat(MAX_IGNORED + 1)).as_bytes()), Err(Malformed));
        assert_eq!(decode(b"ffffffffffffffff\r\nabc").map(|(out, ..)| out), Ok(b"abc".to_vec()));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_wherever_it_is_cut(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..6),
            cuts in proptest::collection::vec(1usize..9, 1..9),
        ) {
            let mut text = vec![];
            pieces.iter().for_each(|piece| push_chunk(&mut text, piece));
            text.extend_from_slice(LAST_CHUNK);
            let mut chunks = Chunks::default();
            let mut out = vec![];
            let mut rest = &text[..];
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                prop_assert_eq!(chunks.decode(now, &mut out), Ok(now.len()));
                rest = later;
                if rest.is_empty() { break; }
            }
            prop_assert!(chunks.is_done());
            prop_assert_eq!(out, pieces.concat());
        }

        #[test]
        fn any_bytes_are_chunks_or_refused(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }
}
