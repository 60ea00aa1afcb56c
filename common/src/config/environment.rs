//! The variables that override durations of the file (R-CONF-5).

use std::time::Duration;

use super::ShutdownConfig;
use super::duration::{self, LONGEST};
use super::problem::Notes;
use crate::paths::Environment;

/// Sets `clients`.
const CLIENTS: &str = "MCP_SHUTDOWN_CLIENT_TIMEOUT";
/// Sets `worker_total`.
const WORKER_TOTAL: &str = "MCP_SHUTDOWN_WORKER_TIMEOUT";
/// Sets `worker_graceful`.
const WORKER_GRACEFUL: &str = "MCP_WORKER_GRACEFUL_TIMEOUT";

/// Which durations of workers the environment has set.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Overridden {
    pub worker_total: bool,
}

/// Applies the variables. An invalid one is a warning, and the value stays what it was.
pub(super) fn apply(config: &mut ShutdownConfig, env: Environment, notes: &Notes) -> Overridden {
    take(CLIENTS, "clients", &mut config.clients, env, notes);
    take(WORKER_GRACEFUL, "worker_graceful", &mut config.worker_graceful, env, notes);
    let worker_total = take(WORKER_TOTAL, "worker_total", &mut config.worker_total, env, notes);
    Overridden { worker_total }
}

fn take(variable: &str, key: &str, value: &mut Duration, env: Environment, notes: &Notes) -> bool {
    let Some(text) = env(variable) else { return false };
    let seconds = text.trim().parse::<f64>().map_err(|_| duration::InvalidDuration::NotADuration);
    match seconds.and_then(duration::from_seconds) {
        Ok(seconds) => {
            *value = seconds;
            true
        }
        Err(why) => {
            let stays = duration::show(*value);
            let most = LONGEST.as_secs();
            notes.warning(format!(
                "{variable}=\"{}\" {why}: write seconds, more than 0 and at most {most}; {key} stays {stays}",
                text.escape_debug()
            ));
            false
        }
    }
}
