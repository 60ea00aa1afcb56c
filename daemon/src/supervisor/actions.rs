//! Performs what a worker's machine decided: start, probe, stop request, signal, publish.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use jiff::Timestamp;
use mcpd_common::check::listener::ListenerOwner;
use mcpd_common::config::{Program, Transport, WorkerConfig, not_responding};
use mcpd_common::event::{EventKind, WorkerStep};
use mcpd_common::ids::{Mark, Port, Slot};
use mcpd_common::outcome::{Asked, ExitStatus};
use mcpd_common::status::WorkerState;

use super::containers::{self, CheckedStart};
use super::handle::Transition;
use super::install_turns;
use super::probe::http::WorkerRequest;
use super::probe::worker_client::{Diagnosis, PROBE_TIMEOUT};
use super::state::{Action, ProbeResult, WorkerEvent};
use super::stop_sequence::{RESPONSE_LIMIT, SignalReason, StopAction, StopOutcome, StopResponse};
use super::worker::Role;
use super::{Supervisor, TaskResult};
use crate::deadline::{self, Deadline};
use crate::process::operations::{self, McpPipes, Started};
use crate::process::process_thread::ProcessCommand;
use crate::progress::millis;
use crate::proxy::handle::{ProxyHandle, ServerPipes, StdioServer};
use crate::random;
use crate::worker_listener::WorkerListener;

/// Limit for checking whether a worker can be started.
const CHECK_LIMIT: Duration = Duration::from_secs(10);

impl Supervisor {
    pub(super) fn perform(&mut self, slot: Slot, action: Action) {
        match action {
            Action::Spawn => self.spawn(slot),
            Action::Probe => self.probe(slot),
            Action::Stop(action) => self.stop_when_drained(slot, action),
            Action::Left(outcome) => self.record_outcome(slot, *outcome),
        }
    }

    fn spawn(&mut self, slot: Slot) {
        let Some(worker) = self.workers.get_mut(&slot) else {
            return;
        };
        worker.process += 1;
        if worker.process > 1 && worker.is_main() {
            let exit =
                worker.machine.last_exit().map_or_else(|| "on request".to_owned(), |exit| exit.to_string());
            self.deps.recorder.restarted(&worker.config.name, &exit);
        }
        worker.is_checking = true;
        // The worker itself has been started before a process for a session.
        let installs = worker.is_main() && install_turns::installs(&worker.config.program);
        if installs && !self.install_turns.may_start(slot) {
            return self.wait_for_turn(slot);
        }
        self.check_start(slot);
    }

    /// The worker waits until the first start of another one is over.
    fn wait_for_turn(&mut self, slot: Slot) {
        let why =
            "waits for the first start of another worker: such installations are not safe at the same time";
        self.on(slot, WorkerEvent::StartWaits { why: Some(why.to_owned()) });
    }

    /// The turn of a worker that waited has come.
    fn start_after_wait(&mut self, slot: Slot) {
        if self.workers.get(&slot).is_some_and(|worker| worker.is_checking) {
            self.on(slot, WorkerEvent::StartWaits { why: None });
            self.check_start(slot);
        }
    }

    fn check_start(&mut self, slot: Slot) {
        let Some(worker) = self.workers.get_mut(&slot) else {
            return;
        };
        let Ok(permit) = worker.checks.clone().try_acquire_owned() else {
            let reason = format!("its last start still waits: {}", not_responding(&worker.config.repo));
            worker.is_checking = false;
            return self.on(slot, WorkerEvent::SpawnFailed { reason });
        };
        let process = worker.process;
        let config = worker.config.clone();
        let is_first = process == 1;
        let check = self.worker_client.check_start(config.clone(), permit);
        let container_env = self.deps.containers.clone();
        let graceful = self.graceful;
        let task_results = self.task_results.clone();
        tokio::spawn(async move {
            let checked = Deadline::after(CHECK_LIMIT).wait(check).await;
            let result = match checked.unwrap_or_else(|_| Err(not_responding(&config.repo))) {
                Ok(variables) => {
                    containers::prepare_start(&container_env, &config, variables, is_first, graceful).await
                }
                Err(reason) => Err(reason),
            };
            let _ = task_results.send(TaskResult::StartChecked(slot, process, result));
        });
    }

    /// Starts the process, unless it was stopped meanwhile.
    pub(super) fn start_checked(&mut self, slot: Slot, result: Result<CheckedStart, String>) {
        let Some(worker) = self.workers.get_mut(&slot).filter(|worker| worker.is_checking) else {
            return;
        };
        worker.is_checking = false;
        let config = worker.config.clone();
        match result.and_then(|checked| self.prepare(&config, checked, slot)) {
            Ok(spec) => self.deps.process_thread.send(ProcessCommand::Spawn(spec)),
            Err(reason) => self.on(slot, WorkerEvent::SpawnFailed { reason }),
        }
    }

    /// Each process gets a token of its own, so that no worker can stop another one.
    fn prepare(
        &mut self,
        config: &WorkerConfig,
        checked: CheckedStart,
        slot: Slot,
    ) -> Result<operations::LaunchSpec, String> {
        let CheckedStart { variables, container } = checked;
        if let Some(proxy) = self.deps.proxies.get(&config.name) {
            proxy.is_open()?;
        }
        let port = self.worker_client.find_port(config, &self.assigned_ports(slot))?;
        let token = (config.program == Program::BuiltIn).then(random::token).transpose();
        let token = token.map_err(|error| format!("no random bytes for its token: {error}"))?;
        if let Some(worker) = self.workers.get_mut(&slot) {
            worker.listens_on = port;
            worker.token.clone_from(&token);
            worker.container.clone_from(&container);
        }
        let secrets = variables.values().map(|value| value.with(port));
        self.deps.output.last(&config.name).begin(secrets);
        let no_pipe = |error| format!("no pipe for its output: {error}");
        let pipe = self.deps.output.pipe(&config.name).map_err(no_pipe)?;
        let mcp = match config.transport {
            Transport::Stdio => Some(self.connect(config, slot).map_err(no_pipe)?),
            Transport::Http | Transport::Direct => None,
        };
        let launch_env = &self.deps.launch_env;
        let mut spec = launch_env.worker_spec(config, &variables, port, slot, token.as_deref(), Some(pipe));
        if let Some((container, command)) = container.zip(config.container()) {
            container.add_options(&command, &mut spec);
        }
        Ok(operations::LaunchSpec { mcp, ..spec })
    }

    /// Makes the pipes of a worker that speaks stdio; the proxy gets the daemon's ends.
    fn connect(&mut self, config: &WorkerConfig, slot: Slot) -> io::Result<McpPipes> {
        let (input, to_worker) = io::pipe()?;
        let (from_worker, output) = io::pipe()?;
        let strays = self.deps.output.channel(&config.name);
        let pipes = ServerPipes { input: to_worker.into(), output: from_worker.into(), strays };
        let role = self.workers.get_mut(&slot).map(|worker| &mut worker.role);
        match (self.deps.proxies.get(&config.name), role) {
            (Some(proxy), Some(Role::Session(session))) => {
                session.server = Some(proxy.connect_session(&config.name, session.number, pipes)?);
            }
            (Some(proxy), _) => proxy.connect(&config.name, pipes)?,
            (None, _) => {}
        }
        Ok(McpPipes { input: input.into(), output: output.into() })
    }

    /// The client ports of all workers, and the private ports of all other workers.
    fn assigned_ports(&self, slot: Slot) -> HashSet<Port> {
        let others = self.workers.iter().filter(|(other, _)| **other != slot);
        let private = others.map(|(_, worker)| worker.listens_on);
        self.workers.values().map(|worker| worker.config.port).chain(private).collect()
    }

    pub(super) fn spawned(&mut self, slot: Slot, started: Started) {
        if let Some(worker) = self.workers.get_mut(&slot) {
            worker.started = Some(started);
            // A port that is not free keeps a worker from being started.
            worker.outcome.had_port = true;
            let mark = Mark { run: self.deps.recorder.run.tag(), slot };
            let trusts_user = worker.config.trust_listener;
            let owner = ListenerOwner { leader: started.pid, mark, trusts_user };
            let listens = worker.config.transport != Transport::Stdio;
            worker.listener = listens.then(|| WorkerListener::new(worker.listens_on, owner));
            worker.started_at = Some(Timestamp::now());
            // A shutdown that began during the start counts this process, too.
            worker.outcome.pid = Some(started.pid);
            self.deps.recorder.started(&worker.config, started);
            tracing::info!(worker = %worker.config.name, pid = %started.pid, port = %worker.listens_on, "started");
        }
    }

    pub(super) fn ended(&mut self, slot: Slot) {
        if let Some(worker) = self.workers.get_mut(&slot) {
            if let Some(started) = worker.started.take() {
                self.deps.recorder.ended(started, worker.machine.last_exit());
            }
            worker.started_at = None;
            worker.listener = None;
            match &worker.role {
                Role::Main => {
                    let proxy = self.deps.proxies.get(&worker.config.name);
                    proxy.into_iter().for_each(ProxyHandle::disconnect);
                }
                Role::Session(session) => session.server.iter().for_each(|server| server.disconnect()),
            }
        }
    }

    fn probe(&mut self, slot: Slot) {
        if self.install_turns.is_waiting(slot) {
            return self.wait_for_turn(slot);
        }
        let Some(worker) = self.workers.get(&slot) else {
            return;
        };
        let process = worker.process;
        let task_results = self.task_results.clone();
        if let Some(server) = self.stdio_server(slot).filter(|_| !worker.is_checking) {
            tokio::spawn(async move {
                let result = server.probe(PROBE_TIMEOUT).await;
                let result = result.map_or_else(ProbeResult::NotReady, |()| ProbeResult::Alive);
                let _ = task_results.send(TaskResult::Probed(slot, process, result));
            });
            return;
        }
        let Some(listener) = worker.listener.clone() else {
            let why = if worker.is_checking && worker.container.is_some() {
                "waits until the container of its last process is gone".to_owned()
            } else if worker.is_checking {
                not_responding(&worker.config.repo)
            } else {
                "not started yet".to_owned()
            };
            let result = TaskResult::Probed(slot, process, ProbeResult::NotReady(why));
            return drop(task_results.send(result));
        };
        let is_slow = worker.machine.is_slow_to_start(deadline::now());
        let diagnosis = if is_slow { Diagnosis::Thorough } else { Diagnosis::Quick };
        let probe = self.worker_client.probe(worker.config.clone(), listener, diagnosis);
        tokio::spawn(async move {
            let result = probe.await;
            let _ = task_results.send(TaskResult::Probed(slot, process, result));
        });
    }

    /// A requested restart lets requests in flight finish before the stop request
    /// (R-CLIENT-3). In a shutdown they may finish while the worker stops.
    fn stop_when_drained(&mut self, slot: Slot, action: StopAction) {
        // Its process does not exist yet, and will not be started.
        if let Some(worker) = self.workers.get_mut(&slot).filter(|worker| worker.is_checking) {
            worker.is_checking = false;
            return self.on(slot, WorkerEvent::Gone);
        }
        let request = matches!(
            action,
            StopAction::Post | StopAction::EndInput | StopAction::Terminate(SignalReason::IsTheRequest)
        );
        let worker = self.workers.get(&slot).filter(|_| request && self.progress.is_none());
        let draining = worker.and_then(|worker| {
            let proxy = self.deps.proxies.get(&worker.config.name)?;
            let up = match worker.session_number() {
                Some(number) => proxy.detach_session(number)?,
                None => proxy.detach()?,
            };
            (up.in_flight() > 0).then_some((worker.process, up))
        });
        let Some((process, up)) = draining else {
            return self.stop(slot, action);
        };
        let task_results = self.task_results.clone();
        let limit = Deadline::after(self.graceful);
        tokio::spawn(async move {
            // Requests that take longer than the graceful time are interrupted with their worker.
            let _ = limit.wait(up.drained()).await;
            let _ = task_results.send(TaskResult::Drained(slot, process, action));
        });
    }

    pub(super) fn stop(&mut self, slot: Slot, action: StopAction) {
        let process_thread = &self.deps.process_thread;
        match action {
            StopAction::Post => {
                process_thread.send(ProcessCommand::Continue(slot));
                self.send_stop_request(slot);
            }
            StopAction::EndInput => {
                process_thread.send(ProcessCommand::Continue(slot));
                self.end_input(slot);
            }
            StopAction::Terminate(why) => {
                process_thread.send(ProcessCommand::Terminate(slot));
                if why == SignalReason::IsTheRequest {
                    self.run_stop_command(slot);
                }
                self.publish_signal(slot, "SIGTERM", why);
            }
            StopAction::KillUntilGone(why) => {
                process_thread.send(ProcessCommand::KillUntilGone(slot));
                self.publish_signal(slot, "SIGKILL", why);
            }
            StopAction::GiveUp => process_thread.send(ProcessCommand::StopKilling(slot)),
        }
    }

    fn send_stop_request(&mut self, slot: Slot) {
        self.run_stop_command(slot);
        let Some((worker, listener)) =
            self.workers.get(&slot).and_then(|worker| Some((worker, worker.listener.clone()?)))
        else {
            return;
        };
        let request = WorkerRequest {
            method: Method::POST,
            listener,
            path: worker.config.shutdown_path.clone().unwrap_or_default(),
            token: worker.token.clone(),
        };
        let response = self.worker_client.send(request, Deadline::after(RESPONSE_LIMIT));
        let process = worker.process;
        let task_results = self.task_results.clone();
        self.publish_step(slot, WorkerStep::Asked { how: Asked::Http });
        tokio::spawn(async move {
            let response = match response.await {
                Ok(status) => StopResponse::Status(status),
                Err(why) => StopResponse::None(why),
            };
            let _ = task_results.send(TaskResult::Responded(slot, process, response));
        });
    }

    fn end_input(&mut self, slot: Slot) {
        self.run_stop_command(slot);
        self.publish_step(slot, WorkerStep::Asked { how: Asked::EndOfInput });
        if let Some(server) = self.stdio_server(slot) {
            server.end_input();
        }
    }

    /// The process of a worker that speaks stdio.
    fn stdio_server(&self, slot: Slot) -> Option<Arc<StdioServer>> {
        let worker = self.workers.get(&slot)?;
        match &worker.role {
            Role::Main => self.deps.proxies.get(&worker.config.name)?.server(),
            Role::Session(session) => session.server.clone(),
        }
    }

    fn run_stop_command(&mut self, slot: Slot) {
        let Some(worker) = self.workers.get_mut(&slot) else {
            return;
        };
        // It is for the worker as a whole.
        if !worker.is_main() {
            return;
        }
        let config = worker.config.clone();
        let launch_env = self.deps.launch_env.clone();
        if worker.stop_command_for.replace(worker.process) == Some(worker.process) {
            return;
        }
        let Some(command) = &config.stop_command else {
            return self.stop_container(slot);
        };
        let command: Vec<_> = command.iter().map(|word| word.with(worker.listens_on)).collect();
        worker.stop_commands += 1;
        let (process_thread, task_results, limit) =
            (self.deps.process_thread.clone(), self.task_results.clone(), Deadline::after(self.graceful));
        let cut_short = self.cut_short.clone();
        tokio::spawn(async move {
            let order = |helper| launch_env.helper_spec(&command, &config.repo, helper);
            let ended = cut_short.run_until_cancelled(process_thread.run(order, limit)).await;
            let ended = ended.unwrap_or_else(|| Err("the remaining waits were cut short".to_owned()));
            let result = match ended {
                Ok(ExitStatus::Code(0)) => Ok(()),
                Ok(exit) => Err(exit.to_string()),
                Err(error) => Err(error),
            };
            let result = result.map_err(|error| format!("stop_command {}: {error}", command.join(" ")));
            let _ = task_results.send(TaskResult::StopCommandEnded(slot, result));
        });
    }

    fn record_outcome(&mut self, slot: Slot, outcome: StopOutcome) {
        let Some(worker) = self.workers.get_mut(&slot) else {
            return;
        };
        let exit = outcome.exit.map(|exit| match exit {
            ExitStatus::Code(code) => code.to_string(),
            ExitStatus::Signal(_) => exit.to_string(),
        });
        tracing::info!(
            worker = %worker.config.name, departure = ?outcome.departure, exit = exit.map(display),
            after_ms = millis(outcome.after), outlived = outcome.outlived.len(), "worker stopped"
        );
        let step = WorkerStep::Left {
            departure: outcome.departure,
            exit: outcome.exit,
            after_ms: millis(outcome.after),
        };
        worker.outcome.stop = Some(outcome);
        self.publish_step(slot, step);
    }

    fn publish_signal(&self, slot: Slot, signal: &str, why: SignalReason) {
        if let Some(worker) = self.workers.get(&slot) {
            tracing::info!(worker = %worker.config.name, signal, why = why.text(), "signal sent");
        }
        self.publish_step(
            slot,
            WorkerStep::Signalled { signal: signal.to_owned(), why: why.text().to_owned() },
        );
    }

    /// Publishes a step of the running shutdown; does nothing outside of one.
    pub(super) fn publish_step(&self, slot: Slot, step: WorkerStep) {
        if let (Some(progress), Some(worker)) = (&self.progress, self.workers.get(&slot)) {
            let name = worker.config.name.clone();
            let pid = worker.outcome.pid;
            progress.publish(EventKind::Worker { name, pid, step });
        }
    }

    /// Publishes a changed state or reason to the proxy, the log and the subscribers.
    pub(super) fn publish_state(&mut self, slot: Slot) {
        let Some(state) = self.workers.get(&slot).map(|worker| self.state_of(worker)) else { return };
        let Some(worker) = self.workers.get_mut(&slot) else { return };
        let reason = worker.machine.reason().map(str::to_owned);
        let before = std::mem::replace(&mut worker.shown, (state, reason.clone()));
        if before == worker.shown {
            return;
        }
        if before.0 != state {
            worker.since = Timestamp::now();
        }
        if !worker.is_main() {
            tracing::debug!(worker = %worker.config.name, state = state.name(), reason, "process of a session");
            return self.publish_session_state(slot);
        }
        let start_is_over = before.0 == WorkerState::Starting && state != before.0;
        if let Some(proxy) = self.deps.proxies.get(&worker.config.name) {
            let condition = worker.condition(self.deps.output.last(&worker.config.name));
            proxy.show(condition, worker.process, worker.listener.as_ref());
        }
        let name = worker.config.name.clone();
        match state {
            WorkerState::Failed | WorkerState::Unhealthy | WorkerState::BackingOff => {
                tracing::warn!(worker = %name, state = state.name(), reason, "state changed");
            }
            _ => tracing::info!(worker = %name, state = state.name(), "state changed"),
        }
        // There may be no subscriber.
        let reason = worker.shown_reason(&self.deps.output.last(&name));
        let _ = self.transitions.send(Transition { name, state, reason });
        if start_is_over
            && let Some(next) = self.install_turns.start_is_over(slot, state == WorkerState::Ready)
        {
            self.start_after_wait(next);
        }
    }
}
