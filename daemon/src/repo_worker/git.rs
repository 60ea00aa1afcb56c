//! Runs the `git` program: read-only, bounded in time and size, and without the programs
//! that a repository's own configuration could name.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::deadline::Deadline;

/// Time limit for a command.
const COMMAND_LIMIT: Duration = Duration::from_secs(30);
/// Limit in bytes for the output that a client gets.
pub const MAX_OUTPUT: u64 = 1024 * 1024;
/// Limit in bytes for the standard error that is kept for an error.
const MAX_STDERR: u64 = 4 * 1024;
/// Limit of concurrent commands; further ones wait.
const MAX_COMMANDS: usize = 4;
/// Limit for the wait of a command until others end. With `COMMAND_LIMIT` less than the minute after which most
/// clients give up.
const QUEUE_LIMIT: Duration = Duration::from_secs(20);

/// Options of every command. Reading must not run what the repository's configuration names
/// (file system monitor, hooks, signature programs), must not fetch, must not page. Clean
/// filters (`git-lfs`) stay: without them `status` would report unchanged files as changed.
const COMMON_OPTIONS: [&str; 17] = [
    "--no-pager",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.quotePath=false",
    "-c",
    "log.showSignature=false",
    "-c",
    "protocol.allow=never",
    "-c",
    "color.ui=false",
    "-c",
    "status.submoduleSummary=false",
    "-c",
    "core.pager=cat",
];

#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// `git` is missing or can't be run.
    #[error("can't run git: {0}; install it, or correct PATH")]
    Start(#[source] io::Error),
    /// Its exit status is not 0.
    #[error("git {command} failed: {stderr}")]
    Failed {
        command: String,
        /// Its exit status; `None` if a signal ended it.
        code: Option<i32>,
        stderr: String,
    },
    #[error("git {0} took more than {limit} s and was killed: ask for less", limit = COMMAND_LIMIT.as_secs())]
    TimedOut(String),
    /// Too many others were running for too long.
    #[error(
        "git {0} was not started: {MAX_COMMANDS} other git commands of this worker were still running after \
         {limit} s; ask again when they have ended, and ask for less at once",
        limit = QUEUE_LIMIT.as_secs()
    )]
    Busy(String),
    /// The caller stopped waiting.
    #[error("cancelled")]
    Cancelled,
}

/// The output of a command.
#[derive(Debug)]
pub struct GitOutput {
    bytes: Vec<u8>,
    cut: bool,
}

impl GitOutput {
    /// The output as text, with a note at the end if it was cut.
    pub fn text(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.bytes).into_owned();
        if self.cut {
            text.push_str(&cut_note());
        }
        text
    }

    /// Whether the output was longer than the limit.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// The output, up to the limit.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Appends the note that the output was cut.
pub fn cut_note() -> String {
    format!("\n[cut after {MAX_OUTPUT} bytes: ask for less]\n")
}

/// The `git` program in one repository.
#[derive(Clone, Debug)]
pub struct Git {
    directory: PathBuf,
    has_tree: bool,
    /// A permit for each command that may run at once.
    running: Arc<Semaphore>,
}

impl Git {
    /// In the root of a working tree.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, has_tree: true, running: Arc::new(Semaphore::new(MAX_COMMANDS)) }
    }

    /// In a bare repository.
    pub fn without_tree(directory: PathBuf) -> Self {
        Self { has_tree: false, ..Self::new(directory) }
    }

    /// Runs a command; any exit status but 0 is an error.
    pub async fn run<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
        cancel: &CancellationToken,
    ) -> Result<GitOutput, GitError> {
        self.run_with_input(args, Stdio::null(), cancel).await
    }

    /// Runs a command with this standard input.
    pub async fn run_with_input<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
        input: Stdio,
        cancel: &CancellationToken,
    ) -> Result<GitOutput, GitError> {
        let args: Vec<OsString> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        let name = args.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let queued = Deadline::after(QUEUE_LIMIT).wait(self.running.acquire());
        let permit = cancel.run_until_cancelled(queued).await.ok_or(GitError::Cancelled)?;
        let _permit = permit.map_err(|_| GitError::Busy(name.clone()))?.map_err(|_| GitError::Cancelled)?;
        let mut child = self.command(&args).stdin(input).spawn().map_err(GitError::Start)?;
        let outcome = tokio::select! {
            done = Deadline::after(COMMAND_LIMIT).wait(collect(&mut child, &name)) => {
                done.unwrap_or(Err(GitError::TimedOut(name.clone())))
            }
            () = cancel.cancelled() => Err(GitError::Cancelled),
        };
        if outcome.is_err() {
            // Kills and reaps it, so that a worker that stops leaves no child. For a request that is dropped,
            // `kill_on_drop` does it.
            let _ = child.kill().await;
        }
        outcome
    }

    #[expect(clippy::disallowed_methods, reason = "this process is a worker: it has no process thread")]
    fn command(&self, args: &[OsString]) -> Command {
        let mut command = Command::new("git");
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_removed(name)) {
            command.env_remove(name);
        }
        command
            .args(COMMON_OPTIONS)
            .args(args)
            .current_dir(&self.directory)
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_NO_LAZY_FETCH", "1")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if self.has_tree {
            // Else `core.worktree` in the repository's configuration could point elsewhere.
            command.env("GIT_WORK_TREE", &self.directory);
        }
        command
    }
}

/// Whether git does not get this variable: it would point git at another repository (mcpd may have been
/// started from a hook) or make it run a program, or it is the token. Variables that say where git's
/// configuration is stay.
fn is_removed(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let kept = ["GIT_CONFIG", "GIT_EXEC_PATH", "GIT_CEILING_DIRECTORIES"];
    name == super::stop::TOKEN_VARIABLE
        || name.starts_with("GIT_") && !kept.iter().any(|keep| name.starts_with(keep))
}

async fn collect(child: &mut Child, name: &str) -> Result<GitOutput, GitError> {
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    let (output, stderr) =
        tokio::try_join!(read(stdout, MAX_OUTPUT), read(stderr, MAX_STDERR)).map_err(GitError::Start)?;
    let status = child.wait().await.map_err(GitError::Start)?;
    // If the output is cut, the pipe is closed and the command gets SIGPIPE.
    if status.success() || output.cut {
        return Ok(output);
    }
    let stderr = stderr.text().trim().to_owned();
    let stderr = if stderr.is_empty() { status.to_string() } else { stderr };
    Err(GitError::Failed { command: name.to_owned(), code: status.code(), stderr })
}

/// Reads until the end or the limit; the pipe is closed then.
async fn read(pipe: Option<impl AsyncRead + Unpin>, limit: u64) -> io::Result<GitOutput> {
    let mut bytes = Vec::new();
    let Some(pipe) = pipe else { return Ok(GitOutput { bytes, cut: false }) };
    pipe.take(limit + 1).read_to_end(&mut bytes).await?;
    let keep = usize::try_from(limit).unwrap_or(usize::MAX);
    let cut = bytes.len() > keep;
    bytes.truncate(keep);
    Ok(GitOutput { bytes, cut })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All permits are taken; time passes at once.
    #[tokio::test(start_paused = true)]
    async fn the_wait_for_other_commands_is_bounded() {
        let git = Git::new(std::env::temp_dir());
        let _running = git.running.acquire_many(MAX_COMMANDS as u32).await.expect("open");
        let begin = crate::deadline::now();
        let refused = git.run(["status"], &CancellationToken::new()).await.expect_err("never started");
        assert_eq!(begin.elapsed().as_secs(), QUEUE_LIMIT.as_secs());
        let text = refused.to_string();
        for part in ["git status was not started", "4 other git commands", "20 s", "ask again"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_for_other_commands_can_be_cancelled() {
        let git = Git::new(std::env::temp_dir());
        let _running = git.running.acquire_many(MAX_COMMANDS as u32).await.expect("open");
        let cancel = CancellationToken::new();
        cancel.cancel();
        let begin = crate::deadline::now();
        assert!(matches!(git.run(["status"], &cancel).await, Err(GitError::Cancelled)));
        assert!(begin.elapsed() < QUEUE_LIMIT);
    }

    #[test]
    fn inherited_variables_that_redirect_git_are_removed() {
        for name in
            ["GIT_DIR", "GIT_INDEX_FILE", "GIT_EXTERNAL_DIFF", "GIT_SSH_COMMAND", "MCPD_SHUTDOWN_TOKEN"]
        {
            assert!(is_removed(OsStr::new(name)), "{name}");
        }
        for name in ["GIT_CONFIG_NOSYSTEM", "GIT_CONFIG_GLOBAL", "GIT_EXEC_PATH", "PATH", "HOME"] {
            assert!(!is_removed(OsStr::new(name)), "{name}");
        }
    }
}
