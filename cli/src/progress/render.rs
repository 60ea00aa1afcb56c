//! A phase as a table.

use mcpd_common::event::ShutdownEvent;
use mcpd_common::outcome::{Asked, Departure, PhaseOutcome};
use mcpd_common::phase::Phase;

use super::{PhaseView, View, WorkerView};
use crate::doc::Doc;
use crate::paint::Tone;
use crate::table::{Cell, Column, Table, cell, maybe};
use crate::text::{count, duration, limit};

/// Longer tables show who did not leave cleanly, and count the rest.
pub const ROWS: usize = 40;

/// The head of it all, from the first event.
pub fn head(doc: &mut Doc, view: &View, pid: Option<impl ToString>) {
    let Some(begun) = &view.started else { return };
    let pid = pid.map_or_else(String::new, |pid| format!("pid {}, ", pid.to_string()));
    doc.line(&[
        ("Shutting down mcpd", Tone::Strong),
        (&format!(" ({pid}run {}): {}", begun.run, begun.reason), Tone::Plain),
    ]);
    let workers = count(view.workers.len(), "worker");
    doc.line(&[(&format!("{workers}, at most {}", limit(begun.limit_ms)), Tone::Dim)]);
}

/// The phase that runs or ran last, with at most so many rows.
pub fn phase(doc: &mut Doc, view: &View, elapsed_ms: u64, rows: usize) {
    let Some(phase) = &view.phase else { return };
    phase_line(doc, phase, elapsed_ms);
    match phase.phase {
        Phase::Initiated | Phase::Exit => {}
        Phase::WorkersGraceful | Phase::WorkersTerminate => workers(doc, view, phase.phase, rows),
        Phase::Clients => clients(doc, view),
        Phase::Verification => checks(doc, view),
    }
    if !phase.waiting.is_empty() {
        doc.sentence(&format!("  still waiting for {}", phase.waiting.join(", ")), Tone::Warn);
    }
}

/// "workers-graceful   1.20 s  2 of 3 workers left".
fn phase_line(doc: &mut Doc, phase: &PhaseView, elapsed_ms: u64) {
    let name = format!("{:<18}", phase.phase);
    let Some((outcome, took, summary)) = &phase.finished else {
        let spent = duration(elapsed_ms.saturating_sub(phase.began_ms));
        let of = format!("{spent:>9} of {}", limit(phase.limit_ms));
        return doc.line(&[(&name, Tone::Strong), (&of, Tone::Dim)]);
    };
    let (mark, tone) = outcome_shown(*outcome);
    let text = [mark, summary.as_str()].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>();
    doc.labelled(&format!("{name}{:>9}  ", duration(*took)), &text.join(": "), tone);
}

fn outcome_shown(outcome: PhaseOutcome) -> (&'static str, Tone) {
    match outcome {
        PhaseOutcome::Done => ("", Tone::Good),
        PhaseOutcome::Findings => ("findings", Tone::Warn),
        PhaseOutcome::Deadline => ("deadline", Tone::Warn),
        PhaseOutcome::CutShort => ("cut short", Tone::Warn),
    }
}

fn workers(doc: &mut Doc, view: &View, phase: Phase, rows: usize) {
    let asks = phase == Phase::WorkersGraceful;
    let concerned = |worker: &WorkerView| {
        asks || worker.touched == Some(phase) || (worker.left.is_none() && worker.touched.is_some())
    };
    let mut shown: Vec<_> = view.workers.iter().filter(|(_, worker)| concerned(worker)).collect();
    let all = shown.len();
    if all > rows {
        // Whoever is still there is what one looks for; sorting is stable, names stay in order.
        shown.sort_by_key(|(_, worker)| (worker.is_clean(), worker.left.is_some()));
        shown.truncate(rows);
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
        table.row([cell(name), maybe(worker.pid), maybe(asked), answer, ended(worker), maybe(after)]);
    }
    doc.indented_table(&table);
    if all > shown.len() {
        doc.line(&[(&format!("  and {} more", all - shown.len()), Tone::Dim)]);
    }
}

/// How a worker was asked, for a table.
pub fn asked(how: Asked) -> &'static str {
    match how {
        Asked::NotAsked => "not asked",
        Asked::Http => "POST",
        Asked::Sigterm => "SIGTERM",
        Asked::EndOfInput => "end of input",
    }
}

/// How a worker left, or what is known of it so far.
fn ended(worker: &WorkerView) -> Cell {
    if let Some(detail) = &worker.remains {
        return cell(format!("remains: {detail}")).tone(Tone::Bad);
    }
    let exit = worker.exit.map_or_else(String::new, |exit| exit.to_string());
    match (worker.left, &worker.signal) {
        (Some((departure, _)), _) => departed(departure, &exit),
        (None, _) if !exit.is_empty() && worker.remaining > 0 => {
            cell(format!("{exit}, {} left", count(worker.remaining as usize, "descendant"))).tone(Tone::Warn)
        }
        (None, Some((signal, why))) => cell(format!("{signal} sent: {why}")).tone(Tone::Warn),
        (None, None) if worker.touched.is_none() => cell("-").tone(Tone::Dim),
        (None, None) => cell("still there").tone(Tone::Dim),
    }
}

/// How a worker left, for a table.
pub fn departed(departure: Departure, exit: &str) -> Cell {
    let by = |signal: &str| match exit {
        _ if exit.is_empty() || exit == signal => cell(format!("by {signal}")),
        _ => cell(format!("after {signal}: {exit}")),
    };
    match departure {
        Departure::NotRunning => cell("was not running").tone(Tone::Dim),
        Departure::Left if exit.is_empty() => cell("left").tone(Tone::Good),
        Departure::Left => cell(exit).tone(Tone::Good),
        Departure::Terminated => by("SIGTERM").tone(Tone::Warn),
        Departure::Killed => by("SIGKILL").tone(Tone::Bad),
        Departure::Remains => cell("remains").tone(Tone::Bad),
    }
}

fn clients(doc: &mut Doc, view: &View) {
    if let Some((connected, left, forced)) = view.clients
        && (connected, left, forced) != (0, 0, 0)
    {
        let mut table = Table::new([
            Column::new("CONNECTED").right(),
            Column::new("LEFT").right(),
            Column::new("FORCED").right(),
        ]);
        let forced = cell(forced).tone(if forced > 0 { Tone::Warn } else { Tone::Plain });
        table.row([cell(connected), cell(left), forced]);
        doc.indented_table(&table);
    }
}

fn checks(doc: &mut Doc, view: &View) {
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

/// The result of a check, for a table.
pub fn passed(passed: bool) -> Cell {
    if passed { cell("ok").tone(Tone::Good) } else { cell("failed").tone(Tone::Bad) }
}

/// Milliseconds since the shutdown began, by the events so far and the time since the last.
pub fn elapsed(last: Option<&ShutdownEvent>, since: std::time::Duration) -> u64 {
    let since = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    last.map_or(0, |event| event.elapsed_ms.saturating_add(since))
}
