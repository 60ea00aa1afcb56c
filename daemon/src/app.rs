//! **Read first.** The daemon's life on one screen: [`Booted`], then [`Running`], then
//! [`Stopped`]. Each takes the one before by value, so that the wrong order does not compile.
//!
//! ```text
//!   Booted::boot    lock, logs, journal, run file, process_thread, supervisor, control socket
//!   Booted::start   every worker at once
//!   Running::until_asked   signals and RPCs only *send* a request; it is judged here
//!   Running::stop   the shutdown, then the exit, or another program in this process (handover.rs)
//! ```

use std::sync::Arc;
use std::time::Duration;

use mcpd_common::config::Config;
use mcpd_common::exit_code::Severity;
use mcpd_common::ids::{RunId, WorkerName};
use mcpd_common::os::this_process;
use mcpd_common::outcome::{Finding, FindingKind};
use mcpd_common::paths::StateDir;
use mcpd_common::phase::OVERRUN_GRACE;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::boot::{self, Parts, StartError};
use crate::deadline::{self, Deadline};
use crate::guardian::GuardianLink;
use crate::handover::{Handover, Inheritance};
use crate::resources::Resource;
use crate::shutdown::Shutdown;
use crate::shutdown::exit::Exit;
use crate::shutdown::request::{AfterShutdown, Requests, Response, Trigger};
use crate::supervisor::handle::{Order, SupervisorHandle, WorkerAction};
use crate::time_limits::TimeLimits;

/// So long after the start what it needed is not needed any more, as a rule.
const START: Duration = Duration::from_secs(2);

/// How the daemon was started.
pub struct Options {
    /// What to run.
    pub config: Config,
    /// What had to be put up with while it was loaded.
    pub warnings: Vec<String>,
    /// How the console looks.
    pub console: crate::logging::ConsoleFormat,
    /// This life of it.
    pub run: RunId,
    /// The guardian's side of it.
    pub guardian_link: Arc<GuardianLink>,
    /// Whether a new program could start with the same arguments now: a sentence says why not.
    pub replaceable: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
}

/// Everything is there, no worker runs.
pub struct Booted {
    config: Config,
    guardian_link: Arc<GuardianLink>,
    parts: Parts,
}

/// The workers run.
pub struct Running {
    config: Config,
    guardian_link: Arc<GuardianLink>,
    parts: Parts,
    requests: Requests,
}

/// Nothing runs any more, and that is proved, or said otherwise.
#[must_use]
pub struct Stopped {
    code: u8,
    handover: Option<Handover>,
}

/// From beginning to end.
///
/// # Errors
/// Only what keeps the daemon from starting; later failures are findings.
pub async fn run(options: Options, inheritance: Inheritance) -> Result<Stopped, StartError> {
    let mut running = Booted::boot(options, inheritance).await?.start();
    let trigger = running.until_asked().await;
    Ok(running.stop(trigger).await)
}

impl Booted {
    async fn boot(options: Options, inheritance: Inheritance) -> Result<Self, StartError> {
        let parts = boot::assemble(&options, inheritance).await?;
        Ok(Self { config: options.config, guardian_link: options.guardian_link, parts })
    }

    fn start(self) -> Running {
        // Who was asked to stop meanwhile starts nothing first.
        let asked = !self.parts.triggers.is_empty();
        for name in self.config.workers.values().filter(|worker| !asked && worker.unusable.is_none()) {
            action(&self.parts.workers, name.name.clone(), WorkerAction::Start);
        }
        crate::banner::show(&self.config);
        tokio::spawn(give_back_memory());
        Running {
            config: self.config,
            guardian_link: self.guardian_link,
            parts: self.parts,
            requests: Requests::default(),
        }
    }
}

impl Running {
    /// The first request wins.
    async fn until_asked(&mut self) -> Trigger {
        loop {
            // The channel outlives us: we hold a sender ourselves.
            let Some(trigger) = self.parts.triggers.recv().await else { continue };
            if self.requests.on(&trigger, deadline::now()) == Response::Begin {
                return trigger;
            }
        }
    }

    async fn stop(mut self, trigger: Trigger) -> Stopped {
        self.parts.logs.shutdown.set();
        self.parts.instance.leaving();
        self.parts.health.set_not_serving().await;
        tracing::info!(reason = trigger.reason(), "shutting down");

        let limits = TimeLimits::new(&self.config.shutdown);
        self.guardian_link.set_bound(limits.total() + OVERRUN_GRACE);
        let (noted, received) = mpsc::unbounded_channel();
        let hurry = CancellationToken::new();
        let mut ending = trigger.ending();
        let shutdown = Shutdown {
            run: self.parts.run,
            reason: trigger.reason(),
            ending,
            workers: self.parts.workers.clone(),
            proxy: self.parts.proxy.clone(),
            ports: self.parts.ports.clone(),
            limits,
            force_ports: self.config.shutdown.force_ports,
            resources: std::mem::take(&mut self.parts.resources) as Vec<Box<dyn Resource>>,
            baseline: self.parts.baseline,
            progress: self.parts.progress.clone(),
            hurry: hurry.clone(),
            noted: received,
        };
        match trigger {
            Trigger::Emergency { what } => note_internal_error(&noted, what),
            Trigger::GuardianDied => note_guardian_died(&noted, &self.guardian_link),
            Trigger::Rpc { now: true, .. } => hurry.cancel(),
            Trigger::Rpc { .. } | Trigger::Signal(_) | Trigger::Restart { .. } => {}
        }
        let (exit_asked, asked) = watch::channel(None);
        let listener = RequestListener {
            triggers: self.parts.triggers,
            requests: self.requests,
            workers: self.parts.workers,
            progress: self.parts.progress.clone(),
            hurry,
            noted,
            exit_asked,
        };
        let attending = tokio::spawn(listener.attend());

        let fallback = shutdown.overrun_report();
        let report = match Deadline::after(limits.total()).wait(shutdown.run()).await {
            Ok(report) => report,
            Err(_) => fallback,
        };
        // Who is not sure of its own state does not go on.
        if report.exit_code >= Severity::Internal.code() {
            ending = AfterShutdown::Exit;
        }
        let exit = Exit {
            state: StateDir::new(&self.config.daemon.state_dir),
            journal: self.parts.journal,
            socket: self.config.daemon.socket.clone(),
            progress: self.parts.progress,
            ending,
            stop_service: self.parts.stop_service,
            service: self.parts.service,
        };
        let code = exit.finish(report).await;
        attending.abort();
        let handover = (ending == AfterShutdown::Replace).then(|| Handover {
            lock: (self.config.daemon.state_dir, self.parts.instance.into_lock().into()),
            control: (self.config.daemon.socket, self.parts.control),
            proxy: self.parts.proxy,
            open_files: self.parts.open_files,
            asked: asked.borrow().clone(),
        });
        Stopped { code, handover }
    }
}

impl Stopped {
    /// What the process exits with.
    pub fn exit_code(&self) -> u8 {
        self.code
    }

    /// What another program shall go on with in this process.
    pub fn handover(&mut self) -> Option<Handover> {
        self.handover.take()
    }
}

/// Judges the requests that come while the shutdown runs.
struct RequestListener {
    triggers: mpsc::UnboundedReceiver<Trigger>,
    requests: Requests,
    workers: SupervisorHandle,
    progress: crate::progress::Progress,
    hurry: CancellationToken,
    noted: mpsc::UnboundedSender<Finding>,
    exit_asked: watch::Sender<Option<String>>,
}

impl RequestListener {
    async fn attend(mut self) {
        while let Some(trigger) = self.triggers.recv().await {
            let response = self.requests.on(&trigger, deadline::now());
            self.exit_asked.send_replace(self.requests.exit().map(str::to_owned));
            match response {
                Response::Hurry { by } => {
                    tracing::warn!(by, "the remaining waits are cut short");
                    self.progress.publish(mcpd_common::event::EventKind::Hurried { by: by.to_owned() });
                    self.hurry.cancel();
                    self.workers.send(Order::Hurry);
                }
                Response::NoteInternalError { what } => note_internal_error(&self.noted, what),
                Response::Begin | Response::Ignore => {
                    tracing::info!(reason = trigger.reason(), "ignored: the shutdown runs already");
                }
            }
        }
    }
}

/// What only the start needed is let go when the start is over.
async fn give_back_memory() {
    deadline::until(deadline::now() + START).await;
    this_process::give_back_memory();
}

fn note_internal_error(noted: &mpsc::UnboundedSender<Finding>, what: String) {
    tracing::error!(what, "internal error");
    // Nobody reads it only when the report is written already.
    let _ = noted.send(Finding::new(FindingKind::InternalError, "mcpd", what));
}

/// Nobody's fault that would be known here, and the shutdown may go well: information.
fn note_guardian_died(noted: &mpsc::UnboundedSender<Finding>, guardian_link: &GuardianLink) {
    let detail = format!(
        "the guardian (pid {}) ended before the daemon, which left as well",
        guardian_link.guardian()
    );
    let _ = noted.send(Finding::new(FindingKind::Information, "mcp-guardian", detail));
}

fn action(workers: &SupervisorHandle, name: WorkerName, action: WorkerAction) {
    let (reply, _) = tokio::sync::oneshot::channel();
    workers.send(Order::Worker(name, action, reply));
}
