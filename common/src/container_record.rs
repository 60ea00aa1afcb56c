//! Container records: what the next start needs to find the containers of a daemon that died (R-STDIO-6, R-CONT-6).
//!
//! A container belongs to its engine, so it survives daemon and guardian. Before the container of a worker is started,
//! one small JSON file is on disk for that worker and run. It is removed when the engine has said that no
//! container of the worker is left. A record of another run means that there may be one.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::ids::{RunId, WorkerName};
use crate::paths::durable;

/// The `schema` of a [`ContainerRecord`].
const SCHEMA: &str = "mcpd.container.v1";
const EXTENSION: &str = "json";

/// Variables that decide which engine a client talks to. Their values are names and paths, no secrets.
const ENGINE_VARIABLES: [&str; 13] = [
    "CONTAINERS_CONF",
    "CONTAINERS_STORAGE_CONF",
    "CONTAINER_CONNECTION",
    "CONTAINER_HOST",
    "CONTAINER_SSHKEY",
    "DOCKER_CERT_PATH",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "DOCKER_HOST",
    "DOCKER_TLS_VERIFY",
    "HOME",
    "PATH",
    "XDG_RUNTIME_DIR",
];

/// A worker whose command runs a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRecord {
    schema: String,
    /// The run that started the container.
    pub run: RunId,
    /// As configured.
    pub worker: WorkerName,
    /// The engine with its global options.
    pub engine: Vec<String>,
    /// Whether the engine removes the container when it exits.
    pub auto_remove: bool,
    /// The variables that decide which engine it is.
    pub env: BTreeMap<String, String>,
}

impl ContainerRecord {
    /// Of the variables in `env`, only those that decide which engine it is are kept.
    pub fn new(
        run: RunId,
        worker: WorkerName,
        engine: Vec<String>,
        auto_remove: bool,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let env = env.into_iter().filter(|(name, _)| ENGINE_VARIABLES.contains(&name.as_str())).collect();
        Self { schema: SCHEMA.to_owned(), run, worker, engine, auto_remove, env }
    }

    /// Writes the record into this directory, and returns when it is on disk.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        durable::make_directory(directory)?;
        durable::write(&self.path(directory), &serde_json::to_vec_pretty(self)?)
    }

    /// The file of this record: `RUN.NAME.json`.
    pub fn path(&self, directory: &Path) -> PathBuf {
        directory.join(format!("{}.{}.{EXTENSION}", self.run, self.worker))
    }

    /// The file into which the engine writes the id of the container.
    pub fn cidfile(&self, directory: &Path) -> PathBuf {
        self.path(directory).with_extension("cid")
    }

    /// Removes the record and the file with the id; does nothing if they do not exist.
    pub fn remove(&self, directory: &Path) -> io::Result<()> {
        durable::remove(&self.cidfile(directory))?;
        durable::remove(&self.path(directory))
    }
}

/// The records in this directory that are not of this run, and what could not be read.
pub fn of_other_runs(directory: &Path, run: RunId) -> (Vec<ContainerRecord>, Vec<String>) {
    let mut records = vec![];
    let mut problems = vec![];
    for file in files(directory) {
        match read(&file) {
            Ok(record) if record.run == run => {}
            Ok(record) => records.push(record),
            Err(error) => problems.push(format!("can't read {}: {error}; remove it", file.display())),
        }
    }
    (records, problems)
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == EXTENSION));
    files.sort();
    files
}

fn read(file: &Path) -> io::Result<ContainerRecord> {
    let record: ContainerRecord = serde_json::from_slice(&fs::read(file)?)?;
    let is_usable = record.schema == SCHEMA && !record.engine.is_empty();
    if is_usable { Ok(record) } else { Err(io::Error::other("another version of mcpd wrote it")) }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::ids::RunTag;

    fn record(tag: u32, name: &str) -> ContainerRecord {
        let run = RunId::new(Timestamp::UNIX_EPOCH, RunTag(tag));
        let env = [("DOCKER_HOST", "unix:///s"), ("TOKEN", "secret")];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
        ContainerRecord::new(run, name.parse().expect("a name"), vec!["docker".to_owned()], true, env)
    }

    #[test]
    fn records_of_other_runs_are_read_as_they_were_written() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("containers");
        assert_eq!(of_other_runs(&path, record(1, "a").run), (vec![], vec![]));
        let (old, new) = (record(1, "a"), record(2, "a"));
        old.write(&path).expect("written");
        new.write(&path).expect("written");
        fs::write(old.cidfile(&path), "abc").expect("written");
        assert_eq!(of_other_runs(&path, new.run).0, std::slice::from_ref(&old));
        old.remove(&path).expect("removed");
        old.remove(&path).expect("idempotent");
        assert_eq!(of_other_runs(&path, new.run), (vec![], vec![]));
        assert_eq!(fs::read_dir(&path).expect("readable").count(), 1);
    }

    #[test]
    fn secrets_are_not_recorded() {
        let env = record(1, "a").env;
        assert_eq!(env.keys().collect::<Vec<_>>(), ["DOCKER_HOST"]);
    }

    #[test]
    fn a_damaged_record_is_a_problem_that_names_its_file() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("x.json");
        for content in ["{", "{\"schema\": \"other\"}"] {
            fs::write(&file, content).expect("written");
            let (records, problems) = of_other_runs(directory.path(), record(1, "a").run);
            assert!(
                records.is_empty() && problems.len() == 1 && problems[0].contains("x.json"),
                "{problems:?}"
            );
        }
    }
}
