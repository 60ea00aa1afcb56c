//! Completion of the words of a command line, for the scripts of `mcpctl completions`.
//!
//! ```text
//! Tab -> the script runs `MCPCTL_COMPLETE=bash mcpctl -- WORDS` -> candidates: commands, options, names of workers
//! ```

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap_complete::engine::CompletionCandidate;
use clap_complete::env::{CompleteEnv, Shells};
use mcpd_common::ids::WorkerName;
use mcpd_common::run_file::RunFile;
use tokio::time::timeout;

use crate::args::{self, Global};
use crate::context::Context;

/// The variable with the name of the shell. Not the usual `COMPLETE`, which may mean something else to the user.
const VARIABLE: &str = "MCPCTL_COMPLETE";

/// Limit for the daemon to reply, because a person waits. After it, the names are read from files.
const REPLY_TIMEOUT: Duration = Duration::from_secs(1);

/// Prints the candidates if a script asks for them; false if this is an ordinary call.
pub fn run() -> clap::error::Result<bool> {
    let current_dir = std::env::current_dir().ok();
    CompleteEnv::with_factory(args::command)
        .var(VARIABLE)
        .try_complete(std::env::args_os(), current_dir.as_deref())
}

/// The script that makes a shell ask `mcpctl` for candidates.
///
/// # Errors
/// If there is no script for that shell.
pub fn script(shell: &str) -> io::Result<Vec<u8>> {
    let mut script = Vec::new();
    let shells = Shells::builtins();
    let shell = shells.completer(shell).ok_or(io::ErrorKind::Unsupported)?;
    shell.write_registration(VARIABLE, "mcpctl", "mcpctl", "mcpctl", &mut script)?;
    Ok(script)
}

/// The names of all workers: those of the daemon, and without a daemon those of its files.
pub fn workers() -> Vec<CompletionCandidate> {
    let context = Context::new(global_options(std::env::args_os()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let of_daemon = runtime.ok().and_then(|runtime| runtime.block_on(workers_of_daemon(&context)));
    let names = of_daemon.unwrap_or_else(|| workers_in_files(&context));
    names.iter().map(|name| CompletionCandidate::new(name.as_str())).collect()
}

async fn workers_of_daemon(context: &Context) -> Option<Vec<WorkerName>> {
    let action = "complete the names of workers";
    let status = async { context.connect(action).await.ok()??.status(action, None).await.ok() };
    let status = timeout(REPLY_TIMEOUT, status).await.ok()??;
    Some(status.workers.into_iter().map(|worker| worker.name).collect())
}

fn workers_in_files(context: &Context) -> Vec<WorkerName> {
    let locations = context.locations();
    let run = RunFile::read(&locations.state.run_file()).ok().flatten();
    locations.known_ports(run.as_ref()).into_iter().filter_map(|known| known.worker).collect()
}

/// The options in an unfinished command line that say which daemon is meant.
fn global_options(words: impl Iterator<Item = OsString>) -> Global {
    let words: Vec<_> = words.collect();
    Global { socket: value(&words, "--socket"), config: value(&words, "--config"), ..Global::default() }
}

/// From `--option VALUE` or `--option=VALUE`. bash passes the latter as three words.
fn value(words: &[OsString], option: &str) -> Option<PathBuf> {
    let begin = words.iter().position(|word| {
        word.as_encoded_bytes()
            .strip_prefix(option.as_bytes())
            .is_some_and(|rest| matches!(rest, [] | [b'=', ..]))
    })?;
    match words[begin].to_str().and_then(|word| word.split_once('=')) {
        Some((_, value)) => Some(value.into()),
        None => words[begin + 1..].iter().find(|word| *word != "=").map(PathBuf::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_is_the_one_that_the_command_line_names() {
        for named in ["--socket /a.sock", "--socket=/a.sock", "--socket = /a.sock"] {
            let line = format!("mcpctl -- mcpctl {named} restart ");
            let options = global_options(line.split(' ').map(OsString::from));
            assert_eq!((options.socket, options.config), (Some(PathBuf::from("/a.sock")), None), "{named}");
        }
    }
}
