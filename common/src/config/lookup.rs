//! Looks up in the file system what keeps a worker from being started.

use std::path::PathBuf;

use super::usable::{self, Obstacle};
use super::worker_env::WorkerEnv;

/// What has to be looked up for one worker.
pub(super) struct Lookup {
    pub repo: PathBuf,
    pub env: WorkerEnv,
    /// `None` for the built-in worker.
    pub program: Option<String>,
    pub stop_command: Option<String>,
    /// `PATH`, if the worker has none of its own.
    pub search: Option<String>,
}

/// The obstacles that were found.
pub(super) struct Obstacles {
    pub directory: Option<Obstacle>,
    pub env_file: Option<Obstacle>,
    pub program: Option<Obstacle>,
    pub stop_command: Option<Obstacle>,
}

impl Lookup {
    /// A relative path starts at the directory of the configuration; many expect the repository.
    fn env_file_obstacle(&self, message: String) -> Obstacle {
        let in_repo = self.env.file().and_then(|path| Some(self.repo.join(path.file_name()?)));
        let help = match in_repo.filter(|file| file.is_file()) {
            Some(file) => format!(
                "write env_file = {:?}: a relative path starts at the configuration's directory, not at the repository",
                file.display().to_string()
            ),
            None => "correct the file, or its path (relative paths start at the configuration's directory)"
                .to_owned(),
        };
        Obstacle { key: "env_file", message, help: help.into() }
    }

    pub(super) fn run(&self) -> Obstacles {
        let env = self.env.read();
        let search = env.variables.get("PATH").map(ToString::to_string).or_else(|| self.search.clone());
        let program = match &self.program {
            Some(program) => usable::command("command", program, search.as_deref()),
            None => usable::git_repository(&self.repo, None),
        };
        let stop = |command: &String| usable::command("stop_command", command, search.as_deref());
        Obstacles {
            directory: usable::directory(&self.repo),
            env_file: env.problem.map(|message| self.env_file_obstacle(message)),
            program,
            stop_command: self.stop_command.as_ref().and_then(stop),
        }
    }
}
