//! What is known of a worker when a client's request fails, for the model that reads the error (R-CLIENT-11).

use std::sync::Arc;

use mcpd_common::ids::WorkerName;
use mcpd_common::outcome::ExitStatus;
use mcpd_common::status::WorkerState;
use serde_json::{Value, json};

use crate::last_output::LastOutput;

/// Of one worker at one moment.
#[derive(Clone, Debug)]
pub struct Condition {
    pub worker: WorkerName,
    pub state: WorkerState,
    pub reason: Option<String>,
    /// Of its last process.
    pub exit: Option<ExitStatus>,
    /// It exited twice in a row before it was ready: requests do not wait for it.
    pub is_failing: bool,
    pub output: Arc<LastOutput>,
}

/// What became of the request that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The worker did not get it.
    NotSent,
    /// The worker got it, and may have executed it.
    Interrupted,
}

impl Condition {
    /// The `data` of a JSON-RPC error.
    pub fn data(&self, fate: Fate) -> Value {
        let mut data = json!({ "worker": self.worker, "state": self.state.name() });
        if let Some(reason) = &self.reason {
            data["reason"] = reason.clone().into();
        }
        if let Some(exit) = self.exit {
            data["exit"] = exit.to_string().into();
        }
        let output = self.output.lines();
        // Of a process that serves, it has nothing to do with the error.
        if !output.is_empty() && (fate == Fate::Interrupted || self.state != WorkerState::Ready) {
            data["output"] = output.into();
        }
        data["next"] = self.next(fate).into();
        data
    }

    /// What mcpd or a person does next.
    fn next(&self, fate: Fate) -> String {
        let name = &self.worker;
        let worker = match self.state {
            WorkerState::Failed => format!(
                "mcpd does not start it again by itself: a person mends the cause (`mcpctl logs {name}` has the whole \
                 output) and runs `mcpctl restart {name}`"
            ),
            WorkerState::Stopped => format!("it was stopped or has ended; `mcpctl start {name}` starts it"),
            _ if self.is_failing => format!(
                "it exits before it is ready, again and again; mcpd keeps trying, but a person has to mend the cause \
                 (`mcpctl logs {name}` has the whole output; `mcpctl restart {name}` tries at once)"
            ),
            WorkerState::Starting | WorkerState::BackingOff | WorkerState::Stopping => {
                "mcpd starts it again by itself; try again in a moment".to_owned()
            }
            WorkerState::Ready | WorkerState::Unhealthy => {
                "the worker runs; try again in a moment".to_owned()
            }
        };
        match fate {
            Fate::NotSent => format!("the request was not executed; {worker}"),
            Fate::Interrupted => {
                format!("the request may have been executed: repeat it only if that does no harm; {worker}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_names_cause_and_remedy() {
        let output = Arc::new(LastOutput::default());
        output.push(b"ModuleNotFoundError: No module named 'mcp'\n");
        let condition = Condition {
            worker: "docs".parse().expect("a name"),
            state: WorkerState::Failed,
            reason: Some("10 quick deaths in a row".to_owned()),
            exit: Some(ExitStatus::Code(1)),
            is_failing: true,
            output,
        };
        let data = condition.data(Fate::NotSent);
        assert_eq!(data["output"], json!(["ModuleNotFoundError: No module named 'mcp'"]));
        assert_eq!(data["exit"], "exit 1");
        assert!(data["next"].as_str().is_some_and(|next| next.contains("mcpctl restart docs")), "{data}");
        let ready = Condition { state: WorkerState::Ready, is_failing: false, ..condition };
        assert!(ready.data(Fate::NotSent).get("output").is_none());
        assert!(ready.data(Fate::Interrupted)["next"].as_str().is_some_and(|it| it.contains("no harm")));
    }
}
