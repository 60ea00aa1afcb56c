//! All workers: from `[workers.NAME]` and `repos`, with names and ports that differ.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::build::{Context, Remember};
use super::ports::{self, Memory, Wanted};
use super::problem::{Found, Place};
use super::raw::{RawWorker, Shared};
use super::{PortSource, WorkerConfig, names, worker};
use crate::ids::{Port, WorkerName};
use crate::paths::{self, StateDir};

/// A worker with its name and repository, but without a port.
pub(super) struct Named {
    pub name: WorkerName,
    pub at: Place,
    pub repo: PathBuf,
    pub repo_at: Place,
    pub raw: RawWorker,
}

/// All workers; what is wrong with them is noted.
pub(super) fn build(
    written: Vec<RawWorker>,
    repos: Vec<Found<String>>,
    defaults: &Shared,
    state: &StateDir,
    context: &Context,
) -> BTreeMap<WorkerName, WorkerConfig> {
    let named = name_all(written, repos, context);
    check_duplicate_ports(&named, context);
    let ports = assign_ports(&named, state, context);
    let complete = named.into_iter().filter_map(|named| {
        let port = *ports.get(&named.name)?;
        Some((named.name.clone(), worker::complete(named, port, defaults, context)))
    });
    complete.collect()
}

fn name_all(written: Vec<RawWorker>, repos: Vec<Found<String>>, context: &Context) -> Vec<Named> {
    let mut named: Vec<Named> = written.into_iter().filter_map(|raw| name_written(raw, context)).collect();
    let mut taken: BTreeSet<_> = named.iter().map(|worker| worker.name.clone()).collect();
    for repo in repos {
        if repo.value.trim().is_empty() {
            context.notes.error(repo.at, "repos", "repos has an empty path", None);
            continue;
        }
        let path = paths::absolute(&repo.value, context.base, context.env);
        // "." and ".." have no name of their own.
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

fn name_written(raw: RawWorker, context: &Context) -> Option<Named> {
    let table = format!("workers.{}", raw.name.value);
    let name = raw.name.value.parse::<WorkerName>();
    if let Err(error) = &name {
        context.notes.error(raw.name.at, &table, error.to_string(), None);
    }
    let Some(repo) = &raw.repo else {
        // A repo of the wrong type was noted as such; one more line about it does no harm.
        let help = "write repo = \"DIRECTORY\"; the worker runs in it".to_owned();
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
    let mut first: BTreeMap<Port, (&Named, Place)> = BTreeMap::new();
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
                let help = "every worker needs its own; leave one out to have it derived".to_owned();
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
    let mut memory = Memory::read(&file).unwrap_or_else(|error| {
        context.notes.warning(format!("remembered ports in {} can't be read: {error}", file.display()));
        Memory::default()
    });
    let wanted: Vec<_> = named
        .iter()
        .map(|worker| Wanted {
            worker: worker.name.clone(),
            repo: canonical(&worker.repo),
            written: worker.raw.port.as_ref().map(|port| port.value),
        })
        .collect();
    let assigned = memory.assign(&wanted, &crate::check::ports::is_bindable);
    for worker in named.iter().filter(|worker| !assigned.contains_key(&worker.name)) {
        let (first, last) = (ports::RANGE.start(), ports::RANGE.end());
        let message = format!("no port from {first} to {last} is left for {}", worker.name);
        let help = Some(format!("write port = NUMBER under [workers.{}]", worker.name));
        context.notes.error(worker.at, &format!("workers.{}.port", worker.name), message, help);
    }
    // What comes from a faulty file is not worth remembering.
    let worth_it = context.remember == Remember::Yes && !context.notes.has_errors();
    if worth_it && let Err(error) = memory.write(&file) {
        let path = file.display();
        context.notes.warning(format!("derived ports can't be remembered in {path}: {error}"));
    }
    assigned
}

/// Without symbolic links, if it is there.
fn canonical(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}
