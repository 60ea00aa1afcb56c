//! **Read first.** The daemon's life on one screen: boot, start the workers, wait for a request, shut down.
//!
//! ```text
//!   boot              lock, logs, journal, run file, process thread, proxy, supervisor, control service
//!   start_workers     every worker at once
//!   RequestListener   signals and RPCs only send a request; it decides which one starts the shutdown
//!   shut_down         the phases, then the exit, or the next program in this process (handover.rs)
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mcpd_common::config::Config;
use mcpd_common::exit_code::Severity;
use mcpd_common::ids::RunId;
use mcpd_common::os::this_process::{self, OpenFileLimit};
use mcpd_common::phase::OVERRUN_GRACE;
use tokio::net::UnixListener;

use crate::boot::{self, StartError};
use crate::control::health::Health;
use crate::control::service::Replaceable;
use crate::deadline;
use crate::guardian::GuardianLink;
use crate::handover::{Handover, Inheritance};
use crate::instance::Instance;
use crate::logging::{ConsoleFormat, Logs};
use crate::proxy::Proxy;
use crate::service_manager::ServiceManager;
use crate::service_status::{RunningStatus, ShutdownStatus};
use crate::shutdown::Shutdown;
use crate::shutdown::exit::Exit;
use crate::shutdown::request::{AfterShutdown, Trigger};
use crate::shutdown::request_listener::RequestListener;
use crate::supervisor::handle::{Order, WorkerAction};

/// Delay before memory used only by start-up is released.
const RELEASE_DELAY: Duration = Duration::from_secs(2);

/// How the daemon was started.
pub struct Options {
    pub config: Config,
    /// Problems of the configuration that do not keep the daemon from running.
    pub warnings: Vec<String>,
    pub console: ConsoleFormat,
    pub run: RunId,
    pub guardian_link: Arc<GuardianLink>,
    pub service_manager: ServiceManager,
    /// Whether a new program could start with the same arguments now.
    pub replaceable: Replaceable,
}

/// A daemon that has booted.
pub struct Daemon {
    pub config: Config,
    pub guardian_link: Arc<GuardianLink>,
    pub service_manager: ServiceManager,
    pub instance: Instance,
    pub logs: Logs,
    pub health: Health,
    pub requests: RequestListener,
    pub shutdown: Shutdown,
    pub exit: Exit,
    pub inheritable: Inheritable,
}

/// What the next program inherits, if the daemon replaces itself.
pub struct Inheritable {
    pub control: (PathBuf, Arc<UnixListener>),
    pub proxy: Arc<Proxy>,
    /// The limit of open files that this program was started with.
    pub open_files: OpenFileLimit,
}

/// All workers are stopped and verified, or the report says what is left.
#[must_use]
pub struct Stopped {
    pub exit_code: u8,
    pub handover: Option<Handover>,
}

/// # Errors
/// Only what keeps the daemon from starting; later failures are findings.
pub async fn run(options: Options, inheritance: Inheritance) -> Result<Stopped, StartError> {
    let mut daemon = boot::boot(options, inheritance).await?;
    let status = RunningStatus::start(&daemon.service_manager, &daemon.shutdown.supervisor, &daemon.config);
    daemon.start_workers();
    let trigger = daemon.requests.first().await;
    Ok(daemon.shut_down(trigger, status).await)
}

impl Daemon {
    fn start_workers(&self) {
        // Skip starting workers if a shutdown was already requested.
        let is_requested = !self.requests.triggers.is_empty();
        let usable = self.config.workers.values().filter(|worker| !is_requested && worker.unusable.is_none());
        for worker in usable {
            let (reply, _) = tokio::sync::oneshot::channel();
            self.shutdown.supervisor.send(Order::Worker(worker.name.clone(), WorkerAction::Start, reply));
        }
        crate::banner::show(&self.config);
        tokio::spawn(async {
            deadline::until(deadline::now() + RELEASE_DELAY).await;
            this_process::give_back_memory();
        });
    }

    async fn shut_down(mut self, trigger: Trigger, running_status: RunningStatus) -> Stopped {
        // Both before anything that could block (R-SHUT-8).
        self.guardian_link.set_bound(self.shutdown.limits.total() + OVERRUN_GRACE);
        self.shutdown.supervisor.send(Order::DisableRestarts);
        self.logs.shutdown.set();
        running_status.stop().await;
        let status = ShutdownStatus::start(&self.service_manager, &self.shutdown.progress, &trigger);
        self.instance.mark_leaving();
        self.health.set_not_serving().await;
        tracing::info!(reason = trigger.reason(), "shutting down");

        let exit_reason = self.requests.exit_reason.subscribe();
        let listening = tokio::spawn(self.requests.listen());
        let report = self.shutdown.run(&trigger).await;
        // After an internal error the state of this process can't be trusted: it exits.
        let after = match trigger.after_shutdown() {
            AfterShutdown::Replace if report.exit_code < Severity::Internal.code() => AfterShutdown::Replace,
            AfterShutdown::Replace | AfterShutdown::Exit => AfterShutdown::Exit,
        };
        let exit_code = self.exit.finish(report, after).await;
        status.finish().await;
        listening.abort();
        let handover = (after == AfterShutdown::Replace).then(|| Handover {
            lock: (self.config.daemon.state_dir, self.instance.into_lock().into()),
            inheritable: self.inheritable,
            exit_reason: exit_reason.borrow().clone(),
        });
        Stopped { exit_code, handover }
    }
}
