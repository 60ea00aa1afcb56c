//! From what is written to what holds: defaults filled in, paths absolute, limits checked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::problem::{Found, Notes, Place};
use super::raw::{Raw, RawDaemon, RawResource, RawShutdown};
use super::{Config, DaemonConfig, ResourceConfig, ShutdownConfig, duration, environment, usable, workers};
use crate::paths::{self, Environment, SOCKET_PATH_LIMIT, StateDir};

/// Whether derived ports are written into the state directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remember {
    Yes,
    No,
}

/// What everything is seen against.
pub(super) struct Context<'a> {
    /// Relative paths begin here.
    pub base: &'a Path,
    pub env: Environment<'a>,
    pub notes: &'a Notes,
    pub remember: Remember,
}

/// What `SIGTERM` has when `worker_graceful` alone was made longer.
const TERMINATION: Duration = Duration::from_secs(20);

/// What a resource has when nothing is said.
const RESOURCE_TIMEOUT: Duration = Duration::from_secs(5);

/// The whole configuration; what is wrong is noted.
pub(super) fn build(raw: Raw, file: Option<PathBuf>, context: &Context) -> Config {
    let daemon = daemon(&raw.daemon, context);
    let state = StateDir::new(&daemon.state_dir);
    let config = Config {
        file,
        shutdown: shutdown(&raw.shutdown, context),
        resources: raw.resources.into_iter().map(|resource| self::resource(resource, context)).collect(),
        workers: workers::build(raw.workers, raw.repos, &raw.defaults, &state, context),
        daemon,
    };
    if config.workers.is_empty() && !context.notes.has_errors() {
        context.notes.warning("no workers: write repos = [\"DIRECTORY\"] or [workers.NAME]");
    }
    config
}

fn daemon(raw: &RawDaemon, context: &Context) -> DaemonConfig {
    let absolute = |written: &Found<String>| paths::absolute(&written.value, context.base, context.env);
    let state_dir = raw.state_dir.as_ref().map_or_else(paths::default_state_dir, absolute);
    let log_dir = raw.log_dir.as_ref().map_or_else(|| state_dir.join("logs"), absolute);
    let socket = match &raw.socket {
        Some(written) => absolute(written),
        None => paths::default_socket(&state_dir, context.env),
    };
    check_socket(&socket, raw.socket.as_ref().or(raw.state_dir.as_ref()).and_then(|found| found.at), context);
    DaemonConfig { socket, state_dir, log_dir }
}

fn check_socket(socket: &Path, at: Place, context: &Context) {
    let length = socket.as_os_str().len();
    if length > SOCKET_PATH_LIMIT {
        let message = format!("the socket path {} has {length} bytes", socket.display());
        let help =
            format!("write a shorter socket = \"...\" under [daemon], at most {SOCKET_PATH_LIMIT} bytes");
        context.notes.error(at, "daemon.socket", message, Some(help));
    }
}

fn shutdown(raw: &RawShutdown, context: &Context) -> ShutdownConfig {
    let default = ShutdownConfig::default();
    let or =
        |written: &Option<Found<Duration>>, default| written.as_ref().map_or(default, |found| found.value);
    let mut config = ShutdownConfig {
        worker_graceful: or(&raw.worker_graceful, default.worker_graceful),
        clients: or(&raw.clients, default.clients),
        worker_total: or(&raw.worker_total, default.worker_total),
        verification: or(&raw.verification, default.verification),
        force_ports: raw.force_ports.unwrap_or(default.force_ports),
    };
    let overridden = environment::apply(&mut config, context.env, context.notes);
    let total_is_meant = raw.worker_total.is_some() || overridden.worker_total;
    fit_total(&mut config, total_is_meant, context);
    config
}

/// Asking and terminating together can't be shorter than asking alone.
fn fit_total(config: &mut ShutdownConfig, total_is_meant: bool, context: &Context) {
    let (graceful, total) = (config.worker_graceful, config.worker_total);
    if total > graceful {
        return;
    }
    config.worker_total = match total_is_meant {
        true => graceful,
        false => graceful.saturating_add(TERMINATION),
    };
    let (graceful, now) = (duration::show(graceful), duration::show(config.worker_total));
    let effect = match total_is_meant {
        true => format!("{now} is used, and SIGKILL follows SIGTERM at once"),
        false => format!("{now} is used instead of the default"),
    };
    context.notes.warning(format!(
        "worker_total {} leaves nothing after worker_graceful {graceful}: {effect}; write a longer worker_total",
        duration::show(total)
    ));
}

fn resource(raw: RawResource, context: &Context) -> ResourceConfig {
    let command = |key: &'static str, written: Option<Found<Vec<Found<String>>>>| {
        let written = written?;
        let mut words: Vec<_> = written.value.into_iter().map(|word| word.value).collect();
        let first = words.first_mut()?;
        *first = usable::program(first, context.base, context.env);
        if let Some(obstacle) = usable::command(key, first, (context.env)("PATH").as_deref()) {
            let message = format!("resource {}: {}", raw.name, obstacle.message);
            let key = format!("resources.{}.{key}", raw.name);
            context.notes.worker(written.at, &key, message, Some(obstacle.help.to_owned()));
        }
        Some(words)
    };
    ResourceConfig {
        close: command("close", raw.close),
        check: command("check", raw.check),
        path: raw.path.map(|path| paths::absolute(&path.value, context.base, context.env)),
        timeout: raw.timeout.map_or(RESOURCE_TIMEOUT, |timeout| timeout.value),
        name: raw.name.clone(),
    }
}
