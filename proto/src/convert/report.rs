//! Converts the report of a shutdown.

use mcpd_common::outcome::{
    Asked, Check, CheckSubject, ClientReport, ClientsReport, Departure, Finding, FindingKind, OwnReport,
    PhaseOutcome, PhaseReport, REPORT_SCHEMA, ResourceReport, ShutdownReport, WorkerReport,
};

use super::{ConvertError, Wire, mirror, mirror_enum};
use crate::v1;

mirror_enum!(
    FindingKind,
    v1::FindingKind {
        Information,
        ClientForced,
        WorkerTerminated,
        DescendantsTerminated,
        WorkerKilled,
        DescendantsKilled,
        PortInUse,
        ZombieLeft,
        ProcessLeft,
        ResourceFailed,
        InternalError,
        DaemonDied,
        Overrun,
    }
);
mirror_enum!(Asked, v1::Asked { NotAsked, Http, Sigterm, EndOfInput });
mirror_enum!(Departure, v1::Departure { NotRunning, Left, Terminated, Killed, Remains });
mirror_enum!(CheckSubject, v1::CheckSubject { Processes, Group, Zombies, Port, Resources, Container });
mirror_enum!(PhaseOutcome, v1::PhaseOutcome { Done, Findings, Deadline, CutShort });

mirror!(Finding, v1::Finding { kind, subject, detail });
mirror!(Check, v1::Check { subject, passed, evidence, duration_ms });
mirror!(
    WorkerReport,
    v1::WorkerReport {
        name,
        pid,
        port,
        asked,
        answer,
        departure,
        exit,
        left_after_ms,
        session_processes,
        descendants,
        outlived,
        checks,
    }
);
mirror!(PhaseReport, v1::PhaseReport { phase, outcome, duration_ms, limit_ms });
mirror!(ClientReport, v1::ClientReport { worker, peer, process, left_after_ms });
mirror!(ClientsReport, v1::ClientsReport { seen, told, left, forced, ended_sessions, connections });
mirror!(ResourceReport, v1::ResourceReport { name, error, duration_ms });
mirror!(OwnReport, v1::OwnReport { descriptors_start, descriptors_end, threads_start, threads_end, leaked });
mirror!(
    ShutdownReport,
    v1::ShutdownReport {
        run, reason, started_at, finished_at, duration_ms, exit_code, backend, containment, proof, phases, workers, clients,
        ports, resources, own, findings,
    } with { schema: REPORT_SCHEMA }
);
