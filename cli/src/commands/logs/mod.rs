//! `mcpctl logs`: the output of workers, or the daemon's log. Reads the files directly.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use mcpd_common::exit_code::program;
use mcpd_common::ids::WorkerName;
use mcpd_common::paths;
use serde::Serialize;
use tokio::signal::ctrl_c;

use self::tail::Tail;
use crate::args::Logs;
use crate::color::Tone;
use crate::context::Context;
use crate::failure::{Failure, SUCCESS};
use crate::formatting::printable_line;
use crate::output::Output;
use crate::wait::sleep;

mod tail;

const ACTION: &str = "show the logs";

/// `schema` of a line in JSON.
pub const LINE_SCHEMA: &str = "mcpd.log-line.v1";

/// Interval of `--follow`.
const POLL_INTERVAL: Duration = Duration::from_millis(150);

#[derive(Serialize)]
struct LogLine<'a> {
    /// `null` for the daemon's own log.
    worker: Option<&'a str>,
    line: String,
}

#[derive(Debug)]
struct Log {
    /// `None` for the daemon's own log.
    worker: Option<String>,
    tail: Tail,
}

pub async fn run(context: &mut Context, args: Logs) -> Result<u8, Failure> {
    let (log_dir, known) = log_dir_and_workers(context).await;
    let mut logs = if args.daemon {
        vec![Log { worker: None, tail: Tail::new(newest_daemon_log(&log_dir)?) }]
    } else {
        worker_logs(&log_dir, &known, &args.workers)?
    };
    let missing = missing_logs(&logs);
    if missing.len() == logs.len() && !args.follow {
        return Err(no_log(&missing));
    }
    if !missing.is_empty() {
        context.out.note(&format!("there is no log at {}", missing.join(", ")));
    }
    let longest_name = logs.iter().filter_map(|log| Some(log.worker.as_ref()?.len())).max();
    let prefix_width = longest_name.filter(|_| logs.len() > 1);
    for log in &mut logs {
        let lines = log.tail.last_lines(args.lines).map_err(|error| unreadable(log.tail.path(), &error))?;
        show(&mut context.out, log.worker.as_deref(), prefix_width, lines);
    }
    if args.follow {
        follow(context, &mut logs, prefix_width).await?;
    }
    Ok(SUCCESS)
}

async fn follow(context: &mut Context, logs: &mut [Log], prefix_width: Option<usize>) -> Result<(), Failure> {
    let mut interrupted = std::pin::pin!(ctrl_c());
    while !context.out.is_closed() {
        for log in &mut *logs {
            let lines = log.tail.new_lines().map_err(|error| unreadable(log.tail.path(), &error))?;
            show(&mut context.out, log.worker.as_deref(), prefix_width, lines);
        }
        tokio::select! {
            _ = &mut interrupted => break,
            () = sleep(POLL_INTERVAL) => {}
        }
    }
    Ok(())
}

/// Prints lines unchanged, except for control characters on a terminal (R-CLI-4). With a `prefix_width`, each line
/// starts with the name of its worker.
fn show(out: &mut Output, worker: Option<&str>, prefix_width: Option<usize>, lines: Vec<Vec<u8>>) {
    if out.is_json() {
        for line in lines {
            let line = LogLine { worker, line: String::from_utf8_lossy(&line).into_owned() };
            out.json_with_schema(LINE_SCHEMA, &line);
        }
        return;
    }
    let prefix = match (prefix_width, worker) {
        (Some(width), Some(worker)) => out.paint(&format!("{worker:<width$} | "), Tone::Dim),
        _ => String::new(),
    };
    let mut bytes = Vec::new();
    for line in lines {
        bytes.extend_from_slice(prefix.as_bytes());
        if out.is_terminal() {
            bytes.extend_from_slice(printable_line(&line).as_bytes());
        } else {
            bytes.extend_from_slice(&line);
        }
        bytes.push(b'\n');
    }
    if !bytes.is_empty() {
        out.raw(&bytes);
    }
}

/// From the daemon if it answers, otherwise from the configuration.
async fn log_dir_and_workers(context: &Context) -> (PathBuf, BTreeSet<WorkerName>) {
    let status = match context.connect(ACTION).await {
        Ok(Some(mut daemon)) => daemon.status(ACTION, None).await.ok(),
        // The log files can be read without the daemon.
        Ok(None) | Err(_) => None,
    };
    if let Some(status) = status
        && let Some(daemon) = status.daemon
    {
        return (daemon.log_dir.into(), status.workers.into_iter().map(|worker| worker.name).collect());
    }
    let locations = context.locations();
    (locations.log_dir, locations.ports.into_iter().filter_map(|known| known.worker).collect())
}

/// The logs of the named workers, or of all workers if none is named.
fn worker_logs(
    log_dir: &Path,
    known: &BTreeSet<WorkerName>,
    named: &[WorkerName],
) -> Result<Vec<Log>, Failure> {
    let mut all = known.clone();
    all.extend(workers_with_a_log(log_dir));
    if let Some(unknown) = named.iter().find(|name| !all.contains(name)) {
        return Err(unknown_worker(unknown, &all));
    }
    if all.is_empty() {
        let next = "start mcpd first, or name the daemon with --socket or --config";
        let happened = format!("there are no worker logs in {}", log_dir.display());
        return Err(Failure::new(program::UNAVAILABLE, ACTION, happened, next));
    }
    let all: Vec<_> = all.into_iter().collect();
    let chosen = if named.is_empty() { &all[..] } else { named };
    Ok(chosen.iter().map(|name| worker_log(log_dir, name)).collect())
}

/// The paths of logs that don't exist: the worker has written nothing yet, or its log was deleted.
fn missing_logs(logs: &[Log]) -> Vec<String> {
    let missing = logs.iter().map(|log| log.tail.path()).filter(|path| !path.exists());
    missing.map(|path| path.display().to_string()).collect()
}

fn no_log(missing: &[String]) -> Failure {
    Failure::new(
        program::UNAVAILABLE,
        ACTION,
        format_args!("there is no log at {}", missing.join(", ")),
        "the worker has written nothing yet, or its log was deleted; wait for its output with --follow",
    )
}

fn worker_log(log_dir: &Path, name: &WorkerName) -> Log {
    Log { worker: Some(name.to_string()), tail: Tail::new(paths::worker_log(log_dir, name)) }
}

fn workers_with_a_log(log_dir: &Path) -> Vec<WorkerName> {
    let entries = fs::read_dir(log_dir.join("workers")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".log")?.parse().ok()).collect()
}

fn unknown_worker(unknown: &WorkerName, all: &BTreeSet<WorkerName>) -> Failure {
    let names: Vec<_> = all.iter().map(WorkerName::as_str).collect();
    let next = match names.as_slice() {
        [] => "no worker is configured, and none has a log".to_owned(),
        names => format!("the workers are: {}", names.join(", ")),
    };
    Failure::new(
        program::USAGE,
        format!("show the log of {unknown}"),
        "there is no worker with this name",
        next,
    )
}

fn newest_daemon_log(log_dir: &Path) -> Result<PathBuf, Failure> {
    let entries = fs::read_dir(log_dir).into_iter().flatten().flatten();
    let logs = entries.filter(|entry| is_daemon_log(&entry.file_name()));
    let dated = logs.map(|entry| {
        let modified = entry.metadata().and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        (modified, entry.path())
    });
    dated.max().map(|(_, path)| path).ok_or_else(|| {
        Failure::new(
            program::UNAVAILABLE,
            "show the daemon's log",
            format_args!("there is no log in {}", log_dir.display()),
            "if the logs are elsewhere, name the daemon with --socket or --config",
        )
    })
}

/// The shutdown log does not count: it repeats a part of the debug log.
fn is_daemon_log(file_name: &OsStr) -> bool {
    file_name.to_str().is_some_and(|name| name.ends_with(".log") && !name.contains("shutdown"))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    let code = match error.kind() {
        std::io::ErrorKind::PermissionDenied => program::NOPERM,
        _ => program::UNAVAILABLE,
    };
    let next = "run mcpctl as the user that runs the daemon";
    Failure::new(code, ACTION, format_args!("can't read {}: {error}", path.display()), next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data::name;

    #[test]
    fn an_unknown_worker_is_an_error_that_lists_the_known_workers() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let known = BTreeSet::from([name("alpha"), name("docs")]);
        let failure = worker_logs(dir.path(), &known, &[name("doc")]).expect_err("unknown");
        insta::assert_snapshot!(failure, @r"
        mcpctl: can't show the log of doc
          there is no worker with this name
          the workers are: alpha, docs
        ");
        assert_eq!(failure.code, 64);
    }

    #[test]
    fn workers_with_a_log_are_shown_although_they_are_not_configured() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(dir.path().join("workers")).expect("made");
        for file in ["beta.log", "beta.log.1", "Not A Name.log"] {
            fs::write(dir.path().join("workers").join(file), "x\n").expect("written");
        }
        let logs = worker_logs(dir.path(), &BTreeSet::from([name("alpha")]), &[]).expect("two");
        let names: Vec<_> = logs.iter().filter_map(|log| log.worker.as_deref()).collect();
        assert_eq!(names, ["alpha", "beta"]);
    }

    #[test]
    fn the_newest_daemon_log_is_found_and_shutdown_logs_are_ignored() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(newest_daemon_log(dir.path()).expect_err("none yet").code, 69);
        for (file, second) in [("a.log", 1), ("b.log", 2), ("b-shutdown.log", 3)] {
            let written = fs::File::create(dir.path().join(file)).expect("made");
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
            written.set_modified(at).expect("dated");
        }
        assert_eq!(newest_daemon_log(dir.path()), Ok(dir.path().join("b.log")));
    }
}
