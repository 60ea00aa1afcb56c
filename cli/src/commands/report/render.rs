//! The report as text: phases, workers, checks, findings, exit code, proof.

use mcpd_common::ids::Pid;
use mcpd_common::outcome::{CheckSubject, PhaseOutcome, ShutdownReport, WorkerReport};

use crate::color::Tone;
use crate::commands::shutdown::summary;
use crate::commands::verify_ports;
use crate::document::Document;
use crate::formatting::{Clock, count, duration, ended_sessions, limit};
use crate::progress::phase_table::{asked, departed, passed};
use crate::table::{Cell, Column, Table, cell, maybe};

pub fn report(doc: &mut Document, report: &ShutdownReport, clock: &Clock) {
    doc.line(&[("Shutdown", Tone::Strong), (&format!(" of run {}", report.run), Tone::Plain)]);
    let times = format!("{} to {}", clock.date_time(report.started_at), clock.date_time(report.finished_at));
    doc.labelled("  Reason    ", &report.reason, Tone::Plain);
    doc.labelled("  When      ", &format!("{times} ({})", duration(report.duration_ms)), Tone::Plain);
    phases(doc, report);
    workers(doc, report);
    failed_checks(doc, report);
    clients(doc, report);
    ports(doc, report);
    resources(doc, report);
    daemon_itself(doc, report);
    if !report.findings.is_empty() {
        title(doc, "Findings");
        summary::findings(doc, &report.findings);
    }
    end(doc, report);
}

fn title(doc: &mut Document, title: &str) {
    doc.blank_line();
    doc.line(&[(title, Tone::Strong)]);
}

fn phases(doc: &mut Document, report: &ShutdownReport) {
    title(doc, "Phases");
    let mut table = Table::new([
        Column::new("PHASE"),
        Column::new("OUTCOME"),
        Column::new("TOOK").right(),
        Column::new("LIMIT").right(),
    ]);
    for phase in &report.phases {
        let took = cell(duration(phase.duration_ms));
        table.row([cell(phase.phase), outcome(phase.outcome), took, cell(limit(phase.limit_ms))]);
    }
    doc.table(&table);
}

fn outcome(outcome: PhaseOutcome) -> Cell {
    match outcome {
        PhaseOutcome::Done => cell("done").tone(Tone::Good),
        PhaseOutcome::Findings => cell("findings").tone(Tone::Warn),
        PhaseOutcome::Deadline => cell("timed out").tone(Tone::Warn),
        PhaseOutcome::CutShort => cell("cut short").tone(Tone::Warn),
    }
}

fn workers(doc: &mut Document, report: &ShutdownReport) {
    if report.workers.is_empty() {
        return;
    }
    title(doc, "Workers");
    let mut table = Table::new([
        Column::new("WORKER").cut(8),
        Column::new("PID").right().optional(3),
        Column::new("ASKED").optional(2),
        Column::new("ANSWER").cut(8).optional(4),
        Column::new("ENDED").fold(14),
        Column::new("AFTER").right(),
        Column::new("DESCENDANTS").right().optional(5),
        Column::new("OUTLIVED").right().optional(6),
        Column::new("CHECKS").optional(1),
    ]);
    for worker in &report.workers {
        table.row([
            cell(&worker.name),
            processes(worker.pid, worker.session_processes),
            cell(asked(worker.asked)),
            maybe(worker.answer.as_ref()),
            departed(worker.departure, worker.exit),
            maybe(worker.left_after_ms.map(duration)),
            cell(worker.descendants),
            cell(worker.outlived.len()),
            checks(worker),
        ]);
    }
    doc.table(&table);
}

/// The pid, or "3 processes" if sessions had processes of their own.
fn processes(pid: Option<Pid>, of_sessions: u32) -> Cell {
    match of_sessions + u32::from(pid.is_some()) {
        all @ 2.. => cell(format!("{all} processes")),
        _ => maybe(pid),
    }
}

/// "5 ok", or the names of the failed checks.
fn checks(worker: &WorkerReport) -> Cell {
    let failed = worker.checks.iter().filter(|check| !check.passed);
    let failed: Vec<_> = failed.map(|check| subject(check.subject)).collect();
    match (worker.checks.len(), failed.as_slice()) {
        (0, _) => cell("-").tone(Tone::Dim),
        (all, []) => cell(format!("{all} ok")).tone(Tone::Good),
        (_, failed) => cell(format!("failed: {}", failed.join(", "))).tone(Tone::Bad),
    }
}

fn subject(subject: CheckSubject) -> &'static str {
    match subject {
        CheckSubject::Processes => "processes",
        CheckSubject::Group => "group",
        CheckSubject::Zombies => "zombies",
        CheckSubject::Port => "port",
        CheckSubject::Resources => "resources",
        CheckSubject::Container => "container",
    }
}

/// The evidence of failed checks. The evidence of all checks is in the JSON output.
fn failed_checks(doc: &mut Document, report: &ShutdownReport) {
    for worker in &report.workers {
        for check in worker.checks.iter().filter(|check| !check.passed) {
            let label = format!("  {}, {}: ", worker.name, subject(check.subject));
            doc.labelled(&label, &check.evidence, Tone::Bad);
        }
        for process in &worker.outlived {
            doc.labelled(
                &format!("  {}, outlived the main process: ", worker.name),
                &process.to_string(),
                Tone::Warn,
            );
        }
    }
}

fn clients(doc: &mut Document, report: &ShutdownReport) {
    let clients = &report.clients;
    let ended = ended_sessions(clients.ended_sessions);
    if clients.seen == 0 && ended.is_none() {
        return;
    }
    title(doc, "Clients");
    if let Some(ended) = ended {
        doc.sentence(&ended, Tone::Plain);
    }
    if clients.seen == 0 {
        return;
    }
    let line = format!(
        "{} connected, {} notified, {} disconnected, {} closed by force",
        clients.seen, clients.told, clients.left, clients.forced
    );
    doc.sentence(&line, if clients.forced > 0 { Tone::Warn } else { Tone::Plain });
    let mut table = Table::new([
        Column::new("WORKER").cut(8),
        Column::new("ADDRESS").optional(1),
        Column::new("CLIENT").fold(16),
        Column::new("DISCONNECTED AFTER").right(),
    ]);
    for client in &clients.connections {
        let disconnected = match client.left_after_ms {
            Some(after_ms) => cell(duration(after_ms)),
            None => cell("forced").tone(Tone::Warn),
        };
        table.row([cell(&client.worker), cell(&client.peer), maybe(client.process.as_ref()), disconnected]);
    }
    doc.table(&table);
}

fn ports(doc: &mut Document, report: &ShutdownReport) {
    if report.ports.is_empty() {
        return;
    }
    title(doc, "Ports");
    let mut table = Table::new([
        Column::new("PORT").right(),
        Column::new("WORKER").cut(8).optional(1),
        Column::new("STATE"),
        Column::new("HELD BY").fold(24),
    ]);
    for port in &report.ports {
        let state = verify_ports::state(port.state);
        table.row([cell(port.port), maybe(port.worker.as_ref()), state, verify_ports::held_by(port)]);
    }
    doc.table(&table);
}

fn resources(doc: &mut Document, report: &ShutdownReport) {
    if report.resources.is_empty() {
        return;
    }
    title(doc, "Resources");
    let mut table = Table::new([
        Column::new("RESOURCE").cut(10),
        Column::new("CLOSED"),
        Column::new("TOOK").right(),
        Column::new("ERROR").fold(16),
    ]);
    for resource in &report.resources {
        let took = cell(duration(resource.duration_ms));
        let error = maybe(resource.error.as_ref());
        table.row([cell(&resource.name), passed(resource.error.is_none()), took, error]);
    }
    doc.table(&table);
}

fn daemon_itself(doc: &mut Document, report: &ShutdownReport) {
    let own = &report.own;
    title(doc, "Daemon process");
    let line = format!(
        "file descriptors: {} at the start, {} at the end; threads: {} at the start, {} at the end",
        own.descriptors_start, own.descriptors_end, own.threads_start, own.threads_end
    );
    doc.sentence(&line, Tone::Plain);
    for leaked in &own.leaked {
        doc.labelled("  still open: ", leaked, Tone::Warn);
    }
}

fn end(doc: &mut Document, report: &ShutdownReport) {
    let label = format!("Exit code {}: ", report.exit_code);
    doc.blank_line();
    doc.labelled(&label, report.verdict(), summary::tone(report.exit_code));
    match &report.proof {
        Some(proof) => doc.labelled("Proof: ", proof, Tone::Good),
        None => doc.labelled(
            "Proof: ",
            &format!("none: the {} backend can only search for processes", report.backend),
            Tone::Dim,
        ),
    }
    if let Some(containment) = &report.containment {
        doc.labelled("Contained by: ", &containment.to_string(), Tone::Dim);
    }
    let passed = report.workers.iter().flat_map(|worker| &worker.checks).filter(|check| check.passed).count();
    if passed > 0 {
        doc.sentence(&format!("{} passed; see --json for the evidence", count(passed, "check")), Tone::Dim);
    }
}
