//! Sample values for the tests.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use mcpd_common::check::ports::{PortHolder, PortReport, PortState};
use mcpd_common::check::zombies::{ZOMBIES_SCHEMA, Zombie, ZombieReport};
use mcpd_common::config::Transport;
use mcpd_common::ids::{Pgid, Pid, Port, RunId, RunTag, WorkerName};
use mcpd_common::journal::HistoryRow;
use mcpd_common::os::{Backend, ContainedBy, Containment, ProcessInfo};
use mcpd_common::outcome::*;
use mcpd_common::paths::StateDir;
use mcpd_common::phase::Phase;
use mcpd_common::status::*;

use crate::formatting::Clock;
use crate::locations::Locations;

pub fn name(text: &str) -> WorkerName {
    text.parse().expect("a name")
}

pub fn pid(number: i32) -> Pid {
    Pid::new(number).expect("positive")
}

pub fn port(number: u16) -> Port {
    Port::new(number).expect("a port")
}

pub fn at(text: &str) -> Timestamp {
    format!("2026-11-22T{text}Z").parse().expect("a time")
}

pub fn clock() -> Clock {
    Clock { now: at("15:10:01"), zone: TimeZone::UTC }
}

pub fn run() -> RunId {
    RunId::new(at("13:05:01"), RunTag(0x3f9a_2c77))
}

pub fn locations() -> Locations {
    Locations {
        socket: None,
        state: StateDir::new("/home/kim/.local/state/mcpd"),
        log_dir: "/home/kim/.local/state/mcpd/logs".into(),
        ports: Vec::new(),
        problem: None,
    }
}

fn worker_status(text: &str, state: WorkerState, number: u16) -> WorkerStatus {
    let runs = state == WorkerState::Ready;
    WorkerStatus {
        name: name(text),
        state,
        reason: None,
        pid: runs.then(|| pid(i32::from(number))),
        port: port(number),
        transport: Transport::Direct,
        url: format!("http://127.0.0.1:{number}/mcp"),
        repo: format!("/home/kim/src/{text}"),
        since: at("13:05:02"),
        started_at: runs.then(|| at("13:05:01")),
        restarts: 0,
        descendants: 0,
        clients: 2,
        last_exit: None,
        stray_lines: 0,
        session_processes: 0,
        ended_sessions: 0,
    }
}

pub fn last_shutdown() -> LastShutdown {
    LastShutdown {
        run: run(),
        at: at("13:04:58"),
        reason: "signal_SIGTERM".to_owned(),
        exit_code: 2,
        duration_ms: 10_012,
    }
}

/// Three workers, one of which failed.
pub fn status() -> StatusReport {
    let mut failed = worker_status("docs", WorkerState::Failed, 8082);
    failed.reason = Some(
        "port 8082 is held by python3 -m http.server 8082 (pid 991, user kim, LISTEN on 0.0.0.0:8082)"
            .to_owned(),
    );
    failed.restarts = 10;
    failed.last_exit = Some(ExitStatus::Code(1));
    let mut web = worker_status("web-frontend", WorkerState::Ready, 8101);
    web.descendants = 4;
    StatusReport {
        schema: STATUS_SCHEMA.to_owned(),
        daemon: Some(DaemonStatus {
            pid: pid(4242),
            guardian: Some(pid(4241)),
            version: "0.1.0".to_owned(),
            run: run(),
            started_at: at("13:05:01"),
            socket: "/run/user/1000/mcpd/control.sock".to_owned(),
            state_dir: "/home/kim/.local/state/mcpd".to_owned(),
            log_dir: "/home/kim/.local/state/mcpd/logs".to_owned(),
            config: None,
            backend: Backend::Linux,
            containment: Some(contained()),
            shutdown: None,
            warnings: vec!["the journal was damaged and has been set aside".to_owned()],
        }),
        workers: vec![worker_status("alpha", WorkerState::Ready, 8081), failed, web],
        last_shutdown: Some(last_shutdown()),
    }
}

pub fn status_shutting_down() -> StatusReport {
    let mut report = status();
    if let Some(daemon) = &mut report.daemon {
        daemon.shutdown = Some(ShutdownStatus {
            reason: "manual".to_owned(),
            phase: Phase::WorkersGraceful,
            workers_gone: false,
            clients_gone: true,
            waiting: vec!["alpha (pid 8081)".to_owned(), "web-frontend (pid 8101)".to_owned()],
        });
    }
    report
}

fn holder(number: i32, worker: Option<&str>) -> PortHolder {
    PortHolder {
        pid: Some(pid(number)),
        command: "python3 -m http.server 8082".to_owned(),
        user: "kim".to_owned(),
        state: "LISTEN".to_owned(),
        address: "127.0.0.1:8082".to_owned(),
        worker: worker.map(name),
    }
}

fn port_report(number: u16, worker: Option<&str>, state: PortState) -> PortReport {
    PortReport {
        port: port(number),
        worker: worker.map(name),
        state,
        refused: Vec::new(),
        holders: Vec::new(),
        time_wait: 0,
        time_wait_seconds: 0,
    }
}

/// A port in each state.
pub fn ports() -> Vec<PortReport> {
    let mut held = port_report(8082, Some("docs"), PortState::InUse);
    held.holders =
        vec![holder(991, None), PortHolder { pid: None, user: "root".to_owned(), ..holder(1, None) }];
    held.refused = vec!["127.0.0.1:8082: address in use".to_owned()];
    let mut past = port_report(8083, None, PortState::TimeWait);
    (past.time_wait, past.time_wait_seconds) = (12, 41);
    let mut serving = port_report(8081, Some("alpha"), PortState::Serving);
    let second = PortHolder { address: "[::1]:8082".to_owned(), ..holder(8081, Some("alpha")) };
    serving.holders = vec![holder(8081, Some("alpha")), second];
    vec![serving, held, past, port_report(8084, None, PortState::Free)]
}

pub fn zombies() -> ZombieReport {
    let zombie = |number, tracer, worker: Option<&str>| Zombie {
        pid: pid(number),
        name: "sh".to_owned(),
        ppid: 4711,
        parent: "node /home/kim/src/docs/node_modules/.bin/server --port 8082 --verbose".to_owned(),
        tracer,
        worker: worker.map(name),
    };
    ZombieReport {
        schema: ZOMBIES_SCHEMA.to_owned(),
        zombies: vec![zombie(5001, None, Some("docs")), zombie(5002, Some(pid(77)), None)],
        examined: 312,
    }
}

pub fn history() -> Vec<HistoryRow> {
    let ended = HistoryRow {
        run: run(),
        pid: pid(4242),
        version: "0.1.0".to_owned(),
        config: Some("/home/kim/.config/mcpd/config.toml".to_owned()),
        started_at: at("13:05:01"),
        ended_at: Some(at("14:00:12")),
        reason: Some("manual".to_owned()),
        exit_code: Some(3),
        shutdown_ms: Some(35_061),
        workers: 3,
        restarts: 7,
    };
    let runs = HistoryRow {
        run: RunId::new(at("14:05:00"), RunTag(1)),
        started_at: at("14:05:00"),
        config: None,
        ended_at: None,
        reason: None,
        exit_code: None,
        shutdown_ms: None,
        restarts: 0,
        ..ended.clone()
    };
    vec![runs, ended]
}

pub fn process(number: i32, command: &str) -> ProcessInfo {
    ProcessInfo {
        pid: pid(number),
        ppid: 1,
        pgid: Some(Pgid::led_by(pid(number))),
        state: 'S',
        name: "node".to_owned(),
        command: command.to_owned(),
        user: "kim".to_owned(),
    }
}

fn check(subject: CheckSubject, passed: bool, evidence: &str) -> Check {
    Check { subject, passed, evidence: evidence.to_owned(), duration_ms: 1 }
}

fn worker_report(text: &str, departure: Departure, exit: ExitStatus, after: u64) -> WorkerReport {
    WorkerReport {
        name: name(text),
        pid: Some(pid(4711)),
        port: Some(port(8081)),
        asked: Asked::Http,
        answer: Some("202".to_owned()),
        departure,
        exit: Some(exit),
        left_after_ms: Some(after),
        descendants: 0,
        session_processes: 0,
        outlived: Vec::new(),
        checks: vec![check(CheckSubject::Processes, true, "gone"), check(CheckSubject::Group, true, "empty")],
    }
}

fn contained() -> Containment {
    let detail = "no cgroup: mcpd runs in the root cgroup, which is not delegated";
    Containment { by: ContainedBy::Subreaper, detail: detail.to_owned() }
}

/// One clean worker, one that needed `SIGTERM`, one that needed `SIGKILL` and left its port held.
pub fn report() -> ShutdownReport {
    let phase = |phase, outcome, duration_ms, limit_ms| PhaseReport { phase, outcome, duration_ms, limit_ms };
    let mut killed = worker_report("web-frontend", Departure::Killed, ExitStatus::Signal(9), 30_004);
    killed.descendants = 2;
    killed.outlived = vec![process(4720, "node server.js")];
    killed.checks.push(check(CheckSubject::Port, false, "port 8082 is held by python3 (pid 991, user kim)"));
    ShutdownReport {
        schema: REPORT_SCHEMA.to_owned(),
        run: run(),
        reason: "manual".to_owned(),
        started_at: at("14:00:00"),
        finished_at: at("14:00:30.061"),
        duration_ms: 30_061,
        exit_code: 4,
        backend: Backend::Linux,
        containment: Some(contained()),
        proof: Some("waitid(P_ALL, WEXITED|WNOHANG|__WALL) = ECHILD".to_owned()),
        phases: vec![
            phase(Phase::Initiated, PhaseOutcome::Done, 0, 0),
            phase(Phase::WorkersGraceful, PhaseOutcome::Deadline, 10_000, 10_000),
            phase(Phase::Clients, PhaseOutcome::Done, 1, 30_000),
            phase(Phase::WorkersTerminate, PhaseOutcome::Findings, 20_004, 20_000),
            phase(Phase::Verification, PhaseOutcome::Findings, 12, 15_000),
            phase(Phase::Exit, PhaseOutcome::Done, 3, 1_000),
        ],
        workers: vec![
            worker_report("alpha", Departure::Left, ExitStatus::Code(0), 12),
            worker_report("docs", Departure::Terminated, ExitStatus::Code(143), 10_031),
            killed,
        ],
        clients: ClientsReport {
            seen: 2,
            told: 0,
            left: 1,
            forced: 1,
            ended_sessions: 0,
            connections: vec![
                ClientReport {
                    worker: name("alpha"),
                    peer: "127.0.0.1:40312".to_owned(),
                    process: Some(process(3001, "claude")),
                    left_after_ms: Some(4),
                },
                ClientReport {
                    worker: name("alpha"),
                    peer: "127.0.0.1:40313".to_owned(),
                    process: None,
                    left_after_ms: None,
                },
            ],
        },
        ports: ports().split_off(1),
        resources: vec![
            ResourceReport {
                name: "cache".to_owned(),
                error: Some("close: exit 1".to_owned()),
                duration_ms: 31,
            },
            ResourceReport { name: "journal".to_owned(), error: None, duration_ms: 2 },
        ],
        own: OwnReport {
            descriptors_start: 12,
            descriptors_end: 13,
            threads_start: 4,
            threads_end: 4,
            leaked: vec!["17: /tmp/x".to_owned()],
        },
        findings: vec![
            Finding::new(
                FindingKind::PortInUse,
                8082,
                "port 8082 is held by python3 -m http.server 8082 (pid 991, user kim, LISTEN on 127.0.0.1:8082)",
            ),
            Finding::new(
                FindingKind::WorkerKilled,
                "web-frontend",
                "still there 20 s after SIGTERM; SIGKILL ended it",
            ),
            Finding::new(FindingKind::WorkerTerminated, "docs", "still there after 10 s; SIGTERM ended it"),
            Finding::new(FindingKind::Information, 8083, "12 connections in TIME_WAIT for 41 s"),
        ],
    }
}
