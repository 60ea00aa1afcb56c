//! `mcpctl logs`: what workers, or the daemon, wrote; read straight from the files.

use std::collections::BTreeSet;
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
use crate::context::Context;
use crate::exit::{Failure, SUCCESS};
use crate::output::Output;
use crate::paint::Tone;
use crate::wait::pause;

mod tail;

const TRIED: &str = "show the logs";

/// The `schema` of a line in JSON.
pub const LINE_SCHEMA: &str = "mcpd.log-line.v1";

/// How often `-f` looks for more.
const LOOK: Duration = Duration::from_millis(150);

/// A line in JSON.
#[derive(Serialize)]
struct Line<'a> {
    /// The worker; `null`: the daemon.
    worker: Option<&'a str>,
    line: String,
}

/// A log that is shown.
#[derive(Debug)]
struct Log {
    worker: Option<String>,
    tail: Tail,
}

/// Shows them.
pub async fn run(context: &mut Context, args: Logs) -> Result<u8, Failure> {
    let (log_dir, known) = places(context).await;
    let mut logs = match args.daemon {
        true => vec![Log { worker: None, tail: Tail::new(newest_daemon_log(&log_dir)?) }],
        false => chosen(&log_dir, &known, &args.workers)?,
    };
    let width = logs.iter().filter_map(|log| Some(log.worker.as_ref()?.len())).max();
    let prefix = width.filter(|_| logs.len() > 1);
    for log in &mut logs {
        let lines = log.tail.last(args.lines).map_err(|error| unreadable(log.tail.path(), &error))?;
        show(&mut context.out, log.worker.as_deref(), prefix, lines);
    }
    if args.follow {
        follow(context, &mut logs, prefix).await?;
    }
    Ok(SUCCESS)
}

async fn follow(context: &mut Context, logs: &mut [Log], prefix: Option<usize>) -> Result<(), Failure> {
    let mut interrupted = std::pin::pin!(ctrl_c());
    while !context.out.is_closed() {
        for log in &mut *logs {
            let lines = log.tail.more().map_err(|error| unreadable(log.tail.path(), &error))?;
            show(&mut context.out, log.worker.as_deref(), prefix, lines);
        }
        tokio::select! {
            _ = &mut interrupted => break,
            () = pause(LOOK) => {}
        }
    }
    Ok(())
}

/// Lines as they were written; several workers are told apart by a prefix.
fn show(out: &mut Output, worker: Option<&str>, prefix: Option<usize>, lines: Vec<Vec<u8>>) {
    if out.is_json() {
        for line in lines {
            let line = Line { worker, line: String::from_utf8_lossy(&line).into_owned() };
            out.json_line(LINE_SCHEMA, &line);
        }
        return;
    }
    let head = prefix.map_or_else(String::new, |width| format!("{:<width$} | ", worker.unwrap_or_default()));
    let head = out.paint(&head, Tone::Dim);
    let mut bytes = Vec::new();
    for line in lines {
        bytes.extend_from_slice(head.as_bytes());
        bytes.extend_from_slice(&line);
        bytes.push(b'\n');
    }
    if !bytes.is_empty() {
        out.raw(&bytes);
    }
}

/// The log directory and the workers, from the daemon if it answers, else from the configuration.
async fn places(context: &Context) -> (PathBuf, BTreeSet<WorkerName>) {
    let status = match context.reach(TRIED).await {
        Ok(Some(mut daemon)) => daemon.status(TRIED, None).await.ok(),
        _ => None,
    };
    if let Some(status) = status
        && let Some(daemon) = status.daemon
    {
        return (daemon.log_dir.into(), status.workers.into_iter().map(|worker| worker.name).collect());
    }
    let local = context.local();
    (local.log_dir, local.ports.into_iter().filter_map(|known| known.worker).collect())
}

fn chosen(log_dir: &Path, known: &BTreeSet<WorkerName>, asked: &[WorkerName]) -> Result<Vec<Log>, Failure> {
    let mut all = known.clone();
    all.extend(written(log_dir));
    if let Some(unknown) = asked.iter().find(|name| !all.contains(name)) {
        return Err(unknown_worker(unknown, &all));
    }
    if all.is_empty() {
        let next = "start mcpd first, or name its --socket or --config";
        let happened = format!("there is no log of a worker in {}", log_dir.display());
        return Err(Failure::new(program::UNAVAILABLE, TRIED, happened, next));
    }
    let all: Vec<_> = all.into_iter().collect();
    let chosen = if asked.is_empty() { &all[..] } else { asked };
    let log = |name: &WorkerName| Log {
        worker: Some(name.to_string()),
        tail: Tail::new(paths::worker_log(log_dir, name)),
    };
    Ok(chosen.iter().map(log).collect())
}

/// Workers that have a log.
fn written(log_dir: &Path) -> Vec<WorkerName> {
    let entries = fs::read_dir(log_dir.join("workers")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".log")?.parse().ok()).collect()
}

fn unknown_worker(unknown: &WorkerName, all: &BTreeSet<WorkerName>) -> Failure {
    let names: Vec<_> = all.iter().map(WorkerName::as_str).collect();
    let next = match names.as_slice() {
        [] => "no worker is known; `mcpctl status` lists them".to_owned(),
        names => format!("known are: {}", names.join(", ")),
    };
    Failure::new(
        program::USAGE,
        format!("show the log of {unknown}"),
        "there is no worker of this name",
        next,
    )
}

fn newest_daemon_log(log_dir: &Path) -> Result<PathBuf, Failure> {
    let entries = fs::read_dir(log_dir).into_iter().flatten().flatten();
    let dated = entries.filter_map(|entry| {
        let path = entry.path();
        // The shutdown log repeats a part of the debug log.
        let name = path.file_name()?.to_str()?;
        let wanted = name.ends_with(".log") && !name.contains("shutdown");
        let modified = entry.metadata().and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        wanted.then_some((modified, path))
    });
    dated.max().map(|(_, path)| path).ok_or_else(|| {
        Failure::new(
            program::UNAVAILABLE,
            "show the daemon's log",
            format_args!("there is none in {}", log_dir.display()),
            "name the daemon's --socket or --config if its logs are elsewhere",
        )
    })
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    let code = match error.kind() {
        std::io::ErrorKind::PermissionDenied => program::NOPERM,
        _ => program::UNAVAILABLE,
    };
    let next = "ask as the user who runs the daemon";
    Failure::new(code, TRIED, format_args!("reading {}: {error}", path.display()), next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::name;

    #[test]
    fn an_unknown_worker_is_answered_with_the_known_ones() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let known = BTreeSet::from([name("alpha"), name("docs")]);
        let failure = chosen(dir.path(), &known, &[name("doc")]).expect_err("unknown");
        insta::assert_snapshot!(failure, @r"
        mcpctl: can't show the log of doc
          there is no worker of this name
          known are: alpha, docs
        ");
        assert_eq!(failure.code, 64);
    }

    #[test]
    fn workers_are_known_by_their_logs_too() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(dir.path().join("workers")).expect("made");
        for file in ["beta.log", "beta.log.1", "Not A Name.log"] {
            fs::write(dir.path().join("workers").join(file), "x\n").expect("written");
        }
        let logs = chosen(dir.path(), &BTreeSet::from([name("alpha")]), &[]).expect("two");
        let names: Vec<_> = logs.iter().filter_map(|log| log.worker.as_deref()).collect();
        assert_eq!(names, ["alpha", "beta"]);
    }

    #[test]
    fn the_newest_log_of_the_daemon_is_no_shutdown_log() {
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
