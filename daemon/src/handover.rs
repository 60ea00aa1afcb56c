//! `mcpctl restart --daemon`: this process replaces itself by the new program, with the same pid and the same
//! guardian (R-CLIENT-7).
//!
//! ```text
//!   old program: workers stopped and verified, journal closed -> Handover::exec
//!                    listening sockets, lock, control socket stay open (numbers in MCPD_HANDOVER)
//!   new program: Inheritance::receive -> boot: nothing is bound anew, sessions come from the journal
//! ```
//!
//! Clients that connect meanwhile wait in the accept queues of the listening sockets. A shutdown that is
//! requested meanwhile is passed on, and the next program begins with it.

use std::convert::Infallible;
use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use mcpd_common::ids::Pid;
use mcpd_common::os::handover::{adopt, exec, hold_stop_signals, keep};
use mcpd_common::os::this_process;
use serde::{Deserialize, Serialize};

use crate::app::Inheritable;
use crate::guardian::GuardianLink;
use crate::process::launch::HANDOVER_VARIABLE;

pub struct Handover {
    /// The state directory and its lock.
    pub lock: (PathBuf, OwnedFd),
    pub inheritable: Inheritable,
    /// Why the next program has to shut down at once, if that was requested meanwhile.
    pub exit_reason: Option<String>,
}

/// The handover in the environment. It is valid for its own process only: children
/// inherit environments too.
#[derive(Serialize, Deserialize)]
struct Inherited {
    pid: Pid,
    #[serde(rename = "ward")]
    guardian_link: [i32; 2],
    lock: (PathBuf, i32),
    control: (PathBuf, i32),
    #[serde(rename = "doors")]
    listeners: Vec<i32>,
    #[serde(rename = "asked")]
    exit_reason: Option<String>,
}

/// What this process inherited from the program that it replaced.
#[derive(Default)]
pub struct Inheritance {
    pub guardian_link: Option<GuardianLink>,
    /// The state directory and its lock.
    pub lock: Option<(PathBuf, File)>,
    /// The control socket and its path.
    pub control: Option<(PathBuf, UnixListener)>,
    /// On client ports.
    pub listeners: Vec<TcpListener>,
    pub exit_reason: Option<String>,
}

impl Handover {
    /// Returns only when it failed; the control socket is not served any more then.
    pub fn exec(self, guardian_link: &GuardianLink) -> io::Error {
        let Err(error) = self.try_exec(guardian_link);
        // A socket file that stays is stale, and the next start replaces it.
        let _ = std::fs::remove_file(&self.inheritable.control.0);
        error
    }

    fn try_exec(&self, guardian_link: &GuardianLink) -> io::Result<Infallible> {
        let (program, listeners) =
            (program().map_err(io::Error::other)?, self.inheritable.proxy.hand_over()?);
        let control = self.inheritable.control.1.as_fd().try_clone_to_owned()?;
        let guarded = guardian_link.descriptors()?;
        let description = self.description(&guarded, &control, &listeners)?;
        // From now on signals are blocked; the next program receives them.
        hold_stop_signals()?;
        this_process::restore_open_files(self.inheritable.open_files);
        this_process::restore_umask();
        let mut env: Vec<_> = env::vars_os().filter(|(key, _)| key != HANDOVER_VARIABLE).collect();
        env.push((HANDOVER_VARIABLE.into(), description.into()));
        let args: Vec<OsString> = env::args_os().collect();
        Err(exec(&program, &args, &env))
    }

    fn description(
        &self,
        [page, line]: &[OwnedFd; 2],
        control: &OwnedFd,
        listeners: &[OwnedFd],
    ) -> io::Result<String> {
        let description = Inherited {
            pid: Pid::current(),
            guardian_link: [keep(page)?, keep(line)?],
            lock: (self.lock.0.clone(), keep(&self.lock.1)?),
            control: (self.inheritable.control.0.clone(), keep(control)?),
            listeners: listeners.iter().map(keep).collect::<io::Result<_>>()?,
            exit_reason: self.exit_reason.clone(),
        };
        Ok(serde_json::to_string(&description)?)
    }
}

impl Inheritance {
    /// Reads the environment, which may have no handover, or that of another process. Descriptors that
    /// can't be used are ignored, and their sockets are bound anew.
    pub fn receive() -> Self {
        let description = env::var(HANDOVER_VARIABLE)
            .ok()
            .and_then(|description| serde_json::from_str::<Inherited>(&description).ok());
        let Some(description) = description.filter(|description| description.pid == Pid::current()) else {
            return Self::default();
        };
        let one = |(path, number): (PathBuf, i32)| Some((path, adopt(number).ok()?));
        let guardian_link = || {
            GuardianLink::adopt([adopt(description.guardian_link[0])?, adopt(description.guardian_link[1])?])
        };
        Self {
            guardian_link: guardian_link().ok(),
            lock: one(description.lock).map(|(path, lock)| (path, lock.into())),
            control: one(description.control).map(|(path, listener)| (path, listener.into())),
            listeners: description
                .listeners
                .into_iter()
                .filter_map(|number| adopt(number).ok())
                .map(Into::into)
                .collect(),
            exit_reason: description.exit_reason,
        }
    }
}

/// The path of the next program: the name that this one was started by, so that an upgrade is found
/// wherever a symbolic link leads now.
///
/// # Errors
/// A sentence: the program does not exist any more.
pub fn program() -> Result<PathBuf, String> {
    let name = env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let by_path = || {
        let directories = env::var_os("PATH")?;
        env::split_paths(&directories).map(|directory| directory.join(&name)).find(|file| is_program(file))
    };
    let found = match name.components().count() {
        0 | 1 => by_path(),
        _ => Some(name.clone()).filter(|name| is_program(name)),
    };
    let found = found.or_else(|| env::current_exe().ok().filter(|file| is_program(file)));
    found.ok_or_else(|| format!("there is no program at {} any more", name.display()))
}

fn is_program(file: &Path) -> bool {
    file.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_is_found() {
        let found = program().expect("it runs");
        assert_eq!(found.canonicalize().ok(), env::current_exe().and_then(|file| file.canonicalize()).ok());
    }

    /// The environment of these tests has no handover.
    #[test]
    fn without_a_description_nothing_is_inherited() {
        let inheritance = Inheritance::receive();
        assert!(inheritance.lock.is_none() && inheritance.control.is_none());
        assert!(inheritance.listeners.is_empty() && inheritance.exit_reason.is_none());
    }
}
