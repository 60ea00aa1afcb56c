//! The guardian waits, forwards signals, and cleans up when the daemon has exited.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use jiff::Timestamp;
use mcpd_common::crash::{CleanedUpBy, CrashRecord, DaemonEnd};
use mcpd_common::ids::{Pid, RunId, Slot, WorkerName};
use mcpd_common::known_processes;
use mcpd_common::os::child::{self, Signal};
use mcpd_common::os::guardian::{self, Origin, ReceivedSignals};
use mcpd_common::os::{backend, this_process};
use mcpd_common::paths::StateDir;
use mcpd_common::run_file::RunFile;

use super::daemon_end::{self, DaemonExit};
use super::kill_and_reap::{CleanupResult, KillAndReap};
use super::page::{Details, Page};
use super::preexisting::PreexistingChildren;
use super::shutdown_timer::{Poll, ShutdownTimer};
use super::{GuardianConfig, cleanup};
use crate::deadline::{self, Deadline};
use crate::instance::Instance;
use crate::service_manager::Message;

/// The name of its process in ps(1).
const NAME: &std::ffi::CStr = c"mcp-guardian";
/// Limit for killing what a dead daemon left.
const CLEANUP_LIMIT: Duration = Duration::from_secs(10);
/// Limit for the recheck after a completed shutdown.
const RECHECK_LIMIT: Duration = Duration::from_secs(1);
/// Limit for the daemon to die after `SIGKILL`; past it, it is in uninterruptible sleep.
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// Poll interval when signals can't be received.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

pub struct Guardian {
    pub(super) config: GuardianConfig,
    pub(super) daemon: Pid,
    pub(super) page: Page,
    /// The daemon writes a byte to it when the page has changed.
    pub(super) line: UnixStream,
    pub(super) signals: io::Result<ReceivedSignals>,
    pub(super) preexisting: PreexistingChildren,
    /// A signal that requests a shutdown was forwarded.
    pub(super) is_shutdown_requested: bool,
    /// The service manager reported, by `SIGABRT`, that the daemon hangs.
    pub(super) has_watchdog_expired: bool,
}

impl Guardian {
    /// Watches the daemon, cleans up after it, and returns the exit code.
    pub fn watch(mut self) -> u8 {
        guardian::set_process_name(NAME);
        this_process::give_back_memory();
        // A daemon that no longer reads the socket must not block the guardian.
        let _always_possible = self.line.set_nonblocking(true);
        let ended = self.until_the_daemon_ends();
        let end = daemon_end::of(ended, self.page.completion());
        self.clean_up(end)
    }

    fn until_the_daemon_ends(&mut self) -> DaemonExit {
        let mut shutdown_timer = ShutdownTimer::new();
        let mut killed: Option<Deadline> = None;
        loop {
            if let Some(exit) = child::peek_exit(self.daemon) {
                return if killed.is_some() { self.kill_reason() } else { DaemonExit::Itself(exit) };
            }
            let poll = match shutdown_timer.poll(deadline::now(), self.bound()) {
                _ if self.has_watchdog_expired => Poll::Over,
                poll => poll,
            };
            let timeout = match (killed, poll) {
                (Some(dying), _) if dying.remaining().is_zero() => return self.kill_reason(),
                (Some(dying), _) => Some(dying.remaining()),
                (None, Poll::WaitForEver) => None,
                (None, Poll::Wait(time)) => Some(time),
                (None, Poll::Over) => {
                    // The daemon is not reaped, so its pid can't have been reused.
                    let _ = child::signal_child(self.daemon, Signal::Kill);
                    killed = Some(Deadline::after(KILL_LIMIT));
                    continue;
                }
            };
            self.wait_and_forward(timeout);
            let run = || self.page.details().unwrap_or_else(|| self.config.details()).run.tag();
            self.preexisting.note_while(self.daemon, run, || child::peek_exit(self.daemon).is_none());
        }
    }

    fn kill_reason(&self) -> DaemonExit {
        if self.has_watchdog_expired { DaemonExit::KilledByWatchdog } else { DaemonExit::Killed }
    }

    /// The published bound; if the daemon hangs before it publishes one, the configured bound.
    fn bound(&self) -> Option<Duration> {
        self.page.bound().or(self.is_shutdown_requested.then_some(self.config.bound))
    }

    /// A signal that the kernel sent to the whole foreground group has reached the daemon as well.
    fn wait_and_forward(&mut self, timeout: Option<Duration>) {
        for received in self.wait(timeout) {
            // SIGHUP may be a reload, which has no bound.
            self.is_shutdown_requested |= matches!(received.signal, Signal::Term | Signal::Int);
            self.has_watchdog_expired |= received.signal == Signal::Abort;
            // A hang-up reaches only the leader of the session, which is the guardian if a terminal was opened for mcpd.
            let is_new = received.origin == Origin::Process || received.signal == Signal::Hup;
            if is_new && received.signal != Signal::Abort {
                let _ = child::signal_child(self.daemon, received.signal);
            }
        }
        // The bytes only wake the guardian, which then reads the page.
        let mut bytes = [0; 64];
        while matches!(io::Read::read(&mut self.line, &mut bytes), Ok(1..)) {}
    }

    fn wait(&self, timeout: Option<Duration>) -> Vec<guardian::ReceivedSignal> {
        match &self.signals {
            Ok(signals) => signals.wait(self.line.as_fd(), timeout),
            Err(_) => {
                deadline::pause(timeout.unwrap_or(POLL_INTERVAL).min(POLL_INTERVAL));
                vec![]
            }
        }
    }

    fn clean_up(mut self, end: DaemonEnd) -> u8 {
        let detected_at = Timestamp::now();
        if !matches!(end, DaemonEnd::Completed(_)) {
            self.config.instance.mark_leaving();
            let message = Message::new().status("the daemon has died; its guardian cleans up");
            self.config.service_manager.send(&message.extend_timeout(CLEANUP_LIMIT));
        }
        let details = self.page.details().unwrap_or_else(|| self.config.details());
        let state = StateDir::new(&details.state_dir);
        let result = self.kill_what_is_left(&details, &state, end);
        if let (DaemonEnd::Completed(code), 0, true) = (end, result.ended_count, result.left.is_empty()) {
            return code;
        }
        let is_complete = result.is_complete;
        let record = self.record(details.run, end, detected_at, result);
        if state != self.config.state {
            // The daemon replaced itself and has another state directory, whose lock the guardian never had.
            // If another daemon holds it now, the files there belong to that daemon.
            match Instance::acquire(&state, &details.socket, None) {
                Ok(instance) => self.config.instance = instance,
                Err(_) => return record.exit_code(),
            }
        }
        let code = cleanup::settle(&record, is_complete, &details.socket, &state);
        let text = format!("exit code {code}: {}", record.sentence());
        self.config.service_manager.send(&Message::new().status(&text));
        code
    }

    fn kill_what_is_left(&self, details: &Details, state: &StateDir, end: DaemonEnd) -> CleanupResult {
        let limit = match end {
            DaemonEnd::Completed(_) => RECHECK_LIMIT,
            DaemonEnd::Died(_) | DaemonEnd::Overrun | DaemonEnd::Hung | DaemonEnd::Unknown => CLEANUP_LIMIT,
        };
        let run = details.run.tag();
        let kill_and_reap = KillAndReap {
            preexisting: &self.preexisting,
            run,
            names: names(state),
            known: known_processes::of_run(&state.members(), run),
            daemon: self.daemon,
            cgroups: details.cgroups.clone().filter(|layout| layout.is_of(run)),
        };
        kill_and_reap.kill_until_gone(Deadline::after(limit), |time| drop(self.wait(Some(time))))
    }

    fn record(
        &self,
        run: RunId,
        end: DaemonEnd,
        detected_at: Timestamp,
        result: CleanupResult,
    ) -> CrashRecord {
        let CleanupResult { ended_count, ended, left, proved, .. } = result;
        CrashRecord {
            run,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cleaned_up_by: CleanedUpBy::Guardian,
            daemon: self.daemon,
            end,
            detected_at,
            finished_at: Timestamp::now(),
            backend: backend(),
            proved,
            ended_count,
            ended,
            left,
            preexisting: self.preexisting.leftovers(run.tag()),
            damaged_lines: 0,
        }
    }
}

/// For people only; without the run file processes have no worker's name.
fn names(state: &StateDir) -> HashMap<Slot, WorkerName> {
    let run_file = RunFile::read(&state.run_file()).ok().flatten();
    let workers = run_file.into_iter().flat_map(|run_file| run_file.workers);
    workers.map(|worker| (worker.slot, worker.name)).collect()
}
