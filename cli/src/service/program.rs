//! Runs the programs of a service manager, found in `PATH`, with a time limit.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use mcpd_common::ids::{Pgid, Pid};
use mcpd_common::os::child::{Signal, signal_group};

use crate::wait::{now, sleep};

const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The end of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// `None` if a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn is_success(&self) -> bool {
        self.code == Some(0)
    }

    /// Its error output in one line, else its output or its exit code.
    pub fn complaint(&self) -> String {
        let text = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        match (lines.is_empty(), self.code) {
            (false, _) => lines.join("; "),
            (true, Some(code)) => format!("exit code {code}"),
            (true, None) => "ended by a signal".to_owned(),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    #[error("there is no program {0} in PATH")]
    NotFound(String),
    #[error("{0} can't be run: {1}")]
    Io(String, io::Error),
    #[error("{0} has not ended within {1:?}")]
    TimedOut(String, Duration),
}

/// Runs it in a process group of its own, which is killed when the limit has passed. Its output goes to files:
/// a pipe may be kept open by a child that stays behind.
pub async fn run(words: &[String], limit: Duration) -> Result<Ran, ProgramError> {
    let (name, args) = words.split_first().map_or(("", &[][..]), |(name, args)| (name.as_str(), args));
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => ProgramError::NotFound(name.to_owned()),
        _ => ProgramError::Io(name.to_owned(), error),
    };
    let files = || Ok::<_, io::Error>((tempfile::tempfile()?, tempfile::tempfile()?));
    let (stdout, stderr) = files().map_err(|error| ProgramError::Io(name.to_owned(), error))?;
    let duplicate = |file: &File| file.try_clone().map_err(|error| ProgramError::Io(name.to_owned(), error));
    let mut command = Command::new(name);
    command.args(args).stdin(Stdio::null()).stdout(duplicate(&stdout)?).stderr(duplicate(&stderr)?);
    let mut child = command.process_group(0).spawn().map_err(failed)?;
    let deadline = now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            break status;
        }
        if now() >= deadline {
            if let Some(leader) = Pid::new(child.id().cast_signed()) {
                // Not reaped yet, so the group is still that of this child.
                let _ = signal_group(Pgid::led_by(leader), Signal::Kill);
            }
            let _ = child.wait();
            return Err(ProgramError::TimedOut(name.to_owned(), limit));
        }
        sleep(POLL_INTERVAL).await;
    };
    Ok(Ran { code: status.code(), stdout: text(stdout), stderr: text(stderr) })
}

fn text(mut file: File) -> String {
    let mut bytes = Vec::new();
    // What can't be read is missing from a message.
    let _ = file.rewind().and_then(|()| file.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[tokio::test]
    async fn output_and_code_are_returned() {
        let ran = run(&sh("echo one; echo two >&2; exit 3"), Duration::from_secs(20)).await.expect("it runs");
        assert_eq!((ran.code, ran.stdout.as_str(), ran.complaint().as_str()), (Some(3), "one\n", "two"));
    }

    /// A start script of a shell may leave an agent behind, or wait for a terminal.
    #[tokio::test]
    async fn neither_a_child_nor_a_hanging_program_blocks() {
        let ran = run(&sh("sleep 60 & echo one"), Duration::from_secs(20)).await.expect("it runs");
        assert_eq!(ran.stdout, "one\n");
        let hung = run(&sh("sleep 60; true"), Duration::from_millis(50)).await;
        assert!(matches!(hung, Err(ProgramError::TimedOut(..))), "{hung:?}");
        let missing = run(&["no-such-program".to_owned()], Duration::from_secs(1)).await;
        assert!(matches!(missing, Err(ProgramError::NotFound(_))), "{missing:?}");
    }
}
