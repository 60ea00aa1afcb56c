//! Resources declared under `[resources.NAME]`: a command that closes the resource, one that checks
//! it, a path that must not exist any more.

use std::path::PathBuf;
use std::time::Duration;

use mcpd_common::config::ResourceConfig;
use mcpd_common::outcome::ExitStatus;

use super::{Closing, Resource};
use crate::deadline::Deadline;
use crate::process::launch::LaunchEnv;
use crate::process::process_thread::ProcessThread;

pub struct Declared {
    pub config: ResourceConfig,
    pub process_thread: ProcessThread,
    pub launch_env: LaunchEnv,
    /// The working directory of the commands.
    pub directory: PathBuf,
}

impl Resource for Declared {
    fn name(&self) -> String {
        self.config.name.clone()
    }

    fn timeout(&self) -> Duration {
        self.config.timeout
    }

    fn close(&self, deadline: Deadline) -> Closing<'_> {
        Box::pin(async move {
            self.run("close", self.config.close.as_ref(), deadline).await?;
            self.run("check", self.config.check.as_ref(), deadline).await?;
            match &self.config.path {
                Some(path) if path.symlink_metadata().is_ok() => {
                    Err(format!("{} is still there", path.display()))
                }
                _ => Ok(()),
            }
        })
    }
}

impl Declared {
    async fn run(&self, what: &str, command: Option<&Vec<String>>, deadline: Deadline) -> Result<(), String> {
        let Some(command) = command else {
            return Ok(());
        };
        let order = |slot| self.launch_env.helper_spec(command, &self.directory, slot);
        match self.process_thread.run(order, deadline).await {
            Ok(ExitStatus::Code(0)) => Ok(()),
            Ok(exit) => Err(format!("{what} command \"{}\": {exit}", command.join(" "))),
            Err(error) => Err(format!("{what} command \"{}\": {error}", command.join(" "))),
        }
    }
}
