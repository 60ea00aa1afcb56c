//! Shows the events of a shutdown as they arrive.

use std::time::Duration;

use jiff::Timestamp;
use mcpd_common::event::{EVENT_SCHEMA, EventKind, ShutdownEvent};
use mcpd_common::exit_code::program;
use mcpd_common::ids::{Pid, RunId};
use mcpd_common::outcome::ShutdownReport;
use mcpd_common::phase::OVERRUN_GRACE;
use mcpd_proto::v1;
use tokio::signal::ctrl_c;
use tokio::time::{MissedTickBehavior, interval};
use tonic::Streaming;

use super::{ACTION, Outcome, RESULT_SCHEMA, State};
use crate::color::Tone;
use crate::context::Context;
use crate::daemon_client::{DaemonClient, REPLY_TIMEOUT, Wait, bad_reply, next_step};
use crate::failure::{Failure, SUCCESS};
use crate::formatting::{Clock, limit};
use crate::output::Output;
use crate::progress::{View, event_line, phase_table};
use crate::wait::{Instant, now, sleep_until};

/// How long to wait for the exit after the limit of the whole shutdown. The guardian kills a daemon that has
/// exceeded its limit, and then cleans up.
const EXIT_GRACE_PERIOD: Duration = OVERRUN_GRACE.saturating_add(Duration::from_secs(10));

/// Interval for redrawing the live table.
const REDRAW_INTERVAL: Duration = Duration::from_millis(80);

/// Rows of the terminal that are not available to the live table: the lines around it, and the prompt.
const RESERVED_ROWS: usize = 7;

type Events = Streaming<v1::ShutdownEvent>;

#[derive(Debug)]
pub struct Followed {
    /// `None` if the first event was missed.
    pub run: Option<RunId>,
    /// The report in the last event.
    pub report: Option<ShutdownReport>,
    /// Limit of the whole shutdown; 0 if the first event was missed.
    pub limit_ms: u64,
    /// Why the stream ended before its last event.
    pub broke: Option<String>,
    /// When the daemon must have exited.
    pub deadline: Instant,
}

/// Returns as soon as the shutdown has begun.
pub async fn first_event(
    context: &mut Context,
    daemon: &DaemonClient,
    events: &mut Events,
) -> Result<u8, Failure> {
    let message = first_event_wait(daemon).message(events).await?;
    let event = message.map(ShutdownEvent::try_from).transpose();
    let event = event.map_err(|error| bad_reply(ACTION, error))?;
    let run = event.as_ref().and_then(|event| match &event.kind {
        EventKind::Started { run, .. } => Some(*run),
        _ => None,
    });
    if context.out.is_json() {
        let outcome = Outcome { run, ..Outcome::new(State::Begun, SUCCESS, "the shutdown has begun") };
        context.out.json_with_schema(RESULT_SCHEMA, &outcome);
    } else {
        let mut doc = context.out.document();
        let pid = daemon.pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
        doc.sentence(
            &format!("mcpd{pid} is shutting down; follow it with `mcpctl shutdown --wait`"),
            Tone::Plain,
        );
        context.out.print(doc);
    }
    Ok(SUCCESS)
}

/// Shows all events until the last one, or until the connection is lost.
pub async fn to_the_end(
    context: &mut Context,
    daemon: &DaemonClient,
    events: &mut Events,
) -> Result<Followed, Failure> {
    let mut progress = Progress::new(context.clock(), daemon);
    let mut redraw = interval(REDRAW_INTERVAL);
    redraw.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut interrupted = std::pin::pin!(ctrl_c());
    let first_event = first_event_wait(daemon);
    let mut deadline = first_event.deadline;
    let broke = loop {
        tokio::select! {
            biased;
            _ = &mut interrupted => return Err(detached()),
            message = events.message() => match message {
                Ok(Some(message)) => {
                    let event = ShutdownEvent::try_from(message).map_err(|error| bad_reply(ACTION, error))?;
                    deadline = deadline_of(&event).unwrap_or(deadline);
                    progress.show_event(&mut context.out, event);
                    if progress.view.report.is_some() {
                        break None;
                    }
                }
                Ok(None) => break Some("the events ended early".to_owned()),
                Err(status) => break Some(format!("the connection was lost: {}", status.message())),
            },
            _ = redraw.tick(), if context.out.live_rows().is_some() => progress.redraw(&mut context.out),
            () = sleep_until(deadline) => return Err(match &progress.view.started {
                Some(started) => overdue(daemon, started.limit_ms, &progress.view.awaited()),
                None => first_event.timed_out(),
            }),
        }
    };
    if let Some(why) = &broke {
        context.out.note(&format!("{why}; still waiting for the daemon to exit"));
    }
    let run = progress.view.started.as_ref().map(|started| started.run);
    Ok(Followed {
        run,
        report: progress.view.report,
        limit_ms: progress.view.started.as_ref().map_or(0, |started| started.limit_ms),
        broke,
        deadline: deadline.max(now() + EXIT_GRACE_PERIOD),
    })
}

fn first_event_wait(daemon: &DaemonClient) -> Wait {
    daemon.wait_for(ACTION, "the first event of the shutdown", REPLY_TIMEOUT)
}

/// When the daemon must have exited, according to the first event. That event is old for a client that
/// attaches to a running shutdown.
fn deadline_of(event: &ShutdownEvent) -> Option<Instant> {
    let EventKind::Started { limit_ms, .. } = &event.kind else { return None };
    let limit = Duration::from_millis(*limit_ms);
    let spent = Timestamp::now().duration_since(event.at);
    // Negative if the clock was set back meanwhile.
    let spent = Duration::try_from(spent).unwrap_or(Duration::ZERO).min(limit);
    Some(now() + (limit - spent) + EXIT_GRACE_PERIOD)
}

/// Ctrl-C ends `mcpctl`, but not the shutdown.
pub fn detached() -> Failure {
    Failure::new(
        program::TEMPFAIL,
        "wait any longer",
        "interrupted by Ctrl-C; the shutdown continues",
        "run `mcpctl shutdown --wait` to attach again, or `mcpctl report` to see how it ended",
    )
}

/// The daemon exceeded the limit of the whole shutdown. `awaited` is what it was still waiting for.
pub fn overdue(daemon: &DaemonClient, limit_ms: u64, awaited: &str) -> Failure {
    let pid = daemon.pid.map_or_else(|| "its process".to_owned(), |pid| format!("pid {pid}"));
    let limit = if limit_ms == 0 { String::new() } else { format!(" of {}", limit(limit_ms)) };
    Failure::new(
        program::TEMPFAIL,
        "wait any longer",
        format_args!(
            "the daemon ({pid}) has exceeded the time limit{limit} of the shutdown and is still running; \
             mcpctl was waiting for {awaited}"
        ),
        format!("run `mcpctl shutdown --now` to skip the remaining waits; {}", next_step(daemon.pid)),
    )
}

/// What has been shown so far.
struct Progress {
    view: View,
    clock: Clock,
    pid: Option<Pid>,
    last: Option<(ShutdownEvent, Instant)>,
    changed: bool,
}

impl Progress {
    fn new(clock: Clock, daemon: &DaemonClient) -> Self {
        Self { view: View::default(), clock, pid: daemon.pid, last: None, changed: false }
    }

    fn show_event(&mut self, out: &mut Output, event: ShutdownEvent) {
        self.view.apply(&event);
        self.changed = true;
        if out.is_json() {
            out.json_with_schema(EVENT_SCHEMA, &event);
        } else {
            self.print_event(out, &event);
        }
        self.last = Some((event, now()));
    }

    fn print_event(&self, out: &mut Output, event: &ShutdownEvent) {
        let mut doc = out.document();
        // Tables on a terminal; elsewhere lines, which also show what a long phase is waiting for.
        let is_live = out.live_rows().is_some();
        match &event.kind {
            EventKind::Started { .. } => phase_table::head(&mut doc, &self.view, self.pid),
            EventKind::PhaseFinished { .. } if is_live => {
                phase_table::phase(&mut doc, &self.view, event.elapsed_ms, phase_table::MAX_ROWS);
            }
            EventKind::Hurried { by } if is_live => {
                doc.sentence(&format!("the remaining waits are cut short by {by}"), Tone::Warn);
            }
            _ if is_live => return,
            _ => match event_line::line(event, &self.clock) {
                Some(line) => doc.line(&[(&line, Tone::Plain)]),
                None => return,
            },
        }
        out.print(doc);
    }

    /// Redraws the table of the running phase.
    fn redraw(&mut self, out: &mut Output) {
        let is_running = self.view.phase.as_ref().is_some_and(|phase| phase.finished.is_none());
        let Some(rows) = out.live_rows().filter(|_| is_running) else { return };
        let mut doc = out.document();
        let since = self.last.as_ref().map_or(Duration::ZERO, |(_, at)| at.elapsed());
        let elapsed = phase_table::elapsed(self.last.as_ref().map(|(event, _)| event), since);
        phase_table::phase(&mut doc, &self.view, elapsed, rows.saturating_sub(RESERVED_ROWS).max(1));
        out.redraw(doc);
        self.changed = false;
    }
}
