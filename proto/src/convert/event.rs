//! Converts the events of a shutdown by hand, since each contains a `oneof`.

use mcpd_common::event::{EventKind, ShutdownEvent, WorkerStep};

use super::{ConvertError, Wire};
use crate::v1;
use crate::v1::shutdown_event::Kind;
use crate::v1::worker_event::{LeaderExited, Left, Signalled, Step};

impl From<ShutdownEvent> for v1::ShutdownEvent {
    fn from(event: ShutdownEvent) -> Self {
        Self {
            seq: event.seq,
            at: event.at.to_wire(),
            elapsed_ms: event.elapsed_ms,
            kind: Some(event.kind.into()),
        }
    }
}

impl TryFrom<v1::ShutdownEvent> for ShutdownEvent {
    type Error = ConvertError;

    fn try_from(message: v1::ShutdownEvent) -> Result<Self, ConvertError> {
        Ok(Self {
            seq: message.seq,
            at: field("at", message.at)?,
            elapsed_ms: message.elapsed_ms,
            kind: message.kind.ok_or_else(|| ConvertError::missing().inside("kind"))?.try_into()?,
        })
    }
}

impl From<EventKind> for Kind {
    fn from(kind: EventKind) -> Self {
        match kind {
            EventKind::Started { run, reason, workers, limit_ms } => Self::Started(v1::ShutdownStarted {
                run: run.to_wire(),
                reason,
                workers: workers.to_wire(),
                limit_ms,
            }),
            EventKind::PhaseStarted { phase, limit_ms } => {
                Self::PhaseStarted(v1::PhaseStarted { phase: phase.to_wire(), limit_ms })
            }
            EventKind::Worker { name, pid, step } => Self::Worker(v1::WorkerEvent {
                name: name.to_wire(),
                pid: pid.to_wire(),
                step: Some(step.into()),
            }),
            EventKind::Clients { connected, left, forced } => {
                Self::Clients(v1::ClientsEvent { connected, left, forced })
            }
            EventKind::Verified { check, passed, evidence, duration_ms } => {
                Self::Verified(v1::VerifiedEvent { check, passed, evidence, duration_ms })
            }
            EventKind::Waiting { phase, remaining } => {
                Self::Waiting(v1::WaitingEvent { phase: phase.to_wire(), remaining })
            }
            EventKind::Hurried { by } => Self::Hurried(v1::HurriedEvent { by }),
            EventKind::Found { finding } => Self::Found(finding.into()),
            EventKind::PhaseFinished { phase, outcome, duration_ms, summary } => {
                Self::PhaseFinished(v1::PhaseFinished {
                    phase: phase.to_wire(),
                    outcome: outcome.to_wire(),
                    duration_ms,
                    summary,
                })
            }
            EventKind::Finished { report } => Self::Finished((*report).into()),
        }
    }
}

impl TryFrom<Kind> for EventKind {
    type Error = ConvertError;

    fn try_from(kind: Kind) -> Result<Self, ConvertError> {
        Ok(match kind {
            Kind::Started(m) => Self::Started {
                run: field("run", m.run)?,
                reason: m.reason,
                workers: field("workers", m.workers)?,
                limit_ms: m.limit_ms,
            },
            Kind::PhaseStarted(m) => {
                Self::PhaseStarted { phase: field("phase", m.phase)?, limit_ms: m.limit_ms }
            }
            Kind::Worker(m) => Self::Worker {
                name: field("name", m.name)?,
                pid: field("pid", m.pid)?,
                step: m.step.ok_or_else(|| ConvertError::missing().inside("step"))?.try_into()?,
            },
            Kind::Clients(m) => Self::Clients { connected: m.connected, left: m.left, forced: m.forced },
            Kind::Verified(m) => Self::Verified {
                check: m.check,
                passed: m.passed,
                evidence: m.evidence,
                duration_ms: m.duration_ms,
            },
            Kind::Waiting(m) => Self::Waiting { phase: field("phase", m.phase)?, remaining: m.remaining },
            Kind::Hurried(m) => Self::Hurried { by: m.by },
            Kind::Found(m) => Self::Found { finding: field("finding", m)? },
            Kind::PhaseFinished(m) => Self::PhaseFinished {
                phase: field("phase", m.phase)?,
                outcome: field("outcome", m.outcome)?,
                duration_ms: m.duration_ms,
                summary: m.summary,
            },
            Kind::Finished(m) => Self::Finished { report: Box::new(field("report", m)?) },
        })
    }
}

impl From<WorkerStep> for Step {
    fn from(step: WorkerStep) -> Self {
        match step {
            WorkerStep::Asked { how } => Self::Asked(how.to_wire()),
            WorkerStep::Answered { answer } => Self::Answered(answer),
            WorkerStep::Signalled { signal, why } => Self::Signalled(Signalled { signal, why }),
            WorkerStep::LeaderExited { exit, remaining } => {
                Self::LeaderExited(LeaderExited { exit: exit.to_wire(), remaining })
            }
            WorkerStep::Left { departure, exit, after_ms } => {
                Self::Left(Left { departure: departure.to_wire(), exit: exit.to_wire(), after_ms })
            }
            WorkerStep::Remains { detail } => Self::Remains(detail),
        }
    }
}

impl TryFrom<Step> for WorkerStep {
    type Error = ConvertError;

    fn try_from(step: Step) -> Result<Self, ConvertError> {
        Ok(match step {
            Step::Asked(how) => Self::Asked { how: field("asked", how)? },
            Step::Answered(answer) => Self::Answered { answer },
            Step::Signalled(m) => Self::Signalled { signal: m.signal, why: m.why },
            Step::LeaderExited(m) => {
                Self::LeaderExited { exit: field("exit", m.exit)?, remaining: m.remaining }
            }
            Step::Left(m) => Self::Left {
                departure: field("departure", m.departure)?,
                exit: field("exit", m.exit)?,
                after_ms: m.after_ms,
            },
            Step::Remains(detail) => Self::Remains { detail },
        })
    }
}

/// Converts one field of a message; an error contains its name.
fn field<M, T: Wire<M>>(name: &str, message: M) -> Result<T, ConvertError> {
    T::from_wire(message).map_err(|error| error.inside(name))
}
