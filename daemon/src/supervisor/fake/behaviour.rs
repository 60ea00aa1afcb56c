//! How a fake worker reacts to requests, probes and signals.

use std::time::Duration;

use mcpd_common::outcome::ExitStatus;

pub const fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// The time between a signal and the exit of the process; `None`: the process does not exit.
#[derive(Clone, Copy, Debug)]
pub struct SignalReaction {
    pub on_term: Option<Duration>,
    pub on_kill: Option<Duration>,
}

impl SignalReaction {
    pub const EXITS: Self = Self { on_term: Some(Duration::ZERO), on_kill: Some(Duration::ZERO) };
    pub const IGNORES_SIGTERM: Self = Self { on_term: None, on_kill: Some(Duration::ZERO) };
    /// Like a process in uninterruptible sleep.
    pub const UNKILLABLE: Self = Self { on_term: None, on_kill: None };
}

/// The response to `POST /shutdown`.
#[derive(Clone, Copy, Debug)]
pub enum Reply {
    Status(u16),
    /// The connection is refused.
    Refused,
    /// The connection is accepted, but there is never a response.
    Silence,
}

/// The behaviour of a worker or a helper.
#[derive(Clone, Debug)]
pub struct Behaviour {
    pub probe_succeeds: bool,
    pub reply: Reply,
    /// Time between an accepted stop request and the exit; `None`: the worker does not exit.
    pub on_request: Option<Duration>,
    pub leader: SignalReaction,
    /// Descendants that exist from the start of the leader and outlive it.
    pub descendants: Vec<SignalReaction>,
    /// The leader exits this long after its start.
    pub unrequested_exit: Option<(Duration, ExitStatus)>,
    pub fails_to_start: bool,
    /// The check before a start never ends.
    pub check_hangs: bool,
    /// Its process never executes the program.
    pub start_hangs: bool,
    /// Whether the worker has a shutdown route.
    pub has_route: bool,
    /// The program of `stop_command`.
    pub stop_command: Option<&'static str>,
}

impl Behaviour {
    /// Accepts the stop request and exits 100 ms later.
    pub fn exits_on_request() -> Self {
        Self {
            probe_succeeds: true,
            reply: Reply::Status(202),
            on_request: Some(ms(100)),
            leader: SignalReaction::EXITS,
            descendants: vec![],
            unrequested_exit: None,
            fails_to_start: false,
            check_hangs: false,
            start_hangs: false,
            has_route: true,
            stop_command: None,
        }
    }

    /// Accepts the stop request and keeps running.
    pub fn ignores_request() -> Self {
        Self { on_request: None, ..Self::exits_on_request() }
    }

    /// Gives this response to the stop request and keeps running.
    pub fn replies(reply: Reply) -> Self {
        Self { reply, ..Self::ignores_request() }
    }

    pub fn without_route() -> Self {
        Self { has_route: false, ..Self::ignores_request() }
    }

    pub fn never_ready() -> Self {
        Self { probe_succeeds: false, ..Self::ignores_request() }
    }

    /// Exits this long after its start, without a request.
    pub fn exits_after(after: Duration, exit: ExitStatus) -> Self {
        Self { unrequested_exit: Some((after, exit)), ..Self::exits_on_request() }
    }

    /// Exits this long after the stop request.
    pub fn exiting_after(self, after: Duration) -> Self {
        Self { on_request: Some(after), ..self }
    }

    pub fn with_leader(self, leader: SignalReaction) -> Self {
        Self { leader, ..self }
    }

    /// Adds a descendant that outlives the leader.
    pub fn with_descendant(mut self, reaction: SignalReaction) -> Self {
        self.descendants.push(reaction);
        self
    }

    pub fn with_stop_command(self, program: &'static str) -> Self {
        Self { stop_command: Some(program), ..self }
    }
}
