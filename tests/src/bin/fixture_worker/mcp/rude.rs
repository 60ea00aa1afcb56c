//! Ways of an MCP server that are legal, and inconvenient for who forwards to it.
//!
//! ```text
//! --token T            requests without `Authorization: Bearer T` get 401
//! --not-yet MS         `initialize` gets 503 for this long after the start
//! --unknown-session S  the status for a session that it does not know (404 if not given); 400 comes with an error
//! --one-stream MS      a session has one GET stream, the others get 409; it notices the end of one after this time
//! --one-session        it has one session, and refuses a second `initialize` with 400 until the first one is deleted
//! --no-delete          `DELETE` gets 401
//! --host-list S        the status for a request whose `Host` is not 127.0.0.1 and its port; 403 comes with an error
//! --undeclared         it does not declare `listChanged`; the file `tools` in its directory has the names of its tools
//! POST /forget         it forgets all sessions
//! ```

use std::io;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Next, Request, State, wire};

pub const UNAUTHORIZED: &str = "www-authenticate: Bearer resource_metadata=\"http://127.0.0.1/meta\"\r\n";

/// What the options select.
#[derive(Clone, Debug)]
pub struct Rudeness {
    pub token: Option<String>,
    pub not_yet: Duration,
    pub unknown_session: u16,
    pub one_stream: Option<Duration>,
    pub undeclared: bool,
    pub one_session: bool,
    pub no_delete: bool,
    pub host_list: Option<u16>,
}

impl Default for Rudeness {
    fn default() -> Self {
        let not_yet = Duration::ZERO;
        Self {
            token: None,
            not_yet,
            unknown_session: 404,
            one_stream: None,
            undeclared: false,
            one_session: false,
            no_delete: false,
            host_list: None,
        }
    }
}

/// Responds, if the request is refused before it is read.
pub fn refuse(state: &State, request: &Request, stream: &TcpStream) -> io::Result<Option<Next>> {
    if let Some(status) = state.rude.host_list
        && request.header("host") != Some(&format!("127.0.0.1:{}", stream.local_addr()?.port()))
    {
        state.lock().misdirected += 1;
        let error = json!({ "code": -32000, "message": "Invalid Host: it is not in the list" });
        let body = json!({ "jsonrpc": "2.0", "id": null, "error": error }).to_string();
        wire::reply(stream, request, status, "content-type: application/json\r\n", body.as_bytes())?;
        return Ok(Some(Next::KeepAlive));
    }
    let expected = state.rude.token.as_ref().map(|token| format!("Bearer {token}"));
    if expected.is_some() && request.header("authorization") != expected.as_deref() {
        wire::reply(stream, request, 401, UNAUTHORIZED, b"which token?\n")?;
        return Ok(Some(Next::KeepAlive));
    }
    if state.rude.no_delete && request.method() == "DELETE" {
        wire::reply(stream, request, 401, UNAUTHORIZED, b"which token?\n")?;
        return Ok(Some(Next::KeepAlive));
    }
    Ok(None)
}

/// Whether it does not take `initialize` yet.
pub fn is_early(state: &State) -> bool {
    static STARTED: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    STARTED.get_or_init(Instant::now).elapsed() < state.rude.not_yet
}

/// Whether its only session exists, as in a TypeScript server with one global transport.
pub fn is_taken(state: &State) -> bool {
    state.rude.one_session && !state.lock().sessions.is_empty()
}

/// The response to a request of a session that it does not know.
pub fn unknown_session(state: &State, request: &Request, stream: &TcpStream) -> io::Result<Next> {
    if state.rude.unknown_session == 404 {
        return super::refuse(request, stream, 404);
    }
    let error = json!({ "code": -32000, "message": "Bad Request: No valid session ID provided" });
    let body = json!({ "jsonrpc": "2.0", "id": null, "error": error }).to_string();
    let headers = "content-type: application/json\r\n";
    wire::reply(stream, request, state.rude.unknown_session, headers, body.as_bytes())?;
    Ok(Next::KeepAlive)
}

/// Takes the only place for a stream of this session, or responds with 409.
pub fn enter_stream(state: &State, id: &str, request: &Request, stream: &TcpStream) -> io::Result<bool> {
    let Some(session) = state.lock().sessions.get_mut(id).map(|session| session.streams) else {
        return Ok(false);
    };
    if state.rude.one_stream.is_some() && session > 0 {
        wire::reply(stream, request, 409, "", b"it has a stream already\n")?;
        return Ok(false);
    }
    state.lock().sessions.entry(id.to_owned()).or_default().streams += 1;
    Ok(true)
}

/// The stream's client has disconnected.
pub fn leave_stream(state: &State, id: &str) {
    thread::sleep(state.rude.one_stream.unwrap_or_default());
    if let Some(session) = state.lock().sessions.get_mut(id) {
        session.streams -= 1;
    }
}
