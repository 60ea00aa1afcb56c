//! The events, as they come.

use std::time::Duration;

use jiff::Timestamp;
use mcpd_common::event::{EVENT_SCHEMA, EventKind, ShutdownEvent};
use mcpd_common::exit_code::program;
use mcpd_common::ids::RunId;
use mcpd_common::outcome::ShutdownReport;
use mcpd_common::phase::OVERRUN_GRACE;
use mcpd_proto::v1;
use tokio::signal::ctrl_c;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tonic::Streaming;

use super::{Outcome, RESULT_SCHEMA, State, TRIED};
use crate::client::{ANSWER, Daemon, silent, unreadable};
use crate::context::Context;
use crate::exit::{Failure, SUCCESS};
use crate::output::Output;
use crate::paint::Tone;
use crate::progress::{View, plain, render};
use crate::text::Clock;
use crate::wait::{Instant, now, until};

/// How long past its total bound the daemon is waited for: then its guardian ends it, and cleans up.
const GRACE: Duration = OVERRUN_GRACE.saturating_add(Duration::from_secs(10));

/// How often the live table is drawn again.
const FRAME: Duration = Duration::from_millis(80);

/// Rows that the live part leaves free: its own lines beside the table, and the prompt.
const MARGIN: usize = 7;

type Events = Streaming<v1::ShutdownEvent>;

/// What the stream said.
#[derive(Debug)]
pub struct Followed {
    /// The run that ends.
    pub run: Option<RunId>,
    /// The report of the last event.
    pub report: Option<ShutdownReport>,
    /// Why the stream ended before its last event.
    pub broke: Option<String>,
    /// Until when the daemon has to be gone.
    pub deadline: Instant,
}

/// Returns when the shutdown has begun.
pub async fn beginning(context: &mut Context, daemon: &Daemon, events: &mut Events) -> Result<u8, Failure> {
    let answer = timeout(ANSWER, events.message()).await.map_err(|_| silent(TRIED, &daemon.socket))?;
    let message = answer.map_err(|status| daemon.answered(TRIED, &status))?;
    let event = message.map(ShutdownEvent::try_from).transpose();
    let event = event.map_err(|error| unreadable(TRIED, error))?;
    let run = event.as_ref().and_then(|event| match &event.kind {
        EventKind::Started { run, .. } => Some(*run),
        _ => None,
    });
    if context.out.is_json() {
        context.out.json_line(RESULT_SCHEMA, &begun(run));
    } else {
        let mut doc = context.out.doc();
        let pid = daemon.pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
        doc.sentence(&format!("mcpd{pid} is shutting down; `mcpctl shutdown --wait` shows it"), Tone::Plain);
        context.out.print(doc);
    }
    Ok(SUCCESS)
}

fn begun(run: Option<RunId>) -> Outcome {
    Outcome {
        state: State::Begun,
        exit_code: SUCCESS,
        verdict: "the shutdown has begun".to_owned(),
        run,
        daemon_exit_code: None,
        duration_ms: None,
        looked_at: None,
        disagreements: Vec::new(),
        ports: Vec::new(),
        findings: Vec::new(),
    }
}

/// Shows all events until the last one, or until the stream breaks.
pub async fn to_the_end(
    context: &mut Context,
    daemon: &Daemon,
    events: &mut Events,
) -> Result<Followed, Failure> {
    let mut show = Show::new(context.clock(), daemon);
    let mut frames = interval(FRAME);
    frames.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut interrupted = std::pin::pin!(ctrl_c());
    let mut deadline = now() + ANSWER;
    let broke = loop {
        tokio::select! {
            biased;
            _ = &mut interrupted => return Err(detached()),
            message = events.message() => match message {
                Ok(Some(message)) => {
                    let event = ShutdownEvent::try_from(message).map_err(|error| unreadable(TRIED, error))?;
                    deadline = deadline_of(&event).unwrap_or(deadline);
                    show.event(&mut context.out, event);
                    if show.view.report.is_some() {
                        break None;
                    }
                }
                Ok(None) => break Some("the events ended early".to_owned()),
                Err(status) => break Some(format!("the stream of events broke: {}", status.message())),
            },
            _ = frames.tick(), if context.out.live_rows().is_some() => show.frame(&mut context.out),
            () = until(deadline) => return Err(overdue(daemon)),
        }
    };
    if let Some(why) = &broke {
        context.out.note(&format!("{why}; waiting for the daemon to be gone all the same"));
    }
    let run = show.view.started.as_ref().map(|begun| begun.run);
    Ok(Followed { run, report: show.view.report, broke, deadline: deadline.max(now() + GRACE) })
}

/// Until when the whole shutdown is over, by the first event, which may be old for who attaches late.
fn deadline_of(event: &ShutdownEvent) -> Option<Instant> {
    let EventKind::Started { limit_ms, .. } = &event.kind else { return None };
    let limit = Duration::from_millis(*limit_ms);
    let spent = Timestamp::now().duration_since(event.at);
    let spent = Duration::try_from(spent).unwrap_or_default().min(limit);
    Some(now() + (limit - spent) + GRACE)
}

/// Ctrl-C ends `mcpctl`, not the shutdown.
pub fn detached() -> Failure {
    Failure::new(
        program::TEMPFAIL,
        "wait any longer",
        "detached by Ctrl-C; the shutdown goes on",
        "`mcpctl shutdown --wait` attaches again, `mcpctl report` shows how it ended",
    )
}

/// The daemon overran its total bound.
pub fn overdue(daemon: &Daemon) -> Failure {
    let pid = daemon.pid.map_or_else(|| "its process".to_owned(), |pid| format!("pid {pid}"));
    Failure::new(
        program::TEMPFAIL,
        "wait any longer",
        format_args!("the daemon ({pid}) is past its total bound and still there"),
        "`mcpctl shutdown --now` cuts waits short; `mcpctl logs --daemon` shows what it does",
    )
}

/// What is on the screen.
struct Show {
    view: View,
    clock: Clock,
    pid: Option<mcpd_common::ids::Pid>,
    last: Option<(ShutdownEvent, Instant)>,
    changed: bool,
}

impl Show {
    fn new(clock: Clock, daemon: &Daemon) -> Self {
        Self { view: View::default(), clock, pid: daemon.pid, last: None, changed: false }
    }

    fn event(&mut self, out: &mut Output, event: ShutdownEvent) {
        self.view.apply(&event);
        self.changed = true;
        if out.is_json() {
            out.json_line(EVENT_SCHEMA, &event);
        } else {
            self.describe(out, &event);
        }
        self.last = Some((event, now()));
    }

    fn describe(&self, out: &mut Output, event: &ShutdownEvent) {
        let mut doc = out.doc();
        match &event.kind {
            EventKind::Started { .. } => render::head(&mut doc, &self.view, self.pid),
            EventKind::PhaseFinished { .. } => {
                render::phase(&mut doc, &self.view, event.elapsed_ms, render::ROWS);
            }
            EventKind::Hurried { by } => {
                doc.sentence(&format!("the remaining waits are cut short by {by}"), Tone::Warn);
            }
            _ if out.live_rows().is_some() => return,
            _ => match plain::line(event, &self.clock) {
                Some(line) => doc.line(&[(&line, Tone::Plain)]),
                None => return,
            },
        }
        out.print(doc);
    }

    /// Draws the phase that runs.
    fn frame(&mut self, out: &mut Output) {
        let runs = self.view.phase.as_ref().is_some_and(|phase| phase.finished.is_none());
        let (Some(rows), true) = (out.live_rows(), runs) else { return };
        let mut doc = out.doc();
        let since = self.last.as_ref().map_or(Duration::ZERO, |(_, at)| at.elapsed());
        let elapsed = render::elapsed(self.last.as_ref().map(|(event, _)| event), since);
        render::phase(&mut doc, &self.view, elapsed, rows.saturating_sub(MARGIN).max(1));
        out.redraw(doc);
        self.changed = false;
    }
}
