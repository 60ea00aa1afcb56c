//! How the daemon ended. Pure.

use mcpd_common::crash::DaemonEnd;
use mcpd_common::outcome::ExitStatus;

/// What ended the daemon's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DaemonExit {
    /// It exited, or another process killed it.
    Itself(ExitStatus),
    /// The guardian killed it past the hard deadline, or tried to.
    Killed,
    /// The guardian killed it, or tried to, because the watchdog of the service manager expired.
    KilledByWatchdog,
}

/// The end of the run, with the completion mark that the daemon had set.
///
/// A completed daemon had nothing left to do: what ended its process afterwards does not matter,
/// not even if it was the guardian.
pub fn of(ended: DaemonExit, completion: Option<u8>) -> DaemonEnd {
    match (completion, ended) {
        (Some(code), _) => DaemonEnd::Completed(code),
        (None, DaemonExit::Itself(exit)) => DaemonEnd::Died(exit),
        (None, DaemonExit::Killed) => DaemonEnd::Overrun,
        (None, DaemonExit::KilledByWatchdog) => DaemonEnd::Hung,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R-CONT-5: an exit without the mark is a crash, even one with status 0.
    #[test]
    fn only_the_mark_completes_a_shutdown() {
        let zero = ExitStatus::Code(0);
        assert_eq!(of(DaemonExit::Itself(zero), None), DaemonEnd::Died(zero));
        assert_eq!(of(DaemonExit::Itself(zero), Some(3)), DaemonEnd::Completed(3));
        assert_eq!(of(DaemonExit::Itself(ExitStatus::Signal(9)), Some(0)), DaemonEnd::Completed(0));
        assert_eq!(of(DaemonExit::Killed, None), DaemonEnd::Overrun);
        assert_eq!(of(DaemonExit::KilledByWatchdog, None), DaemonEnd::Hung);
        assert_eq!(of(DaemonExit::Killed, Some(0)), DaemonEnd::Completed(0));
    }
}
