//! How one scripted worker behaves.

use std::time::Duration;

use mcpd_common::outcome::ExitStatus;

/// Milliseconds.
pub const fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// How soon a process ends after a signal; `None`: it does not.
#[derive(Clone, Copy, Debug)]
pub struct Nature {
    /// After `SIGTERM`.
    pub on_term: Option<Duration>,
    /// After `SIGKILL`.
    pub on_kill: Option<Duration>,
}

impl Nature {
    /// Ends at once, whatever it is sent.
    pub const MILD: Self = Self { on_term: Some(Duration::ZERO), on_kill: Some(Duration::ZERO) };
    /// Ignores `SIGTERM`.
    pub const STUBBORN: Self = Self { on_term: None, on_kill: Some(Duration::ZERO) };
    /// In uninterruptible sleep.
    pub const UNKILLABLE: Self = Self { on_term: None, on_kill: None };
}

/// What comes back from `POST /shutdown`.
#[derive(Clone, Copy, Debug)]
pub enum Reply {
    /// This status, at once.
    Status(u16),
    /// The connection is refused.
    Refused,
    /// Nothing, ever.
    Silence,
}

/// A worker's or a helper's behaviour.
#[derive(Clone, Debug)]
pub struct Script {
    /// It answers its probe.
    pub answers_probe: bool,
    /// Its answer to the request to leave.
    pub reply: Reply,
    /// When it leaves after a request that it accepted; `None`: it does not.
    pub on_request: Option<Duration>,
    pub leader: Nature,
    /// Descendants that outlive the leader, from its birth on.
    pub descendants: Vec<Nature>,
    /// It exits this long after its start.
    pub own_end: Option<(Duration, ExitStatus)>,
    /// It can't be started.
    pub refuses_to_start: bool,
    /// It has a shutdown route.
    pub has_route: bool,
    /// The program that is run with the request to leave.
    pub stop_command: Option<&'static str>,
}

impl Script {
    /// Accepts the request and leaves after a tenth of a second.
    pub fn polite() -> Self {
        Self {
            answers_probe: true,
            reply: Reply::Status(202),
            on_request: Some(ms(100)),
            leader: Nature::MILD,
            descendants: vec![],
            own_end: None,
            refuses_to_start: false,
            has_route: true,
            stop_command: None,
        }
    }

    /// Accepts the request and stays.
    pub fn deaf() -> Self {
        Self { on_request: None, ..Self::polite() }
    }

    /// Answers the request like this, and stays.
    pub fn replying(reply: Reply) -> Self {
        Self { reply, ..Self::deaf() }
    }

    /// Has no shutdown route.
    pub fn without_route() -> Self {
        Self { has_route: false, ..Self::deaf() }
    }

    /// Never answers its probe.
    pub fn never_ready() -> Self {
        Self { answers_probe: false, ..Self::deaf() }
    }

    /// Exits this long after its start.
    pub fn ending(after: Duration, exit: ExitStatus) -> Self {
        Self { own_end: Some((after, exit)), ..Self::polite() }
    }

    /// Exits this long after the stop request.
    pub fn exiting_after(self, after: Duration) -> Self {
        Self { on_request: Some(after), ..self }
    }

    /// Its leader takes signals like this.
    pub fn with_leader(self, leader: Nature) -> Self {
        Self { leader, ..self }
    }

    /// One more descendant that outlives it.
    pub fn with_descendant(mut self, nature: Nature) -> Self {
        self.descendants.push(nature);
        self
    }

    /// This program is run with the request to leave.
    pub fn with_stop_command(self, program: &'static str) -> Self {
        Self { stop_command: Some(program), ..self }
    }
}
