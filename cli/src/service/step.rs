//! The steps of an installation: each is shown before it is done.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use mcpd_common::paths::durable;
use serde::Serialize;

use super::program;

/// Limit of one command. `systemctl start` returns when the workers are ready, `stop` when they are gone.
const COMMAND_LIMIT: Duration = Duration::from_secs(600);

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// Keeps a file that a person changed.
    Keep {
        file: PathBuf,
        copy: PathBuf,
    },
    Write {
        file: PathBuf,
        content: String,
    },
    Remove {
        file: PathBuf,
    },
    Run {
        words: Vec<String>,
    },
    /// Its failure is no problem.
    RunAnyway {
        words: Vec<String>,
    },
}

impl Step {
    pub fn run(words: Vec<String>) -> Self {
        Self::Run { words }
    }

    /// One line.
    pub fn title(&self) -> String {
        match self {
            Self::Keep { file, copy } => format!("copy   {} to {}", file.display(), copy.display()),
            Self::Write { file, .. } => format!("write  {}", file.display()),
            Self::Remove { file } => format!("remove {}", file.display()),
            Self::Run { words } | Self::RunAnyway { words } => format!("run    {}", words.join(" ")),
        }
    }

    /// # Errors
    /// What happened, as text.
    pub async fn perform(&self) -> Result<(), String> {
        match self {
            Self::Keep { file, copy } => fs::copy(file, copy).map(drop).map_err(|error| error.to_string()),
            Self::Write { file, content } => write(file, content).map_err(|error| error.to_string()),
            Self::Remove { file } => durable::remove(file).map_err(|error| error.to_string()),
            Self::RunAnyway { words } => {
                let _ = program::run(words, COMMAND_LIMIT).await;
                Ok(())
            }
            Self::Run { words } => match program::run(words, COMMAND_LIMIT).await {
                Ok(ran) if ran.is_success() => Ok(()),
                Ok(ran) => Err(ran.complaint()),
                Err(error) => Err(error.to_string()),
            },
        }
    }
}

/// Readable by all, as units are.
fn write(file: &PathBuf, content: &str) -> io::Result<()> {
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory)?;
    }
    durable::write(file, content.as_bytes())?;
    fs::set_permissions(file, Permissions::from_mode(0o644))
}
