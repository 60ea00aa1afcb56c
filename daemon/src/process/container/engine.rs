//! Asks a container engine, by its own client, as a helper command.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use mcpd_common::ids::Slot;
use mcpd_common::outcome::ExitStatus;

use super::listing::{self, Container};
use crate::deadline::Deadline;
use crate::process::helper_output;
use crate::process::operations::LaunchSpec;
use crate::process::process_thread::ProcessThread;

/// How long an engine may take for an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// The engine did not do what it was asked; why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EngineError(String);

/// A container engine.
#[derive(Clone)]
pub struct Engine {
    /// The client with its global options.
    pub command: Vec<String>,
    /// The complete environment of the client.
    pub env: Vec<(OsString, OsString)>,
    pub directory: PathBuf,
    pub process_thread: ProcessThread,
}

impl Engine {
    /// The containers with all of these labels, also those that are not running.
    pub async fn list(&self, labels: &[String], deadline: Deadline) -> Result<Vec<Container>, EngineError> {
        let mut arguments = vec!["ps".to_owned(), "--all".to_owned(), "--no-trunc".to_owned()];
        for label in labels {
            arguments.extend(["--filter".to_owned(), format!("label={label}")]);
        }
        arguments.extend(["--format".to_owned(), listing::FORMAT.to_owned()]);
        let output = self.run(arguments, deadline.at_most(ANSWER_LIMIT)).await?;
        Ok(listing::parse(&output))
    }

    /// The stop signal, and `SIGKILL` after this number of seconds.
    pub async fn stop(&self, ids: &[String], seconds: u64, deadline: Deadline) -> Result<(), EngineError> {
        let limit = deadline.at_most(Duration::from_secs(seconds) + ANSWER_LIMIT);
        self.run_for(["stop", "-t", &seconds.to_string()], ids, limit).await
    }

    /// Kills and removes.
    pub async fn remove(&self, ids: &[String], deadline: Deadline) -> Result<(), EngineError> {
        self.run_for(["rm", "--force"], ids, deadline.at_most(ANSWER_LIMIT)).await
    }

    pub async fn kill(&self, ids: &[String], deadline: Deadline) -> Result<(), EngineError> {
        self.run_for(["kill"], ids, deadline.at_most(ANSWER_LIMIT)).await
    }

    async fn run_for<const N: usize>(
        &self,
        words: [&str; N],
        ids: &[String],
        deadline: Deadline,
    ) -> Result<(), EngineError> {
        let arguments = words.map(str::to_owned).into_iter().chain(ids.iter().cloned()).collect();
        self.run(arguments, deadline).await.map(drop)
    }

    async fn run(&self, arguments: Vec<String>, deadline: Deadline) -> Result<String, EngineError> {
        let what = format!("{} {}", self.command.join(" "), arguments[0]);
        let spec = self.spec(arguments);
        let ended = helper_output::run(&self.process_thread, spec, deadline).await;
        let output = ended.map_err(|error| EngineError(format!("\"{what}\": {error}")))?;
        if output.exit == ExitStatus::Code(0) {
            return Ok(output.text);
        }
        let line = output.text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        Err(EngineError(format!("\"{what}\": {}: {line}", output.exit)))
    }

    fn spec(&self, arguments: Vec<String>) -> LaunchSpec {
        let (program, options) = self.command.split_first().map_or(("", &[][..]), |(it, rest)| (it, rest));
        LaunchSpec {
            // The process thread allocates one.
            slot: Slot::FIRST_HELPER,
            program: program.into(),
            args: options.iter().chain(&arguments).map(OsString::from).collect(),
            directory: self.directory.clone(),
            env: self.env.clone(),
            output: None,
            mcp: None,
        }
    }
}
