//! Signals become requests; nothing else happens here. Every one is logged by name, the
//! duplicates too (R-LOG-4).

use mcpd_common::os::child::Signal;
use mcpd_common::os::handover::take_stop_signals;
use mcpd_common::os::own;
use tokio::signal::unix::{self, SignalKind};
use tokio::sync::mpsc;

use crate::shutdown::request::Trigger;

/// Listens from now on, on a task for each signal. To be called on the thread that takes them: in all
/// others they are held, so that none is lost while one program hands over to the next.
///
/// # Errors
/// When the kernel grants no handler.
pub fn listen(triggers: &mpsc::UnboundedSender<Trigger>) -> std::io::Result<()> {
    forward(SignalKind::terminate(), "SIGTERM", triggers)?;
    // Ignored at the start (nohup, a shell's background job): they stay ignored.
    if !own::ignored_at_start(Signal::Int) {
        forward(SignalKind::interrupt(), "SIGINT", triggers)?;
    }
    if !own::ignored_at_start(Signal::Hup) {
        forward(SignalKind::hangup(), "SIGHUP", triggers)?;
    }
    // What came since the start, or since another program was here, comes now.
    Ok(take_stop_signals()?)
}

fn forward(
    kind: SignalKind,
    name: &'static str,
    triggers: &mpsc::UnboundedSender<Trigger>,
) -> std::io::Result<()> {
    let mut signals = unix::signal(kind)?;
    let triggers = triggers.clone();
    tokio::spawn(async move {
        while signals.recv().await.is_some() {
            tracing::info!(signal = name, "received");
            match name {
                "SIGHUP" if !own::has_controlling_terminal() => {
                    tracing::warn!("this version can't read its configuration again; restart it instead");
                }
                // The app may be gone already: then there is nothing left to stop.
                _ => drop(triggers.send(Trigger::Signal(name))),
            }
        }
    });
    Ok(())
}
