//! Why the daemon could not start (R-EXIT-2).

use mcpd_common::exit_code::program;
use mcpd_common::run_file::RunFileError;

use crate::instance::InstanceError;
use crate::socket_file::SocketError;

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Instance(#[from] InstanceError),
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Without the run file the next start could not clean up after a crash.
    #[error(transparent)]
    RunFile(#[from] RunFileError),
    #[error("can't {what}: {source}")]
    System { what: &'static str, source: std::io::Error },
}

impl StartError {
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Instance(InstanceError::AlreadyRunning { .. }) | Self::Socket(SocketError::Live(_)) => {
                program::TEMPFAIL
            }
            Self::Instance(InstanceError::Unusable { .. }) | Self::Socket(_) | Self::RunFile(_) => {
                program::CONFIG
            }
            Self::System { .. } => program::SOFTWARE,
        }
    }

    /// For `map_err`: the system refused `what`, which continues "can't".
    pub fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}
