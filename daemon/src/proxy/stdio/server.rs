//! One process that speaks MCP on its standard input and output.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mcpd_common::ids::WorkerName;
use serde_json::{Value, json};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::hello::Hello;
use super::inbox::{Answer, End, Inbox, Received};
use super::input::{Closed, Input};
use super::lines::{Line, Lines};
use super::parts::{Parts, Role};
use super::router::{CallId, Delivery, Routed, Router, Sharing, notification};
use super::undelivered::Undelivered;
use crate::deadline::Deadline;
use crate::proxy::budget::{Budget, Share};
use crate::proxy::mcp::message::error_for;

/// Bytes read at once: the default capacity of a pipe, pipe(7).
const CHUNK: usize = 64 * 1024;
/// Answers up to this many bytes are always passed on; longer ones only if the memory for messages has room.
const SMALL: usize = 64 * 1024;
/// A start is looked at again after this time; the answer to `initialize` ends the wait at once.
const GREETING: Duration = Duration::from_millis(300);
/// The error for an answer that can't be kept.
const TOO_LONG: (i64, &str) = (
    -32000,
    "the server's answer is longer than mcpd passes on (16 MiB), or than its memory for messages has room for now",
);

/// The error for a request of the server whose client does not read.
const NOT_READ: (i64, &str) = (-32000, "the client does not read the messages of the server");

/// The daemon's ends of a process's standard input and output.
pub struct ServerPipes {
    /// To write its input.
    pub input: OwnedFd,
    /// To read its output.
    pub output: OwnedFd,
    /// Gets what the server writes to its output and is no message; what finds no room is lost.
    pub strays: mpsc::Sender<Vec<u8>>,
}

/// Which messages the server understands.
#[derive(Clone, Debug, PartialEq)]
pub enum Era {
    /// Up to 2025-11-25: it has been initialized, and said this.
    Sessions(Arc<Hello>),
    /// 2026-07-28: each request stands alone.
    Stateless,
}

pub struct StdioServer {
    name: WorkerName,
    sharing: Sharing,
    pub(super) input: Input,
    state: Mutex<State>,
    /// Whether it has been initialized; `Err`: it refused.
    pub(super) era: watch::Sender<Option<Result<Era, String>>>,
    /// Cancelled when it has closed its output, or is gone.
    closed: CancellationToken,
    budget: Arc<Budget>,
    strays: mpsc::Sender<Vec<u8>>,
    /// Lines on its output that were no messages.
    stray_lines: Arc<AtomicU64>,
}

#[derive(Default)]
struct State {
    router: Router,
    calls: HashMap<CallId, Arc<Inbox>>,
    streams: HashMap<String, Arc<Inbox>>,
    /// Of a server that is not shared: calls whose client takes events before the answer.
    event_calls: BTreeSet<CallId>,
    /// The same: messages for its client while no stream is open.
    undelivered: Undelivered,
    is_gone: bool,
}

/// Why a message has no answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Lost {
    /// The server never saw it.
    NotSent,
    /// The server was gone before it answered.
    Unanswered,
}

impl From<Closed> for Lost {
    fn from(Closed: Closed) -> Self {
        Self::NotSent
    }
}

impl StdioServer {
    /// Begins to talk with a process that was just started.
    ///
    /// # Errors
    /// When the runtime can't register the pipes.
    pub fn start(
        (name, sharing): (WorkerName, Sharing),
        pipes: ServerPipes,
        (budget, stray_lines): (Arc<Budget>, Arc<AtomicU64>),
        thread: &Handle,
    ) -> io::Result<Arc<Self>> {
        let _context = thread.enter();
        let output = Receiver::from_owned_fd(pipes.output)?;
        let server = Arc::new(Self {
            name,
            sharing,
            input: Input::new(Sender::from_owned_fd(pipes.input)?),
            state: Mutex::new(State { router: Router::new(sharing), ..State::default() }),
            era: watch::Sender::new(None),
            closed: CancellationToken::new(),
            budget,
            strays: pipes.strays,
            stray_lines,
        });
        let (reader, writer, greeter) = (server.clone(), server.clone(), server.clone());
        thread.spawn(async move { reader.read(output).await });
        thread.spawn(async move { writer.input.write().await });
        if sharing == Sharing::Shared {
            thread.spawn(async move { greeter.greet().await });
        }
        Ok(server)
    }

    pub fn sharing(&self) -> Sharing {
        self.sharing
    }

    /// Completes when it has closed its output, or is gone.
    pub async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// What the server understands, once it is initialized.
    pub fn era(&self) -> Option<Era> {
        self.era.borrow().clone().and_then(Result::ok)
    }

    /// Completes when the server has shown that it is alive: the first time by its answer to `initialize`.
    ///
    /// # Errors
    /// A sentence for the user.
    pub async fn probe(self: Arc<Self>, limit: Duration) -> Result<(), String> {
        let was_ready = self.era.borrow().is_some();
        let deadline = Deadline::after(if was_ready { limit } else { limit.min(GREETING) });
        let mut era = self.era.subscribe();
        let ready = match deadline.wait(era.wait_for(Option::is_some)).await {
            Ok(Ok(era)) => era.clone(),
            Ok(Err(_)) | Err(_) => None,
        };
        let era = ready.ok_or("it has not answered initialize yet")??;
        // The client of a server that is not shared notices by itself whether it answers.
        if !was_ready || self.sharing == Sharing::Own {
            return Ok(());
        }
        let (method, params) = match era {
            Era::Sessions(_) => ("ping", json!({})),
            Era::Stateless => ("server/discover", discover_params()),
        };
        match deadline.wait(self.ask(method, &params)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err("it has closed its input or output".to_owned()),
            Err(_) => Err(format!("it does not answer {method}")),
        }
    }

    /// The end of its input: the request to exit.
    pub fn end_input(&self) {
        self.input.close();
    }

    /// The process is gone, although descendants may still hold its pipes.
    pub fn disconnect(&self) {
        self.input.close();
        self.closed.cancel();
        let mut state = self.state();
        state.is_gone = true;
        let (calls, streams) = (std::mem::take(&mut state.calls), std::mem::take(&mut state.streams));
        drop(state);
        calls.into_values().chain(streams.into_values()).for_each(|inbox| inbox.end(End::Broken));
        self.era.send_if_modified(|era| {
            era.is_none() && era.replace(Err("it has closed its output".to_owned())).is_none()
        });
    }

    async fn greet(self: Arc<Self>) {
        let Ok(answer) = self.ask("initialize", &Hello::params()).await else { return };
        let era = match Hello::read(&answer) {
            Ok(hello) => {
                let _ = self.input.push(notification("notifications/initialized", &json!({})));
                Ok(Era::Sessions(Arc::new(hello)))
            }
            Err(why) => {
                let discovered = self.ask("server/discover", &discover_params()).await;
                match discovered.map(|answer| Hello::read(&answer)) {
                    Ok(Ok(_)) => Ok(Era::Stateless),
                    Ok(Err(_)) | Err(_) => Err(format!("it refuses initialize: {why}")),
                }
            }
        };
        if let Err(why) = &era {
            tracing::warn!(worker = %self.name, %why, "a server can't be used");
        }
        self.era.send_replace(Some(era));
    }

    /// A request of mcpd itself.
    async fn ask(self: &Arc<Self>, method: &str, params: &Value) -> Result<Vec<u8>, Lost> {
        let (line, inbox, _ticket) = {
            let mut state = self.state();
            let (call, line) = state.router.own_request(method, params);
            let (inbox, ticket) = state.begin(self, call)?;
            (line, inbox, ticket)
        };
        self.input.send(line).await?;
        Ok(answer_of(&inbox).await?.message)
    }

    /// Passes a client's request on; the inbox gets what comes back.
    ///
    /// # Errors
    /// When the server is gone.
    pub async fn forward(
        self: &Arc<Self>,
        session: Option<&str>,
        parts: &Parts<'_>,
        takes: Takes,
    ) -> Result<Forwarded, Lost> {
        let (line, inbox, ticket) = {
            let mut state = self.state();
            match state.router.request(session, parts) {
                None => return Err(Lost::NotSent),
                Some(Routed::Answer(message)) => return Ok(Forwarded::Answer(message)),
                Some(Routed::Forward(call, line)) => {
                    let (inbox, ticket) = state.begin(self, call)?;
                    if self.sharing == Sharing::Own && takes == Takes::Events {
                        state.offer_events(call, &inbox);
                    }
                    (line, inbox, ticket)
                }
            }
        };
        self.input.send(line).await?;
        Ok(Forwarded::Call(inbox, ticket))
    }

    /// Passes a client's notification on, if it concerns the server; waits while the server is too far behind.
    ///
    /// # Errors
    /// When the server is gone.
    pub async fn notify(&self, session: Option<&str>, parts: &Parts<'_>) -> Result<(), Lost> {
        let deliveries = self.state().router.notification(session, parts);
        for delivery in deliveries {
            match delivery {
                Delivery::Server(line) => self.input.send(line).await?,
                other => self.deliver(vec![other], Share::default()),
            }
        }
        Ok(())
    }

    pub fn knows_session(&self, id: &str) -> bool {
        self.state().router.knows_session(id)
    }

    pub fn open_session(&self, id: &str) {
        self.state().router.open_session(id.to_owned());
    }

    pub fn close_session(&self, id: &str) {
        let (lines, stream) = {
            let mut state = self.state();
            (state.router.close_session(id), state.streams.remove(id))
        };
        stream.inspect(|stream| stream.end(End::Finished));
        for line in lines {
            let _ = self.input.push(line);
        }
    }

    /// The stream of a session; an earlier one ends.
    ///
    /// # Errors
    /// When the server is gone.
    pub fn open_stream(self: &Arc<Self>, session: &str) -> Result<(Arc<Inbox>, StreamTicket), Lost> {
        let inbox = Arc::new(Inbox::default());
        let mut state = self.state();
        if state.is_gone {
            return Err(Lost::NotSent);
        }
        state.undelivered.move_to(&inbox);
        let earlier = state.streams.insert(session.to_owned(), inbox.clone());
        earlier.inspect(|earlier| earlier.end(End::Finished));
        let ticket = StreamTicket { server: self.clone(), session: session.to_owned(), inbox: inbox.clone() };
        Ok((inbox, ticket))
    }

    async fn read(self: Arc<Self>, output: Receiver) {
        let mut lines = Lines::default();
        while output.readable().await.is_ok() {
            // On the heap only while there is something to read.
            let mut chunk = Vec::with_capacity(CHUNK);
            match output.try_read_buf(&mut chunk) {
                Ok(1..) => lines.push(&chunk, |line| self.take(line)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => break,
            }
        }
        self.disconnect();
    }

    fn take(&self, line: Line<'_>) {
        let mut share = Share::of(&self.budget);
        match line {
            Line::Whole(line) if line.len() > SMALL && !share.resize(line.len()) => {
                let answer = Parts::read(line).filter(|parts| parts.role() == Role::Answer);
                self.fail(answer.and_then(|parts| parts.id()?.get().parse().ok()));
            }
            Line::Whole(line) => match self.route(line) {
                Some(deliveries) => self.deliver(deliveries, share),
                None => self.stray(line),
            },
            Line::TooLong(id) => self.fail(id.and_then(|id| id.as_u64())),
        }
    }

    fn route(&self, line: &[u8]) -> Option<Vec<Delivery>> {
        self.state().router.on_line(line)
    }

    fn fail(&self, call: Option<CallId>) {
        tracing::warn!(worker = %self.name, ?call, "a line of the server is too long to be passed on");
        let failed = call.and_then(|call| self.state().router.fail(call, TOO_LONG));
        self.deliver(failed.into_iter().collect(), Share::default());
    }

    fn stray(&self, line: &[u8]) {
        if self.stray_lines.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(worker = %self.name, "the server writes lines to its output that are no messages; they are in its log");
        }
        let mut line = line.to_vec();
        line.push(b'\n');
        // What finds no room is lost, as is output that can't be written to the log.
        let _ = self.strays.try_send(line);
    }

    fn deliver(&self, deliveries: Vec<Delivery>, mut share: Share) {
        for delivery in deliveries {
            match delivery {
                Delivery::Answer(call, message) => {
                    let inbox = self.state().end_call(call);
                    inbox
                        .inspect(|inbox| inbox.answer(Answer { message, share: std::mem::take(&mut share) }));
                }
                Delivery::Event(call, message) => {
                    let inbox = self.state().calls.get(&call).cloned();
                    self.push(inbox, message);
                }
                Delivery::Stream(session, message) => {
                    let inbox = self.state().streams.get(&session).cloned();
                    self.push(inbox, message);
                }
                Delivery::Server(line) => self.input.offer(line),
                Delivery::Client(message) => {
                    if !self.state().deliver_to_client(message, Urgency::Told) {
                        tracing::debug!(worker = %self.name, "a client does not read its notifications; one was dropped");
                    }
                }
                Delivery::Asked(id, message) => {
                    if !self.state().deliver_to_client(message, Urgency::Asked) {
                        self.input.offer(error_for(&id, NOT_READ).to_string().into_bytes());
                    }
                }
            }
        }
    }

    fn push(&self, inbox: Option<Arc<Inbox>>, message: Vec<u8>) {
        if inbox.is_some_and(|inbox| !inbox.push(message)) {
            tracing::debug!(worker = %self.name, "a client does not read its notifications; one was dropped");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of a client's request.
pub enum Forwarded {
    /// mcpd answers.
    Answer(Vec<u8>),
    Call(Arc<Inbox>, CallTicket),
}

/// What a client can get before the answer to its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    Events,
    /// Nothing: the response is JSON.
    Answer,
}

/// Whether the server waits for an answer of its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Urgency {
    Asked,
    Told,
}

impl State {
    /// A message for the one client: `false` if it can't be delivered.
    fn deliver_to_client(&mut self, message: Vec<u8>, urgency: Urgency) -> bool {
        let stream = self.streams.values().next();
        let newest = self.event_calls.last().and_then(|call| self.calls.get(call));
        let inbox = match (urgency, stream) {
            // MCP has requests of the server on the stream of the call that they belong to.
            (Urgency::Asked, _) if self.event_calls.len() == 1 => newest.or(stream),
            (Urgency::Asked | Urgency::Told, Some(stream)) => Some(stream),
            (Urgency::Asked | Urgency::Told, None) => newest,
        };
        match inbox {
            Some(inbox) => inbox.push(message),
            None => self.undelivered.push(message),
        }
    }

    /// The client of this call takes messages of the server before the answer.
    fn offer_events(&mut self, call: CallId, inbox: &Inbox) {
        self.event_calls.insert(call);
        if self.streams.is_empty() {
            self.undelivered.move_to(inbox);
        }
    }

    fn end_call(&mut self, call: CallId) -> Option<Arc<Inbox>> {
        self.event_calls.remove(&call);
        self.calls.remove(&call)
    }

    fn begin(&mut self, server: &Arc<StdioServer>, call: CallId) -> Result<(Arc<Inbox>, CallTicket), Lost> {
        if self.is_gone {
            return Err(Lost::NotSent);
        }
        let inbox = Arc::new(Inbox::default());
        self.calls.insert(call, inbox.clone());
        Ok((inbox, CallTicket { server: server.clone(), call }))
    }
}

/// The answer to a call, without what comes before it.
///
/// # Errors
/// When the server is gone.
pub async fn answer_of(inbox: &Inbox) -> Result<Answer, Lost> {
    loop {
        match inbox.next().await {
            Received::Event(_) => {}
            Received::Answer(answer) => return Ok(answer),
            Received::Ended(_) => return Err(Lost::Unanswered),
        }
    }
}

/// A call whose client waits. Dropped before the answer, it sends the server `notifications/cancelled`.
pub struct CallTicket {
    server: Arc<StdioServer>,
    call: CallId,
}

impl Drop for CallTicket {
    fn drop(&mut self) {
        let cancelled = {
            let mut state = self.server.state();
            state.end_call(self.call);
            state.router.abandon(self.call)
        };
        if let Some(line) = cancelled {
            let _ = self.server.input.push(line);
        }
    }
}

/// A stream that is open.
pub struct StreamTicket {
    server: Arc<StdioServer>,
    session: String,
    inbox: Arc<Inbox>,
}

impl Drop for StreamTicket {
    fn drop(&mut self) {
        let mut state = self.server.state();
        if state.streams.get(&self.session).is_some_and(|open| Arc::ptr_eq(open, &self.inbox)) {
            state.streams.remove(&self.session);
        }
    }
}

fn discover_params() -> Value {
    json!({ "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": "mcpd", "version": env!("CARGO_PKG_VERSION") },
        "io.modelcontextprotocol/clientCapabilities": {},
    }})
}
