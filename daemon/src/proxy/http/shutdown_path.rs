//! Whether a request is for the worker's shutdown route, which is mcpd's own (R-CLIENT-13).

use std::borrow::Cow;

/// Whether a server may take `requested` for the shutdown route: percent-encoding, repeated slashes, dots and a slash at
/// the end make no difference to many servers.
pub fn is_requested(requested: &str, shutdown_path: &str) -> bool {
    segments(&decoded(requested)) == segments(&decoded(shutdown_path))
}

/// The segments of a path, with dot segments removed (RFC 3986, section 5.2.4).
fn segments(path: &str) -> Vec<String> {
    let mut segments = vec![];
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment.to_owned()),
        }
    }
    segments
}

fn decoded(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return path.into();
    }
    let mut bytes = vec![];
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = (*first == b'%').then(|| after.first_chunk().and_then(byte)).flatten();
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned().into()
}

fn byte(digits: &[u8; 2]) -> Option<u8> {
    let digits =
        str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|it| it.is_ascii_hexdigit()))?;
    u8::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_spelling_of_the_route_is_recognized() {
        for spelling in [
            "/shutdown",
            "/shutdown/",
            "//shutdown",
            "/./shutdown",
            "/a/../shutdown",
            "/%73hutdow%6E",
            "/%2fshutdown",
        ] {
            assert!(is_requested(spelling, "/shutdown"), "{spelling}");
        }
        for other in
            ["/", "/mcp", "/shutdowns", "/shutdown/now", "/Shutdown", "/%7shutdown", "/%+1shutdown", "/%"]
        {
            assert!(!is_requested(other, "/shutdown"), "{other}");
        }
        assert!(is_requested("/admin/stop", "/admin/stop/"));
    }

    proptest! {
        #[test]
        fn any_text_is_compared(path in "[/.%0-9a-fs\u{e9}]{0,24}") {
            let _ = is_requested(&path, "/shutdown");
        }
    }
}
