//! A response that takes longer than clients wait in silence becomes an event stream: comments until it is there, and then
//! itself as an event (R-CLIENT-10).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde_json::Value;

use super::chunked::{LAST_CHUNK, push_chunk};
use super::client::{After, Client, Gone, Interruption};
use super::cors;
use super::fetch::Fetched;
use super::request::{Method, Request};
use super::response::Next;
use super::worker_connection::Response;
use crate::condition::Fate;
use crate::proxy::listener::Listener;
use crate::proxy::mcp::attach::Attached;
use crate::proxy::mcp::message::{Messages, UNAVAILABLE, error_with};
use crate::proxy::mcp::sessions::SharedSession;
use crate::proxy::mcp::silence;
use crate::proxy::mcp::sse::{Event, push_event};
use crate::proxy::mcp::stream::{Purpose, Relay};

/// Limit in characters for what an error quotes of a response that is not MCP.
const QUOTED: usize = 1000;

/// Whether the response may become an event stream. (The one to `initialize` has the session's id in its head.)
pub fn may_become_stream(request: &Request) -> bool {
    request.head.method == Method::Post
        && !request.head.is_http_1_0
        && !request.is_call("initialize")
        && request.head.accepts_events()
}

/// Begins the stream and keeps it alive until the response is there.
///
/// # Errors
/// When the client has disconnected.
pub async fn wait(
    listener: &Listener,
    client: &mut Client,
    next: Next,
    mut fetching: Pin<&mut impl Future<Output = Fetched>>,
) -> Result<Fetched, Gone> {
    let mut bytes = head(next, client.origin.as_deref());
    loop {
        push_chunk(&mut bytes, silence::COMMENT);
        client.send(listener, &bytes).await?;
        bytes.clear();
        client.connection.set_limit(silence::interval());
        match client.while_connected(listener, fetching.as_mut()).await {
            Ok(fetched) => return Ok(fetched),
            Err(Interruption::Gone) => return Err(Gone),
            Err(Interruption::Overdue) => {}
        }
    }
}

fn head(next: Next, origin: Option<&str>) -> Vec<u8> {
    let mut head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n\
                     transfer-encoding: chunked\r\n"
        .to_vec();
    if let Some(origin) = origin {
        cors::push_fields(&mut head, origin);
    }
    next.push(&mut head);
    head.extend_from_slice(b"\r\n");
    head
}

/// Sends what was fetched on the stream, and ends it.
pub async fn deliver(
    listener: &Arc<Listener>,
    client: &mut Client,
    request: Request,
    session: Option<SharedSession>,
    fetched: Fetched,
) -> After {
    let sent = match fetched {
        Fetched::Response(up, response) if response.is_stream() => {
            let relay = Relay::new(listener, client, request, session, Purpose::Answer);
            return Box::pin(relay.run(vec![], Attached::new(up, response.body))).await;
        }
        Fetched::Response(_, response) => send_response(listener, client, &request, response).await,
        Fetched::Denied(response) => send_response(listener, client, &request, *response).await,
        Fetched::Reply(reply) => send_last(listener, client, message_event(reply.body())).await,
        Fetched::Gone => Err(Gone),
    };
    if sent.is_ok() { After::NextRequest } else { After::Close }
}

async fn send_response(
    listener: &Listener,
    client: &mut Client,
    request: &Request,
    mut response: Response,
) -> Result<(), Gone> {
    if !is_answer(&response) {
        return send_last(listener, client, errors(request, &response)).await;
    }
    let mut event = b"event: message\ndata: ".to_vec();
    let mut piece = std::mem::take(&mut response.begin);
    loop {
        event.append(&mut one_line(piece));
        if response.body.is_done() {
            event.extend_from_slice(b"\n\n");
            return send_last(listener, client, event).await;
        }
        let mut chunk = vec![];
        push_chunk(&mut chunk, &std::mem::take(&mut event));
        client.send(listener, &chunk).await?;
        piece = vec![];
        if response.body.read(&mut piece).await.is_err() {
            // The event is not complete; another one says why.
            let mut end = b"\n\n".to_vec();
            push_errors(&mut end, request, listener.interruption(), &listener.explain(Fate::Interrupted));
            return send_last(listener, client, end).await;
        }
    }
}

/// Whether it is JSON-RPC, if only an error; an event stream has no status.
fn is_answer(response: &Response) -> bool {
    let is_success = response.head.is_success();
    let begins = response.begin.iter().find(|byte| !byte.is_ascii_whitespace());
    match begins {
        Some(b'{' | b'[') if is_success => true,
        Some(b'{') => serde_json::from_slice::<Value>(&response.begin)
            .is_ok_and(|value| value["error"].is_object() && !value["id"].is_null()),
        _ => false,
    }
}

/// The errors for a response that is no JSON-RPC; none if it only confirms, as in HTTP+SSE.
fn errors(request: &Request, response: &Response) -> Vec<u8> {
    let mut events = vec![];
    if !response.head.is_success() {
        let text: String = String::from_utf8_lossy(&response.begin).trim().chars().take(QUOTED).collect();
        let why =
            format!("the server refused the request with the HTTP status {}: {text}", response.head.status);
        push_errors(&mut events, request, (UNAVAILABLE, &why), &Value::Null);
    }
    events
}

fn push_errors(events: &mut Vec<u8>, request: &Request, error: (i64, &str), data: &Value) {
    let ids = request.messages.as_ref().map(Messages::open_ids).unwrap_or_default();
    ids.iter().for_each(|id| Event::push_message(events, &error_with(id, error, data)));
}

fn message_event(message: &[u8]) -> Vec<u8> {
    let mut event = vec![];
    if !message.is_empty() {
        push_event(&mut event, &one_line(message.to_vec()));
    }
    event
}

/// Line ends in JSON are white space, and would end the line of an event.
fn one_line(mut json: Vec<u8>) -> Vec<u8> {
    json.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
    json
}

async fn send_last(listener: &Listener, client: &mut Client, events: Vec<u8>) -> Result<(), Gone> {
    let mut out = vec![];
    push_chunk(&mut out, &events);
    out.extend_from_slice(LAST_CHUNK);
    client.send(listener, &out).await
}
