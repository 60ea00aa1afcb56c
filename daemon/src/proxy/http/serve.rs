//! One client connection in one task: requests, the connection to the worker, and responses.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::body::Body;
use super::head_timer::HeadTimer;
use super::pipe::Pipe;
use super::{exchange, turn};
use crate::deadline::Deadline;
use crate::proxy::listener::{Listener, ProxyPhase};
use crate::proxy::mcp::errors;
use crate::proxy::observe::registry::{Connection, Entry};

/// Limit for the headers of a request.
const HEADERS: Duration = Duration::from_secs(10);
/// How long a connection may be idle, for clients that keep connections.
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const IDLE_HINT: HeaderValue = HeaderValue::from_static("timeout=75");
/// Limit, in a pause, for the first request of a client that has just connected.
const FIRST_REQUEST: Duration = Duration::from_millis(250);
/// Limit for all request headers together, in bytes.
const HEADER_BYTES: usize = 64 * 1024;

/// Serves until the client disconnects or mcpd closes the connection.
pub async fn serve(listener: Arc<Listener>, stream: TcpStream, entry: Entry) {
    let timer = HeadTimer::new(HEADERS);
    let pipe = Pipe::default();
    let name = listener.name.clone();
    let is_forced = listener.forced.clone();
    let watched = listener.phase.clone();
    let is_late = *watched.borrow() != ProxyPhase::Open;
    let mut leaving = pin!(wait_for_end(listener.phase.clone(), entry.connection.clone()));
    let events = pipe.clone();
    let service = service_fn(move |request| {
        let listener = listener.clone();
        let connection = entry.connection.clone();
        let events = events.clone();
        async move {
            let mut response = exchange::answer(listener, connection, events, request).await;
            response.headers_mut().insert(KEEP_ALIVE, IDLE_HINT);
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(timer.handle())
        .header_read_timeout(HEADERS)
        .max_buf_size(HEADER_BYTES)
        .keep_alive(!is_late)
        .serve_connection(TokioIo::new(timer.watch(stream)), service);
    let mut connection = pin!(connection);
    let mut timer = timer;
    let mut forced = pin!(is_forced.cancelled());
    let mut told = false;
    let mut waker = None;
    let ended = poll_fn(|context| {
        let is_first = waker.is_none();
        let context = &mut Context::from_waker(waker.get_or_insert_with(|| turn::waker(context)));
        // Once polled, these futures wake the task: they need not be polled with every request.
        let is_stirred = is_first || is_forced.is_cancelled() || watched.has_changed().unwrap_or(true);
        if is_stirred && !told && leaving.as_mut().poll(context).is_ready() {
            told = true;
            // Idle connections close at once, others after their current response.
            connection.as_mut().graceful_shutdown();
        }
        timer.tick(context);
        pipe.begin_turn();
        let polled = connection.as_mut().poll(context);
        timer.tick(context);
        pipe.end_turn(context);
        // After the turn, so that the error of a request in flight is still sent.
        if is_stirred && polled.is_pending() && forced.as_mut().poll(context).is_ready() {
            return Poll::Ready(Ok(()));
        }
        polled
    });
    if let Err(error) = ended.await {
        tracing::debug!(worker = %name, %error, "a client's connection ended");
    }
}

/// Completes when the connection has to end. A connection that ends before its first request is closed unread,
/// with what its client has just sent: a client that has sent no request yet has until the notice, or in a
/// pause, which has no notice, 250 ms.
async fn wait_for_end(mut phase: watch::Receiver<ProxyPhase>, connection: Arc<Connection>) {
    let is_pause =
        phase.wait_for(|phase| *phase != ProxyPhase::Open).await.is_ok_and(|now| *now == ProxyPhase::Pausing);
    let notice = phase.wait_for(|phase| matches!(phase, ProxyPhase::Notify(_)));
    let mut waiting = pin!(async {
        if is_pause { drop(Deadline::after(FIRST_REQUEST).wait(notice).await) } else { drop(notice.await) }
    });
    // Polled in every turn from then on.
    poll_fn(|context| match connection.requests.load(Ordering::Relaxed) {
        0 => waiting.as_mut().poll(context),
        _ => Poll::Ready(()),
    })
    .await;
}

/// Why a connection is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnedAway {
    TooMany,
    OtherUser,
}

impl TurnedAway {
    fn response(self) -> Response<Body> {
        match self {
            Self::TooMany => errors::later("too many connections to this server\n".to_owned()),
            Self::OtherUser => errors::text(
                StatusCode::FORBIDDEN,
                "this server belongs to another user of this machine; its owner can write \
                 allow_other_users = true under [workers.NAME] in the configuration of mcpd\n",
            ),
        }
    }
}

/// Responds to the first request of a connection that is not served.
pub async fn turn_away(stream: TcpStream, why: TurnedAway) {
    let service = service_fn(async |_: Request<Incoming>| Ok::<_, Infallible>(why.response()));
    let mut timer = HeadTimer::new(HEADERS);
    let connection = http1::Builder::new()
        .timer(timer.handle())
        .header_read_timeout(HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let answered = poll_fn(|context| {
        timer.tick(context);
        connection.as_mut().poll(context)
    });
    // A client that does not read the response is cut off.
    let _ = Deadline::after(HEADERS).wait(answered).await;
}
