//! Names processes of earlier runs of which no record is left.
//!
//! They are not killed: without a run file nothing proves that their run was one of this state directory.

use std::time::Duration;

use mcpd_common::check::orphans::{self, Orphan};
use mcpd_common::crash::NAMED;
use mcpd_common::os::CannotLook;

use crate::deadline;

/// A process that was only reparented, or that is about to exit, is not found a second time.
const SECOND_SCAN: Duration = Duration::from_millis(300);

/// Logs a warning if there are such processes.
pub async fn warn() {
    match find_twice().await {
        Ok(orphans) if orphans.is_empty() => {}
        Ok(orphans) => {
            let named: Vec<_> = orphans.iter().take(NAMED).map(Orphan::describe).collect();
            tracing::warn!(
                count = orphans.len(),
                "no run is recorded, but processes have the mark of a run of mcpd whose daemon is gone; \
                 they were left alone: {}",
                named.join(", ")
            );
        }
        Err(error) => tracing::warn!(%error, "can't find out whether an earlier run left processes"),
    }
}

async fn find_twice() -> Result<Vec<Orphan>, CannotLook> {
    let mut orphans = orphans::find()?;
    if !orphans.is_empty() {
        deadline::until(deadline::now() + SECOND_SCAN).await;
        let still_there = orphans::find()?;
        orphans.retain(|orphan| still_there.iter().any(|it| it.is_same(orphan)));
    }
    Ok(orphans)
}
