//! Every value is received as it was sent, and an invalid message is an error that names the field.

use std::fmt::Debug;

use jiff::Timestamp;
use mcpd_common::check::ports::{PortHolder, PortReport, PortState};
use mcpd_common::check::zombies::{ZOMBIES_SCHEMA, Zombie, ZombieReport};
use mcpd_common::config::Transport;
use mcpd_common::event::{EventKind, ShutdownEvent, WorkerStep};
use mcpd_common::ids::{Pgid, Pid, Port, RunId, RunTag, WorkerName};
use mcpd_common::os::{Backend, ContainedBy, Containment, ProcessInfo};
use mcpd_common::outcome::*;
use mcpd_common::phase::Phase;
use mcpd_common::status::*;
use proptest::prelude::*;
use prost::Message;

use crate::{ConvertError, v1};

/// Converts the value to a message and bytes, and back.
fn assert_round_trip<T, M>(value: T)
where
    T: Clone + PartialEq + Debug + TryFrom<M, Error = ConvertError>,
    M: From<T> + Message + Default,
{
    let bytes = M::from(value.clone()).encode_to_vec();
    let message = M::decode(bytes.as_slice()).expect("what was encoded");
    assert_eq!(T::try_from(message), Ok(value));
}

fn name(text: &str) -> WorkerName {
    text.parse().expect("a name")
}

fn pid(number: i32) -> Pid {
    Pid::new(number).expect("positive")
}

fn port() -> Port {
    Port::new(8081).expect("a port")
}

fn now() -> Timestamp {
    "2026-11-22T13:05:01.123456Z".parse().expect("a time")
}

fn run() -> RunId {
    RunId::new(now(), RunTag(0x3f9a_2c77))
}

fn process() -> ProcessInfo {
    ProcessInfo {
        pid: pid(4711),
        ppid: 0,
        pgid: Some(Pgid::led_by(pid(4711))),
        state: 'Z',
        name: "node".to_owned(),
        command: "node server.js".to_owned(),
        user: "kim".to_owned(),
    }
}

fn port_report(state: PortState) -> PortReport {
    let holder = |pid, worker| PortHolder {
        pid,
        command: "python3 server.py".to_owned(),
        user: "kim".to_owned(),
        state: "LISTEN".to_owned(),
        address: "127.0.0.1:8081".to_owned(),
        worker,
    };
    PortReport {
        port: port(),
        worker: Some(name("docs")),
        state,
        refused: vec!["[::1]:8081: address in use".to_owned()],
        holders: vec![holder(None, None), holder(Some(pid(7)), Some(name("docs")))],
        time_wait: 3,
        time_wait_seconds: 42,
    }
}

fn report() -> ShutdownReport {
    let worker = |departure, exit| WorkerReport {
        name: name("docs"),
        pid: Some(pid(4711)),
        port: Some(port()),
        asked: Asked::Http,
        answer: Some("202".to_owned()),
        departure,
        exit,
        left_after_ms: Some(12),
        descendants: 2,
        session_processes: 2,
        outlived: vec![process()],
        checks: vec![Check {
            subject: CheckSubject::Group,
            passed: true,
            evidence: "empty".to_owned(),
            duration_ms: 1,
        }],
    };
    ShutdownReport {
        schema: REPORT_SCHEMA.to_owned(),
        run: run(),
        reason: "manual".to_owned(),
        started_at: now(),
        finished_at: now(),
        duration_ms: 61,
        exit_code: 102,
        backend: Backend::Linux,
        containment: Some(Containment { by: ContainedBy::Cgroup, detail: "/c".to_owned() }),
        proof: Some("ECHILD".to_owned()),
        phases: vec![PhaseReport {
            phase: Phase::Exit,
            outcome: PhaseOutcome::Deadline,
            duration_ms: 5,
            limit_ms: 1000,
        }],
        workers: vec![
            worker(Departure::Killed, Some(ExitStatus::Signal(9))),
            worker(Departure::Left, Some(ExitStatus::Code(0))),
            worker(Departure::Remains, None),
        ],
        clients: ClientsReport {
            seen: 2,
            told: 1,
            left: 1,
            forced: 1,
            ended_sessions: 2,
            connections: vec![ClientReport {
                worker: name("docs"),
                peer: "127.0.0.1:40312".to_owned(),
                process: Some(process()),
                left_after_ms: None,
            }],
        },
        ports: vec![port_report(PortState::TimeWait)],
        resources: vec![ResourceReport {
            name: "journal".to_owned(),
            error: Some("disk full".to_owned()),
            duration_ms: 3,
        }],
        own: OwnReport { descriptors_start: 9, leaked: vec!["socket".to_owned()], ..OwnReport::default() },
        findings: vec![Finding::new(FindingKind::Overrun, "daemon", "too slow")],
    }
}

fn kinds() -> Vec<EventKind> {
    let step = |step| EventKind::Worker { name: name("docs"), pid: Some(pid(4711)), step };
    let text = |text: &str| text.to_owned();
    vec![
        EventKind::Started {
            run: run(),
            reason: text("manual"),
            workers: vec![name("docs")],
            limit_ms: 81_000,
        },
        EventKind::PhaseStarted { phase: Phase::Initiated, limit_ms: 0 },
        step(WorkerStep::Asked { how: Asked::EndOfInput }),
        step(WorkerStep::Answered { answer: text("404") }),
        step(WorkerStep::Signalled { signal: text("SIGTERM"), why: text("still running after 10 s") }),
        step(WorkerStep::LeaderExited { exit: ExitStatus::Code(3), remaining: 4 }),
        step(WorkerStep::Left { departure: Departure::Terminated, exit: None, after_ms: 7 }),
        step(WorkerStep::Remains { detail: text("traced by gdb") }),
        EventKind::Clients { connected: 1, left: 2, forced: 3 },
        EventKind::Verified { check: text("ports"), passed: false, evidence: text("held"), duration_ms: 2 },
        EventKind::Waiting { phase: Phase::Clients, remaining: vec![text("docs (pid 4711)")] },
        EventKind::Hurried { by: text("second SIGINT") },
        EventKind::Found { finding: Finding::new(FindingKind::PortInUse, 8081, "held") },
        EventKind::PhaseFinished {
            phase: Phase::Verification,
            outcome: PhaseOutcome::CutShort,
            duration_ms: 9,
            summary: text("3 of 3 workers exited"),
        },
        EventKind::Finished { report: Box::new(report()) },
    ]
}

fn status() -> StatusReport {
    let worker = WorkerStatus {
        name: name("docs"),
        state: WorkerState::BackingOff,
        reason: Some("exit 1".to_owned()),
        pid: None,
        port: port(),
        transport: Transport::Direct,
        url: "http://127.0.0.1:8081/mcp".to_owned(),
        repo: "/src/docs".to_owned(),
        since: now(),
        started_at: Some(now()),
        restarts: 1,
        descendants: 2,
        clients: 3,
        last_exit: Some(ExitStatus::Signal(15)),
        stray_lines: 3,
        session_processes: 2,
        ended_sessions: 4,
    };
    StatusReport {
        schema: STATUS_SCHEMA.to_owned(),
        daemon: Some(DaemonStatus {
            pid: pid(1),
            guardian: Some(pid(2)),
            version: "0.1.0".to_owned(),
            run: run(),
            started_at: now(),
            socket: "/run/mcpd/control.sock".to_owned(),
            state_dir: "/state".to_owned(),
            log_dir: "/log".to_owned(),
            config: None,
            backend: Backend::Portable,
            containment: Some(Containment { by: ContainedBy::Marks, detail: String::new() }),
            shutdown: Some(ShutdownStatus {
                reason: "manual".to_owned(),
                phase: Phase::WorkersTerminate,
                workers_gone: true,
                clients_gone: false,
                waiting: vec!["docs (pid 3)".to_owned()],
            }),
            warnings: vec!["journal set aside".to_owned()],
        }),
        workers: vec![worker],
        last_shutdown: Some(LastShutdown::from(&report())),
    }
}

#[test]
fn every_event_is_received_as_it_was_sent() {
    for (seq, kind) in (0..).zip(kinds()) {
        assert_round_trip::<_, v1::ShutdownEvent>(ShutdownEvent { seq, at: now(), elapsed_ms: 5, kind });
    }
}

#[test]
fn status_ports_and_zombies_are_received_as_they_were_sent() {
    assert_round_trip::<_, v1::StatusResponse>(status());
    use PortState::{Free, InUse, NotReady, Serving, TimeWait};
    for state in [Free, TimeWait, Serving, InUse, NotReady] {
        assert_round_trip::<_, v1::PortReport>(port_report(state));
    }
    let zombie = Zombie {
        pid: pid(5),
        name: "sh".to_owned(),
        ppid: 4,
        parent: "make".to_owned(),
        tracer: Some(pid(6)),
        worker: Some(name("docs")),
    };
    assert_round_trip::<_, v1::ListZombiesResponse>(ZombieReport {
        schema: ZOMBIES_SCHEMA.to_owned(),
        zombies: vec![zombie],
        examined: 300,
    });
}

#[test]
fn an_error_names_the_path_of_the_field() {
    let mut message = v1::StatusResponse::from(status());
    message.workers[0].pid = Some(-1);
    let error = StatusReport::try_from(message).expect_err("no such process");
    assert_eq!(error.to_string(), "workers.pid: -1 is not a process id");

    let error = ShutdownEvent::try_from(v1::ShutdownEvent { at: now().to_string(), ..Default::default() });
    assert_eq!(error.expect_err("no kind").to_string(), "kind: missing");

    let unknown = v1::PhaseReport { phase: 77, ..Default::default() };
    let error = PhaseReport::try_from(unknown).expect_err("no such phase");
    assert_eq!(error.to_string(), "phase: 77 is unknown to this version of mcpd");
}

proptest! {
    /// R-RPC-3: invalid bytes are an error and cause no panic.
    #[test]
    fn invalid_bytes_cause_no_panic(bytes: Vec<u8>) {
        if let Ok(message) = v1::ShutdownEvent::decode(bytes.as_slice()) {
            let _ = ShutdownEvent::try_from(message);
        }
        if let Ok(message) = v1::StatusResponse::decode(bytes.as_slice()) {
            let _ = StatusReport::try_from(message);
        }
    }
}
