//! A phase as a heading line and a table.

use mcpd_common::event::ShutdownEvent;
use mcpd_common::outcome::{Asked, Departure, ExitStatus, PhaseOutcome};
use mcpd_common::phase::Phase;

use super::{ClientsView, FinishedPhase, PhaseView, View, WorkerView};
use crate::color::Tone;
use crate::document::Document;
use crate::formatting::{count, duration, limit};
use crate::table::{Cell, Column, Table, cell, maybe};

/// A longer table shows the workers that did not exit cleanly first, and counts the rest.
pub const MAX_ROWS: usize = 40;

/// The first lines of the output, from the first event.
pub fn head(doc: &mut Document, view: &View, pid: Option<impl ToString>) {
    let Some(started) = &view.started else { return };
    let pid = pid.map_or_else(String::new, |pid| format!("pid {}, ", pid.to_string()));
    doc.line(&[
        ("Shutting down mcpd", Tone::Strong),
        (&format!(" ({pid}run {}): {}", started.run, started.reason), Tone::Plain),
    ]);
    let workers = count(view.workers.len(), "worker");
    doc.line(&[(&format!("{workers}, at most {}", limit(started.limit_ms)), Tone::Dim)]);
}

/// The current phase or the last one, with a table of at most `max_rows` workers.
pub fn phase(doc: &mut Document, view: &View, elapsed_ms: u64, max_rows: usize) {
    let Some(phase) = &view.phase else { return };
    phase_line(doc, phase, elapsed_ms);
    match phase.phase {
        Phase::Initiated | Phase::Exit => {}
        Phase::WorkersGraceful | Phase::WorkersTerminate => workers(doc, view, phase.phase, max_rows),
        Phase::Clients => clients(doc, view),
        Phase::Verification => checks(doc, view),
    }
    if !phase.waiting.is_empty() {
        doc.sentence(&format!("  still waiting for {}", phase.waiting.join(", ")), Tone::Warn);
    }
}

/// "workers-graceful   1.20 s  2 of 3 workers left".
fn phase_line(doc: &mut Document, phase: &PhaseView, elapsed_ms: u64) {
    let name = format!("{:<18}", phase.phase);
    let Some(FinishedPhase { outcome, duration_ms, summary }) = &phase.finished else {
        let spent = duration(elapsed_ms.saturating_sub(phase.began_ms));
        let of = format!("{spent:>9} of {}", limit(phase.limit_ms));
        return doc.line(&[(&name, Tone::Strong), (&of, Tone::Dim)]);
    };
    let (label, tone) = outcome_label(*outcome);
    let text: Vec<_> = [label, summary.as_str()].into_iter().filter(|text| !text.is_empty()).collect();
    doc.labelled(&format!("{name}{:>9}  ", duration(*duration_ms)), &text.join(": "), tone);
}

pub fn outcome_label(outcome: PhaseOutcome) -> (&'static str, Tone) {
    match outcome {
        PhaseOutcome::Done => ("", Tone::Good),
        PhaseOutcome::Findings => ("findings", Tone::Warn),
        PhaseOutcome::Deadline => ("timed out", Tone::Warn),
        PhaseOutcome::CutShort => ("cut short", Tone::Warn),
    }
}

/// Whether the table of this phase has a row for the worker. All workers are asked in the graceful phase.
fn takes_part(worker: &WorkerView, phase: Phase) -> bool {
    phase == Phase::WorkersGraceful
        || worker.touched == Some(phase)
        || (worker.left.is_none() && worker.touched.is_some())
}

fn workers(doc: &mut Document, view: &View, phase: Phase, max_rows: usize) {
    let mut shown: Vec<_> = view.workers.iter().filter(|(_, worker)| takes_part(worker, phase)).collect();
    let all = shown.len();
    if all > max_rows {
        // Workers that are still running come first. The sort is stable, so names stay in order.
        shown.sort_by_key(|(_, worker)| (worker.is_clean(), worker.left.is_some()));
        shown.truncate(max_rows);
    }
    let mut table = Table::new([
        Column::new("WORKER").cut(8),
        Column::new("PID").right().optional(3),
        Column::new("ASKED").optional(1),
        Column::new("ANSWER").cut(8).optional(2),
        Column::new("ENDED").fold(14),
        Column::new("AFTER").right(),
    ]);
    for (name, worker) in &shown {
        let after = worker.left.map(|(_, after_ms)| duration(after_ms));
        let asked = worker.asked.map(asked);
        let answer = maybe(worker.answer.as_ref());
        let processes = processes(worker);
        table.row([cell(name), processes, maybe(asked), answer, ended(worker), maybe(after)]);
    }
    doc.indented_table(&table);
    if all > shown.len() {
        doc.line(&[(&format!("  and {} more", all - shown.len()), Tone::Dim)]);
    }
}

/// The pid, or "3 processes" if sessions have processes of their own.
fn processes(worker: &WorkerView) -> Cell {
    match worker.processes.len() {
        all @ 2.. => cell(format!("{all} processes")),
        _ => maybe(worker.pid),
    }
}

/// How a worker was asked to exit.
pub fn asked(how: Asked) -> &'static str {
    match how {
        Asked::NotAsked => "not asked",
        Asked::Http => "POST",
        Asked::Sigterm => "SIGTERM",
        Asked::EndOfInput => "end of input",
    }
}

/// How a worker ended, or its state as far as it is known.
fn ended(worker: &WorkerView) -> Cell {
    if let Some(detail) = &worker.remains {
        return cell(format!("not killed: {detail}")).tone(Tone::Bad);
    }
    if let Some((departure, _)) = worker.left {
        return departed(departure, worker.exit);
    }
    match (worker.exit, &worker.signal) {
        (Some(exit), _) if worker.remaining > 0 => {
            cell(format!("{exit}, {} left", count(worker.remaining as usize, "descendant"))).tone(Tone::Warn)
        }
        (_, Some((signal, why))) => cell(format!("{signal} sent: {why}")).tone(Tone::Warn),
        (_, None) if worker.touched.is_none() => cell("-").tone(Tone::Dim),
        (_, None) => cell("still there").tone(Tone::Dim),
    }
}

/// How a worker ended.
pub fn departed(departure: Departure, exit: Option<ExitStatus>) -> Cell {
    match (departure, exit) {
        (Departure::NotRunning, _) => cell("was not running").tone(Tone::Dim),
        (Departure::Left, None) => cell("exited").tone(Tone::Good),
        (Departure::Left, Some(exit)) => cell(exit).tone(Tone::Good),
        (Departure::Terminated, exit) => cell(ended_by("SIGTERM", exit)).tone(Tone::Warn),
        (Departure::Killed, exit) => cell(ended_by("SIGKILL", exit)).tone(Tone::Bad),
        (Departure::Remains, _) => cell("not killed").tone(Tone::Bad),
    }
}

/// "by SIGTERM" if the signal ended the process, "after SIGTERM: exit 143" if the process exited.
fn ended_by(signal: &str, exit: Option<ExitStatus>) -> String {
    match exit.map(|exit| exit.to_string()) {
        Some(exit) if exit != signal => format!("after {signal}: {exit}"),
        _ => format!("by {signal}"),
    }
}

fn clients(doc: &mut Document, view: &View) {
    let Some(clients) = view.clients.filter(|clients| *clients != ClientsView::default()) else { return };
    let mut table = Table::new([
        Column::new("CONNECTED").right(),
        Column::new("DISCONNECTED").right(),
        Column::new("FORCED").right(),
    ]);
    let forced = cell(clients.forced).tone(if clients.forced > 0 { Tone::Warn } else { Tone::Plain });
    table.row([cell(clients.connected), cell(clients.left), forced]);
    doc.indented_table(&table);
}

fn checks(doc: &mut Document, view: &View) {
    let mut table = Table::new([
        Column::new("CHECK"),
        Column::new("RESULT"),
        Column::new("EVIDENCE").fold(20),
        Column::new("TOOK").right(),
    ]);
    for check in &view.checks {
        let took = duration(check.duration_ms);
        table.row([cell(&check.check), passed(check.passed), cell(&check.evidence), cell(took)]);
    }
    doc.indented_table(&table);
}

/// The result of a check.
pub fn passed(passed: bool) -> Cell {
    if passed { cell("ok").tone(Tone::Good) } else { cell("failed").tone(Tone::Bad) }
}

/// Milliseconds since the start of the shutdown: the time of the last event, plus the time since then.
pub fn elapsed(last: Option<&ShutdownEvent>, since: std::time::Duration) -> u64 {
    let since = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    last.map_or(0, |event| event.elapsed_ms.saturating_add(since))
}
