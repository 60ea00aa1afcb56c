//! `mcpctl start`, `stop`, `restart`: one worker, several or all.

use std::collections::BTreeSet;
use std::time::Duration;

use mcpd_common::exit_code::program;
use mcpd_common::ids::{Pid, WorkerName};
use mcpd_common::status::{StatusReport, WorkerState, WorkerStatus};
use mcpd_proto::v1::control_client::ControlClient;
use mcpd_proto::{ConvertError, LIMIT_METADATA, v1};
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval_at, timeout};
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Response, Streaming};

use super::status::render::tone;
use crate::args::Workers;
use crate::color::Tone;
use crate::context::Context;
use crate::daemon_client::{DaemonClient, REPLY_TIMEOUT, bad_reply};
use crate::document::Document;
use crate::failure::{Failure, SUCCESS};
use crate::formatting::duration;
use crate::table::{Column, Table, cell, maybe};
use crate::wait::{now, sleep_until};

/// `schema` of a result in JSON.
pub const RESULT_SCHEMA: &str = "mcpd.worker-result.v1";

/// Limit if the daemon does not say how long it may take: 10 s until `SIGTERM`, 20 s until `SIGKILL`, 5 s for
/// it, 120 s for `ready_within`.
const DEFAULT_LIMIT: Duration = Duration::from_secs(155);

/// Added to the limit of the daemon, which may be late itself.
const MARGIN: Duration = Duration::from_secs(5);

/// Interval of the progress on a terminal. A worker that takes less time is not shown.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

const MAX_AWAITED_LINES: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Starts the workers that are stopped or failed.
    Start,
    Stop,
    Restart,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct WorkerResult {
    name: WorkerName,
    ok: bool,
    /// The state after the action.
    state: WorkerState,
    detail: String,
    pid: Option<Pid>,
    duration_ms: u64,
}

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
        }
    }
}

/// Exits with 65 if the action failed for one of the workers.
pub async fn run(context: &mut Context, verb: Verb, args: Workers) -> Result<u8, Failure> {
    let named: BTreeSet<_> = args.names.iter().cloned().collect();
    let names: Vec<_> = args.names.iter().map(ToString::to_string).collect();
    let workers = if args.all { "all workers".to_owned() } else { names.join(", ") };
    let action = format!("{} {workers}", verb.name());
    let mut daemon = context.require_daemon(&action).await?;
    let request = v1::WorkersRequest { names, all: args.all };
    let reply = daemon.wait_for(&action, "a reply to the request", REPLY_TIMEOUT);
    let response = reply.response(send(&mut daemon, verb, request)).await?;
    let limit = limit(response.metadata()) + MARGIN;
    let mut stream = response.into_inner();
    let mut awaited = Awaited { named, status: daemon.control.clone() };
    let mut refresh = interval_at(now() + REFRESH_INTERVAL, REFRESH_INTERVAL);
    refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut wait = daemon.wait_for(&action, "the results", limit);
    let mut results: Vec<WorkerResult> = Vec::new();
    loop {
        let message = tokio::select! {
            biased;
            message = stream.message() => message.map_err(|status| wait.failed(&status))?,
            _ = refresh.tick(), if context.out.live_rows().is_some() => {
                awaited.show(context, &results).await;
                continue;
            }
            () = sleep_until(wait.deadline) => {
                wait.awaited = awaited.sentence(&results);
                return Err(wait.timed_out());
            }
        };
        let Some(message) = message else { break };
        let result = decode(message).map_err(|error| bad_reply(&action, error))?;
        if context.out.is_json() {
            context.out.json_with_schema(RESULT_SCHEMA, &result);
        }
        results.push(result);
    }
    if !context.out.is_json() {
        let mut doc = context.out.document();
        render(&mut doc, &mut results);
        context.out.print(doc);
    }
    let all_ok = results.iter().all(|result| result.ok);
    Ok(if all_ok { SUCCESS } else { program::WORKER_FAILED })
}

/// The time that the daemon may take, as it says itself.
fn limit(metadata: &MetadataMap) -> Duration {
    let limit = metadata.get(LIMIT_METADATA).and_then(|limit| limit.to_str().ok()?.parse().ok());
    limit.map_or(DEFAULT_LIMIT, Duration::from_millis)
}

/// The workers whose results have not arrived yet.
struct Awaited {
    /// As named on the command line; empty means all.
    named: BTreeSet<WorkerName>,
    status: ControlClient<Channel>,
}

impl Awaited {
    fn is_awaited(&self, worker: &WorkerName, results: &[WorkerResult]) -> bool {
        let is_named = self.named.is_empty() || self.named.contains(worker);
        is_named && results.iter().all(|result| result.name != *worker)
    }

    fn sentence(&self, results: &[WorkerResult]) -> String {
        let names = self.named.iter().filter(|name| self.is_awaited(name, results));
        let names: Vec<_> = names.map(ToString::to_string).collect();
        if names.is_empty() {
            "the results of all workers".to_owned()
        } else {
            format!("the result of {}", names.join(", "))
        }
    }

    /// Shows the states of these workers, if the daemon says them at once. They are not worth an error.
    async fn show(&mut self, context: &mut Context, results: &[WorkerResult]) {
        let call = self.status.status(v1::StatusRequest::default());
        let Ok(Ok(response)) = timeout(REFRESH_INTERVAL, call).await else { return };
        let Ok(report) = StatusReport::try_from(response.into_inner()) else { return };
        let awaited: Vec<_> =
            report.workers.iter().filter(|worker| self.is_awaited(&worker.name, results)).collect();
        let mut doc = context.out.document();
        render_awaited(&mut doc, &awaited);
        context.out.redraw(doc);
    }
}

fn render_awaited(doc: &mut Document, awaited: &[&WorkerStatus]) {
    for worker in awaited.iter().take(MAX_AWAITED_LINES) {
        let reason = worker.reason.as_ref().map_or_else(String::new, |reason| format!(", {reason}"));
        let text = format!("waiting for {}: {}{reason}", worker.name, worker.state.name());
        doc.sentence(&text, tone(worker.state));
    }
    if let Some(more) = awaited.len().checked_sub(MAX_AWAITED_LINES).filter(|more| *more > 0) {
        doc.sentence(&format!("and {more} more"), Tone::Dim);
    }
}

async fn send(
    daemon: &mut DaemonClient,
    verb: Verb,
    request: v1::WorkersRequest,
) -> Result<Response<Streaming<v1::WorkerResult>>, tonic::Status> {
    match verb {
        Verb::Start => daemon.control.start_workers(request).await,
        Verb::Stop => daemon.control.stop_workers(request).await,
        Verb::Restart => daemon.control.restart_workers(request).await,
    }
}

fn decode(message: v1::WorkerResult) -> Result<WorkerResult, ConvertError> {
    let wrong = |field: &str, reason: String| ConvertError { field: field.to_owned(), reason };
    let state = message.state().try_into().map_err(|error: ConvertError| wrong("state", error.reason))?;
    Ok(WorkerResult {
        name: message.name.parse().map_err(|error| wrong("name", format!("{error}")))?,
        ok: message.ok,
        state,
        detail: message.detail,
        pid: message.pid.and_then(Pid::new),
        duration_ms: message.duration_ms,
    })
}

fn render(doc: &mut Document, results: &mut [WorkerResult]) {
    results.sort_by(|a, b| a.name.cmp(&b.name));
    let mut table = Table::new([
        Column::new("NAME").cut(8),
        Column::new("STATE"),
        Column::new("PID").right().optional(1),
        Column::new("TOOK").right(),
        Column::new("DETAIL").fold(20),
    ]);
    for result in results.iter() {
        let took = duration(result.duration_ms);
        let detail = cell(&result.detail).tone(if result.ok { Tone::Plain } else { Tone::Bad });
        let state = cell(result.state.name()).tone(tone(result.state));
        table.row([cell(&result.name), state, maybe(result.pid), cell(took), detail]);
    }
    doc.table(&table);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::color::Palette;
    use crate::test_data::{self, name, pid};

    fn results() -> Vec<WorkerResult> {
        let result = |text, ok, state, detail: &str, duration_ms| WorkerResult {
            name: name(text),
            ok,
            state,
            detail: detail.to_owned(),
            pid: ok.then(|| pid(4711)),
            duration_ms,
        };
        let why = "port 8082 is held by python3 server.py (pid 99, kim, LISTEN on 127.0.0.1:8082)";
        vec![
            result("docs", false, WorkerState::Failed, why, 21),
            result("alpha", true, WorkerState::Ready, "restarted", 312),
        ]
    }

    #[test]
    fn long_details_are_folded_at_80_columns() {
        let mut doc = Document::new(Palette::Plain, 80);
        render(&mut doc, &mut results());
        insta::assert_snapshot!(doc.into_text(), @r"
        NAME   STATE    PID    TOOK  DETAIL
        alpha  ready   4711  312 ms  restarted
        docs   failed     -   21 ms  port 8082 is held by python3 server.py (pid 99,
                                     kim, LISTEN on 127.0.0.1:8082)
        ");
    }

    /// On a terminal, while a worker takes its time.
    #[test]
    fn awaited_workers_are_shown_with_state_and_reason() {
        let mut report = test_data::status();
        for worker in &mut report.workers {
            worker.state = WorkerState::Starting;
            worker.reason = Some("nothing listens on 43211 yet".to_owned());
        }
        let awaited: Vec<_> = report.workers.iter().cycle().take(9).collect();
        let mut doc = Document::new(Palette::Plain, 80);
        render_awaited(&mut doc, &awaited[2..]);
        assert!(
            doc.into_text().starts_with("waiting for web-frontend: starting, nothing listens on 43211 yet\n")
        );
        let mut doc = Document::new(Palette::Plain, 80);
        render_awaited(&mut doc, &awaited);
        assert!(doc.into_text().ends_with("\nand 1 more\n"));
    }

    #[test]
    fn the_limit_is_the_daemon_s() {
        let mut metadata = MetadataMap::new();
        assert_eq!(limit(&metadata), DEFAULT_LIMIT);
        metadata.insert(LIMIT_METADATA, 1500.into());
        assert_eq!(limit(&metadata), Duration::from_millis(1500));
    }

    #[test]
    fn a_message_is_decoded_and_a_missing_state_is_an_error() {
        let message = v1::WorkerResult {
            name: "docs".to_owned(),
            ok: true,
            state: v1::WorkerState::Ready.into(),
            detail: "started".to_owned(),
            pid: Some(7),
            duration_ms: 5,
        };
        let result = decode(message.clone()).expect("complete");
        insta::assert_snapshot!(serde_json::to_string(&result).expect("plain"), @r#"{"name":"docs","ok":true,"state":"ready","detail":"started","pid":7,"duration_ms":5}"#);
        let error = decode(v1::WorkerResult { state: 0, ..message }).expect_err("no state");
        assert_eq!(error.to_string(), "state: missing");
    }
}
