//! The workers' logs: their pipes are drained, then the files are closed.

use std::time::Duration;

use super::{Closing, Resource};
use crate::deadline::Deadline;
use crate::process::output::Output;

pub struct WorkerLogs(pub Output);

impl Resource for WorkerLogs {
    fn name(&self) -> String {
        "worker logs".to_owned()
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(5)
    }

    fn close(&self, deadline: Deadline) -> Closing<'_> {
        Box::pin(self.0.close(deadline))
    }
}
