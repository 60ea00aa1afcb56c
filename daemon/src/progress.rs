//! The events of the shutdown, kept from the first one, so that late subscribers see
//! everything and slow ones delay nothing (R-RPC-1).
//!
//! Publishing appends to a list; each subscriber reads the list at its own pace.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use mcpd_common::event::{EventKind, ShutdownEvent};
use mcpd_common::phase::Phase;
use mcpd_common::status::ShutdownStatus;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::deadline;

/// The events of the shutdown; none before it begins.
#[derive(Clone)]
pub struct Progress(Arc<Inner>);

struct Inner {
    log: Mutex<EventLog>,
    length: watch::Sender<usize>,
}

#[derive(Default)]
struct EventLog {
    began: Option<Instant>,
    events: Vec<Arc<ShutdownEvent>>,
    status: Option<ShutdownStatus>,
}

impl Progress {
    pub fn new() -> Self {
        Self(Arc::new(Inner { log: Mutex::default(), length: watch::Sender::new(0) }))
    }

    /// Publishes one event.
    pub fn publish(&self, kind: EventKind) {
        let length = {
            let mut log = self.log();
            let began = *log.began.get_or_insert_with(deadline::now);
            log.update_status(&kind);
            let event = ShutdownEvent {
                seq: log.events.len() as u64,
                at: Timestamp::now(),
                elapsed_ms: millis(deadline::now().saturating_duration_since(began)),
                kind,
            };
            log.events.push(Arc::new(event));
            log.events.len()
        };
        self.0.length.send_replace(length);
    }

    /// The state of the shutdown; `None` before it begins (R-SHUT-7).
    pub fn status(&self) -> Option<ShutdownStatus> {
        self.log().status.clone()
    }

    /// Subscribes to all events from the first one on.
    pub fn subscribe(&self) -> Subscription {
        Subscription { progress: self.clone(), length: self.0.length.subscribe(), read: 0 }
    }

    fn log(&self) -> MutexGuard<'_, EventLog> {
        self.0.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EventLog {
    fn update_status(&mut self, kind: &EventKind) {
        match kind {
            EventKind::Started { reason, .. } => {
                self.status = Some(ShutdownStatus {
                    reason: reason.clone(),
                    phase: Phase::Initiated,
                    workers_gone: false,
                    clients_gone: false,
                    waiting: vec![],
                });
            }
            EventKind::PhaseStarted { phase, .. } => {
                if let Some(status) = &mut self.status {
                    status.phase = *phase;
                    status.waiting.clear();
                    status.workers_gone |= *phase > Phase::WorkersTerminate;
                    status.clients_gone |= *phase > Phase::Clients;
                }
            }
            EventKind::Waiting { remaining, .. } => {
                if let Some(status) = &mut self.status {
                    status.waiting.clone_from(remaining);
                }
            }
            _ => {}
        }
    }
}

/// One subscriber.
pub struct Subscription {
    progress: Progress,
    length: watch::Receiver<usize>,
    read: usize,
}

impl Subscription {
    /// Waits for the next event.
    pub async fn next(&mut self) -> Option<Arc<ShutdownEvent>> {
        let read = self.read;
        self.length.wait_for(|length| *length > read).await.ok()?;
        let event = self.progress.log().events.get(self.read).cloned();
        self.read += 1;
        event
    }
}

/// Whole milliseconds, for reports and events.
pub fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hurried(by: &str) -> EventKind {
        EventKind::Hurried { by: by.to_owned() }
    }

    /// R-RPC-1, R-SHUT-4: late and slow readers see the same events in the same order.
    #[tokio::test]
    async fn every_reader_sees_everything_from_the_beginning() {
        let progress = Progress::new();
        let mut early = progress.subscribe();
        for number in 0..10_000 {
            progress.publish(hurried(&number.to_string()));
        }
        let mut late = progress.subscribe();
        for number in 0..10_000 {
            let one = early.next().await;
            let two = late.next().await;
            assert_eq!(one, two);
            assert_eq!(one.expect("an event").seq, number);
        }
    }
}
