//! Which message of a shared server concerns which client (R-STDIO-2). Pure.
//!
//! ```text
//!   client A  id 1, token "t" --> call 7 --\            /-- answer 7   --> A, id 1
//!   client B  id 1            --> call 8 ----> server ----- progress 7 --> A, token "t"
//!                                                       \-- list_changed -> all; updated -> subscribers; message -> by level
//! ```
//!
//! A call has a number of its own, which is the id of the request for the server, and its progress token.

use std::collections::{BTreeSet, HashMap};

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::level::Level;
use super::parts::{Details, Parts, Role, value};
use crate::proxy::mcp::message::error_for;

pub type CallId = u64;

/// Limit for sessions; the one that was opened first makes room.
const MOST_SESSIONS: usize = 4096;
/// "Method not found", JSON-RPC 2.0, section 5.1.
const METHOD_NOT_FOUND: i64 = -32601;
const CANCELLED: (i64, &str) = (-32000, "the client cancelled this request");
const NOT_SHARED: (i64, &str) =
    (METHOD_NOT_FOUND, "mcpd shares this server among its clients, so it can't ask one of them");

/// What becomes of a client's request.
#[derive(Debug, PartialEq, Eq)]
pub enum Routed {
    /// This line is for the server; its answer ends the call.
    Forward(CallId, Vec<u8>),
    /// mcpd answers.
    Answer(Vec<u8>),
}

/// Where a message goes.
#[derive(Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The answer to a call, which it ends.
    Answer(CallId, Vec<u8>),
    /// What belongs to a call that is not answered yet.
    Event(CallId, Vec<u8>),
    /// For the stream of this session.
    Stream(String, Vec<u8>),
    /// For the server.
    Server(Vec<u8>),
    /// For the one client of a server that is not shared: a notification.
    Client(Vec<u8>),
    /// The same: a request with this id, for which the client has to send an answer.
    Asked(Value, Vec<u8>),
}

/// Who uses a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// All clients of its port.
    #[default]
    Shared,
    /// One session.
    Own,
}

#[derive(Default)]
pub struct Router {
    sharing: Sharing,
    last_call: CallId,
    calls: HashMap<CallId, Call>,
    sessions: HashMap<String, Client>,
    opened: u64,
    /// The level of the last `logging/setLevel` for the server.
    level: Option<Level>,
}

/// A request that the server has not answered.
struct Call {
    session: Option<String>,
    /// As the client wrote it.
    id: Box<RawValue>,
    progress_token: Option<Box<RawValue>>,
    /// The resource that its session subscribes to, if the server agrees.
    subscribes_to: Option<String>,
}

/// What a request means for its session.
enum Noted {
    Nothing,
    /// Nothing changes for the server: mcpd answers.
    Answered,
    /// The request for the server has this level instead.
    Level(Level),
    Subscribes(String),
}

/// What is known of a session.
#[derive(Default)]
struct Client {
    opened: u64,
    level: Option<Level>,
    subscriptions: BTreeSet<String>,
}

impl Router {
    pub fn new(sharing: Sharing) -> Self {
        Self { sharing, ..Self::default() }
    }

    pub fn open_session(&mut self, id: String) {
        if self.sessions.len() >= MOST_SESSIONS
            && let Some(oldest) =
                self.sessions.iter().min_by_key(|(_, it)| it.opened).map(|(id, _)| id.clone())
        {
            self.sessions.remove(&oldest);
        }
        self.opened += 1;
        self.sessions.insert(id, Client { opened: self.opened, ..Client::default() });
    }

    pub fn knows_session(&self, id: &str) -> bool {
        self.sessions.contains_key(id)
    }

    /// Returns requests for the server that end what no client needs any more.
    pub fn close_session(&mut self, id: &str) -> Vec<Vec<u8>> {
        let Some(closed) = self.sessions.remove(id) else { return vec![] };
        let unused =
            closed.subscriptions.into_iter().filter(|uri| !self.is_subscribed(uri)).collect::<Vec<_>>();
        let mut lines: Vec<_> = unused
            .into_iter()
            .map(|uri| self.own_line("resources/unsubscribe", &json!({ "uri": uri })))
            .collect();
        if let Some(level) = self.lowest_level().filter(|level| Some(*level) != self.level) {
            self.level = Some(level);
            lines.push(self.own_line("logging/setLevel", &json!({ "level": level.name() })));
        }
        lines
    }

    /// A request of mcpd itself.
    pub fn own_request(&mut self, method: &str, params: &Value) -> (CallId, Vec<u8>) {
        let line = self.own_line(method, params);
        let id = RawValue::from_string(self.last_call.to_string()).unwrap_or_default();
        let call = Call { session: None, id, progress_token: None, subscribes_to: None };
        self.calls.insert(self.last_call, call);
        (self.last_call, line)
    }

    /// A client's request.
    pub fn request(&mut self, session: Option<&str>, parts: &Parts<'_>) -> Option<Routed> {
        let id = parts.id()?;
        let details = if concerns_router(parts) { parts.details() } else { Details::default() };
        let mut level = None;
        let mut subscribes_to = None;
        // One client alone sets the level, and subscribes, at the server itself.
        let shares = session.filter(|_| self.sharing == Sharing::Shared);
        match shares.map_or(Noted::Nothing, |session| self.note(session, parts.method(), &details)) {
            Noted::Nothing => {}
            Noted::Answered => return Some(Routed::Answer(empty_result(id))),
            Noted::Level(lowest) => level = details.level.zip(Some(format!("\"{}\"", lowest.name()))),
            Noted::Subscribes(uri) => subscribes_to = Some(uri),
        }
        let number = self.next_call();
        let call = number.to_string();
        let progress_token = details.meta.as_ref().and_then(|meta| meta.progress_token);
        let mut changes = vec![(id, call.as_str())];
        changes.extend(progress_token.map(|token| (token, call.as_str())));
        changes.extend(level.as_ref().map(|(place, level)| (*place, level.as_str())));
        let line = parts.rewrite(&changes);
        let kept = Call {
            session: session.map(str::to_owned),
            id: id.to_owned(),
            progress_token: progress_token.map(ToOwned::to_owned),
            subscribes_to,
        };
        self.calls.insert(number, kept);
        Some(Routed::Forward(number, line))
    }

    /// What a request changes for its session.
    fn note(&mut self, session: &str, method: &str, details: &Details<'_>) -> Noted {
        match (method, details.uri.as_deref(), details.level.and_then(Level::read)) {
            ("logging/setLevel", _, Some(level)) => {
                self.change(session, |client| client.level = Some(level));
                self.level = self.lowest_level();
                Noted::Level(self.level.unwrap_or(level))
            }
            ("resources/subscribe", Some(uri), _) if self.is_subscribed(uri) => {
                self.subscribe(session, uri);
                Noted::Answered
            }
            ("resources/subscribe", Some(uri), _) => Noted::Subscribes(uri.to_owned()),
            ("resources/unsubscribe", Some(uri), _) => {
                self.change(session, |client| _ = client.subscriptions.remove(uri));
                if self.is_subscribed(uri) { Noted::Answered } else { Noted::Nothing }
            }
            _ => Noted::Nothing,
        }
    }

    fn change(&mut self, session: &str, change: impl FnOnce(&mut Client)) {
        if let Some(client) = self.sessions.get_mut(session) {
            change(client);
        }
    }

    /// A client's notification.
    pub fn notification(&mut self, session: Option<&str>, parts: &Parts<'_>) -> Vec<Delivery> {
        match parts.method() {
            // mcpd has sent its own; a shared server knows no roots and waits for no client.
            "notifications/initialized" | "notifications/roots/list_changed" | "notifications/progress"
                if self.sharing == Sharing::Shared =>
            {
                vec![]
            }
            "notifications/cancelled" => self.cancel(session, parts).unwrap_or_default(),
            _ => vec![Delivery::Server(parts.rewrite(&[]))],
        }
    }

    fn cancel(&mut self, session: Option<&str>, parts: &Parts<'_>) -> Option<Vec<Delivery>> {
        let details = parts.details();
        let id = details.request_id?;
        let is_meant = |call: &Call| call.session.as_deref() == session && call.id.get() == id.get();
        let (number, call) = self.calls.extract_if(|_, call| session.is_some() && is_meant(call)).next()?;
        let told = parts.rewrite(&[(id, &number.to_string())]);
        let answer = error_for(&value(&call.id), CANCELLED).to_string().into_bytes();
        Some(vec![Delivery::Server(told), Delivery::Answer(number, answer)])
    }

    /// The client of a call has gone: returns the cancellation for the server, unless it has answered.
    pub fn abandon(&mut self, number: CallId) -> Option<Vec<u8>> {
        self.calls.remove(&number)?;
        let params = json!({ "requestId": number, "reason": "the client has disconnected" });
        Some(notification("notifications/cancelled", &params))
    }

    /// A call fails, because mcpd can't pass its answer on.
    pub fn fail(&mut self, number: CallId, why: (i64, &str)) -> Option<Delivery> {
        let call = self.calls.remove(&number)?;
        Some(Delivery::Answer(number, error_for(&value(&call.id), why).to_string().into_bytes()))
    }

    /// A line of the server; `None` if it is no message.
    pub fn on_line(&mut self, line: &[u8]) -> Option<Vec<Delivery>> {
        if line.first() == Some(&b'[') {
            let batch: Vec<&RawValue> = serde_json::from_slice(line).ok()?;
            let each = batch.into_iter().map(|message| self.on_message(message.get().as_bytes()));
            return Some(each.collect::<Option<Vec<_>>>()?.into_iter().flatten().collect());
        }
        self.on_message(line)
    }

    fn on_message(&mut self, message: &[u8]) -> Option<Vec<Delivery>> {
        let parts = Parts::read(message)?;
        Some(match (parts.role(), parts.id()) {
            (Role::Answer, Some(id)) => self.answer(id, &parts).into_iter().collect(),
            (Role::Request, Some(id)) if parts.method() == "ping" => vec![Delivery::Server(empty_result(id))],
            (Role::Request, Some(id)) if self.sharing == Sharing::Own => {
                vec![Delivery::Asked(value(id), parts.rewrite(&[]))]
            }
            (Role::Request, Some(id)) => {
                vec![Delivery::Server(error_for(&value(id), NOT_SHARED).to_string().into_bytes())]
            }
            _ => self.server_notification(&parts),
        })
    }

    fn answer(&mut self, id: &RawValue, parts: &Parts<'_>) -> Option<Delivery> {
        let number = number(id)?;
        let call = self.calls.remove(&number)?;
        if let (Some(uri), Some(session), true) = (&call.subscribes_to, &call.session, parts.is_success()) {
            self.subscribe(session, uri);
        }
        let mut changes = vec![(id, call.id.get())];
        if parts.mentions("subscriptionId") {
            let subscription = parts.details().meta.and_then(|meta| meta.subscription_id);
            changes.extend(subscription.map(|subscription| (subscription, call.id.get())));
        }
        Some(Delivery::Answer(number, parts.rewrite(&changes)))
    }

    fn server_notification(&self, parts: &Parts<'_>) -> Vec<Delivery> {
        let details = parts.details();
        if let Some(subscription) = details.meta.as_ref().and_then(|meta| meta.subscription_id) {
            return self.event(subscription, |call| Some(call.id.get()), parts);
        }
        match (parts.method(), details.progress_token) {
            ("notifications/progress", Some(token)) => {
                self.event(token, |call| call.progress_token.as_deref().map(RawValue::get), parts)
            }
            ("notifications/progress", None) => vec![],
            _ if self.sharing == Sharing::Own => vec![Delivery::Client(parts.rewrite(&[]))],
            // It cancels its own requests, and has none.
            ("notifications/cancelled", _) => vec![],
            ("notifications/message", _) => {
                let level = details.level.and_then(Level::read);
                self.to_sessions(parts, |client| level.is_none_or(|level| self.wants(client, level)))
            }
            ("notifications/resources/updated", _) => {
                let uri = details.uri.unwrap_or_default();
                self.to_sessions(parts, |client| client.subscriptions.contains(&*uri))
            }
            _ => self.to_sessions(parts, |_| true),
        }
    }

    /// A message of the call that `place` names; the client gets its own text there.
    fn event<'a>(
        &'a self,
        place: &RawValue,
        text: impl FnOnce(&'a Call) -> Option<&'a str>,
        parts: &Parts<'_>,
    ) -> Vec<Delivery> {
        let found = number(place).and_then(|number| Some((number, text(self.calls.get(&number)?)?)));
        let event = found.map(|(number, text)| Delivery::Event(number, parts.rewrite(&[(place, text)])));
        event.into_iter().collect()
    }

    fn to_sessions(&self, parts: &Parts<'_>, is_meant: impl Fn(&Client) -> bool) -> Vec<Delivery> {
        let meant = self.sessions.iter().filter(|(_, client)| is_meant(client));
        let message = parts.rewrite(&[]);
        meant.map(|(session, _)| Delivery::Stream(session.clone(), message.clone())).collect()
    }

    fn wants(&self, client: &Client, level: Level) -> bool {
        // If none has said what it wants, the server decides.
        self.level.is_none() || level >= client.level.unwrap_or(Level::UNSAID)
    }

    fn lowest_level(&self) -> Option<Level> {
        self.sessions.values().filter_map(|client| client.level).min()
    }

    fn is_subscribed(&self, uri: &str) -> bool {
        self.sessions.values().any(|client| client.subscriptions.contains(uri))
    }

    fn subscribe(&mut self, session: &str, uri: &str) {
        self.change(session, |client| _ = client.subscriptions.insert(uri.to_owned()));
    }

    fn own_line(&mut self, method: &str, params: &Value) -> Vec<u8> {
        let id = self.next_call();
        json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string().into_bytes()
    }

    fn next_call(&mut self) -> CallId {
        self.last_call += 1;
        self.last_call
    }
}

/// Whether details of a request matter: most have none that do.
fn concerns_router(parts: &Parts<'_>) -> bool {
    matches!(parts.method(), "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe")
        || parts.mentions("progressToken")
}

/// A notification as a line.
pub fn notification(method: &str, params: &Value) -> Vec<u8> {
    json!({ "jsonrpc": "2.0", "method": method, "params": params }).to_string().into_bytes()
}

fn empty_result(id: &RawValue) -> Vec<u8> {
    json!({ "jsonrpc": "2.0", "id": value(id), "result": {} }).to_string().into_bytes()
}

fn number(raw: &RawValue) -> Option<CallId> {
    raw.get().parse().ok()
}

#[cfg(test)]
#[path = "router_tests.rs"]
mod tests;
