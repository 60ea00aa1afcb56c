//! The containers of workers whose command is `docker run` or `podman run` (R-STDIO-6).
//!
//! ```text
//!   before a start   record on disk, labels and a cidfile added to the command
//!   stop request     the engine's own stop, beside the worker's stop request
//!   process gone     end(): what still has the labels is stopped, then killed
//!   verification     end() without a stop; what is left is a finding
//!   next start       end() for the records of a daemon that died
//! ```
//!
//! A container is found by its labels alone: they are in the engine from the moment in which the container
//! exists, and no other container has them.

mod ending;
mod engine;
mod listing;

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use mcpd_common::config::container::{ContainerCommand, RUN_LABEL, WORKER_LABEL};
use mcpd_common::config::{Variables, WorkerConfig};
use mcpd_common::container_record::ContainerRecord;
use mcpd_common::ids::{RunId, WorkerName};

use self::engine::Engine;
pub use self::engine::EngineError;
pub use self::listing::{Container, names};
use super::launch::LaunchEnv;
use super::operations::LaunchSpec;
use super::process_thread::ProcessThread;
use crate::deadline::{self, Deadline};

/// What all containers of a run have in common.
#[derive(Clone)]
pub struct ContainerEnv {
    pub run: RunId,
    /// Where records and cidfiles are.
    pub directory: PathBuf,
    pub process_thread: ProcessThread,
    pub launch_env: LaunchEnv,
}

/// The containers that one worker has started in one run.
#[derive(Clone)]
pub struct WorkerContainer {
    record: ContainerRecord,
    /// Of records and cidfiles.
    directory: PathBuf,
    engine: Engine,
}

impl ContainerEnv {
    /// `None` if the command of the worker runs no container.
    pub fn of_worker(&self, worker: &WorkerConfig, variables: &Variables) -> Option<WorkerContainer> {
        let ContainerCommand { engine, auto_remove, .. } = worker.container()?;
        let text = |value: &std::ffi::OsString| value.to_string_lossy().into_owned();
        let inherited = self.launch_env.env.iter().map(|(name, value)| (text(name), text(value)));
        let own = variables.iter().map(|(name, value)| (name.clone(), value.to_string()));
        let env = inherited.chain(own);
        let record = ContainerRecord::new(self.run, worker.name.clone(), engine, auto_remove, env);
        Some(self.of_record(record))
    }

    pub fn of_record(&self, record: ContainerRecord) -> WorkerContainer {
        let mut env = self.launch_env.env.clone();
        env.extend(record.env.iter().map(|(name, value)| (name.into(), value.into())));
        let engine = Engine {
            command: record.engine.clone(),
            env: env.into_iter().collect(),
            directory: self.directory.clone(),
            process_thread: self.process_thread.clone(),
        };
        WorkerContainer { record, directory: self.directory.clone(), engine }
    }
}

impl WorkerContainer {
    pub fn worker(&self) -> &WorkerName {
        &self.record.worker
    }

    pub fn run(&self) -> RunId {
        self.record.run
    }

    /// The engine with its global options, for messages.
    pub fn engine(&self) -> String {
        self.record.engine.join(" ")
    }

    /// The file of the record.
    pub fn path(&self) -> PathBuf {
        self.record.path(&self.directory)
    }

    /// To be called before each start: the record is on disk, and no cidfile exists, because engines refuse to
    /// start then.
    pub fn prepare_start(&self) -> io::Result<()> {
        self.record.write(&self.directory)?;
        match fs::remove_file(self.record.cidfile(&self.directory)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// To be called when the engine has said that nothing is left.
    pub fn remove_record(&self) {
        if let Err(error) = self.record.remove(&self.directory) {
            tracing::warn!(path = %self.path().display(), %error, "can't be removed");
        }
    }

    /// Adds labels and cidfile to the command of the worker.
    pub fn add_options(&self, command: &ContainerCommand, spec: &mut LaunchSpec) {
        let mut options: Vec<_> =
            self.labels().into_iter().flat_map(|label| ["--label".into(), label.into()]).collect();
        if command.cidfile.is_none() {
            options.extend(["--cidfile".into(), self.record.cidfile(&self.directory).into_os_string()]);
        }
        let index = command.options_index().min(spec.args.len());
        spec.args.splice(index..index, options);
    }

    fn labels(&self) -> [String; 2] {
        [format!("{RUN_LABEL}={}", self.record.run), format!("{WORKER_LABEL}={}", self.record.worker)]
    }

    /// Asks the engine to stop the container that runs now. Does nothing without one: it may have exited already.
    ///
    /// # Errors
    /// What the engine said. Whether the container is gone is to be found out by [`Self::end`].
    pub async fn stop(&self, grace: Duration, deadline: Deadline) -> Result<StopResult, EngineError> {
        let ids = match self.written_id() {
            Some(id) => vec![id],
            None => ending::ids(&ending::alive(&self.list(deadline).await?)),
        };
        if ids.is_empty() {
            return Ok(StopResult::Exited);
        }
        let seconds = stop_seconds(grace);
        let began = deadline::now();
        self.engine.stop(&ids, seconds, deadline).await?;
        let needed = deadline::now().saturating_duration_since(began);
        let was_killed = needed >= Duration::from_secs(seconds);
        Ok(if was_killed { StopResult::Killed { seconds } } else { StopResult::Exited })
    }

    async fn list(&self, deadline: Deadline) -> Result<Vec<Container>, EngineError> {
        self.engine.list(&self.labels(), deadline).await
    }

    /// The id in the cidfile of mcpd.
    fn written_id(&self) -> Option<String> {
        let text = fs::read_to_string(self.record.cidfile(&self.directory)).ok()?;
        Some(text.trim().to_owned()).filter(|id| listing::is_id(id))
    }
}

/// How a container reacted to the engine's stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopResult {
    Exited,
    /// The engine had to kill it, after this number of seconds.
    Killed {
        seconds: u64,
    },
}

/// The time between the stop signal and `SIGKILL`: the engine and its client need the rest of the graceful time.
fn stop_seconds(graceful: Duration) -> u64 {
    (graceful * 4 / 5).as_secs().max(1)
}

pub use self::ending::EndReport;
