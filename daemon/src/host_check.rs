//! Checks `Host` and `Origin`: a web page must not reach a local server by DNS rebinding.
//!
//! `Host` has to name this machine. `Origin`, which browsers send and MCP clients do
//! not, has to be of this machine.

use hyper::header::{HOST, HeaderMap, HeaderValue, ORIGIN};
use hyper::http::uri::{Authority, Uri};

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// `Host` is missing, malformed or names another machine.
    #[error("the Host header must name localhost, 127.0.0.1 or [::1]")]
    Host,
    /// `Origin` is not of this machine.
    #[error("the Origin header must be of a loopback host, or absent")]
    Origin,
}

/// Hosts and origins that are allowed besides this machine.
#[derive(Clone, Debug, Default)]
pub struct Allowed {
    /// Hosts, as `Host` names them, without a port.
    pub hosts: Vec<String>,
    /// Origins, as browsers write them.
    pub origins: Vec<String>,
}

impl Allowed {
    /// Whether the request may be served.
    ///
    /// # Errors
    /// Names the header that is not allowed.
    pub fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refused> {
        // The host of an absolute-form target counts, whatever `Host` says (RFC 9112, section 3.2.2).
        if uri.authority().is_some_and(|authority| !self.is_allowed_host(authority.host())) {
            return Err(Refused::Host);
        }
        let mut hosts = headers.get_all(HOST).iter();
        let is_allowed = match (hosts.next(), hosts.next()) {
            (Some(host), None) => {
                is_plain_loopback(host.as_bytes()) || self.is_allowed_authority(authority_of(host))
            }
            (None, _) => self.is_allowed_authority(uri.authority().cloned()),
            // With two, the worker might use the other one.
            (Some(_), Some(_)) => false,
        };
        if !is_allowed {
            return Err(Refused::Host);
        }
        if headers.get_all(ORIGIN).iter().all(|origin| self.is_allowed_origin(origin)) {
            Ok(())
        } else {
            Err(Refused::Origin)
        }
    }

    fn is_allowed_authority(&self, authority: Option<Authority>) -> bool {
        authority.is_some_and(|authority| self.is_allowed_host(authority.host()))
    }

    fn is_allowed_host(&self, host: &str) -> bool {
        is_loopback(host) || self.hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(host))
    }

    fn is_allowed_origin(&self, origin: &HeaderValue) -> bool {
        let Ok(text) = origin.to_str() else {
            return false;
        };
        let loopback = text.parse::<Uri>().ok().and_then(|uri| uri.host().map(is_loopback));
        loopback.unwrap_or(false) || self.origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(text))
    }
}

fn authority_of(value: &HeaderValue) -> Option<Authority> {
    value.to_str().ok()?.parse().ok()
}

/// Fast path for what nearly every client sends: one of three names, perhaps with a port.
fn is_plain_loopback(host: &[u8]) -> bool {
    let names: [&[u8]; 3] = [b"127.0.0.1", b"localhost", b"[::1]"];
    let rest = names.iter().find_map(|name| host.strip_prefix(*name));
    rest.is_some_and(|rest| match rest {
        [] => true,
        [b':', port @ ..] => (1..=5).contains(&port.len()) && port.iter().all(u8::is_ascii_digit),
        _ => false,
    })
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
        Allowed::default().check(&Uri::from_static("/mcp"), &headers)
    }

    /// R-CLIENT-4.
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
    fn two_hosts_are_none() {
        let mut headers = HeaderMap::new();
        headers.append(HOST, HeaderValue::from_static("localhost"));
        headers.append(HOST, HeaderValue::from_static("localhost"));
        assert_eq!(Allowed::default().check(&Uri::from_static("/"), &headers), Err(Refused::Host));
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

    #[test]
    fn more_may_be_allowed() {
        let allowed = Allowed { hosts: vec!["dev.box".into()], origins: vec!["https://app.example".into()] };
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("dev.box:8081"));
        headers.insert(ORIGIN, HeaderValue::from_static("https://app.example"));
        assert_eq!(allowed.check(&Uri::from_static("/mcp"), &headers), Ok(()));
        headers.insert(ORIGIN, HeaderValue::from_static("https://other.example"));
        assert_eq!(allowed.check(&Uri::from_static("/mcp"), &headers), Err(Refused::Origin));
    }
}
