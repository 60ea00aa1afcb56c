//! Environment variables that override durations of the file (R-CONF-5).

use std::time::Duration;

use super::duration::{self, InvalidDuration, MAX_DURATION};
use super::problem::Notes;
use super::shutdown::ShutdownConfig;
use crate::paths::Environment;

/// Sets `clients`.
const CLIENTS: &str = "MCP_SHUTDOWN_CLIENT_TIMEOUT";
/// Sets `worker_total`.
const WORKER_TOTAL: &str = "MCP_SHUTDOWN_WORKER_TIMEOUT";
/// Sets `worker_graceful`.
const WORKER_GRACEFUL: &str = "MCP_WORKER_GRACEFUL_TIMEOUT";

/// Which durations were overridden.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Overridden {
    pub worker_total: bool,
}

/// Applies the variables. An invalid one gives a warning and leaves the value unchanged.
pub(super) fn apply(config: &mut ShutdownConfig, env: Environment, notes: &Notes) -> Overridden {
    override_with(CLIENTS, "clients", &mut config.clients, env, notes);
    override_with(WORKER_GRACEFUL, "worker_graceful", &mut config.worker_graceful, env, notes);
    let worker_total = override_with(WORKER_TOTAL, "worker_total", &mut config.worker_total, env, notes);
    Overridden { worker_total }
}

/// Returns whether the variable had a valid value.
fn override_with(variable: &str, key: &str, value: &mut Duration, env: Environment, notes: &Notes) -> bool {
    let Some(text) = env(variable) else { return false };
    let seconds = text.trim().parse::<f64>().map_err(|_| InvalidDuration::NotADuration);
    match seconds.and_then(duration::from_seconds) {
        Ok(seconds) => {
            *value = seconds;
            true
        }
        Err(why) => {
            notes.warning(format!(
                "{variable}=\"{}\" {why}: write seconds, more than 0 and at most {}; {key} stays {}",
                text.escape_debug(),
                MAX_DURATION.as_secs(),
                duration::show(*value)
            ));
            false
        }
    }
}
