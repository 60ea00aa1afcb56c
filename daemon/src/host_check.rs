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
        let hosts: Vec<_> = headers.get_all(HOST).iter().map(HeaderValue::as_bytes).collect();
        self.check_hosts(uri.authority().map(Authority::as_str), &hosts)?;
        headers.get_all(ORIGIN).iter().try_for_each(|origin| self.check_origin(origin.as_bytes()))
    }

    /// Whether the host of the target, if it has one, and `Host` are allowed. The target's host counts, whatever
    /// `Host` says (RFC 9112, section 3.2.2).
    ///
    /// # Errors
    /// If one of them is not, or there is not exactly one.
    pub fn check_hosts(&self, target: Option<&str>, hosts: &[&[u8]]) -> Result<(), Refused> {
        let is_allowed = |host: &[u8]| is_plain_loopback(host) || self.is_allowed_authority(host);
        let is_served = match (target, hosts) {
            (None, [host]) => is_allowed(host),
            (Some(target), [host]) => is_allowed(target.as_bytes()) && is_allowed(host),
            (Some(target), []) => is_allowed(target.as_bytes()),
            // With two, the worker might use the other one.
            (None, []) | (_, [_, _, ..]) => false,
        };
        if is_served { Ok(()) } else { Err(Refused::Host) }
    }

    /// Whether a page of this origin may send requests.
    ///
    /// # Errors
    /// If it may not.
    pub fn check_origin(&self, origin: &[u8]) -> Result<(), Refused> {
        let text = str::from_utf8(origin).ok();
        if text.is_some_and(|origin| self.is_allowed_origin(origin)) { Ok(()) } else { Err(Refused::Origin) }
    }

    fn is_allowed_authority(&self, host: &[u8]) -> bool {
        let authority = str::from_utf8(host).ok().and_then(|host| host.parse::<Authority>().ok());
        authority.is_some_and(|authority| self.is_allowed_host(authority.host()))
    }

    fn is_allowed_host(&self, host: &str) -> bool {
        is_loopback(host) || self.hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(host))
    }

    fn is_allowed_origin(&self, origin: &str) -> bool {
        let loopback = origin.parse::<Uri>().ok().and_then(|uri| uri.host().map(is_loopback));
        loopback.unwrap_or(false) || self.origins.iter().any(|allowed| is_covered(origin, allowed))
    }
}

/// Whether an origin is one that is allowed: exactly, or by its scheme (`chrome-extension://*`).
fn is_covered(origin: &str, allowed: &str) -> bool {
    match allowed.strip_suffix("://*") {
        Some(scheme) => origin.split_once("://").is_some_and(|(it, _)| it.eq_ignore_ascii_case(scheme)),
        None => origin.eq_ignore_ascii_case(allowed),
    }
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

/// Names below `localhost` are of this machine as well (RFC 6761, section 6.3).
fn is_loopback(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or(host);
    let is_name = last.eq_ignore_ascii_case("localhost") && !host.starts_with('.');
    is_name || matches!(host, "127.0.0.1" | "[::1]")
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
        for host in
            ["localhost", "LocalHost:8081", "127.0.0.1:8081", "[::1]:8081", "[::1]", "docs.localhost:8081"]
        {
            assert_eq!(ask(Some(host), None), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            ".localhost",
            "evillocalhost",
            "localhost.evil.example:80",
            "127.0.0.2",
            "::1",
            "",
            "a@127.0.0.1@b",
        ] {
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
        for origin in [
            "http://localhost:3000",
            "https://127.0.0.1",
            "http://[::1]:5173",
            "http://tauri.localhost",
            "tauri://localhost",
        ] {
            assert_eq!(ask(Some("localhost"), Some(origin)), Ok(()), "{origin}");
        }
        for origin in ["null", "http://evil.example", "http://localhost.evil.example", "file://", ""] {
            assert_eq!(ask(Some("localhost"), Some(origin)), Err(Refused::Origin), "{origin}");
        }
    }

    #[test]
    fn all_origins_of_a_scheme_may_be_allowed() {
        let origins = vec!["chrome-extension://*".into(), "vscode-webview://*".into()];
        let allowed = Allowed { hosts: vec![], origins };
        let check = |origin: &str| allowed.check_origin(origin.as_bytes());
        for origin in ["chrome-extension://abcdef", "Chrome-Extension://x", "vscode-webview://1a2b"] {
            assert_eq!(check(origin), Ok(()), "{origin}");
        }
        for origin in ["moz-extension://abc", "chrome-extension", "https://chrome-extension://x", "null"] {
            assert_eq!(check(origin), Err(Refused::Origin), "{origin}");
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
