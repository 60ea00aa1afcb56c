//! Descriptions and proofs for the supervisor.

use std::collections::HashSet;

use mcpd_common::ids::{Pgid, Pid};
use mcpd_common::os::child::{self, Proof};
use mcpd_common::os::process::{self, Process};
use mcpd_common::os::{Backend, ContainedBy, Containment, Listing, ProcessInfo, backend};

use super::{Cgroups, DescendantProof};

/// The kernel still knows a child, but no snapshot contains it.
const UNSEEN: &str = "the kernel says that a descendant of mcpd is left, but none could be found";
/// The snapshot is incomplete, and the portable backend has no other proof.
const CANNOT_LOOK: &str = "processes could not be read (no file descriptor or memory left): a process of mcpd \
                           may be left";

/// A process for a report. If it exited since the snapshot, it is described from there: it may have left a
/// child, and an empty list would end the search.
pub(super) fn describe(listed: &Process) -> ProcessInfo {
    process::describe(listed.pid).unwrap_or_else(|| ProcessInfo {
        pid: listed.pid,
        ppid: listed.ppid,
        pgid: Pid::new(listed.pgid).map(Pgid::led_by),
        state: listed.state,
        name: listed.name.clone(),
        command: format!("[{}]", listed.name),
        user: "unknown user".to_owned(),
    })
}

/// A process for a report; `None` if it was reaped since the snapshot. One that can't be read now may exist.
pub(super) fn describe_if_existing(listed: &Process) -> Option<ProcessInfo> {
    (process::read(listed.pid) != Ok(None)).then(|| describe(listed))
}

/// With a subreaper, the kernel proves that there is no descendant.
pub(super) fn linux_proof(
    proof: Proof,
    inherited: &HashSet<Pid>,
    cgroups: Option<&Cgroups>,
) -> DescendantProof {
    match (proof, cgroups) {
        (Proof::Children, _) if !inherited.is_empty() => DescendantProof::Unprovable,
        (Proof::Children, _) => DescendantProof::Doubted(UNSEEN),
        (Proof::NoChildren, None) => DescendantProof::Proved(child::PROOF.to_owned()),
        (Proof::NoChildren, Some(cgroups)) => match cgroups.prove_empty() {
            Some(empty) => DescendantProof::Proved(format!("{}; {empty}", child::PROOF)),
            None => DescendantProof::Doubted(UNSEEN),
        },
    }
}

/// Without a subreaper there is no proof, and a doubt if the snapshot is incomplete.
pub(super) fn portable_proof(snapshot: &Listing<Process>) -> DescendantProof {
    if snapshot.is_complete() { DescendantProof::Unprovable } else { DescendantProof::Doubted(CANNOT_LOOK) }
}

pub(super) fn containment(cgroups: Option<&Cgroups>, without_cgroup: Option<&str>) -> Containment {
    let (by, detail) = match (cgroups, backend(), without_cgroup) {
        (Some(cgroups), _, None) => (ContainedBy::Cgroup, cgroups.describe()),
        (Some(cgroups), _, Some(why)) => (ContainedBy::Cgroup, format!("{}; {why}", cgroups.describe())),
        (None, Backend::Linux, None) => (ContainedBy::Subreaper, "no cgroup".to_owned()),
        (None, Backend::Linux, Some(why)) => (ContainedBy::Subreaper, format!("no cgroup: {why}")),
        (None, Backend::Portable, _) => (ContainedBy::Marks, "groups, sessions, tree, marks".to_owned()),
    };
    Containment { by, detail }
}

#[cfg(test)]
mod tests {
    use super::super::attribution::tests::process;
    use super::*;

    /// R-VER-1: one that exited since the snapshot is reported from there.
    #[test]
    fn a_process_that_exited_since_the_snapshot_is_described_from_it() {
        let listed = process(i32::MAX, 1, 7);
        let described = describe(&listed);
        assert_eq!((described.pid, described.pgid.map(Pgid::get)), (listed.pid, Some(7)));
        assert_eq!((described.command.as_str(), described.user.as_str()), ("[x]", "unknown user"));
        assert_eq!(describe_if_existing(&listed), None);
    }

    #[test]
    fn only_the_kernel_proves_that_no_process_is_left() {
        let none = HashSet::new();
        let older = HashSet::from([Pid::current()]);
        let proved = DescendantProof::Proved(child::PROOF.to_owned());
        assert_eq!(linux_proof(Proof::NoChildren, &none, None), proved);
        assert_eq!(linux_proof(Proof::Children, &none, None), DescendantProof::Doubted(UNSEEN));
        assert_eq!(linux_proof(Proof::Children, &older, None), DescendantProof::Unprovable);
        assert_eq!(portable_proof(&Listing::default()), DescendantProof::Unprovable);
    }

    /// After the cgroups were removed there is none, and no reason.
    #[test]
    fn containment_without_cgroups_has_a_reason_if_there_is_one() {
        if backend() == Backend::Linux {
            assert_eq!(containment(None, None).detail, "no cgroup");
            assert_eq!(containment(None, Some("not delegated")).detail, "no cgroup: not delegated");
        }
    }
}
