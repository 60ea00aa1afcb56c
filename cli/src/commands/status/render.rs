//! The status as text.

use mcpd_common::config::Transport;
use mcpd_common::exit_code;
use mcpd_common::status::{
    DaemonStatus, LastShutdown, ShutdownStatus, StatusReport, WorkerState, WorkerStatus,
};

use crate::color::Tone;
use crate::commands::shutdown::summary;
use crate::document::Document;
use crate::formatting::{Clock, count, duration, ended_sessions};
use crate::table::{Cell, Column, Table, cell, maybe};

/// That there is no daemon is not said here. `detailed` shows a single worker as a list instead of a table row.
pub fn status(doc: &mut Document, report: &StatusReport, clock: &Clock, detailed: bool) {
    if let Some(daemon) = &report.daemon {
        daemon_lines(doc, daemon, &report.workers, clock);
    }
    match (detailed, report.workers.as_slice()) {
        (true, [worker]) => detail(doc, worker, clock),
        _ => workers(doc, &report.workers, clock),
    }
    if let Some(last) = &report.last_shutdown {
        last_shutdown(doc, last, clock);
    }
}

fn daemon_lines(doc: &mut Document, daemon: &DaemonStatus, workers: &[WorkerStatus], clock: &Clock) {
    let uptime = clock.since(daemon.started_at);
    let ready = workers.iter().filter(|worker| worker.state == WorkerState::Ready).count();
    let rest = format!(
        " {} (pid {}{}) up {uptime}, {ready} of {} ready",
        daemon.version,
        daemon.pid,
        daemon.guardian.map_or_else(String::new, |guardian| format!(", guardian {guardian}")),
        count(workers.len(), "worker")
    );
    doc.line(&[("mcpd", Tone::Strong), (&rest, Tone::Plain)]);
    if let Some(shutdown) = &daemon.shutdown {
        doc.sentence(&shutdown_sentence(shutdown, workers), Tone::Warn);
    }
    if let Some(containment) = &daemon.containment {
        doc.labelled("Contained by: ", &containment.to_string(), Tone::Dim);
    }
    for warning in &daemon.warnings {
        doc.labelled("Warning: ", warning, Tone::Warn);
    }
}

fn shutdown_sentence(shutdown: &ShutdownStatus, workers: &[WorkerStatus]) -> String {
    let gone_or_not = |is_gone: bool| if is_gone { "gone" } else { "still there" };
    let awaited = awaited(shutdown, workers);
    let waiting =
        if awaited.is_empty() { String::new() } else { format!("; waiting for {}", awaited.join(", ")) };
    format!(
        "Shutting down ({}): {}; workers {}, clients {}{waiting}",
        shutdown.reason,
        shutdown.phase,
        gone_or_not(shutdown.workers_gone),
        gone_or_not(shutdown.clients_gone)
    )
}

/// What the shutdown waits for. Until the daemon says it, after two seconds: the workers that still run.
fn awaited(shutdown: &ShutdownStatus, workers: &[WorkerStatus]) -> Vec<String> {
    if !shutdown.waiting.is_empty() {
        return shutdown.waiting.clone();
    }
    let running = workers.iter().filter_map(|worker| Some((&worker.name, worker.pid?)));
    running.map(|(name, pid)| format!("{name} (pid {pid})")).collect()
}

fn workers(doc: &mut Document, workers: &[WorkerStatus], clock: &Clock) {
    let mut table = Table::new([
        Column::new("NAME").cut(8),
        Column::new("STATE"),
        Column::new("PID").right(),
        Column::new("PORT").right().optional(2),
        Column::new("CLIENTS").right().optional(3),
        Column::new("RESTARTS").right().optional(4),
        Column::new("UPTIME").right().optional(1),
        Column::new("URL").cut(26),
        Column::new("DESCENDANTS").right().optional(6),
        Column::new("LAST EXIT").optional(5),
        Column::new("REPOSITORY").cut(16).optional(7),
    ]);
    for worker in workers {
        table.row([
            cell(&worker.name),
            state(worker.state),
            maybe(worker.pid),
            cell(worker.port),
            cell(worker.clients),
            cell(worker.restarts),
            maybe(worker.started_at.map(|at| clock.since(at))),
            cell(&worker.url),
            cell(worker.descendants),
            maybe(worker.last_exit),
            cell(&worker.repo),
        ]);
    }
    if !table.is_empty() {
        doc.blank_line();
        doc.table(&table);
    }
    for worker in workers {
        if let Some(reason) = &worker.reason {
            doc.labelled(&format!("  {}: ", worker.name), reason, tone(worker.state));
        }
        if let Some(sessions) = sessions(worker) {
            doc.labelled(&format!("  {}: ", worker.name), &sessions, Tone::Plain);
        }
        if let Some(strays) = strays(worker) {
            doc.labelled(&format!("  {}: ", worker.name), &strays, Tone::Warn);
        }
        if let Some(ended) = ended_sessions(worker.ended_sessions) {
            doc.labelled(&format!("  {}: ", worker.name), &ended, Tone::Plain);
        }
    }
}

/// "2 processes for sessions".
fn sessions(worker: &WorkerStatus) -> Option<String> {
    (worker.session_processes > 0).then(|| {
        let word = if worker.session_processes == 1 { "process" } else { "processes" };
        format!("{} {word} for sessions", worker.session_processes)
    })
}

/// What a server that speaks stdio should not have written.
fn strays(worker: &WorkerStatus) -> Option<String> {
    let lines = count(usize::try_from(worker.stray_lines).unwrap_or(usize::MAX), "line");
    (worker.stray_lines > 0)
        .then(|| format!("wrote {lines} to its output that are not JSON-RPC; they are in its log"))
}

fn detail(doc: &mut Document, worker: &WorkerStatus, clock: &Clock) {
    let since = clock.since(worker.since);
    let pid = worker.pid.map_or_else(|| "none".to_owned(), |pid| pid.to_string());
    let started = worker.started_at.map_or_else(|| "-".to_owned(), |at| clock.date_time(at));
    let exit = worker.last_exit.map_or_else(|| "-".to_owned(), |exit| exit.to_string());
    let transport = match worker.transport {
        Transport::Http => "http",
        Transport::Stdio => "stdio",
        Transport::Direct => "direct",
    };
    let rows = [
        ("State", format!("{} for {since}", worker.state.name()), tone(worker.state)),
        ("Reason", worker.reason.clone().unwrap_or_default(), tone(worker.state)),
        ("URL", worker.url.clone(), Tone::Plain),
        ("Port", format!("{} ({transport})", worker.port), Tone::Plain),
        ("Repository", worker.repo.clone(), Tone::Plain),
        ("Process", format!("{pid}, {}", count(worker.descendants as usize, "descendant")), Tone::Plain),
        ("Sessions", sessions(worker).unwrap_or_default(), Tone::Plain),
        ("Started", started, Tone::Plain),
        ("Restarts", worker.restarts.to_string(), Tone::Plain),
        ("Last exit", exit, Tone::Plain),
        ("Clients", worker.clients.to_string(), Tone::Plain),
        ("Sessions", ended_sessions(worker.ended_sessions).unwrap_or_default(), Tone::Plain),
    ];
    doc.blank_line();
    doc.line(&[(worker.name.as_str(), Tone::Strong)]);
    for (label, text, tone) in rows.iter().filter(|(_, text, _)| !text.is_empty()) {
        doc.labelled(&format!("  {label:<12}"), text, *tone);
    }
}

fn last_shutdown(doc: &mut Document, last: &LastShutdown, clock: &Clock) {
    let text = format!(
        "{} ({}), exit code {}, {}, {}",
        clock.date_time(last.at),
        last.reason,
        last.exit_code,
        duration(last.duration_ms),
        exit_code::meaning(last.exit_code)
    );
    doc.blank_line();
    doc.labelled("Last shutdown: ", &text, summary::tone(last.exit_code));
}

fn state(state: WorkerState) -> Cell {
    cell(state.name()).tone(tone(state))
}

pub fn tone(state: WorkerState) -> Tone {
    match state {
        WorkerState::Ready => Tone::Good,
        WorkerState::Starting | WorkerState::BackingOff | WorkerState::Stopping => Tone::Warn,
        WorkerState::Unhealthy | WorkerState::Failed => Tone::Bad,
        WorkerState::Stopped => Tone::Dim,
    }
}

#[cfg(test)]
mod tests {
    use mcpd_common::status::STATUS_SCHEMA;

    use super::*;
    use crate::color::Palette;
    use crate::test_data;

    fn shown(report: &StatusReport, width: usize, detailed: bool) -> String {
        let mut doc = Document::new(Palette::Plain, width);
        status(&mut doc, report, &test_data::clock(), detailed);
        doc.into_text()
    }

    /// R-CLI-1.
    #[test]
    fn at_80_columns_less_important_columns_are_dropped() {
        insta::assert_snapshot!(shown(&test_data::status(), 80, false), @r"
        mcpd 0.1.0 (pid 4242, guardian 4241) up 2 h 5 min, 2 of 3 workers ready
        Contained by: subreaper (no cgroup: mcpd runs in the root cgroup, which is not
                      delegated)
        Warning: the journal was damaged and has been set aside

        NAME          STATE    PID  PORT  CLIENTS     UPTIME  URL
        alpha         ready   8081  8081        2  2 h 5 min  http://127.0.0.1:8081/mcp
        docs          failed     -  8082        2          -  http://127.0.0.1:8082/mcp
        web-frontend  ready   8101  8101        2  2 h 5 min  http://127.0.0.1:8101/mcp
          docs: port 8082 is held by python3 -m http.server 8082 (pid 991, user kim,
                LISTEN on 0.0.0.0:8082)

        Last shutdown: 2026-11-22 13:04:58 (signal_SIGTERM), exit code 2, 10.0 s, some
                       workers did not exit on request; SIGTERM was needed
        ");
    }

    #[test]
    fn at_200_columns_every_column_is_shown() {
        insta::assert_snapshot!(shown(&test_data::status(), 200, false), @r"
        mcpd 0.1.0 (pid 4242, guardian 4241) up 2 h 5 min, 2 of 3 workers ready
        Contained by: subreaper (no cgroup: mcpd runs in the root cgroup, which is not delegated)
        Warning: the journal was damaged and has been set aside

        NAME          STATE    PID  PORT  CLIENTS  RESTARTS     UPTIME  URL                        DESCENDANTS  LAST EXIT  REPOSITORY
        alpha         ready   8081  8081        2         0  2 h 5 min  http://127.0.0.1:8081/mcp            0  -          /home/kim/src/alpha
        docs          failed     -  8082        2        10          -  http://127.0.0.1:8082/mcp            0  exit 1     /home/kim/src/docs
        web-frontend  ready   8101  8101        2         0  2 h 5 min  http://127.0.0.1:8101/mcp            4  -          /home/kim/src/web-frontend
          docs: port 8082 is held by python3 -m http.server 8082 (pid 991, user kim, LISTEN on 0.0.0.0:8082)

        Last shutdown: 2026-11-22 13:04:58 (signal_SIGTERM), exit code 2, 10.0 s, some workers did not exit on request; SIGTERM was needed
        ");
    }

    #[test]
    fn one_worker_is_shown_as_a_list() {
        let mut report = test_data::status();
        report.workers.retain(|worker| worker.state == WorkerState::Failed);
        insta::assert_snapshot!(shown(&report, 80, true), @r"
        mcpd 0.1.0 (pid 4242, guardian 4241) up 2 h 5 min, 0 of 1 worker ready
        Contained by: subreaper (no cgroup: mcpd runs in the root cgroup, which is not
                      delegated)
        Warning: the journal was damaged and has been set aside

        docs
          State       failed for 2 h 4 min
          Reason      port 8082 is held by python3 -m http.server 8082 (pid 991, user
                      kim, LISTEN on 0.0.0.0:8082)
          URL         http://127.0.0.1:8082/mcp
          Port        8082 (direct)
          Repository  /home/kim/src/docs
          Process     none, 0 descendants
          Started     -
          Restarts    10
          Last exit   exit 1
          Clients     2

        Last shutdown: 2026-11-22 13:04:58 (signal_SIGTERM), exit code 2, 10.0 s, some
                       workers did not exit on request; SIGTERM was needed
        ");
    }

    /// R-SHUT-7.
    #[test]
    fn a_shutdown_is_shown_with_reason_and_phase() {
        let mut report = test_data::status_shutting_down();
        report.workers.clear();
        insta::assert_snapshot!(shown(&report, 80, false), @r"
        mcpd 0.1.0 (pid 4242, guardian 4241) up 2 h 5 min, 0 of 0 workers ready
        Shutting down (manual): workers-graceful; workers still there, clients gone;
          waiting for alpha (pid 8081), web-frontend (pid 8101)
        Contained by: subreaper (no cgroup: mcpd runs in the root cgroup, which is not
                      delegated)
        Warning: the journal was damaged and has been set aside

        Last shutdown: 2026-11-22 13:04:58 (signal_SIGTERM), exit code 2, 10.0 s, some
                       workers did not exit on request; SIGTERM was needed
        ");
    }

    #[test]
    fn until_the_daemon_says_what_it_waits_for_the_running_workers_are_named() {
        let mut report = test_data::status_shutting_down();
        let mut shutdown = report.daemon.take().and_then(|daemon| daemon.shutdown).expect("it shuts down");
        shutdown.waiting.clear();
        let awaited = awaited(&shutdown, &report.workers);
        assert_eq!(awaited, ["alpha (pid 8081)", "web-frontend (pid 8101)"]);
    }

    #[test]
    fn without_a_daemon_only_the_last_shutdown_is_shown() {
        let schema = STATUS_SCHEMA.to_owned();
        let last_shutdown = Some(test_data::last_shutdown());
        let report = StatusReport { schema, daemon: None, workers: Vec::new(), last_shutdown };
        insta::assert_snapshot!(shown(&report, 80, false), @r"

        Last shutdown: 2026-11-22 13:04:58 (signal_SIGTERM), exit code 2, 10.0 s, some
                       workers did not exit on request; SIGTERM was needed
        ");
        insta::assert_snapshot!(serde_json::to_string(&report).expect("plain"), @r#"{"schema":"mcpd.status.v1","daemon":null,"workers":[],"last_shutdown":{"run":"20261122T130501Z-3f9a2c77","at":"2026-11-22T13:04:58Z","reason":"signal_SIGTERM","exit_code":2,"duration_ms":10012}}"#);
    }
}
