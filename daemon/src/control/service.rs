//! One thin function for each RPC.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use mcpd_common::check::ports::{self, KnownPort, PortHolder, PortReport, PortState};
use mcpd_common::check::zombies::{self, Scope};
use mcpd_common::event::EventKind;
use mcpd_common::exit_code::program;
use mcpd_common::ids::{Pid, Port, WorkerName};
use mcpd_common::os::process;
use mcpd_common::status::{
    DaemonStatus, LastShutdown, STATUS_SCHEMA, StatusReport, WorkerState, WorkerStatus,
};
use mcpd_proto::v1::control_server::Control;
use mcpd_proto::{EXIT_CODE_METADATA, LIMIT_METADATA, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::worker_actions;
use crate::client_ports::ClientPorts;
use crate::deadline::Deadline;
use crate::process::process_thread::ProcessCommand;
use crate::progress::{Progress, millis};
use crate::proxy::observe::registry::Registry;
use crate::proxy::observe::{list, socket_table};
use crate::shutdown::request::Trigger;
use crate::supervisor::handle::{SupervisorHandle, UnknownWorker, WorkerAction};
use crate::warnings::Warnings;

/// Limit of results queued for a slow client.
const QUEUE_LIMIT: usize = 16;

/// What the service has access to.
#[derive(Clone)]
pub struct ControlService {
    /// The daemon's status at boot.
    pub daemon: DaemonStatus,
    pub supervisor: SupervisorHandle,
    pub clients: Registry,
    pub ports: ClientPorts,
    pub progress: Progress,
    /// Requests for a shutdown.
    pub triggers: mpsc::UnboundedSender<Trigger>,
    /// Whether a new program could replace the daemon; the error is a sentence.
    pub replaceable: Replaceable,
    /// Limit for stopping a worker and starting it again.
    pub action_limit: Duration,
    /// For the user, those at boot and later ones.
    pub warnings: Warnings,
    /// The last shutdown of an earlier run.
    pub last_shutdown: Option<LastShutdown>,
}

/// Whether a new program could replace the daemon.
pub type Replaceable = Arc<dyn Fn() -> Result<(), NotReplaceable> + Send + Sync>;

/// Why no new program could replace the daemon: a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotReplaceable {
    Program(String),
    Config(String),
}

impl From<NotReplaceable> for Status {
    fn from(reason: NotReplaceable) -> Self {
        match reason {
            NotReplaceable::Program(reason) => Self::failed_precondition(reason),
            NotReplaceable::Config(reason) => {
                let mut status = Self::failed_precondition(reason);
                status.metadata_mut().insert(EXIT_CODE_METADATA, u64::from(program::CONFIG).into());
                status
            }
        }
    }
}

type ResultStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Control for ControlService {
    type ShutdownStream = ResultStream<v1::ShutdownEvent>;
    type RestartDaemonStream = ResultStream<v1::ShutdownEvent>;
    type VerifyPortsStream = ResultStream<v1::PortReport>;
    type StartWorkersStream = ResultStream<v1::WorkerResult>;
    type StopWorkersStream = ResultStream<v1::WorkerResult>;
    type RestartWorkersStream = ResultStream<v1::WorkerResult>;

    async fn shutdown(
        &self,
        request: Request<v1::ShutdownRequest>,
    ) -> Result<Response<Self::ShutdownStream>, Status> {
        let v1::ShutdownRequest { reason, now } = request.into_inner();
        let reason = if reason.is_empty() { "manual".to_owned() } else { reason };
        let _ = self.triggers.send(Trigger::Rpc { reason, now });
        Ok(Response::new(self.event_stream()))
    }

    async fn restart_daemon(
        &self,
        request: Request<v1::RestartDaemonRequest>,
    ) -> Result<Response<Self::RestartDaemonStream>, Status> {
        self.not_shutting_down()?;
        let replaceable = self.replaceable.clone();
        // Reads the configuration and what it names.
        let checked = tokio::task::spawn_blocking(move || replaceable()).await;
        checked.map_err(|error| Status::internal(error.to_string()))??;
        let reason = request.into_inner().reason;
        let reason = if reason.is_empty() { "restart".to_owned() } else { reason };
        let _ = self.triggers.send(Trigger::Restart { reason });
        Ok(Response::new(self.event_stream()))
    }

    async fn status(
        &self,
        request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        let wanted = request.into_inner().worker;
        let mut workers = self.workers().await?;
        let ports = self.ports.clone();
        let counted = tokio::task::spawn_blocking(move || socket_table::count(&ports));
        let clients = counted.await.map_err(|error| Status::internal(error.to_string()))?;
        let mut shutdown = self.progress.status();
        if let Some(shutdown) = &mut shutdown {
            shutdown.workers_gone |= workers.iter().all(|worker| worker.pid.is_none());
            shutdown.clients_gone |= clients.values().all(|count| *count == 0);
        }
        if !wanted.is_empty() {
            let name = self.known(&wanted)?;
            workers.retain(|worker| worker.name == name);
        }
        for worker in &mut workers {
            worker.clients = clients.get(&worker.name).copied().unwrap_or(0);
        }
        let report = StatusReport {
            schema: STATUS_SCHEMA.to_owned(),
            daemon: Some(DaemonStatus {
                shutdown,
                warnings: self.warnings.all(),
                containment: self.supervisor.process_thread().ask(ProcessCommand::Containment).await.ok(),
                ..self.daemon.clone()
            }),
            workers,
            last_shutdown: self.last_shutdown.clone(),
        };
        Ok(Response::new(report.into()))
    }

    async fn verify_ports(
        &self,
        request: Request<v1::VerifyPortsRequest>,
    ) -> Result<Response<Self::VerifyPortsStream>, Status> {
        let known = self.ports_to_check(&request.into_inner().ports)?;
        let workers = self.workers().await?;
        let leaders = leaders(&workers);
        let examined = tokio::task::spawn_blocking(move || {
            crate::fault::hang_in("verify-ports");
            ports::examine(&known, &|pid| worker_of(pid, &leaders))
        });
        let mut reports = examined.await.map_err(|error| Status::internal(error.to_string()))?;
        for report in &mut reports {
            mark_own_listener(report);
            mark_not_ready(report, &workers);
        }
        Ok(Response::new(Box::pin(tokio_stream::iter(reports).map(|report| Ok(report.into())))))
    }

    async fn list_zombies(
        &self,
        request: Request<v1::ListZombiesRequest>,
    ) -> Result<Response<v1::ListZombiesResponse>, Status> {
        let scope = if request.into_inner().all { Scope::Machine } else { Scope::Below(Pid::current()) };
        let leaders = leaders(&self.workers().await?);
        let scanned =
            tokio::task::spawn_blocking(move || zombies::find(scope, &|pid| worker_of(pid, &leaders)));
        let found = scanned.await.map_err(|error| Status::internal(error.to_string()))?;
        let report = found.map_err(|error| Status::resource_exhausted(error.to_string()))?;
        Ok(Response::new(report.into()))
    }

    async fn list_clients(
        &self,
        _: Request<v1::ListClientsRequest>,
    ) -> Result<Response<v1::ListClientsResponse>, Status> {
        let registry = self.clients.clone();
        let ports = self.ports.clone();
        let listed = tokio::task::spawn_blocking(move || list::clients(&registry, &ports));
        let list = listed.await.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(list.into()))
    }

    async fn start_workers(
        &self,
        request: Request<v1::WorkersRequest>,
    ) -> Result<Response<Self::StartWorkersStream>, Status> {
        self.action(&request.into_inner(), WorkerAction::Start)
    }

    async fn stop_workers(
        &self,
        request: Request<v1::WorkersRequest>,
    ) -> Result<Response<Self::StopWorkersStream>, Status> {
        self.action(&request.into_inner(), WorkerAction::Stop)
    }

    async fn restart_workers(
        &self,
        request: Request<v1::WorkersRequest>,
    ) -> Result<Response<Self::RestartWorkersStream>, Status> {
        self.action(&request.into_inner(), WorkerAction::Restart)
    }
}

impl ControlService {
    /// The events of the shutdown, from the first one.
    fn event_stream(&self) -> ResultStream<v1::ShutdownEvent> {
        Box::pin(futures_util::stream::unfold(Some(self.progress.subscribe()), async |events| {
            let mut events = events?;
            let event = events.next().await?;
            let is_last = matches!(event.kind, EventKind::Finished { .. });
            Some((Ok((*event).clone().into()), (!is_last).then_some(events)))
        }))
    }

    fn not_shutting_down(&self) -> Result<(), Status> {
        match self.progress.status() {
            Some(shutdown) => {
                Err(Status::failed_precondition(format!("mcpd is shutting down ({})", shutdown.reason)))
            }
            None => Ok(()),
        }
    }

    /// All names are checked before the first action: a wrong name changes nothing.
    fn action(
        &self,
        request: &v1::WorkersRequest,
        action: WorkerAction,
    ) -> Result<Response<ResultStream<v1::WorkerResult>>, Status> {
        self.not_shutting_down()?;
        let names = if request.all {
            self.ports.values().cloned().collect()
        } else {
            request.names.iter().map(|name| self.known(name)).collect::<Result<Vec<_>, _>>()?
        };
        let (results, received) = mpsc::channel(QUEUE_LIMIT);
        for name in names {
            let workers = self.supervisor.clone();
            let limit = Deadline::after(self.action_limit);
            let results = results.clone();
            tokio::spawn(async move {
                let result = worker_actions::carry_out(&workers, name, action, limit).await;
                // The caller may have disconnected; the action is carried out all the same.
                let _ = results.send(result).await;
            });
        }
        let mut response: Response<ResultStream<_>> = Response::new(Box::pin(ReceiverStream::new(received)));
        let limit = millis(self.action_limit + worker_actions::REPLIES_LIMIT);
        response.metadata_mut().insert(LIMIT_METADATA, limit.into());
        Ok(response)
    }

    fn known(&self, name: &str) -> Result<WorkerName, Status> {
        let invalid = |error: mcpd_common::ids::InvalidId| Status::invalid_argument(error.to_string());
        let name: WorkerName = name.parse().map_err(invalid)?;
        if self.ports.values().any(|known| *known == name) {
            return Ok(name);
        }
        let mut known: Vec<_> = self.ports.values().map(ToString::to_string).collect();
        known.sort();
        Err(Status::not_found(UnknownWorker { name, known }.to_string()))
    }

    fn ports_to_check(&self, wanted: &[u32]) -> Result<Vec<KnownPort>, Status> {
        let port = |number: &u32| {
            Port::new(*number).ok_or_else(|| {
                Status::invalid_argument(format!("{number} is not a port: write a number from 1 to 65535"))
            })
        };
        let mut ports: Vec<Port> = match wanted {
            [] => self.ports.keys().copied().collect(),
            wanted => wanted.iter().map(port).collect::<Result<_, _>>()?,
        };
        ports.sort_unstable();
        ports.dedup();
        Ok(ports.into_iter().map(|port| KnownPort { port, worker: self.ports.get(&port).cloned() }).collect())
    }

    async fn workers(&self) -> Result<Vec<WorkerStatus>, Status> {
        self.supervisor.status().await.map_err(|gone| Status::internal(gone.to_string()))
    }
}

fn leaders(workers: &[WorkerStatus]) -> HashMap<Pid, WorkerName> {
    workers.iter().filter_map(|worker| Some((worker.pid?, worker.name.clone()))).collect()
}

/// The worker of a process: through the nearest leader above it, or through its session.
fn worker_of(pid: Pid, leaders: &HashMap<Pid, WorkerName>) -> Option<WorkerName> {
    const DEPTH: usize = 64;
    let mut above = pid;
    for _ in 0..DEPTH {
        if let Some(worker) = leaders.get(&above) {
            return Some(worker.clone());
        }
        let process = process::best_effort::read(above)?;
        if let Some(worker) = Pid::new(process.session).and_then(|session| leaders.get(&session)) {
            return Some(worker.clone());
        }
        above = Pid::new(process.ppid)?;
    }
    None
}

/// A port that mcpd itself listens on counts as its worker's.
fn mark_own_listener(report: &mut PortReport) {
    for holder in report.holders.iter_mut().filter(|holder| holder.pid == Some(Pid::current())) {
        holder.worker = report.worker.clone();
    }
    let ours = |holder: &PortHolder| holder.worker.is_some() && holder.worker == report.worker;
    if report.state == PortState::InUse && report.holders.iter().all(ours) {
        report.state = PortState::Serving;
    }
}

/// A listener alone serves nobody: mcpd holds the client port of a worker behind the proxy before it is ready.
fn mark_not_ready(report: &mut PortReport, workers: &[WorkerStatus]) {
    let worker = workers.iter().find(|worker| Some(&worker.name) == report.worker.as_ref());
    if report.state == PortState::Serving && worker.is_some_and(|worker| worker.state != WorkerState::Ready) {
        report.state = PortState::NotReady;
    }
}
