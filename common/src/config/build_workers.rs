//! Builds all workers, from `[workers.NAME]` and `repos`, each with a unique name and port.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::build_worker::{self, Named};
use super::context::{Context, Remember};
use super::file_system;
use super::names;
use super::ports::{self, RememberedPorts, Request};
use super::problem::{Found, Location};
use super::raw::{RawWorker, Shared};
use super::worker::{PortSource, WorkerConfig};
use crate::ids::{Port, WorkerName};
use crate::paths::{self, StateDir};

/// Builds all workers. Problems are added to the notes.
pub(super) fn build(
    written: Vec<RawWorker>,
    repos: Vec<Found<String>>,
    defaults: &Shared,
    state: &StateDir,
    context: &Context,
) -> BTreeMap<WorkerName, WorkerConfig> {
    let named = name_all(written, repos, defaults, context);
    check_duplicate_ports(&named, context);
    let ports = assign_ports(&named, state, context);
    named
        .into_iter()
        .filter_map(|named| {
            let port = *ports.get(&named.name)?;
            Some((named.name.clone(), build_worker::complete(named, port, defaults, context)))
        })
        .collect()
}

fn name_all(
    written: Vec<RawWorker>,
    repos: Vec<Found<String>>,
    defaults: &Shared,
    context: &Context,
) -> Vec<Named> {
    let mut named: Vec<Named> =
        written.into_iter().filter_map(|raw| name_written(raw, defaults, context)).collect();
    let mut taken: BTreeSet<_> = named.iter().map(|worker| worker.name.clone()).collect();
    let mut repos_so_far = BTreeSet::new();
    for repo in repos {
        if repo.value.trim().is_empty() {
            context.notes.error(
                repo.at,
                "repos",
                "repos contains an empty path",
                Some("write a directory, or remove the element".to_owned()),
            );
            continue;
        }
        let path = paths::absolute(&repo.value, context.base, context.env);
        if !repos_so_far.insert(canonical(&path)) {
            let message = format!("repos contains {} twice; it is served once", path.display());
            context.notes.worker(repo.at, "repos", message, Some("remove one of the two".to_owned()));
            continue;
        }
        // Canonical, since "." and ".." have no file name to derive a worker name from.
        let name = names::derive(&canonical(&path), &taken);
        taken.insert(name.clone());
        let raw = RawWorker {
            name: Found { value: name.to_string(), at: repo.at },
            repo: None,
            port: None,
            shared: Shared::default(),
        };
        named.push(Named { name, at: repo.at, repo: path, repo_at: repo.at, raw });
    }
    named.sort_by(|one, other| one.name.cmp(&other.name));
    named
}

fn name_written(raw: RawWorker, defaults: &Shared, context: &Context) -> Option<Named> {
    let has_command = raw.shared.command.is_some() || defaults.command.is_some();
    let table = format!("workers.{}", raw.name.value);
    let name = raw.name.value.parse::<WorkerName>();
    if let Err(error) = &name {
        context.notes.error(raw.name.at, &table, error.to_string(), None);
    }
    let Some(repo) = &raw.repo else {
        if has_command {
            let (at, repo) = (raw.name.at, context.base.to_owned());
            return Some(Named { name: name.ok()?, at, repo, repo_at: at, raw });
        }
        // A repo of the wrong type has been reported already; this second line is accepted.
        let help = "write repo = \"DIRECTORY\", the repository to serve, or a command".to_owned();
        context.notes.error(raw.name.at, &table, format!("[{table}] has no usable repo"), Some(help));
        return None;
    };
    let path = paths::absolute(&repo.value, context.base, context.env);
    Some(Named { name: name.ok()?, at: raw.name.at, repo: path, repo_at: repo.at, raw })
}

fn check_duplicate_ports(named: &[Named], context: &Context) {
    let mut written: Vec<_> =
        named.iter().filter_map(|worker| worker.raw.port.as_ref().map(|port| (port, worker))).collect();
    written.sort_by_key(|(port, _)| port.at);
    let mut first: BTreeMap<Port, (&Named, Location)> = BTreeMap::new();
    for (port, worker) in written {
        let key = format!("workers.{}", worker.name);
        match first.get(&port.value) {
            Some((other, at)) => {
                let message = format!(
                    "port {} in [{key}] is also that of {} ({})",
                    port.value,
                    other.name,
                    context.notes.locate(*at)
                );
                let help = "write another port, or omit port to have one derived".to_owned();
                context.notes.error(port.at, &format!("{key}.port"), message, Some(help));
            }
            None => drop(first.insert(port.value, (worker, port.at))),
        }
    }
}

fn assign_ports(
    named: &[Named],
    state: &StateDir,
    context: &Context,
) -> BTreeMap<WorkerName, (Port, PortSource)> {
    let file = state.ports();
    let mut remembered = RememberedPorts::read(&file).unwrap_or_else(|error| {
        context.notes.warning(format!(
            "can't read the remembered ports in {}: {error}; ports are derived anew and may differ",
            file.display()
        ));
        RememberedPorts::default()
    });
    let requests: Vec<_> = named
        .iter()
        .map(|worker| Request {
            worker: worker.name.clone(),
            repo: place_of(worker),
            written: worker.raw.port.as_ref().map(|port| port.value),
        })
        .collect();
    let assigned = remembered.assign(&requests, &crate::check::ports::is_bindable);
    for worker in named.iter().filter(|worker| !assigned.contains_key(&worker.name)) {
        let first = ports::RANGE.start();
        let last = ports::RANGE.end();
        let message = format!("{}: every port from {first} to {last} is in use", worker.name);
        let help = Some(format!("write port = NUMBER under [workers.{}]", worker.name));
        context.notes.error(worker.at, &format!("workers.{}.port", worker.name), message, help);
    }
    // A configuration with errors is not used, so neither are its ports.
    let remember = context.remember == Remember::Yes && !context.notes.has_errors();
    if remember && let Err(error) = remembered.write(&file) {
        let path = file.display();
        context.notes.warning(format!(
            "derived ports can't be remembered in {path}: {error}; they may differ at the next start"
        ));
    }
    assigned
}

/// What a derived port is derived from: the repository, or without one the name.
fn place_of(worker: &Named) -> PathBuf {
    let has_repo = worker.raw.repo.is_some() || worker.raw.shared.command.is_none();
    if has_repo { canonical(&worker.repo) } else { worker.name.as_str().into() }
}

/// The path without symbolic links; unchanged if it does not exist.
fn canonical(path: &Path) -> PathBuf {
    let owned = path.to_owned();
    let found = file_system::within_limit(move || std::fs::canonicalize(owned).ok());
    found.flatten().unwrap_or_else(|| path.to_owned())
}
