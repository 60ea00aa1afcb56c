//! Starts a leader, in the cgroup of its slot if there are cgroups.

use std::os::fd::{AsFd, OwnedFd};

use mcpd_common::ids::{Mark, Pid, Slot};
use mcpd_common::os::child::{self, SpawnPlan};
use mcpd_common::os::process::{self, StartTime};

use super::{Children, Family, LaunchSpec, Started};

impl Children {
    /// Starts the leader of a slot that has no family.
    pub(super) fn start_leader(&mut self, spec: LaunchSpec) -> Result<Started, String> {
        let program = spec.program.display().to_string();
        let cgroup = self.cgroup_entrance(spec.slot);
        let has_cgroup = cgroup.is_some();
        let pipe = spec.output.as_ref().and_then(|output| process::pipe_of(output.as_fd()));
        let plan = SpawnPlan {
            program: spec.program,
            args: spec.args,
            directory: spec.directory,
            env: spec.env,
            input: None,
            output: spec.output,
            mark: Mark { run: self.run, slot: spec.slot },
            open_files: self.open_files,
            cgroup,
        };
        let pid = child::spawn(plan).map_err(|error| {
            self.remove_cgroup(spec.slot);
            format!("can't start {program}: {error}")
        })?;
        // An unreaped child keeps its entry in /proc, so it is read unless no descriptor is left.
        let leader = process::best_effort::read(pid);
        let start = leader.as_ref().map_or(StartTime(0), |process| process.start);
        self.families
            .insert(spec.slot, Family { leader: pid, start, exit: None, has_reported_descendants: false });
        if let Some(attribution) = &mut self.attribution {
            attribution.add_leader(spec.slot, leader.as_ref(), pipe);
        }
        if has_cgroup {
            self.check_cgroup(spec.slot, pid);
        }
        Ok(Started { pid, start })
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
