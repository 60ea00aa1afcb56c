//! Starts a process.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::PoisonError;

use super::MARK_VARIABLE;
use super::setup::ChildSetup;
use crate::ids::{Mark, Pid};
use crate::os::socket::PROBING;
use crate::os::this_process::OpenFileLimit;

/// A program to start, with everything that it gets from the daemon. Not `Debug`: the environment may hold secrets.
pub struct SpawnPlan {
    /// The program; without a slash it is looked up in the `PATH` of `env`, with one in the middle
    /// it is relative to `directory`.
    pub program: PathBuf,
    /// The arguments, without the name of the program.
    pub args: Vec<OsString>,
    /// The working directory.
    pub directory: PathBuf,
    /// The complete environment; only [`MARK_VARIABLE`] is added.
    pub env: Vec<(OsString, OsString)>,
    /// Standard input; `None`: `/dev/null`.
    pub input: Option<OwnedFd>,
    /// Standard output and standard error; `None`: `/dev/null`.
    pub output: Option<OwnedFd>,
    /// The mark that it and its descendants carry.
    pub mark: Mark,
    /// The limit of open files; usually the one with which the daemon was started.
    pub open_files: OpenFileLimit,
    /// A descriptor from [`Cgroup::entrance`](crate::os::cgroup::Cgroup::entrance): the child enters that
    /// cgroup before exec, so that the program never runs outside of it. If the kernel refuses, the child
    /// runs without.
    pub cgroup: Option<OwnedFd>,
}

/// Starts a process as the leader of a new session and group, with an empty signal mask, default
/// dispositions, descriptors 0 to 2 only, and the given limit of open files. On Linux it is killed when the
/// calling **thread** exits.
///
/// # Errors
/// The text names the directory or the program that caused the error.
#[expect(unsafe_code, reason = "pre_exec: sessions, limits and the parent-death signal are set in the child")]
pub fn spawn(plan: SpawnPlan) -> io::Result<Pid> {
    check_directory(&plan.directory)?;
    let setup = ChildSetup::new(plan.mark, plan.open_files, plan.cgroup.as_ref().map(AsFd::as_fd));
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
    unsafe { command.pre_exec(move || setup.prepare()) };
    // `spawn` returns after the exec.
    let spawned = {
        let _exclusive = PROBING.write().unwrap_or_else(PoisonError::into_inner);
        command.spawn()
    };
    let child = spawned.map_err(|error| with_program_name(&plan.program, &error))?;
    // Dropping `child` does not wait for it: the process stays ours to reap.
    Pid::new(child.id().cast_signed()).ok_or_else(|| io::Error::other("fork(2) returned an invalid pid"))
}

/// Standard output and standard error, both to the same place.
fn output_pair(output: Option<OwnedFd>) -> io::Result<(Stdio, Stdio)> {
    Ok(match output {
        Some(output) => (output.try_clone()?.into(), output.into()),
        None => (Stdio::null(), Stdio::null()),
    })
}

/// Checked first, because a missing directory and a missing program give the same error later.
fn check_directory(directory: &Path) -> io::Result<()> {
    let error_with_path =
        |kind, what: &str| io::Error::new(kind, format!("directory {}: {what}", directory.display()));
    match fs::metadata(directory) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(error_with_path(io::ErrorKind::NotADirectory, "is not a directory")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(error_with_path(error.kind(), "does not exist"))
        }
        Err(error) => Err(error_with_path(error.kind(), &error.to_string())),
    }
}

fn with_program_name(program: &Path, error: &io::Error) -> io::Error {
    let what = match error.kind() {
        io::ErrorKind::NotFound => "no such program (or no interpreter for it)".to_owned(),
        _ => error.to_string(),
    };
    io::Error::new(error.kind(), format!("{}: {what}", program.display()))
}
