//! Initializes a new worker on behalf of a client, with what the client once sent.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::Body as _;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response};
use serde_json::Value;

use super::session::{ReplayRefused, Session};
use super::sse::{Event, Splitter};
use crate::deadline::Deadline;
use crate::proxy::http::body::Upload;
use crate::proxy::http::headers::SESSION;
use crate::proxy::http::link::WorkerBody;
use crate::proxy::http::upstream::Live;
use crate::proxy::listener::Listener;

/// Limit for the response to a replayed message.
const ANSWER: Duration = Duration::from_secs(10);
/// Limit for a replayed message's response, in bytes.
const LONGEST: usize = 4 * 1024 * 1024;

/// Why a session could not be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The session ends, as it would without mcpd.
    #[error(transparent)]
    Refused(#[from] ReplayRefused),
    /// The worker has exited; the next one may continue the session.
    #[error("the new worker could not be initialized: {0}")]
    Broken(String),
}

/// Makes the session one of the present worker. The first request does it, the others wait.
///
/// # Errors
/// See [`ReplayError`].
pub async fn replay(
    listener: &Listener,
    up: &Arc<Live>,
    session: &tokio::sync::Mutex<Session>,
) -> Result<(), ReplayError> {
    let mut session = session.lock().await;
    if session.epoch == up.epoch {
        return Ok(());
    }
    let before = session.epoch;
    let renewed = Deadline::after(ANSWER).wait(replay_messages(listener, up, &mut session)).await;
    if !matches!(renewed, Ok(Ok(()))) {
        // An incomplete replay does not count.
        session.epoch = before;
    }
    listener.sessions.save(&session);
    renewed.unwrap_or_else(|_| Err(ReplayRefused("did not answer in time".to_owned()).into()))
}

async fn replay_messages(
    listener: &Listener,
    up: &Arc<Live>,
    session: &mut Session,
) -> Result<(), ReplayError> {
    let hello = post(listener, up, session, &session.hello(), None).await?;
    let id = hello.headers().get(&SESSION).and_then(|id| id.to_str().ok()).map(str::to_owned);
    let id = id.ok_or_else(|| ReplayRefused("gave no session id".to_owned()))?;
    let answer = first_message(hello).await?;
    for message in session.renew(up.epoch, id, &answer)? {
        let answer = post(listener, up, session, &message, Some(&session.worker_id)).await?;
        if message.get("id").is_some() {
            first_message(answer).await?;
        }
    }
    tracing::info!(worker = %listener.name, epoch = up.epoch, "a session goes on with the new worker");
    Ok(())
}

async fn post(
    listener: &Listener,
    up: &Arc<Live>,
    session: &Session,
    message: &Value,
    id: Option<&str>,
) -> Result<Response<WorkerBody>, ReplayError> {
    let mut request = Request::new(Upload::Whole(message.to_string().into()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = session.path.parse().unwrap_or_default();
    let host = format!("127.0.0.1:{}", listener.port);
    let headers = [
        (header::HOST, host.as_str()),
        (header::CONTENT_TYPE, "application/json"),
        (header::ACCEPT, "application/json, text/event-stream"),
    ];
    for (name, value) in headers {
        request.headers_mut().insert(name, HeaderValue::from_str(value).map_err(broken)?);
    }
    if let Some(id) = id {
        request.headers_mut().insert(SESSION, HeaderValue::from_str(id).map_err(broken)?);
        let version = session.version().unwrap_or_default();
        let name = header::HeaderName::from_static("mcp-protocol-version");
        request.headers_mut().insert(name, HeaderValue::from_str(version).map_err(broken)?);
    }
    let response = up.send(request).await.map_err(broken)?;
    if response.status().is_success() {
        Ok(response)
    } else {
        Err(ReplayRefused(format!("answered {}", response.status())).into())
    }
}

/// The message of a response, in JSON or as the first event with data.
async fn first_message(response: Response<WorkerBody>) -> Result<Value, ReplayError> {
    let events = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    let mut body = Limited::new(response.into_body(), LONGEST);
    if !events {
        let bytes = body.collect().await.map_err(broken)?.to_bytes();
        return serde_json::from_slice(&bytes)
            .map_err(|_| ReplayRefused("did not answer in JSON".to_owned()).into());
    }
    let mut splitter = Splitter::default();
    while !body.is_end_stream() {
        let Some(frame) = body.frame().await else { break };
        let frame = frame.map_err(broken)?;
        let read = splitter.push(frame.data_ref().map(AsRef::as_ref).unwrap_or_default());
        let answers = read.iter().filter_map(|event| Event::read(event));
        let mut values = answers.filter_map(|event| serde_json::from_str::<Value>(&event.data).ok());
        if let Some(answer) = values.find(|value| value.get("method").is_none() && value.get("id").is_some())
        {
            return Ok(answer);
        }
    }
    Err(ReplayError::Broken("it ended its answer early".to_owned()))
}

fn broken(error: impl std::fmt::Display) -> ReplayError {
    ReplayError::Broken(error.to_string())
}
