//! Relays an event stream to its client; the stream outlives the worker that it came from.
//!
//! ```text
//!   worker --events--> rewritten --> the client, as it reads
//!     | it died: errors for what is open; GET and listen streams attach to the next worker
//!     | it stops: GET and listen streams detach from it at once, whatever the client does
//!     | it says nothing: comments, because clients cut silent streams
//!     ` mcpd shuts down or pauses: the last events, and the end
//! ```

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;

use super::attach::{Attached, Attaching, pause, push_list_changed};
use super::errors::{RETRY, RETRY_SOON};
use super::message::{Message, Messages, SHUTTING_DOWN, error_with};
use super::session::{Epoch, EventId, Session};
use super::sessions::SharedSession;
use super::silence;
use super::sse::Event;
use super::stream_end;
use crate::condition::Fate;
use crate::deadline;
use crate::proxy::budget::Share;
use crate::proxy::http::chunked::{LAST_CHUNK, push_chunk};
use crate::proxy::http::client::{AHEAD, After, Client, Gone};
use crate::proxy::http::fetch;
use crate::proxy::http::request::Request;
use crate::proxy::http::socket::{Outgoing, READ};
use crate::proxy::http::worker_connection::BrokenOff;
use crate::proxy::listener::{Listener, ProxyPhase};
use crate::proxy::observe::registry::OpenStream;

/// What a worker that stops may still send to a client that reads slowly, in bytes.
const LAST_WORDS: usize = 4 * 1024 * 1024;

/// What an event stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A `GET` stream of the session era.
    Get,
    /// The answer to a `POST`.
    Answer,
    /// The answer to `subscriptions/listen`, which stays open.
    Listen,
}

pub struct Relay<'a> {
    listener: &'a Arc<Listener>,
    client: &'a mut Client,
    request: Arc<Request>,
    session: Option<SharedSession>,
    purpose: Purpose,
    open: Open,
    out: Outgoing,
    /// Memory for an event that has not arrived whole, and for what the client has not taken.
    share: Share,
    is_chunked: bool,
    silence: Silence,
    /// The client resumes the stream itself: an event had an id.
    has_ids: bool,
    /// How often the stream was attached to a worker that ended it at once.
    short: u32,
}

/// Whether a comment is due.
#[derive(Default)]
struct Silence {
    /// Something was sent since the last look.
    is_broken: bool,
    /// A part of an event was sent: a comment may not follow.
    is_mid_event: bool,
}

/// What the client still waits for on this stream.
struct Open {
    ids: Vec<Value>,
    /// It can resume: an event had an id. Servers that close a stream early rely on it.
    resumable: bool,
}

/// Where events come from.
enum Source {
    Worker(Box<Attached>),
    /// The next worker is awaited.
    Attaching(Pin<Box<dyn Future<Output = Option<Attached>> + Send>>),
}

/// What happened at the source.
enum Step {
    Bytes(Vec<u8>),
    /// The connection broke: the worker died.
    Broken,
    /// The stream goes on with the next worker; `None`: it ends.
    Attached(Option<Attached>),
}

/// Why mcpd ends the stream.
enum Ending {
    /// At once, by force.
    Cut,
    /// mcpd shuts down, for this reason.
    Notice(String),
    /// mcpd replaces itself.
    Pause,
}

impl<'a> Relay<'a> {
    pub fn new(
        listener: &'a Arc<Listener>,
        client: &'a mut Client,
        mut request: Request,
        session: Option<SharedSession>,
        purpose: Purpose,
    ) -> Self {
        let open = match request.head.resumed() {
            Some((_, id)) if purpose == Purpose::Answer => Open { ids: vec![id], resumable: true },
            _ => {
                let ids = request.messages.as_ref().map(Messages::open_ids).unwrap_or_default();
                Open { ids, resumable: false }
            }
        };
        // With the next worker the stream begins anew.
        request.forget_last_event();
        let is_chunked = !request.head.is_http_1_0;
        let share = Share::of(&listener.budget);
        let (request, out) = (Arc::new(request), Outgoing::default());
        Self {
            listener,
            client,
            request,
            session,
            purpose,
            open,
            out,
            share,
            is_chunked,
            silence: Silence::default(),
            has_ids: false,
            short: 0,
        }
    }

    /// Sends the head, and events until the stream ends.
    pub async fn run(mut self, head: Vec<u8>, attached: Attached) -> After {
        let _open = OpenStream::new(self.client.connection.clone());
        self.out.buffer().extend(head);
        if let (Purpose::Get, Some(session)) = (self.purpose, &self.session) {
            let mut first = RETRY.to_vec();
            push_list_changed(&session.clone(), &mut first);
            self.push(&first);
        }
        let mut source = Source::Worker(Box::new(attached));
        self.client.connection.set_limit(silence::interval() / 2);
        loop {
            if let Some(ending) = self.ending() {
                return self.finish(ending).await;
            }
            if self.must_detach(&source) {
                match self.attach_to_next(source) {
                    Some(next) => source = next,
                    None => return self.end().await,
                }
            }
            let has_room = self.has_room(&source);
            let (mut reader, mut writer) = self.client.socket.split();
            tokio::select! {
                biased;
                step = source.next(), if has_room => match self.take(step, source) {
                    Some(next) => source = next,
                    None => return self.end().await,
                },
                written = writer.write(self.out.rest()), if !self.out.is_empty() => match written {
                    Ok(written) => self.out.advance(written),
                    Err(_) => return After::Close,
                },
                read = reader.fill(), if reader.unread.len() < AHEAD => if !matches!(read, Ok(1..)) {
                    return After::Close;
                },
                () = self.client.connection.changed() => self.break_silence(),
            }
        }
    }

    /// Twice in the time after which a silent stream gets a comment: sends one if nothing was sent since the last time.
    fn break_silence(&mut self) {
        if !self.client.connection.is_overdue() {
            return;
        }
        self.client.connection.set_limit(silence::interval() / 2);
        let is_silent = !std::mem::take(&mut self.silence.is_broken);
        if is_silent && !self.silence.is_mid_event && self.out.is_empty() {
            self.push(silence::COMMENT);
        }
    }

    /// Why mcpd ends the stream now.
    fn ending(&self) -> Option<Ending> {
        if self.listener.forced.is_cancelled() {
            return Some(Ending::Cut);
        }
        match &*self.listener.phase.borrow() {
            ProxyPhase::Notify(reason) => Some(Ending::Notice(reason.clone())),
            // What is in flight may finish while mcpd pauses.
            ProxyPhase::Pausing if self.purpose != Purpose::Answer => Some(Ending::Pause),
            ProxyPhase::Open | ProxyPhase::Pausing | ProxyPhase::ShuttingDown => None,
        }
    }

    /// Whether the worker is about to stop and its stream is no response in flight.
    fn must_detach(&self, source: &Source) -> bool {
        matches!(source, Source::Worker(attached) if attached.up.detach.is_cancelled())
            && self.purpose != Purpose::Answer
    }

    /// A worker is not read faster than its client reads; one that stops may finish its response.
    fn has_room(&mut self, source: &Source) -> bool {
        let waiting = self.out.rest().len();
        let stops = matches!(source, Source::Worker(attached) if attached.up.detach.is_cancelled());
        waiting < READ / 2 || (stops && waiting < LAST_WORDS && self.share.resize(waiting + READ))
    }

    /// The next source; `None` at the end.
    fn take(&mut self, step: Step, source: Source) -> Option<Source> {
        match (step, source) {
            (Step::Bytes(bytes), Source::Worker(mut attached)) => {
                self.pass_on(&bytes, &mut attached);
                if !attached.body.is_done() {
                    return Some(Source::Worker(attached));
                }
                let rest = attached.splitter.rest();
                self.push(&rest);
                if self.goes_on() {
                    return self.attach_to_next(Source::Worker(attached));
                }
                if !self.open.resumable {
                    self.fail_open(self.listener.interruption());
                }
                None
            }
            (Step::Broken, Source::Worker(_)) if self.purpose == Purpose::Answer => {
                self.fail_open(self.listener.interruption());
                None
            }
            (Step::Broken, source) => self.attach_to_next(source),
            (Step::Attached(attached), _) => {
                let mut attached = attached?;
                self.push(&std::mem::take(&mut attached.first));
                Some(Source::Worker(Box::new(attached)))
            }
            (Step::Bytes(_), source) => Some(source),
        }
    }

    /// Whether the worker has ended a stream that it may have ended because it is replaced (`uvicorn --reload`): older
    /// clients do not open it again.
    fn goes_on(&self) -> bool {
        self.purpose == Purpose::Get && self.session.is_some() && !self.has_ids
    }

    fn pass_on(&mut self, bytes: &[u8], attached: &mut Attached) {
        let epoch = attached.up.epoch;
        let mut events = Vec::with_capacity(bytes.len() + 64);
        attached.splitter.push(bytes, |event| {
            if attached.swallow && is_acknowledgement(event) {
                attached.swallow = false;
            } else {
                self.rewrite(event, epoch, &mut events);
            }
        });
        self.push(&events);
        self.silence.is_broken = true;
        if !events.is_empty() {
            self.silence.is_mid_event = false;
        }
        let kept = self.out.rest().len() + attached.splitter.length();
        if !self.share.resize(kept) {
            let part = attached.splitter.rest();
            self.silence.is_mid_event = true;
            self.push(&part);
        }
    }

    /// Rewrites an event for the client: ids carry the epoch.
    fn rewrite(&mut self, bytes: &[u8], epoch: Epoch, out: &mut Vec<u8>) {
        let as_it_is = |out: &mut Vec<u8>| out.extend_from_slice(bytes);
        if self.session.is_none() && self.open.ids.is_empty() {
            return as_it_is(out);
        }
        let Some(mut event) = Event::read(bytes) else {
            return as_it_is(out);
        };
        let asked = self.open.ids.first().cloned();
        for message in Messages::read(event.data.as_bytes()).unwrap_or_default().all {
            if let Message::Answer { id } = message {
                self.open.ids.retain(|waiting| *waiting != id);
            }
        }
        let Some(session) = &self.session else {
            return as_it_is(out);
        };
        let rewritten = self.rewrite_message(&event.data, &mut session.lock());
        if event.id.is_none() && rewritten.is_none() {
            return as_it_is(out);
        }
        let request = asked.filter(|_| self.purpose == Purpose::Answer);
        self.has_ids |= event.id.is_some();
        self.open.resumable |= event.id.is_some() && request.is_some();
        event.id = event.id.map(|inner| EventId { epoch, request, inner: inner.into_owned() }.write().into());
        event.data = rewritten.map_or(event.data, Into::into);
        event.write(out);
    }

    fn rewrite_message(&self, data: &str, session: &mut Session) -> Option<String> {
        let begins = self.request.is_call("initialize");
        if !begins && memchr::memmem::find(data.as_bytes(), b"\"method\"").is_none() {
            return None;
        }
        let message: Value = serde_json::from_str(data).ok()?;
        if begins && message.get("result").is_some() {
            session.agree(&message["result"]);
            self.listener.sessions.save(session);
        }
        session.outward(&message).map(|message| message.to_string())
    }

    /// The worker of `source` is gone, or about to stop: its connection is closed, and its requests to the client are
    /// cancelled. `None`: the stream can't go on.
    fn attach_to_next(&mut self, source: Source) -> Option<Source> {
        let Source::Worker(attached) = source else { return None };
        const SHORT: Duration = Duration::from_secs(1);
        let is_short = deadline::now().saturating_duration_since(attached.since) < SHORT;
        self.short = if is_short { self.short + 1 } else { 0 };
        let old = attached.up.epoch;
        drop(attached);
        self.cancel_asked();
        if self.purpose == Purpose::Get && self.session.is_none() {
            return None;
        }
        let next = Attaching {
            listener: self.listener.clone(),
            request: self.request.clone(),
            session: self.session.clone(),
            old,
            swallow: self.purpose == Purpose::Listen,
            pause: pause(self.short),
        };
        Some(Source::Attaching(Box::pin(next.attach())))
    }

    fn cancel_asked(&mut self) {
        let mut events = vec![];
        if let Some(session) = &self.session {
            session.lock().cancel_asked().iter().for_each(|it| Event::push_message(&mut events, it));
        }
        self.push(&events);
    }

    /// Sends the last events.
    async fn finish(mut self, ending: Ending) -> After {
        match ending {
            Ending::Cut => return After::Close,
            Ending::Pause if self.purpose == Purpose::Get => {
                self.cancel_asked();
                self.push(RETRY_SOON);
            }
            Ending::Pause => self.push_notice("restart"),
            Ending::Notice(reason) => {
                self.push_notice(&reason);
                if self.purpose != Purpose::Answer {
                    self.listener.notified.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        self.end().await
    }

    /// The last events before a shutdown (R-CLIENT-5).
    fn push_notice(&mut self, reason: &str) {
        let mut events = vec![];
        match self.purpose {
            Purpose::Answer => return self.fail_open(SHUTTING_DOWN),
            Purpose::Listen => {
                let complete = self.open.ids.iter().map(stream_end::complete);
                complete.for_each(|it| Event::push_message(&mut events, &it));
            }
            Purpose::Get => {
                events.extend_from_slice(RETRY);
                if let Some(session) = &self.session {
                    Event::push_message(&mut events, &stream_end::notice(reason));
                    if session.lock().has_logging() {
                        Event::push_message(&mut events, &stream_end::log(reason));
                    }
                }
            }
        }
        self.push(&events);
    }

    fn fail_open(&mut self, error: (i64, &str)) {
        let mut events = vec![];
        let data = self.listener.explain(Fate::Interrupted);
        self.open.ids.iter().for_each(|id| Event::push_message(&mut events, &error_with(id, error, &data)));
        self.push(&events);
    }

    fn push(&mut self, events: &[u8]) {
        if self.is_chunked {
            push_chunk(self.out.buffer(), events);
        } else {
            self.out.buffer().extend_from_slice(events);
        }
    }

    /// Ends the body, and sends what the client has not taken yet.
    async fn end(mut self) -> After {
        if self.is_chunked {
            self.out.buffer().extend_from_slice(LAST_CHUNK);
        }
        match self.client.send(self.listener, self.out.rest()).await {
            Ok(()) => After::NextRequest,
            Err(Gone) => After::Close,
        }
    }
}

impl Source {
    async fn next(&mut self) -> Step {
        match self {
            Self::Worker(attached) => {
                let mut bytes = vec![];
                match attached.body.read(&mut bytes).await {
                    Ok(()) => Step::Bytes(bytes),
                    Err(BrokenOff) => {
                        fetch::settle(&attached.up).await;
                        Step::Broken
                    }
                }
            }
            Self::Attaching(attaching) => Step::Attached(attaching.await),
        }
    }
}

fn is_acknowledgement(event: &[u8]) -> bool {
    const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";
    Event::read(event).is_some_and(|event| event.data.contains(ACKNOWLEDGED))
}
