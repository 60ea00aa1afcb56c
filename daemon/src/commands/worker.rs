//! `mcpd worker`: the built-in worker, in a process of its own.

use std::path::PathBuf;

use mcpd_common::exit_code::program;
use mcpd_common::ids::Port;
use tokio::runtime::Runtime;

use crate::repo_worker::{self, RepoWorkerArgs};

/// A runtime on the calling thread.
pub fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Serves until its stop request. One thread is enough.
pub fn run(repo: PathBuf, port: Port) -> u8 {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            super::complain(&format!("mcpd worker can't start: {error}\n"));
            return program::SOFTWARE;
        }
    };
    match runtime.block_on(repo_worker::run(RepoWorkerArgs { repo, port })) {
        Ok(()) => 0,
        Err(error) => {
            super::complain(&format!("{error}\n"));
            error.exit_code()
        }
    }
}
