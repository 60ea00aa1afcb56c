//! Starting a process.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::PoisonError;

use super::MARK_VARIABLE;
use super::birth::Birth;
use crate::ids::{Mark, Pid};
use crate::os::socket::PROBING;
use crate::os::this_process::OpenFileLimit;

/// What to start, and with what.
#[derive(Debug)]
pub struct SpawnPlan {
    /// The program; without a slash it is looked up in the `PATH` of `env`, with one in the middle
    /// it is relative to `directory`.
    pub program: PathBuf,
    /// Its arguments, without the program itself.
    pub args: Vec<OsString>,
    /// Its working directory.
    pub directory: PathBuf,
    /// Its complete environment; only [`MARK_VARIABLE`] is added.
    pub env: Vec<(OsString, OsString)>,
    /// Its standard input; `None`: `/dev/null`.
    pub input: Option<OwnedFd>,
    /// Its standard output and error; `None`: `/dev/null`.
    pub output: Option<OwnedFd>,
    /// What it and its descendants carry.
    pub mark: Mark,
    /// The limit of open files that it gets: the one the daemon was started with.
    pub open_files: OpenFileLimit,
    /// The way into a cgroup ([`Cgroup::entrance`](crate::os::cgroup::Cgroup::entrance)): it takes it
    /// before it becomes the program, so that nothing of it ever lives outside. Where the kernel
    /// refuses, it goes without.
    pub cgroup: Option<OwnedFd>,
}

/// Starts a process as the leader of a new session and group, with nothing inherited by accident:
/// empty signal mask, default dispositions, descriptors 0 to 2 only, the given limit of open
/// files. On Linux it is killed when the calling thread ends.
///
/// An error names the directory or the program that was at fault.
#[expect(unsafe_code, reason = "pre_exec: sessions, limits and the parent-death signal are set in the child")]
pub fn spawn(plan: SpawnPlan) -> io::Result<Pid> {
    check_directory(&plan.directory)?;
    let birth = Birth::new(plan.mark, plan.open_files, plan.cgroup.as_ref().map(AsFd::as_fd));
    let (output, errors) = output_pair(plan.output)?;
    let mut command = Command::new(&plan.program);
    command
        .args(plan.args)
        .current_dir(&plan.directory)
        .env_clear()
        .envs(plan.env)
        .env(MARK_VARIABLE, format!("{:x}", plan.mark.to_limit()))
        .stdin(plan.input.map_or_else(Stdio::null, Stdio::from))
        .stdout(output)
        .stderr(errors);
    // SAFETY: `prepare` allocates nothing, takes no lock, and makes async-signal-safe calls only.
    unsafe { command.pre_exec(move || birth.prepare()) };
    // It returns when the child has become the program.
    let spawned = {
        let _alone = PROBING.write().unwrap_or_else(PoisonError::into_inner);
        command.spawn()
    };
    let child = spawned.map_err(|error| naming(&plan.program, &error))?;
    // `child` is dropped without being waited for; std leaves the process to us then.
    Pid::new(child.id().cast_signed()).ok_or_else(|| io::Error::other("the kernel gave a pid that is none"))
}

/// Standard output and standard error, both to the same place.
fn output_pair(output: Option<OwnedFd>) -> io::Result<(Stdio, Stdio)> {
    Ok(match output {
        Some(output) => (output.try_clone()?.into(), output.into()),
        None => (Stdio::null(), Stdio::null()),
    })
}

/// Asked first, because afterwards a missing directory and a missing program are the same error.
fn check_directory(directory: &Path) -> io::Result<()> {
    let in_words =
        |kind, what: &str| io::Error::new(kind, format!("directory {}: {what}", directory.display()));
    match fs::metadata(directory) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(in_words(io::ErrorKind::NotADirectory, "is not a directory")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(in_words(error.kind(), "does not exist"))
        }
        Err(error) => Err(in_words(error.kind(), &error.to_string())),
    }
}

fn naming(program: &Path, error: &io::Error) -> io::Error {
    let what = match error.kind() {
        io::ErrorKind::NotFound => "no such program (or no interpreter for it)".to_owned(),
        _ => error.to_string(),
    };
    io::Error::new(error.kind(), format!("{}: {what}", program.display()))
}
