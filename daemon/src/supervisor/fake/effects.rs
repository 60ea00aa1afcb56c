//! Signals and requests change the scripted world; time does the rest.

use std::collections::BTreeSet;
use std::sync::Arc;

use mcpd_common::config::WorkerConfig;
use mcpd_common::ids::{Pid, Port, Slot};
use mcpd_common::os::child;
use mcpd_common::os::process::StartTime;
use mcpd_common::os::{ContainedBy, Containment};
use mcpd_common::outcome::ExitStatus;

use super::script::Reply;
use super::world::{Effect, Family, World};
use crate::deadline::Deadline;
use crate::process::operations::{
    DescendantProof, FamilyChange, LaunchSpec, ProcessOperations, ProcessSnapshot, Started,
};
use crate::supervisor::probe::http::WorkerRequest;
use crate::supervisor::probe::worker_client::{ClientFuture, WorkerClient};

impl ProcessOperations for World {
    fn spawn(&mut self, spec: LaunchSpec) -> Result<Started, String> {
        let mut inner = self.inner();
        if inner.families.contains_key(&spec.slot) {
            inner.note(spec.slot, Effect::SpawnedTooEarly);
            return Err("its last process is not gone".to_owned());
        }
        let script = inner.script(spec.slot, &spec.program.to_string_lossy());
        let Some(script) = script.filter(|script| !script.refuses_to_start) else {
            return Err(format!("can't start {}", spec.program.display()));
        };
        inner.note(spec.slot, Effect::Spawned);
        let mut leader = inner.bear(script.leader, 'S');
        let own_end = script.own_end.and_then(|(after, exit)| leader.end_after(after, exit));
        let started = Started { pid: leader.pid, start: StartTime(1) };
        let descendants = script.descendants.iter().map(|nature| inner.bear(*nature, 'S')).collect();
        inner.families.insert(spec.slot, Family { leader, descendants, exit_told: false, killed: false });
        drop(inner);
        self.signal_exit_at(own_end);
        Ok(started)
    }

    fn collect(&mut self) -> Vec<FamilyChange> {
        let mut inner = self.inner();
        inner.turns += 1;
        let mut changes = vec![];
        let mut gone = vec![];
        for (slot, family) in &mut inner.families {
            let Some(exit) = family.leader.exit() else { continue };
            let remaining = family.remaining();
            let is_gone = remaining.is_empty();
            if !std::mem::replace(&mut family.exit_told, true) {
                changes.push(FamilyChange::LeaderExited { slot: *slot, exit, remaining });
            }
            if is_gone {
                gone.push(*slot);
                changes.push(FamilyChange::Gone { slot: *slot });
            }
        }
        for slot in gone {
            inner.families.remove(&slot);
            inner.note(slot, Effect::Gone);
        }
        inner.strays.retain(|stray| !stray.is_dead());
        changes
    }

    /// No process of this world is ever stopped.
    fn resume(&mut self, _: Slot) {}

    fn terminate(&mut self, slot: Slot) {
        let mut inner = self.inner();
        let Some(family) = inner.families.get_mut(&slot) else { return };
        let ends: Vec<_> = family.bodies_mut().map(|body| body.take_term()).collect();
        inner.note(slot, Effect::Termed);
        drop(inner);
        ends.into_iter().for_each(|end| self.signal_exit_at(end));
    }

    fn kill(&mut self, slots: &BTreeSet<Slot>) {
        for slot in slots {
            self.kill_one(*slot);
        }
    }

    fn kill_all(&mut self) -> usize {
        let slots: Vec<_> = self.inner().families.keys().copied().collect();
        let members: usize = slots.into_iter().map(|slot| self.kill_one(slot)).sum();
        let mut inner = self.inner();
        let strays = inner.strays.iter_mut().filter(|stray| !stray.is_zombie());
        let ends: Vec<_> = strays.map(|stray| stray.take_kill()).collect();
        drop(inner);
        let strays = ends.len();
        ends.into_iter().for_each(|end| self.signal_exit_at(end));
        members + strays
    }

    fn descendants(&mut self) -> Vec<(Pid, u32)> {
        let count = |family: &Family| u32::try_from(family.remaining().len()).unwrap_or(u32::MAX);
        self.inner().families.values().map(|family| (family.leader.pid, count(family))).collect()
    }

    fn remaining(&mut self) -> ProcessSnapshot {
        self.inner().left()
    }

    fn prove(&mut self) -> DescendantProof {
        if self.inner().left().is_empty() {
            DescendantProof::Proved(child::PROOF.to_owned())
        } else {
            DescendantProof::Doubted("a process lives")
        }
    }

    fn containment(&self) -> Containment {
        Containment { by: ContainedBy::Subreaper, detail: "a fake".to_owned() }
    }

    fn dismantle(&mut self) -> Result<(), String> {
        Ok(())
    }
}

impl World {
    fn kill_one(&self, slot: Slot) -> usize {
        let mut inner = self.inner();
        let Some(family) = inner.families.get_mut(&slot) else { return 0 };
        let ends: Vec<_> = family.bodies_mut().map(|body| body.take_kill()).collect();
        let living = family.bodies().filter(|body| !body.is_dead()).count();
        if !std::mem::replace(&mut family.killed, true) {
            inner.note(slot, Effect::Killed);
        }
        drop(inner);
        ends.into_iter().for_each(|end| self.signal_exit_at(end));
        living
    }
}

impl WorkerClient for World {
    fn probe(&self, worker: Arc<WorkerConfig>, _: Port) -> ClientFuture<bool> {
        let slot = Self::slot(worker.port);
        let inner = self.inner();
        let lives = inner.families.get(&slot).is_some_and(|family| !family.leader.is_dead());
        let answers = inner.script(slot, "").is_some_and(|script| script.answers_probe);
        Box::pin(std::future::ready(lives && answers))
    }

    fn send(&self, request: WorkerRequest, deadline: Deadline) -> ClientFuture<Result<u16, String>> {
        let slot = Self::slot(request.port);
        let mut inner = self.inner();
        inner.note(slot, Effect::Posted);
        let script = inner.script(slot, "");
        let Some((family, script)) = inner.families.get_mut(&slot).zip(script) else {
            return Box::pin(std::future::ready(Err("connection refused".to_owned())));
        };
        let accepted = matches!(script.reply, Reply::Status(200..300));
        let wait = script.on_request.filter(|_| accepted);
        let end = wait.and_then(|wait| family.leader.end_after(wait, ExitStatus::Code(0)));
        drop(inner);
        self.signal_exit_at(end);
        Box::pin(async move {
            match script.reply {
                Reply::Status(status) => Ok(status),
                Reply::Refused => Err("connection refused".to_owned()),
                Reply::Silence => {
                    deadline.wait(std::future::pending()).await.unwrap_or_else(|late| Err(late.to_string()))
                }
            }
        })
    }

    fn wrong_port(&self, _: Pid, _: Port) -> ClientFuture<Option<Port>> {
        Box::pin(std::future::ready(None))
    }

    fn find_port(&self, worker: &WorkerConfig) -> Result<Port, String> {
        match self.inner().held.get(&worker.port) {
            Some(holder) => Err(format!("port {} is held by {holder}", worker.port)),
            None => Ok(worker.port),
        }
    }
}
