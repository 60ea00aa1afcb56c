//! Where the head of a request or response ends. Pure.

/// Longer heads are refused, in bytes.
pub const MAX_HEAD: usize = 64 * 1024;

/// Searches for the empty line that ends a head, however its bytes arrive.
#[derive(Debug, Default)]
pub struct HeadSearch {
    searched: usize,
}

/// Why a head is refused before it is parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHead {
    /// TLS, for instance, of whose bytes none may be a line feed.
    #[error("it does not begin like HTTP")]
    NoText,
    /// Recipients disagree on whether it ends a line (RFC 9112, section 2.2).
    #[error("a line feed without a carriage return")]
    BareLineFeed,
    #[error("more than {MAX_HEAD} bytes of header fields")]
    TooLong,
}

impl HeadSearch {
    /// The length of the head at the beginning of `bytes`, with its empty line; `None` if more bytes must come.
    /// Between calls, bytes may only be appended.
    ///
    /// # Errors
    /// See [`BadHead`].
    pub fn find(&mut self, bytes: &[u8]) -> Result<Option<usize>, BadHead> {
        if bytes.first().is_some_and(|first| !matches!(first, b' '..=b'~' | b'\r' | b'\n')) {
            return Err(BadHead::NoText);
        }
        for at in memchr::memchr_iter(b'\n', &bytes[self.searched..]).map(|at| at + self.searched) {
            if at == 0 || bytes[at - 1] != b'\r' {
                return Err(BadHead::BareLineFeed);
            }
            if bytes[..at].ends_with(b"\r\n\r") {
                self.searched = 0;
                let length = at + 1;
                return if length > MAX_HEAD { Err(BadHead::TooLong) } else { Ok(Some(length)) };
            }
        }
        self.searched = bytes.len();
        if bytes.len() > MAX_HEAD { Err(BadHead::TooLong) } else { Ok(None) }
    }

    /// Forgets the bytes of before.
    pub fn restart(&mut self) {
        self.searched = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_empty_line_ends_a_head() {
        let find = |text: &str| HeadSearch::default().find(text.as_bytes());
        assert_eq!(find("GET / HTTP/1.1\r\na: b\r\n\r\nbody\n"), Ok(Some(24)));
        assert_eq!(find("GET / HTTP/1.1\r\na: b\r\n\r"), Ok(None));
        assert_eq!(find("GET / HTTP/1.1\n"), Err(BadHead::BareLineFeed));
        assert_eq!(find("\x16\x03"), Err(BadHead::NoText));
        assert_eq!(find("\n"), Err(BadHead::BareLineFeed));
        assert_eq!(find(&"x".repeat(MAX_HEAD + 1)), Err(BadHead::TooLong));
    }

    proptest! {
        #[test]
        fn cutting_changes_nothing(text in "[a\r\n]{0,12}(\r\n){0,2}", cuts in proptest::collection::vec(0usize..5, 0..12)) {
            let whole = HeadSearch::default().find(text.as_bytes());
            let mut search = HeadSearch::default();
            let mut end = 0usize;
            let mut found = Ok(None);
            for cut in cuts.into_iter().chain([usize::MAX]) {
                end = end.saturating_add(cut).min(text.len());
                found = search.find(&text.as_bytes()[..end]);
                if found != Ok(None) { break; }
            }
            prop_assert_eq!(found, whole);
        }
    }
}
