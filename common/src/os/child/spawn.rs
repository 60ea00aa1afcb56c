//! Starts a process: fork, then exec in the child.
//!
//! ```text
//!   parent   fork ---- waits for "prepared" ------- poll_exec, as often as it likes
//!   child      `-- prepare (no file system) --> report --> chdir, exec --> close-on-exec ends the report
//! ```
//!
//! `chdir` and `exec` look into file systems and may never return, so the parent does not wait: the child belongs to the
//! caller from the fork on, and leads its session and holds no descriptor of the daemon before it calls them.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::time::Duration;

use nix::libc;

use super::image::ExecImage;
use super::report::{Failure, Message, Report, Step};
use super::setup::{ChildDescriptors, ChildSetup};
use super::{Delivery, Signal, signal_child};
use crate::ids::{Mark, Pid};
use crate::os::socket::PROBING;
use crate::os::this_process::OpenFileLimit;

/// Limit for the preparation of a child. Nothing in it blocks; only a very busy machine delays it.
const PREPARE_LIMIT: Duration = Duration::from_secs(10);

/// A program to start, with everything that it gets from the daemon. Not `Debug`: the environment may hold secrets.
pub struct SpawnPlan {
    /// The program; without a slash it is looked up in the `PATH` of `env`, with one in the middle
    /// it is relative to `directory`.
    pub program: PathBuf,
    /// The arguments, without the name of the program.
    pub args: Vec<OsString>,
    /// The working directory.
    pub directory: PathBuf,
    /// The complete environment; only [`MARK_VARIABLE`](super::MARK_VARIABLE) is added.
    pub env: Vec<(OsString, OsString)>,
    /// Standard input; `None`: `/dev/null`.
    pub input: Option<OwnedFd>,
    /// Standard output; `None`: `/dev/null`.
    pub output: Option<OwnedFd>,
    /// Standard error; `None`: the same as standard output.
    pub errors: Option<OwnedFd>,
    /// The mark that it and its descendants carry.
    pub mark: Mark,
    /// The limit of open files; usually the one with which the daemon was started.
    pub open_files: OpenFileLimit,
    /// A descriptor from [`Cgroup::entrance`](crate::os::cgroup::Cgroup::entrance): the child enters that
    /// cgroup before exec, so that the program never runs outside of it. If the kernel refuses, the child
    /// runs without.
    pub cgroup: Option<OwnedFd>,
}

/// What is known about the exec of a child.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum ExecState {
    /// The child has not got that far.
    Pending,
    /// The program runs, or the child was killed before.
    Done,
    /// It can't be executed; the text names the directory or the program. The child exits, and has to be reaped.
    Failed(String),
}

/// A child that is about to execute its program.
#[derive(Debug)]
pub struct Spawned {
    pid: Pid,
    report: Report,
    state: ExecState,
    program: PathBuf,
    directory: PathBuf,
}

/// Starts a process as the leader of a new session and group, with an empty signal mask, default
/// dispositions, descriptors 0 to 2 only, and the given limit of open files. On Linux it is killed when the
/// calling **thread** exits.
///
/// # Errors
/// When there is no child. All other errors are in [`Spawned::poll_exec`].
#[expect(unsafe_code, reason = "fork(2): the child only makes the calls of setup.rs")]
pub fn spawn(plan: SpawnPlan) -> io::Result<Spawned> {
    let image = ExecImage::new(&plan)?;
    let (report, to_report) = Report::pipe()?;
    let descriptors =
        ChildDescriptors::new([plan.input, plan.output, plan.errors], plan.cgroup.as_ref(), &to_report)?;
    let setup = ChildSetup::new(plan.mark, plan.open_files);
    let _exclusive = PROBING.write().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: the child calls `run`, which allocates nothing, takes no lock, makes async-signal-safe calls only, and
    // does not return.
    let pid = match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        0 => setup.run(&descriptors, &image),
        pid => Pid::new(pid).ok_or_else(|| io::Error::other("fork(2) returned an invalid pid"))?,
    };
    drop(to_report);
    drop(descriptors);
    let (program, directory) = (plan.program, plan.directory);
    let mut spawned = Spawned { pid, report, state: ExecState::Pending, program, directory };
    spawned.wait_prepared();
    Ok(spawned)
}

impl Spawned {
    /// The child. It is unreaped, and leads a session and a group.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// What is known about the exec, after waiting for it at most this long.
    pub fn poll_exec(&mut self, timeout: Duration) -> ExecState {
        if self.state == ExecState::Pending {
            let message = self.report.next(timeout);
            self.on_message(message);
        }
        self.state.clone()
    }

    fn on_message(&mut self, message: Option<Message>) {
        match message {
            None | Some(Message::Prepared) => {}
            Some(Message::Closed) => self.state = ExecState::Done,
            Some(Message::Failed(failure)) => self.state = ExecState::Failed(self.describe(&failure)),
        }
    }

    /// Until then the child holds every socket of this process, and has no group.
    fn wait_prepared(&mut self) {
        let message = self.report.next(PREPARE_LIMIT);
        if message.is_none() {
            let _: Delivery = signal_child(self.pid, Signal::Kill);
        }
        self.on_message(message);
    }

    fn describe(&self, failure: &Failure) -> String {
        let (path, what) = match (failure.step, failure.error.kind()) {
            (Step::Directory, io::ErrorKind::NotFound) => (&self.directory, "does not exist".to_owned()),
            (Step::Directory, io::ErrorKind::NotADirectory) => {
                (&self.directory, "is not a directory".to_owned())
            }
            (Step::Directory, _) => (&self.directory, failure.error.to_string()),
            (Step::Exec, io::ErrorKind::NotFound) => {
                (&self.program, "no such program (or no interpreter for it)".to_owned())
            }
            (Step::Exec | Step::Prepare, _) => (&self.program, failure.error.to_string()),
        };
        let prefix = if failure.step == Step::Directory { "directory " } else { "" };
        format!("{prefix}{}: {what}", path.display())
    }
}
