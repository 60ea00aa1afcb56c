//! Turns signals into requests. Every signal is logged by name, duplicates
//! too (R-LOG-4).

use std::sync::Arc;

use mcpd_common::os::child::Signal;
use mcpd_common::os::handover::take_stop_signals;
use mcpd_common::os::this_process;
use tokio::signal::unix::{self, SignalKind};
use tokio::sync::mpsc;

use crate::guardian::GuardianLink;
use crate::shutdown::request::Trigger;

/// Listens in a task for each signal, and in one for the exit of the guardian. Call it on the
/// thread that receives signals: all other threads block them, so that none is lost while one program
/// replaces another.
///
/// # Errors
/// When a handler can't be installed.
pub fn listen(
    triggers: &mpsc::UnboundedSender<Trigger>,
    guardian_link: &Arc<GuardianLink>,
) -> std::io::Result<()> {
    let listener = Listener {
        triggers: triggers.clone(),
        guardian_link: guardian_link.clone(),
        has_terminal: this_process::has_controlling_terminal(),
    };
    listener.forward(SignalKind::terminate(), "SIGTERM")?;
    // Signals that were ignored at the start (nohup, a shell's background job) stay ignored.
    if !this_process::ignored_at_start(Signal::Int) {
        listener.forward(SignalKind::interrupt(), "SIGINT")?;
    }
    if !this_process::ignored_at_start(Signal::Hup) {
        listener.forward(SignalKind::hangup(), "SIGHUP")?;
    }
    listener.listen_for_guardian_exit()?;
    // Signals that were blocked since the start, or since the program was replaced, are delivered now.
    Ok(take_stop_signals()?)
}

#[derive(Clone)]
struct Listener {
    triggers: mpsc::UnboundedSender<Trigger>,
    guardian_link: Arc<GuardianLink>,
    /// At the start: a hang-up takes the terminal away before its signal arrives.
    has_terminal: bool,
}

impl Listener {
    fn forward(&self, kind: SignalKind, name: &'static str) -> std::io::Result<()> {
        let mut signals = unix::signal(kind)?;
        let listener = self.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                listener.on_signal(name);
            }
        });
        Ok(())
    }

    fn on_signal(&self, name: &'static str) {
        tracing::info!(signal = name, "received");
        match name {
            "SIGHUP" if !self.has_terminal => {
                tracing::warn!("this version can't read its configuration again; restart it instead");
            }
            // The parent-death signal: the guardian exited, no person asked for a shutdown.
            "SIGTERM" if self.guardian_link.is_orphan() => self.request(Trigger::GuardianDied),
            _ => self.request(Trigger::Signal(name)),
        }
    }

    fn listen_for_guardian_exit(self) -> std::io::Result<()> {
        let orphaned = self.guardian_link.orphaned()?;
        tokio::spawn(async move {
            orphaned.await;
            tracing::error!(pid = %self.guardian_link.guardian(), "the guardian has ended");
            self.request(Trigger::GuardianDied);
        });
        Ok(())
    }

    fn request(&self, trigger: Trigger) {
        // The receiver is gone only when the daemon is exiting already.
        drop(self.triggers.send(trigger));
    }
}
