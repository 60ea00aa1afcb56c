//! Who may ask at all: a web page must not reach a local server by DNS rebinding.
//!
//! `Host` has to name this machine, and `Origin`, which browsers send and MCP clients do
//! not, has to be a page of this machine.

use hyper::header::{HOST, HeaderMap, HeaderValue, ORIGIN};
use hyper::http::uri::{Authority, Uri};

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// `Host` is missing, malformed or of another machine.
    #[error("the Host header must name localhost, 127.0.0.1 or [::1]")]
    Host,
    /// `Origin` is there, and not of this machine.
    #[error("the Origin header must be of a loopback host, or absent")]
    Origin,
}

/// Whether the request may be served.
pub fn check(uri: &Uri, headers: &HeaderMap) -> Result<(), Refused> {
    let named = headers.get(HOST).map_or_else(|| uri.authority().cloned(), authority_of);
    if !named.is_some_and(|authority| is_loopback(authority.host())) {
        return Err(Refused::Host);
    }
    match headers.get(ORIGIN) {
        Some(origin) if !is_loopback_origin(origin) => Err(Refused::Origin),
        _ => Ok(()),
    }
}

fn authority_of(value: &HeaderValue) -> Option<Authority> {
    value.to_str().ok()?.parse().ok()
}

fn is_loopback_origin(origin: &HeaderValue) -> bool {
    let uri = origin.to_str().ok().and_then(|text| text.parse::<Uri>().ok());
    uri.as_ref().and_then(Uri::host).is_some_and(is_loopback)
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || matches!(host, "127.0.0.1" | "[::1]")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(host: Option<&'static str>, origin: Option<&'static str>) -> Result<(), Refused> {
        let mut headers = HeaderMap::new();
        host.map(|host| headers.insert(HOST, HeaderValue::from_static(host)));
        origin.map(|origin| headers.insert(ORIGIN, HeaderValue::from_static(origin)));
        check(&Uri::from_static("/mcp"), &headers)
    }

    /// R-CLIENT-4, as far as a `direct` worker has to see to it itself.
    #[test]
    fn only_this_machine_is_served() {
        for host in ["localhost", "LocalHost:8081", "127.0.0.1:8081", "[::1]:8081", "[::1]"] {
            assert_eq!(ask(Some(host), None), Ok(()), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:80", "127.0.0.2", "::1", "", "a@127.0.0.1@b"] {
            assert_eq!(ask(Some(host), None), Err(Refused::Host), "{host}");
        }
        assert_eq!(ask(None, None), Err(Refused::Host));
    }

    #[test]
    fn only_pages_of_this_machine_are_served() {
        for origin in ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:5173"] {
            assert_eq!(ask(Some("localhost"), Some(origin)), Ok(()), "{origin}");
        }
        for origin in ["null", "http://evil.example", "http://localhost.evil.example", "file://", ""] {
            assert_eq!(ask(Some("localhost"), Some(origin)), Err(Refused::Origin), "{origin}");
        }
    }
}
