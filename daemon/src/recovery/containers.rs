//! Ends the containers of runs whose daemon died: engines keep them, whatever becomes of daemon and guardian.

use std::time::Duration;

use futures_util::future::join_all;
use mcpd_common::container_record;

use crate::deadline::Deadline;
use crate::process::container::{ContainerEnv, EndReport, WorkerContainer, names};

/// Between the stop signal and `SIGKILL`.
const GRACE: Duration = Duration::from_secs(5);
/// Limit for all engines together: the start waits for it.
const LIMIT: Duration = Duration::from_secs(15);

/// Asks the engines that the records name, and returns what was found, for the log and for `status`. To be
/// called before any worker is started, because a container may hold a name or a port that the next one needs.
pub async fn end_leftovers(env: &ContainerEnv) -> Vec<String> {
    let (records, mut texts) = container_record::of_other_runs(&env.directory, env.run);
    let limit = Deadline::after(LIMIT);
    let ended = records.into_iter().map(|record| end(env.of_record(record), limit));
    texts.extend(join_all(ended).await.into_iter().flatten());
    texts
}

async fn end(container: WorkerContainer, limit: Deadline) -> Option<String> {
    let (run, worker) = (container.run(), container.worker().clone());
    let report = match container.end(Some(GRACE), limit).await {
        Ok(report) => report,
        Err(error) => {
            return Some(format!(
                "whether {worker} left a container in run {run} could not be found out: {error}; the next start asks \
                 again, unless {} is removed",
                container.path().display()
            ));
        }
    };
    let EndReport { ended, left, .. } = report;
    if !left.is_empty() {
        let engine = container.engine();
        return Some(format!(
            "the container of {worker} in run {run} could not be ended: {}; end it with: {engine} rm --force {}",
            names(&left),
            left[0].name
        ));
    }
    container.remove_record();
    (!ended.is_empty())
        .then(|| format!("the container of {worker} outlived run {run} and was ended: {}", names(&ended)))
}
