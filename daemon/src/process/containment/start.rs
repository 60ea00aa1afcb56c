//! Starts a leader, in the cgroup of its slot if there are cgroups.
//!
//! A leader belongs to its family from the fork on. Its exec may hang with the file system that it looks into, so the
//! process thread never waits for it longer than [`QUICK_EXEC`], and asks again in later passes.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use mcpd_common::config::not_responding;
use mcpd_common::ids::{Mark, Pid, Slot};
use mcpd_common::os::child::{self, ExecState, SpawnPlan, Spawned};
use mcpd_common::os::process::{self, StartTime};
use tokio::time::Instant;

use super::{Children, Family, FamilyChange, LaunchSpec, Started};
use crate::deadline;
use crate::process::operations::McpPipes;

/// The process thread waits this long for an exec: almost every one is faster.
const QUICK_EXEC: Duration = Duration::from_millis(20);
/// An exec that takes longer is reported as hanging.
const EXEC_LIMIT: Duration = Duration::from_secs(10);

/// A leader whose program does not run yet.
pub(super) struct Starting {
    spawned: Spawned,
    /// The name of the program, for messages.
    program: String,
    directory: PathBuf,
    deadline: Instant,
}

/// How far the start of a leader is.
pub(super) enum StartState {
    Pending(Starting),
    Done,
    /// It has no program and exits; why.
    Failed(String),
}

impl Children {
    /// Starts the leader of a slot that has no family.
    pub(super) fn start_leader(&mut self, spec: LaunchSpec) -> Result<(), String> {
        let program = spec.program.display().to_string();
        let directory = spec.directory.clone();
        let cgroup = self.cgroup_entrance(spec.slot);
        let has_cgroup = cgroup.is_some();
        let pipe = spec.output.as_ref().and_then(|output| process::pipe_of(output.as_fd()));
        let (input, output, errors) = match spec.mcp {
            Some(McpPipes { input, output }) => (Some(input), Some(output), spec.output),
            None => (None, spec.output, None),
        };
        let plan = SpawnPlan {
            program: spec.program,
            args: spec.args,
            directory: spec.directory,
            env: spec.env,
            input,
            output,
            errors,
            mark: Mark { run: self.run, slot: spec.slot },
            open_files: self.open_files,
            cgroup,
        };
        let mut spawned = child::spawn(plan).map_err(|error| {
            self.remove_cgroup(spec.slot);
            format!("can't start {program}: {error}")
        })?;
        let pid = spawned.pid();
        // An unreaped child keeps its entry in /proc, so it is read unless no descriptor is left.
        let leader = process::best_effort::read(pid);
        let start = leader.as_ref().map_or(StartTime(0), |process| process.start);
        if let Some(attribution) = &mut self.attribution {
            attribution.add_leader(spec.slot, leader.as_ref(), pipe);
        }
        if has_cgroup {
            self.check_cgroup(spec.slot, pid);
        }
        let _: ExecState = spawned.poll_exec(QUICK_EXEC);
        let deadline = deadline::now() + EXEC_LIMIT;
        let starting = Starting { spawned, program, directory, deadline };
        let family = Family {
            leader: pid,
            start,
            start_state: StartState::Pending(starting),
            exit: None,
            has_reported_descendants: false,
        };
        self.families.insert(spec.slot, family);
        Ok(())
    }

    /// What became of the leaders whose program did not run yet. A leader that has exited is never pending
    /// afterwards.
    pub(super) fn follow_starts(&mut self) -> Vec<FamilyChange> {
        self.families.iter_mut().filter_map(|(slot, family)| family.follow_start(*slot)).collect()
    }

    /// A descriptor through which the leader enters the cgroup of its slot before exec.
    fn cgroup_entrance(&mut self, slot: Slot) -> Option<OwnedFd> {
        let cgroups = self.cgroups.as_ref()?;
        let entrance = cgroups.make(slot).and_then(|made| made.entrance());
        entrance.map_err(|error| self.note_without_cgroup(slot, &error.to_string())).ok()
    }

    /// Checked by the parent, because a child that could not enter its cgroup can't report it.
    fn check_cgroup(&mut self, slot: Slot, pid: Pid) {
        let Some(cgroups) = &self.cgroups else { return };
        match cgroups.owner(pid) {
            Ok(owner) if owner == Some(slot) => {}
            Ok(_) => self.note_without_cgroup(slot, "the kernel did not let it in"),
            Err(error) => self.note_without_cgroup(slot, &error.to_string()),
        }
    }

    fn note_without_cgroup(&mut self, slot: Slot, why: &str) {
        tracing::warn!(slot = slot.0, why, "a worker runs without a cgroup of its own");
        self.without_cgroup = Some(format!("a worker runs without one: {why}"));
    }

    pub(super) fn remove_cgroup(&self, slot: Slot) {
        if let Some(cgroups) = &self.cgroups {
            cgroups.remove(slot);
        }
    }
}

impl Family {
    fn follow_start(&mut self, slot: Slot) -> Option<FamilyChange> {
        let StartState::Pending(starting) = &mut self.start_state else { return None };
        let (state, change) = starting.follow(Started { pid: self.leader, start: self.start }, slot)?;
        self.start_state = state;
        change
    }
}

impl Starting {
    /// The next state, if there is one, and what the process thread has to know about it. A leader that could not
    /// execute its program is reported when it is reaped.
    fn follow(&mut self, leader: Started, slot: Slot) -> Option<(StartState, Option<FamilyChange>)> {
        let program = &self.program;
        match self.spawned.poll_exec(Duration::ZERO) {
            ExecState::Done => Some((StartState::Done, Some(FamilyChange::Started { slot, leader }))),
            ExecState::Failed(why) => {
                Some((StartState::Failed(format!("can't start {program}: {why}")), None))
            }
            ExecState::Pending if deadline::now() < self.deadline => None,
            ExecState::Pending => {
                let why = not_responding(&self.directory);
                let reason = format!("can't start {program} within {} s: {why}", EXEC_LIMIT.as_secs());
                Some((StartState::Done, Some(FamilyChange::StartHangs { slot, leader, reason })))
            }
        }
    }
}
