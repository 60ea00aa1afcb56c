//! Which request starts a shutdown, and what later requests do. Pure.
//!
//! The first request wins. Later ones are logged and ignored, except that a second
//! `SIGINT`, more than a second after the first, or `mcpctl shutdown --now` cuts the remaining
//! waits short, and that an internal error always adds its finding.

use std::time::Duration;

use tokio::time::Instant;

/// Two `SIGINT`s closer together than this are one: a terminal sends it to guardian and
/// daemon, and people press Ctrl-C twice.
const DOUBLE_PRESS_LIMIT: Duration = Duration::from_secs(1);

/// What follows when all workers are stopped and verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterShutdown {
    /// The process exits.
    Exit,
    /// The process replaces itself by the new program (R-CLIENT-7).
    Replace,
}

/// A request to shut down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A signal, by name.
    Signal(&'static str),
    /// The `Shutdown` RPC.
    Rpc {
        /// The text given, or `manual`.
        reason: String,
        /// Cut the waits short.
        now: bool,
    },
    /// The `RestartDaemon` RPC.
    Restart {
        /// The text given, or `restart`.
        reason: String,
    },
    /// The guardian exited, so a crash of the daemon would not be cleaned up any more (R-CONT-5).
    GuardianDied,
    /// A supervising task panicked (R-SUP-5).
    Emergency { what: String },
}

impl Trigger {
    /// The reason that the report gives (R-LOG-2).
    pub fn reason(&self) -> String {
        match self {
            Self::Signal(name) => format!("signal_{name}"),
            Self::Rpc { reason, .. } | Self::Restart { reason } => reason.clone(),
            Self::GuardianDied => "guardian_died".to_owned(),
            Self::Emergency { .. } => "internal_error".to_owned(),
        }
    }

    pub fn after_shutdown(&self) -> AfterShutdown {
        match self {
            Self::Restart { .. } => AfterShutdown::Replace,
            Self::Signal(_) | Self::Rpc { .. } | Self::GuardianDied | Self::Emergency { .. } => {
                AfterShutdown::Exit
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// Begin the shutdown.
    Begin,
    /// Cut the remaining waits short.
    CutShort {
        /// The request that cut them short.
        by: &'static str,
    },
    /// A shutdown is already running.
    Ignore,
    /// A shutdown is already running; add the finding.
    NoteInternalError { what: String },
}

/// The requests so far.
#[derive(Clone, Debug, Default)]
pub struct Requests {
    begun: bool,
    first_interrupt: Option<Instant>,
    exit: Option<String>,
}

impl Requests {
    #[must_use]
    pub fn on(&mut self, trigger: &Trigger, now: Instant) -> Response {
        let begun = std::mem::replace(&mut self.begun, true);
        let again = match trigger {
            Trigger::Signal("SIGINT") => self.interrupted_again(now),
            _ => false,
        };
        if self.exit.is_none() && trigger.after_shutdown() == AfterShutdown::Exit {
            self.exit = Some(trigger.reason());
        }
        match trigger {
            _ if !begun => Response::Begin,
            Trigger::Signal(_) if again => Response::CutShort { by: "second SIGINT" },
            Trigger::Rpc { now: true, .. } => Response::CutShort { by: "mcpctl shutdown --now" },
            Trigger::Emergency { what } => Response::NoteInternalError { what: what.clone() },
            Trigger::Signal(_) | Trigger::Rpc { .. } | Trigger::Restart { .. } | Trigger::GuardianDied => {
                Response::Ignore
            }
        }
    }

    /// Why the process has to exit in the end: an exit was requested, perhaps while it was about to
    /// be replaced.
    pub fn exit(&self) -> Option<&str> {
        self.exit.as_deref()
    }

    fn interrupted_again(&mut self, now: Instant) -> bool {
        let first = *self.first_interrupt.get_or_insert(now);
        now.saturating_duration_since(first) > DOUBLE_PRESS_LIMIT
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deadline;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    fn rpc(now: bool) -> Trigger {
        Trigger::Rpc { reason: "manual".into(), now }
    }

    #[test]
    fn a_second_interrupt_counts_only_after_a_second() {
        let mut requests = Requests::default();
        let start = deadline::now();
        let interrupt = Trigger::Signal("SIGINT");
        assert_eq!(requests.on(&interrupt, start), Response::Begin);
        assert_eq!(requests.on(&interrupt, start + 900 * MS), Response::Ignore);
        assert_eq!(requests.on(&interrupt, start + 1100 * MS), Response::CutShort { by: "second SIGINT" });
    }

    #[test]
    fn an_interrupt_after_another_trigger_is_the_first_one() {
        let mut requests = Requests::default();
        let start = deadline::now();
        assert_eq!(requests.on(&Trigger::Signal("SIGTERM"), start), Response::Begin);
        assert_eq!(requests.on(&Trigger::Signal("SIGINT"), start + 5000 * MS), Response::Ignore);
        assert_eq!(requests.on(&Trigger::Signal("SIGTERM"), start + 6000 * MS), Response::Ignore);
    }

    #[test]
    fn now_hurries_and_an_internal_error_is_never_lost() {
        let mut requests = Requests::default();
        let start = deadline::now();
        assert_eq!(requests.on(&rpc(false), start), Response::Begin);
        assert_eq!(requests.on(&rpc(true), start), Response::CutShort { by: "mcpctl shutdown --now" });
        let emergency = Trigger::Emergency { what: "a panic".into() };
        assert!(matches!(requests.on(&emergency, start), Response::NoteInternalError { .. }));
    }

    /// A requested exit is carried out, also in the middle of a restart.
    #[test]
    fn a_request_to_exit_outlives_a_replacement() {
        let mut requests = Requests::default();
        let start = deadline::now();
        let restart = Trigger::Restart { reason: "restart".into() };
        assert_eq!(requests.on(&restart, start), Response::Begin);
        assert_eq!(requests.exit(), None);
        for trigger in [Trigger::Signal("SIGTERM"), restart, rpc(false)] {
            assert_eq!(requests.on(&trigger, start), Response::Ignore);
            assert_eq!(requests.exit(), Some("signal_SIGTERM"));
        }
    }

    proptest! {
        /// In any order of requests, the first one begins, and no other does.
        #[test]
        fn the_first_one_wins(picks in proptest::collection::vec(0usize..5, 1..20)) {
            let all = [
                Trigger::Signal("SIGTERM"), Trigger::Signal("SIGINT"), rpc(false), rpc(true),
                Trigger::Emergency { what: "x".into() },
            ];
            let mut requests = Requests::default();
            let start = deadline::now();
            let begun = picks.iter().map(|pick| requests.on(&all[*pick], start));
            let begun: Vec<_> = begun.map(|response| response == Response::Begin).collect();
            prop_assert!(begun[0]);
            prop_assert!(!begun[1..].contains(&true));
        }
    }
}
