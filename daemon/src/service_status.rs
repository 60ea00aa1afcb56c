//! Reports the progress of start and shutdown to the service manager.
//!
//! ```text
//!   transitions of the workers -> StartStatus (pure)  -> STATUS=, READY=1 when none is awaited any more
//!   events of the shutdown     -> of_event (pure)     -> STATUS=, EXTEND_TIMEOUT_USEC= for each phase
//! ```

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use mcpd_common::config::Config;
use mcpd_common::event::EventKind;
use mcpd_common::ids::WorkerName;
use mcpd_common::status::WorkerState;
use mcpd_common::wording::count;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::task::JoinHandle;

use crate::deadline::{self, Deadline};
use crate::progress::{Progress, Subscription};
use crate::service_manager::{Message, ServiceManager};
use crate::shutdown::request::{AfterShutdown, Trigger};
use crate::supervisor::handle::{SupervisorHandle, Transition};

/// Between two requests for the status of all workers while some are awaited.
const START_INTERVAL: Duration = Duration::from_secs(2);
/// Extension of a start that still waits: each worker has a limit of its own (`ready_within`).
const START_EXTENSION: Duration = Duration::from_secs(30);
/// Between two attempts to send `READY=1`, without which a start fails.
const READY_INTERVAL: Duration = Duration::from_millis(50);
/// Limit for the last event of the shutdown to be sent.
const LAST_STATUS_LIMIT: Duration = Duration::from_millis(200);

/// Reports the start, and then every change of a worker, until it is stopped.
pub struct RunningStatus(JoinHandle<()>);

impl RunningStatus {
    /// Call it before the workers are started.
    pub fn start(manager: &ServiceManager, supervisor: &SupervisorHandle, config: &Config) -> Self {
        let usable = config.workers.values().filter(|worker| worker.unusable.is_none());
        let unusable = config.workers.len() - usable.clone().count();
        let status = StartStatus::new(usable.map(|worker| worker.name.clone()), unusable);
        let transitions = supervisor.transitions();
        let mut reporter = Reporter { manager: manager.clone(), supervisor: supervisor.clone(), status };
        Self(tokio::spawn(async move {
            if reporter.manager.is_present() {
                reporter.run(transitions).await;
            }
        }))
    }

    /// Nothing is sent any more when it returns.
    pub async fn stop(self) {
        self.0.abort();
        let _ = self.0.await;
    }
}

struct Reporter {
    manager: ServiceManager,
    supervisor: SupervisorHandle,
    status: StartStatus,
}

impl Reporter {
    async fn run(&mut self, mut transitions: broadcast::Receiver<Transition>) {
        let mut is_ready = false;
        let mut shown = String::new();
        loop {
            let text = self.status.text();
            if !is_ready && self.status.awaited().is_empty() {
                self.send_ready(&text).await;
                is_ready = true;
                shown = text;
            } else if text != shown {
                let message = Message::new().status(&text);
                self.manager.send(&if is_ready { message } else { message.extend_timeout(START_EXTENSION) });
                shown = text;
            }
            tokio::select! {
                received = transitions.recv() => match received {
                    Ok(transition) => self.status.on(transition.name, transition.state),
                    Err(RecvError::Lagged(_)) => self.refresh().await,
                    Err(RecvError::Closed) => return,
                },
                () = deadline::until(deadline::now() + START_INTERVAL), if !is_ready => {
                    self.refresh().await;
                    self.manager.send(&Message::new().extend_timeout(START_EXTENSION));
                }
            }
        }
    }

    /// Finds a worker that was stopped before its start was noticed.
    async fn refresh(&mut self) {
        for worker in self.supervisor.status().await.unwrap_or_default() {
            self.status.on(worker.name, worker.state);
        }
    }

    async fn send_ready(&self, text: &str) {
        let message = Message::new().ready().status(text);
        while self.manager.try_send(&message).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            deadline::until(deadline::now() + READY_INTERVAL).await;
        }
    }
}

/// The states of the workers since their start was requested. Pure.
struct StartStatus {
    /// `None`: no transition was received yet.
    workers: BTreeMap<WorkerName, Option<WorkerState>>,
    unusable: usize,
}

impl StartStatus {
    fn new(workers: impl Iterator<Item = WorkerName>, unusable: usize) -> Self {
        Self { workers: workers.map(|name| (name, None)).collect(), unusable }
    }

    fn on(&mut self, name: WorkerName, state: WorkerState) {
        if let Some(known) = self.workers.get_mut(&name) {
            *known = Some(state);
        }
    }

    /// Workers that are neither ready nor have failed. One failed attempt is enough: the next one may be minutes
    /// away.
    fn awaited(&self) -> Vec<&WorkerName> {
        let is_awaited = |state: &Option<WorkerState>| match state {
            None | Some(WorkerState::Starting | WorkerState::Stopping) => true,
            Some(
                WorkerState::Ready
                | WorkerState::Unhealthy
                | WorkerState::BackingOff
                | WorkerState::Failed
                | WorkerState::Stopped,
            ) => false,
        };
        self.workers.iter().filter(|(_, state)| is_awaited(state)).map(|(name, _)| name).collect()
    }

    fn text(&self) -> String {
        let in_state = |wanted: &[WorkerState]| {
            let found =
                self.workers.iter().filter(|(_, state)| state.is_some_and(|state| wanted.contains(&state)));
            found.map(|(name, _)| name.as_str()).collect::<Vec<_>>()
        };
        let all = count(self.workers.len() + self.unusable, "worker");
        let mut text = format!("{} of {all} ready", in_state(&[WorkerState::Ready]).len());
        let awaited: Vec<_> = self.awaited().into_iter().map(WorkerName::as_str).collect();
        let failed = in_state(&[WorkerState::Unhealthy, WorkerState::BackingOff, WorkerState::Failed]);
        for (what, names) in [("still waiting for", awaited), ("not ready:", failed)] {
            if !names.is_empty() {
                text = format!("{text}, {what} {}", names.join(", "));
            }
        }
        text
    }
}

/// Reports the phases of a shutdown.
pub struct ShutdownStatus(JoinHandle<()>);

impl ShutdownStatus {
    /// Sends `STOPPING=1`, or `RELOADING=1` before the daemon replaces itself, and then what the events say.
    pub fn start(manager: &ServiceManager, progress: &Progress, trigger: &Trigger) -> Self {
        let after = trigger.after_shutdown();
        let begin = match after {
            AfterShutdown::Exit => Message::new().stopping(),
            AfterShutdown::Replace => Message::new().reloading(),
        };
        let text = format!("{}: {}", verb(after), trigger.reason());
        manager.send(&begin.status(&text).extend_timeout(Duration::ZERO));
        let (manager, events) = (manager.clone(), progress.subscribe());
        Self(tokio::spawn(async move {
            if manager.is_present() {
                report(&manager, events, after).await;
            }
        }))
    }

    /// Waits until the last event is sent.
    pub async fn finish(self) {
        let _ = Deadline::after(LAST_STATUS_LIMIT).wait(self.0).await;
    }
}

async fn report(manager: &ServiceManager, mut events: Subscription, after: AfterShutdown) {
    while let Some(event) = events.next().await {
        if let Some(message) = of_event(&event.kind, after) {
            manager.send(&message);
        }
        if matches!(event.kind, EventKind::Finished { .. }) {
            return;
        }
    }
}

fn verb(after: AfterShutdown) -> &'static str {
    match after {
        AfterShutdown::Exit => "shutting down",
        AfterShutdown::Replace => "restarting",
    }
}

/// Each phase has as much time as it may take: a shutdown that makes progress is not ended by the service manager.
fn of_event(event: &EventKind, after: AfterShutdown) -> Option<Message> {
    let verb = verb(after);
    match event {
        EventKind::PhaseStarted { phase, limit_ms } => {
            let message = Message::new().status(&format!("{verb}: {phase}"));
            Some(message.extend_timeout(Duration::from_millis(*limit_ms)))
        }
        EventKind::Waiting { phase, remaining } => {
            let text = format!("{verb}: {phase}, still waiting for {}", remaining.join(", "));
            Some(Message::new().status(&text))
        }
        EventKind::Finished { .. } if after == AfterShutdown::Replace => {
            Some(Message::new().status("restarting: executing the new program"))
        }
        EventKind::Finished { report } => {
            Some(Message::new().status(&format!("exit code {}: {}", report.exit_code, report.verdict())))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use mcpd_common::phase::Phase;

    use super::*;
    use crate::supervisor::fake::behaviour::Behaviour;
    use crate::supervisor::fake::harness::Harness;

    fn name(text: &str) -> WorkerName {
        text.parse().expect("a name")
    }

    fn awaited(status: &StartStatus) -> Vec<&str> {
        status.awaited().into_iter().map(WorkerName::as_str).collect()
    }

    /// R-SVC-2: ready when every worker is ready or has failed.
    #[test]
    fn a_start_waits_until_no_worker_is_starting() {
        let mut status = StartStatus::new(["alpha", "beta"].map(name).into_iter(), 1);
        assert_eq!(status.text(), "0 of 3 workers ready, still waiting for alpha, beta");
        status.on(name("alpha"), WorkerState::Starting);
        status.on(name("beta"), WorkerState::Starting);
        status.on(name("alpha"), WorkerState::Ready);
        assert_eq!(awaited(&status), ["beta"]);
        status.on(name("beta"), WorkerState::BackingOff);
        assert!(awaited(&status).is_empty());
        assert_eq!(status.text(), "1 of 3 workers ready, not ready: beta");
    }

    #[test]
    fn a_start_does_not_wait_for_workers_that_are_not_started() {
        let mut status = StartStatus::new([name("alpha")].into_iter(), 0);
        status.on(name("stranger"), WorkerState::Starting);
        status.on(name("alpha"), WorkerState::Stopped);
        assert!(awaited(&status).is_empty());
        assert!(StartStatus::new([].into_iter(), 2).awaited().is_empty());
    }

    /// More transitions than the channel keeps: the state of every worker is asked for.
    #[tokio::test(start_paused = true)]
    async fn lost_transitions_are_made_up_for() {
        let harness = Harness::running([("alpha", Behaviour::exits_on_request())]).await;
        harness.until("alpha", WorkerState::Ready).await;
        let (sender, transitions) = broadcast::channel(1);
        for state in [WorkerState::Starting, WorkerState::Ready] {
            let transition = Transition { name: name("another"), state, reason: None };
            sender.send(transition).expect("received");
        }
        drop(sender);
        let status = StartStatus::new([name("alpha")].into_iter(), 0);
        let manager = ServiceManager::default();
        let mut reporter = Reporter { manager, supervisor: harness.workers.clone(), status };
        reporter.run(transitions).await;
        assert_eq!(reporter.status.text(), "1 of 1 worker ready");
    }

    /// R-SHUT-6.
    #[test]
    fn each_phase_extends_the_timeout_and_says_what_it_waits_for() {
        let started = EventKind::PhaseStarted { phase: Phase::Clients, limit_ms: 30_000 };
        let expected =
            Message::new().status("shutting down: clients").extend_timeout(Duration::from_secs(30));
        assert_eq!(of_event(&started, AfterShutdown::Exit), Some(expected));
        let waiting =
            EventKind::Waiting { phase: Phase::WorkersGraceful, remaining: vec!["docs (pid 7)".into()] };
        let expected = Message::new().status("restarting: workers-graceful, still waiting for docs (pid 7)");
        assert_eq!(of_event(&waiting, AfterShutdown::Replace), Some(expected));
    }
}
