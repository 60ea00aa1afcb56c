//! Ends the containers that are left: stop, then force, until the engine lists none.

use std::time::Duration;

use super::listing::{Container, State};
use super::{EngineError, WorkerContainer, stop_seconds};
use crate::deadline::{self, Deadline};

/// Between two attempts: engines remove a container some time after it exited.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// What was found and done. Empty lists: the engine listed nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct EndReport {
    /// Containers that were there and are gone now.
    pub ended: Vec<Container>,
    /// Those of them that had to be killed.
    pub killed: Vec<Container>,
    /// Containers that could not be ended.
    pub left: Vec<Container>,
    /// Stopped containers that stay, because their command has no `--rm`.
    pub kept: Vec<Container>,
}

impl WorkerContainer {
    /// Ends all containers with the labels. With `grace` they are asked to stop first.
    ///
    /// # Errors
    /// When the engine does not say whether there are any.
    pub async fn end(&self, grace: Option<Duration>, deadline: Deadline) -> Result<EndReport, EngineError> {
        let mut listed = self.list(deadline).await?;
        let found = self.to_end(&listed);
        let mut killed = vec![];
        if let Some(grace) = grace.filter(|_| !alive(&found).is_empty()) {
            let seconds = stop_seconds(grace);
            let began = deadline::now();
            let stopped = self.engine.stop(&ids(&alive(&found)), seconds, deadline).await;
            self.log_error(stopped);
            if deadline::now().saturating_duration_since(began) >= Duration::from_secs(seconds) {
                killed = alive(&found);
            }
            listed = self.list(deadline).await?;
        }
        while !self.to_end(&listed).is_empty() && !deadline.remaining().is_zero() {
            let rest = self.to_end(&listed);
            self.force(&ids(&rest), deadline).await;
            killed.extend(alive(&rest));
            deadline::until(deadline.at_most(RETRY_INTERVAL).instant()).await;
            listed = self.list(deadline).await.unwrap_or(listed);
        }
        Ok(self.report(found, killed, listed))
    }

    async fn force(&self, ids: &[String], deadline: Deadline) {
        let forced = if self.record.auto_remove {
            self.engine.remove(ids, deadline).await
        } else {
            self.engine.kill(ids, deadline).await
        };
        self.log_error(forced);
    }

    /// An error alone means nothing: the container may have exited meanwhile. The next list decides.
    fn log_error(&self, result: Result<(), EngineError>) {
        if let Err(error) = result {
            tracing::debug!(worker = %self.record.worker, %error, "the engine refused");
        }
    }

    /// The containers that must not stay: those with processes, and with `--rm` all.
    fn to_end(&self, listed: &[Container]) -> Vec<Container> {
        if self.record.auto_remove { listed.to_vec() } else { alive(listed) }
    }

    fn report(&self, found: Vec<Container>, killed: Vec<Container>, listed: Vec<Container>) -> EndReport {
        let left = self.to_end(&listed);
        let is_left = |container: &Container| left.iter().any(|it| it.id == container.id);
        let gone = |mut containers: Vec<Container>| {
            containers.retain(|container| !is_left(container));
            containers.sort_by(|one, other| one.id.cmp(&other.id));
            containers.dedup_by(|one, other| one.id == other.id);
            containers
        };
        let kept = listed.into_iter().filter(|container| !is_left(container)).collect();
        EndReport { ended: gone(found), killed: gone(killed), kept, left }
    }
}

pub(super) fn alive(containers: &[Container]) -> Vec<Container> {
    containers.iter().filter(|container| container.state == State::Alive).cloned().collect()
}

pub(super) fn ids(containers: &[Container]) -> Vec<String> {
    containers.iter().map(|container| container.id.clone()).collect()
}
