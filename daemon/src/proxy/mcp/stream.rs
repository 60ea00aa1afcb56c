//! Relays event streams to the client; a stream outlives the worker that it came from.
//!
//! ```text
//!   worker --events--> Relay --EventSink--> the client's body (pipe.rs)
//!                        | worker died: errors for what is open; GET and listen streams attach anew
//!                        | worker stops: GET and listen streams detach from it and wait
//!                        ` notice: last events, end
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http_body_util::BodyExt;
use hyper::body::Bytes;
use serde_json::Value;
use tokio::sync::Mutex;

use super::errors::{RETRY, RETRY_SOON};
use super::message::{INTERRUPTED, Message, Messages, SHUTTING_DOWN, error_for};
use super::replay::{self, ReplayError};
use super::session::{Epoch, EventId, Session};
use super::sessions::SharedSession;
use super::sse::{Event, Splitter};
use super::stream_end;
use crate::proxy::http::body::Body;
use crate::proxy::http::exchange::Exchange;
use crate::proxy::http::link::WorkerBody;
use crate::proxy::http::pipe::{EventSink, Pipe};
use crate::proxy::http::upstream::{Live, Upstream};
use crate::proxy::listener::ProxyPhase;
use crate::proxy::observe::registry::OpenStream;

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

pub struct Relay {
    pub exchange: Box<Exchange>,
    pub session: Option<SharedSession>,
    pub purpose: Purpose,
    /// Events of a worker that has stopped, for a client that reads slowly.
    pub undelivered: Vec<Bytes>,
}

/// The worker's end of it.
struct Source {
    up: Arc<Live>,
    body: WorkerBody,
    /// The client got its acknowledgement from an earlier worker.
    swallow: bool,
}

/// What the client still waits for on this stream.
struct Open {
    ids: Vec<Value>,
    /// It can resume: an event had an id. Servers that close a stream early rely on it.
    resumable: bool,
}

/// Why a source ended.
enum End {
    /// The worker ended the stream.
    Finished,
    /// The connection broke: the worker died.
    Broken,
    /// The worker stops.
    Detached,
    /// mcpd shuts down: the stream gets its shutdown notice.
    Notice(String),
    /// mcpd replaces itself.
    Pausing,
}

/// Opens an event stream to the client. It is dropped when the client disconnects.
pub fn open(pipe: &Pipe, mut relay: Relay, up: Arc<Live>, body: WorkerBody) -> Body {
    let open = OpenStream::new(relay.exchange.connection.clone());
    let events = pipe.sink();
    Body::Events(pipe.open(async move {
        let _open = open;
        relay.follow(Source { up, body, swallow: false }, &events).await;
    }))
}

impl Relay {
    async fn follow(&mut self, source: Source, events: &EventSink) {
        let ids = self.exchange.messages.as_ref().map(Messages::open_ids).unwrap_or_default();
        let mut open = Open { ids, resumable: false };
        if let (Purpose::Answer, Some((_, request))) = (self.purpose, self.exchange.resumed()) {
            open = Open { ids: vec![request], resumable: true };
        }
        if let (Purpose::Get, Some(session)) = (self.purpose, &self.session) {
            events.send(RETRY).await;
            send_list_changed(session, events).await;
        }
        let mut source = Some(source);
        loop {
            let epoch = source.as_ref().map(|source| source.up.epoch);
            let end = match source.take() {
                Some(source) => self.pass_on(source, &mut open, events).await,
                None => self.notice().await,
            };
            match (end, self.purpose) {
                (end @ (End::Notice(_) | End::Pausing), _) => {
                    return self.finish(end, &open.ids, events).await;
                }
                (End::Finished, _) if open.resumable => return,
                (End::Finished, _) | (End::Broken | End::Detached, Purpose::Answer) => {
                    return fail(&open.ids, INTERRUPTED, events);
                }
                (End::Broken | End::Detached, Purpose::Get | Purpose::Listen) => {
                    // A client that does not read keeps the stream from being attached, not from its notice.
                    let notice = self.notice();
                    let anew = tokio::select! {
                        biased;
                        end = notice => return self.finish(end, &open.ids, events).await,
                        anew = self.attach_anew(epoch, events) => anew,
                    };
                    source = match anew {
                        Anew::Source(source) => Some(*source),
                        Anew::Waits => None,
                        Anew::Ended => return,
                    };
                }
            }
        }
    }

    /// Ends the stream because mcpd shuts down or replaces itself.
    async fn finish(&self, end: End, open: &[Value], events: &EventSink) {
        let End::Notice(reason) = end else {
            return self.send_pause_notice(open, events).await;
        };
        self.send_shutdown_notice(&reason, open, events).await;
        if self.purpose != Purpose::Answer {
            self.exchange.listener.notified.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Passes events on until there are no more. Whatever the client does, the worker is let go when it stops: an
    /// event that the client has no room for is kept for later.
    async fn pass_on(&mut self, mut source: Source, open: &mut Open, events: &EventSink) -> End {
        let mut splitter = Splitter::default();
        let mut notice = std::pin::pin!(self.notice());
        let detach = source.up.detach.clone();
        let detaches = self.purpose != Purpose::Answer;
        loop {
            let frame = tokio::select! {
                biased;
                frame = source.body.frame() => frame,
                () = detach.cancelled(), if detaches => return End::Detached,
                end = &mut notice => return end,
            };
            let bytes = match frame {
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                Some(Err(_)) => return End::Broken,
                None => {
                    let rest = splitter.rest();
                    if !rest.is_empty() {
                        events.send(rest).await;
                    }
                    return End::Finished;
                }
            };
            let mut all = splitter.push(&bytes).into_iter();
            while let Some(event) = all.next() {
                if source.swallow && is_acknowledgement(&event) {
                    source.swallow = false;
                    continue;
                }
                let event = self.outward(event, source.up.epoch, open).await;
                let end = tokio::select! {
                    biased;
                    () = events.send(event.clone()) => continue,
                    () = detach.cancelled(), if detaches => End::Detached,
                    end = &mut notice => end,
                };
                // The worker's connection closes now; its last events wait for the client.
                let epoch = source.up.epoch;
                drop(source);
                self.undelivered.push(event);
                for event in all {
                    let event = self.outward(event, epoch, open).await;
                    self.undelivered.push(event);
                }
                return end;
            }
        }
    }

    /// Rewrites an event for the client: ids carry the epoch.
    async fn outward(&self, bytes: Bytes, epoch: Epoch, open: &mut Open) -> Bytes {
        if self.session.is_none() && open.ids.is_empty() {
            return bytes;
        }
        let Some(mut event) = Event::read(&bytes) else {
            return bytes;
        };
        let asked = open.ids.first().cloned();
        for message in Messages::read(event.data.as_bytes()).unwrap_or_default().all {
            if let Message::Answer { id } = message {
                open.ids.retain(|waiting| *waiting != id);
            }
        }
        let Some(session) = &self.session else {
            return bytes;
        };
        let rewritten = self.rewrite(&event.data, session).await;
        if event.id.is_none() && rewritten.is_none() {
            return bytes;
        }
        let request = asked.filter(|_| self.purpose == Purpose::Answer);
        open.resumable |= event.id.is_some() && request.is_some();
        event.id = event.id.map(|inner| EventId { epoch, request, inner }.write());
        event.data = rewritten.unwrap_or(event.data);
        event.write()
    }

    async fn rewrite(&self, data: &str, session: &Mutex<Session>) -> Option<String> {
        let begins = self.exchange.messages.as_ref().is_some_and(|asked| asked.is_request("initialize"));
        if !begins && !data.contains("\"method\"") {
            return None;
        }
        let message: Value = serde_json::from_str(data).ok()?;
        let mut session = session.lock().await;
        if begins && message.get("result").is_some() {
            session.agree(&message["result"]);
            self.exchange.listener.sessions.save(&session);
        }
        session.outward(&message).map(|message| message.to_string())
    }

    /// Cancels the open requests of the old worker.
    async fn take_questions_back(&self, events: &EventSink) {
        if let Some(session) = &self.session {
            for cancelled in session.lock().await.cancel_asked() {
                events.send_now(Event::message(&cancelled));
            }
        }
    }

    /// The same stream with the next worker.
    async fn attach_anew(&mut self, old: Option<Epoch>, events: &EventSink) -> Anew {
        while !self.undelivered.is_empty() {
            events.send(self.undelivered[0].clone()).await;
            self.undelivered.remove(0);
        }
        self.take_questions_back(events).await;
        if self.purpose == Purpose::Get && self.session.is_none() {
            return Anew::Ended;
        }
        let mut old = old;
        loop {
            let Some(up) = self.next_worker(old).await else {
                return Anew::Waits;
            };
            if let Some(session) = &self.session {
                match replay::replay(&self.exchange.listener, &up, session).await {
                    Ok(()) => {}
                    Err(ReplayError::Broken(_)) => {
                        old = Some(up.epoch);
                        continue;
                    }
                    Err(ReplayError::Refused(why)) => {
                        tracing::info!(worker = %self.exchange.listener.name, %why, "a stream ended with its session");
                        return Anew::Ended;
                    }
                }
                send_list_changed(session, events).await;
            }
            let request = self.exchange.again(self.session.as_deref()).await;
            match up.send(request).await {
                Ok(response) if response.status().is_success() => {
                    let swallow = self.purpose == Purpose::Listen;
                    let source = Source { up, body: response.into_body(), swallow };
                    return Anew::Source(Box::new(source));
                }
                Ok(_) => return Anew::Ended,
                Err(_) => old = Some(up.epoch),
            }
        }
    }

    /// Waits for a worker of another epoch; `None` when mcpd shuts down meanwhile.
    async fn next_worker(&self, old: Option<Epoch>) -> Option<Arc<Live>> {
        let (mut upstream, mut phase) =
            (self.exchange.listener.upstream.clone(), self.exchange.listener.phase.clone());
        let next = upstream.wait_for(|state| matches!(state, Upstream::Live(up) if Some(up.epoch) != old));
        tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase != ProxyPhase::Open) => None,
            next = next => match next.as_deref() {
                Ok(Upstream::Live(up)) => Some(up.clone()),
                _ => None,
            },
        }
    }

    /// Completes when the stream has to end: how. Borrows nothing, so that it races with everything else.
    fn notice(&self) -> impl Future<Output = End> + Send + use<> {
        let mut phase = self.exchange.listener.phase.clone();
        // What is in flight may finish while mcpd pauses.
        let outlives_pause = self.purpose == Purpose::Answer;
        async move {
            let ends = |phase: &ProxyPhase| {
                phase.ends_streams() && !(outlives_pause && *phase == ProxyPhase::Pausing)
            };
            end(phase.wait_for(ends).await.as_deref().ok())
        }
    }

    /// The last events before the daemon replaces itself: the session continues.
    async fn send_pause_notice(&self, open: &[Value], events: &EventSink) {
        match self.purpose {
            Purpose::Get => {
                self.take_questions_back(events).await;
                events.send_now(RETRY_SOON);
            }
            Purpose::Answer | Purpose::Listen => self.send_shutdown_notice("restart", open, events).await,
        }
    }

    /// The last events (R-CLIENT-5).
    async fn send_shutdown_notice(&self, reason: &str, open: &[Value], events: &EventSink) {
        match self.purpose {
            Purpose::Answer => fail(open, SHUTTING_DOWN, events),
            Purpose::Listen => {
                for id in open {
                    events.send_now(Event::message(&stream_end::complete(id)));
                }
            }
            Purpose::Get => {
                events.send_now(RETRY);
                let Some(session) = &self.session else {
                    return;
                };
                events.send_now(Event::message(&stream_end::notice(reason)));
                if session.lock().await.has_logging() {
                    events.send_now(Event::message(&stream_end::log(reason)));
                }
            }
        }
    }
}

/// The result of attaching a stream again.
enum Anew {
    Source(Box<Source>),
    /// Only the shutdown notice follows.
    Waits,
    /// The stream has ended.
    Ended,
}

fn end(phase: Option<&ProxyPhase>) -> End {
    match phase {
        Some(ProxyPhase::Pausing) => End::Pausing,
        Some(ProxyPhase::Notify(reason)) => End::Notice(reason.clone()),
        _ => End::Notice("manual".to_owned()),
    }
}

/// A client whose session continued with another worker gets `list_changed` on its first stream.
async fn send_list_changed(session: &Mutex<Session>, events: &EventSink) {
    for changed in session.lock().await.take_list_changed() {
        events.send(Event::message(&changed)).await;
    }
}

fn fail(open: &[Value], error: (i64, &str), events: &EventSink) {
    for id in open {
        events.send_now(Event::message(&error_for(id, error)));
    }
}

fn is_acknowledgement(event: &[u8]) -> bool {
    const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";
    Event::read(event).is_some_and(|event| event.data.contains(ACKNOWLEDGED))
}
