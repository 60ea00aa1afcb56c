//! Converts status, client connections, ports and zombies.

use mcpd_common::check::ports::{PortHolder, PortReport, PortState};
use mcpd_common::check::zombies::{ZOMBIES_SCHEMA, Zombie, ZombieReport};
use mcpd_common::config::Transport;
use mcpd_common::os::{Backend, ContainedBy, Containment, ProcessInfo};
use mcpd_common::outcome::ExitStatus;
use mcpd_common::phase::Phase;
use mcpd_common::status::{
    CLIENTS_SCHEMA, ClientConnection, ClientList, DaemonStatus, LastShutdown, STATUS_SCHEMA, ShutdownStatus,
    StatusReport, WorkerState, WorkerStatus,
};

use super::{ConvertError, Wire, mirror, mirror_enum, nested};
use crate::v1;
use crate::v1::exit_status::Kind;

mirror_enum!(Backend, v1::Backend { Linux, Portable });
mirror_enum!(ContainedBy, v1::ContainedBy { Marks, Subreaper, Cgroup });
mirror_enum!(Transport, v1::Transport { Http, Stdio, Direct });
mirror_enum!(Phase, v1::Phase { Initiated, WorkersGraceful, Clients, WorkersTerminate, Verification, Exit });
mirror_enum!(
    WorkerState,
    v1::WorkerState { Starting, Ready, Unhealthy, BackingOff, Failed, Stopping, Stopped }
);
mirror_enum!(PortState, v1::PortState { Free, TimeWait, Serving, InUse, NotReady });

mirror!(Containment, v1::Containment { by, detail });
mirror!(ProcessInfo, v1::ProcessInfo { pid, ppid, pgid, state, name, command, user });
mirror!(
    StatusReport,
    v1::StatusResponse { daemon, workers, last_shutdown } with { schema: STATUS_SCHEMA }
);
mirror!(
    DaemonStatus,
    v1::DaemonStatus {
        pid,
        guardian,
        version,
        run,
        started_at,
        socket,
        state_dir,
        log_dir,
        config,
        backend,
        containment,
        shutdown,
        warnings,
    }
);
mirror!(ShutdownStatus, v1::ShutdownStatus { reason, phase, workers_gone, clients_gone, waiting });
mirror!(
    WorkerStatus,
    v1::WorkerStatus {
        name,
        state,
        reason,
        pid,
        port,
        transport,
        url,
        repo,
        since,
        started_at,
        restarts,
        descendants,
        clients,
        last_exit,
        stray_lines,
        session_processes,
        ended_sessions,
    }
);
mirror!(LastShutdown, v1::LastShutdown { run, at, reason, exit_code, duration_ms });
mirror!(PortReport, v1::PortReport { port, worker, state, refused, holders, time_wait, time_wait_seconds });
mirror!(PortHolder, v1::PortHolder { pid, command, user, state, address, worker });
mirror!(Zombie, v1::Zombie { pid, name, ppid, parent, tracer, worker });
mirror!(
    ZombieReport,
    v1::ListZombiesResponse { zombies, examined } with { schema: ZOMBIES_SCHEMA }
);

impl From<ExitStatus> for v1::ExitStatus {
    fn from(value: ExitStatus) -> Self {
        let kind = match value {
            ExitStatus::Code(code) => Kind::Code(code),
            ExitStatus::Signal(signal) => Kind::Signal(signal),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<v1::ExitStatus> for ExitStatus {
    type Error = ConvertError;

    fn try_from(message: v1::ExitStatus) -> Result<Self, ConvertError> {
        match message.kind.ok_or_else(ConvertError::missing)? {
            Kind::Code(code) => Ok(Self::Code(code)),
            Kind::Signal(signal) => Ok(Self::Signal(signal)),
        }
    }
}

nested!(ExitStatus, v1::ExitStatus);

mirror!(
    ClientConnection,
    v1::ClientConnection { id, worker, peer, process, since, requests, session, streams }
);
mirror!(ClientList, v1::ListClientsResponse { clients } with { schema: CLIENTS_SCHEMA });
