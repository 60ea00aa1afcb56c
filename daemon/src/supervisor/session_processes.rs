//! Processes of which each serves one session of a worker (R-STDIO-2).
//!
//! Each has a slot and a machine of its own, so that it is started, stopped, killed and verified like any other process of
//! a worker. The proxy asks for it, and it is never started again by itself: its session asks for the next one.

use std::sync::Arc;

use mcpd_common::config::RestartPolicy;
use mcpd_common::ids::{Pid, Slot, WorkerName};
use mcpd_common::outcome::Asked;
use mcpd_common::status::WorkerState;

use super::Supervisor;
use super::state::{Machine, Policy, WorkerEvent};
use super::worker::{Role, Worker};
use crate::proxy::handle::{Gone, ProcessNumber, ProcessRequest, StdioServer};

/// The process of a session.
pub(super) struct SessionProcess {
    pub(super) number: ProcessNumber,
    /// `None` until its pipes exist.
    pub(super) server: Option<Arc<StdioServer>>,
}

impl Supervisor {
    pub(super) fn on_process_request(&mut self, request: ProcessRequest) {
        match request {
            ProcessRequest::Start { worker, number } => {
                if let Err(why) = self.start_session_process(&worker, number)
                    && let Some(proxy) = self.deps.proxies.get(&worker)
                {
                    proxy.session_gone(number, Gone::ByItself(why));
                }
            }
            ProcessRequest::End { worker, number } => {
                let is_meant = |it: &Worker| it.config.name == worker && it.session_number() == Some(number);
                let slot = self.workers.iter().find(|(_, it)| is_meant(it)).map(|(slot, _)| *slot);
                slot.into_iter().for_each(|slot| self.on(slot, WorkerEvent::Stop));
            }
        }
    }

    /// During a shutdown no process is started (R-SUP-4), and none for a worker that does not run.
    fn start_session_process(&mut self, name: &WorkerName, number: ProcessNumber) -> Result<(), String> {
        let main = self.workers.values().find(|worker| worker.config.name == *name && worker.is_main());
        let runs = |main: &&Worker| {
            matches!(main.machine.state(), WorkerState::Ready | WorkerState::Unhealthy)
                && !main.machine.is_shutting_down()
        };
        let main = main.filter(runs).ok_or_else(|| format!("{name} is not running"))?;
        let is_free = |slot: &&Slot| !self.workers.contains_key(slot);
        let slot = self.session_slots.get(name).into_iter().flatten().find(is_free).copied();
        let slot = slot.ok_or("processes of earlier sessions could not be ended")?;
        let worker = Worker::of_session(main, slot, number);
        self.workers.insert(slot, worker);
        self.on(slot, WorkerEvent::Start);
        Ok(())
    }

    /// `mcpctl stop` and `restart` concern all processes of a worker: sessions get new ones when they are used again.
    pub(super) fn stop_session_processes(&mut self, name: &WorkerName) {
        let of_session = |worker: &Worker| worker.config.name == *name && !worker.is_main();
        let slots: Vec<_> =
            self.workers.iter().filter(|(_, it)| of_session(it)).map(|(slot, _)| *slot).collect();
        for slot in slots {
            self.on(slot, WorkerEvent::Stop);
        }
    }

    /// Tells the proxy, and forgets a process of which nothing is left.
    pub(super) fn publish_session_state(&mut self, slot: Slot) {
        let Some(worker) = self.workers.get(&slot) else { return };
        let Some(number) = worker.session_number() else { return };
        let state = worker.machine.state();
        match state {
            WorkerState::Starting | WorkerState::Ready | WorkerState::Unhealthy => {}
            // Its session asks for another one.
            WorkerState::BackingOff => self.on(slot, WorkerEvent::Stop),
            WorkerState::Stopping => {
                if let Some(proxy) = self.deps.proxies.get(&worker.config.name) {
                    let _ = proxy.detach_session(number);
                }
            }
            // Killing it was given up: its slot stays taken.
            WorkerState::Stopped | WorkerState::Failed if worker.started.is_some() => {}
            WorkerState::Stopped | WorkerState::Failed => {
                let why = why_gone(worker);
                if let Some(proxy) = self.deps.proxies.get(&worker.config.name) {
                    proxy.session_gone(number, why);
                }
                // The report of a shutdown has all processes that ran when it began.
                let name = worker.config.name.clone();
                if self.progress.is_none() {
                    self.workers.remove(&slot);
                }
                let is_main = |it: &Worker| it.config.name == name && it.is_main();
                let main = self.workers.iter().find(|(_, it)| is_main(it)).map(|(slot, _)| *slot);
                main.into_iter().for_each(|main| self.publish_state(main));
            }
        }
    }

    /// The state of a worker: it has stopped when the processes of its sessions have, too.
    pub(super) fn state_of(&self, worker: &Worker) -> WorkerState {
        let state = worker.machine.state();
        let is_stopping = |it: &Worker| {
            it.config.name == worker.config.name
                && !it.is_main()
                && it.machine.state() == WorkerState::Stopping
        };
        let still_stops = worker.is_main() && self.workers.values().any(is_stopping);
        if state == WorkerState::Stopped && still_stops { WorkerState::Stopping } else { state }
    }

    /// The processes of this worker's sessions that run.
    pub(super) fn session_leaders(&self, name: &WorkerName) -> Vec<Pid> {
        let of_session = |worker: &&Worker| worker.config.name == *name && !worker.is_main();
        let running = self.workers.values().filter(of_session);
        running.filter_map(|worker| Some(worker.started?.pid)).collect()
    }
}

fn why_gone(worker: &Worker) -> Gone {
    match (&worker.outcome.stop, worker.machine.last_exit()) {
        (Some(stop), _) if stop.asked != Asked::NotAsked => Gone::OnRequest,
        (_, Some(exit)) => Gone::ByItself(exit.to_string()),
        (_, None) => match worker.machine.reason() {
            Some(why) => Gone::ByItself(why.to_owned()),
            None => Gone::OnRequest,
        },
    }
}

impl Worker {
    /// A process for one session of the worker whose first process is `main`.
    fn of_session(main: &Self, slot: Slot, number: ProcessNumber) -> Self {
        let policy = Policy {
            restart: RestartPolicy::Never,
            restart_unhealthy: false,
            permanent_failure: None,
            ..main.machine.policy().clone()
        };
        let mut worker = Self::with_machine(main.config.clone(), Machine::new(policy, 1), slot);
        worker.role = Role::Session(SessionProcess { number, server: None });
        // Results of tasks about the last process in this slot are recognised by it.
        worker.process = number - 1;
        worker.outcome.is_of_session = true;
        // The port is the one of its worker.
        worker.outcome.had_port = true;
        worker
    }

    /// `None` if it is not the process of a session.
    pub(super) fn session_number(&self) -> Option<ProcessNumber> {
        match &self.role {
            Role::Main => None,
            Role::Session(session) => Some(session.number),
        }
    }

    pub(super) fn is_main(&self) -> bool {
        matches!(self.role, Role::Main)
    }
}
