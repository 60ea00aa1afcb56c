//! The requests of the supervisor to its workers.

use std::collections::HashSet;
use std::sync::Arc;

use mcpd_common::config::{Variables, WorkerConfig};
use mcpd_common::ids::Port;
use mcpd_common::outcome::ExitStatus;
use tokio::sync::OwnedSemaphorePermit;

use super::behaviour::Reply;
use super::system::{Effect, FakeSystem};
use crate::deadline::Deadline;
use crate::supervisor::probe::http::WorkerRequest;
use crate::supervisor::probe::worker_client::{ClientFuture, Diagnosis, WorkerClient};
use crate::supervisor::state::ProbeResult;
use crate::worker_listener::WorkerListener;

impl WorkerClient for FakeSystem {
    fn probe(
        &self,
        worker: Arc<WorkerConfig>,
        _: Arc<WorkerListener>,
        _: Diagnosis,
    ) -> ClientFuture<ProbeResult> {
        let slot = Self::slot(worker.port);
        let inner = self.inner();
        let is_running = inner.families.get(&slot).is_some_and(|family| !family.leader.has_exited());
        let succeeds = inner.behaviour(slot, "").is_some_and(|behaviour| behaviour.probe_succeeds);
        let not_ready = || ProbeResult::NotReady("nothing listens yet".to_owned());
        let result = if is_running && succeeds { ProbeResult::Alive } else { not_ready() };
        Box::pin(std::future::ready(result))
    }

    fn send(&self, request: WorkerRequest, deadline: Deadline) -> ClientFuture<Result<u16, String>> {
        let slot = Self::slot(request.listener.port());
        let mut inner = self.inner();
        inner.record(slot, Effect::Posted);
        let behaviour = inner.behaviour(slot, "");
        let Some((family, behaviour)) = inner.families.get_mut(&slot).zip(behaviour) else {
            return Box::pin(std::future::ready(Err("connection refused".to_owned())));
        };
        let is_accepted = matches!(behaviour.reply, Reply::Status(200..300));
        let wait = behaviour.on_request.filter(|_| is_accepted);
        let exit = wait.and_then(|wait| family.leader.exit_after(wait, ExitStatus::Code(0)));
        drop(inner);
        self.signal_exit_at(exit);
        Box::pin(async move {
            match behaviour.reply {
                Reply::Status(status) => Ok(status),
                Reply::Refused => Err("connection refused".to_owned()),
                Reply::Silence => {
                    deadline.wait(std::future::pending()).await.unwrap_or_else(|late| Err(late.to_string()))
                }
            }
        })
    }

    fn check_start(
        &self,
        worker: Arc<WorkerConfig>,
        permit: OwnedSemaphorePermit,
    ) -> ClientFuture<Result<Variables, String>> {
        let inner = self.inner();
        if inner.behaviour(Self::slot(worker.port), "").is_some_and(|behaviour| behaviour.check_hangs) {
            // The real check holds it on a thread that hangs.
            std::mem::forget(permit);
            return Box::pin(std::future::pending());
        }
        let result = match inner.held.get(&worker.port) {
            Some(holder) => Err(format!("port {} is held by {holder}", worker.port)),
            None => Ok(Variables::new()),
        };
        Box::pin(std::future::ready(result))
    }

    fn find_port(&self, worker: &WorkerConfig, _: &HashSet<Port>) -> Result<Port, String> {
        Ok(worker.port)
    }
}
