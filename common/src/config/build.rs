//! Builds the configuration from the raw tables: fills in defaults, makes paths absolute, checks limits.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::context::Context;
use super::problem::{Found, Location};
use super::raw::{Raw, RawDaemon, RawResource, RawShutdown};
use super::settings::{Config, DaemonConfig, ResourceConfig};
use super::shutdown::ShutdownConfig;
use super::{build_workers, duration, environment, usable};
use crate::paths::{self, SOCKET_PATH_LIMIT, StateDir};

/// Time for `SIGTERM` when `worker_graceful` was raised and `worker_total` was left at its default.
const SIGTERM_TIMEOUT: Duration = Duration::from_secs(20);

/// Default of a resource's `timeout`.
pub(super) const RESOURCE_TIMEOUT: Duration = Duration::from_secs(5);

/// Builds the whole configuration. Problems are added to the notes.
pub(super) fn build(raw: Raw, file: Option<PathBuf>, context: &Context) -> Config {
    let daemon = daemon(&raw.daemon, context);
    let state = StateDir::new(&daemon.state_dir);
    let config = Config {
        file,
        shutdown: shutdown(&raw.shutdown, context),
        resources: raw.resources.into_iter().map(|resource| self::resource(resource, context)).collect(),
        workers: build_workers::build(raw.workers, raw.repos, &raw.defaults, &state, context),
        daemon,
    };
    if config.workers.is_empty() && !context.notes.has_errors() {
        context.notes.warning("no workers: write repos = [\"DIRECTORY\"] or [workers.NAME]");
    }
    config
}

fn daemon(raw: &RawDaemon, context: &Context) -> DaemonConfig {
    let absolute = |written: &Found<String>| paths::absolute(&written.value, context.base, context.env);
    let state_dir = raw.state_dir.as_ref().map_or_else(|| paths::default_state_dir(context.env), absolute);
    let log_dir =
        raw.log_dir.as_ref().map_or_else(|| paths::default_log_dir(&state_dir, context.env), absolute);
    let socket = match &raw.socket {
        Some(written) => absolute(written),
        None => paths::default_socket(&state_dir, context.env),
    };
    check_socket(&socket, raw.socket.as_ref().or(raw.state_dir.as_ref()).and_then(|found| found.at), context);
    DaemonConfig { socket, state_dir, log_dir }
}

fn check_socket(socket: &Path, at: Location, context: &Context) {
    let length = socket.as_os_str().len();
    if length > SOCKET_PATH_LIMIT {
        let message = format!(
            "the socket path {} has {length} bytes, more than the {SOCKET_PATH_LIMIT} that \
             every system accepts",
            socket.display()
        );
        let help = "write a shorter socket = \"...\" under [daemon]".to_owned();
        context.notes.error(at, "daemon.socket", message, Some(help));
    }
}

fn shutdown(raw: &RawShutdown, context: &Context) -> ShutdownConfig {
    let default = ShutdownConfig::default();
    let mut config = ShutdownConfig {
        worker_graceful: value_or(&raw.worker_graceful, default.worker_graceful),
        clients: value_or(&raw.clients, default.clients),
        worker_total: value_or(&raw.worker_total, default.worker_total),
        verification: value_or(&raw.verification, default.verification),
        force_ports: raw.force_ports.unwrap_or(default.force_ports),
    };
    let overridden = environment::apply(&mut config, context.env, context.notes);
    let total_is_explicit = raw.worker_total.is_some() || overridden.worker_total;
    raise_total(&mut config, total_is_explicit, context);
    config
}

fn value_or(written: &Option<Found<Duration>>, default: Duration) -> Duration {
    written.as_ref().map_or(default, |found| found.value)
}

/// `worker_total` contains `worker_graceful`, so it can't be the shorter of the two.
fn raise_total(config: &mut ShutdownConfig, total_is_explicit: bool, context: &Context) {
    let graceful = config.worker_graceful;
    let total = config.worker_total;
    if total > graceful {
        return;
    }
    let shown_total = duration::show(total);
    let shown_graceful = duration::show(graceful);
    if total_is_explicit {
        config.worker_total = graceful;
        context.notes.warning(format!(
            "worker_total {shown_total} leaves no time for SIGTERM after worker_graceful {shown_graceful}: \
             {shown_graceful} is used, and SIGKILL follows SIGTERM at once; write a longer worker_total"
        ));
    } else {
        config.worker_total = graceful.saturating_add(SIGTERM_TIMEOUT);
        context.notes.warning(format!(
            "worker_total, by default {shown_total}, leaves no time for SIGTERM after worker_graceful \
             {shown_graceful}: {} is used; write a longer worker_total",
            duration::show(config.worker_total)
        ));
    }
}

fn resource(raw: RawResource, context: &Context) -> ResourceConfig {
    ResourceConfig {
        close: resource_command(&raw.name, "close", raw.close, context),
        check: resource_command(&raw.name, "check", raw.check, context),
        path: raw.path.map(|path| paths::absolute(&path.value, context.base, context.env)),
        timeout: raw.timeout.map_or(RESOURCE_TIMEOUT, |timeout| timeout.value),
        name: raw.name,
    }
}

fn resource_command(
    resource: &str,
    key: &'static str,
    written: Option<Found<Vec<Found<String>>>>,
    context: &Context,
) -> Option<Vec<String>> {
    let written = written?;
    let mut arguments: Vec<_> = written.value.into_iter().map(|argument| argument.value).collect();
    let first = arguments.first_mut()?;
    *first = usable::program(first, context.base, context.env);
    if let Some(obstacle) = usable::command(key, first, (context.env)("PATH").as_deref()) {
        let message = format!("resource {resource}: {}", obstacle.message);
        let key = format!("resources.{resource}.{key}");
        context.notes.worker(written.at, &key, message, Some(obstacle.help.into_owned()));
    }
    Some(arguments)
}
