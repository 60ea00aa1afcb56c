//! A process thread that stops responding.

use std::collections::BTreeSet;

use mcpd_common::config::ForcePorts;
use mcpd_common::ids::{Pid, RunTag};

use super::*;
use crate::client_ports::ClientPorts;
use crate::process::operations::{FamilyChange, LaunchSpec, ProcessOperations, ProcessSnapshot};
use crate::process::process_thread::ProcessThread;
use crate::progress::Progress;
use crate::verify::self_check::{Baseline, ExpectedDescriptors};

/// One process is left, and killing it takes longer than the check may: a fork bomb, or a kernel that hangs.
struct SlowKill;

impl ProcessOperations for SlowKill {
    fn spawn(&mut self, _: LaunchSpec) -> Result<(), String> {
        Ok(())
    }

    fn collect(&mut self) -> Vec<FamilyChange> {
        vec![]
    }

    fn resume(&mut self, _: mcpd_common::ids::Slot) {}

    fn terminate(&mut self, _: mcpd_common::ids::Slot) {}

    fn kill(&mut self, _: &BTreeSet<mcpd_common::ids::Slot>) {}

    fn kill_all(&mut self) -> usize {
        deadline::pause(3 * MINIMUM_TIME);
        1
    }

    fn descendants(&mut self) -> Vec<(Pid, u32)> {
        vec![]
    }

    fn remaining(&mut self) -> ProcessSnapshot {
        vec![process::describe(Pid::current()).expect("it runs")]
    }

    fn prove(&mut self) -> DescendantProof {
        DescendantProof::Unprovable
    }

    fn containment(&self) -> Containment {
        Containment { by: mcpd_common::os::ContainedBy::Subreaper, detail: String::new() }
    }

    fn dismantle(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// R-SHUT-1, R-VER-1: what was seen before the process thread stopped responding is reported.
#[tokio::test]
async fn processes_that_were_seen_are_reported_if_the_time_runs_out() {
    let (process_thread, _events) = ProcessThread::start(SlowKill).expect("a thread");
    let baseline = Baseline::take(ExpectedDescriptors::default());
    let scope = Scope {
        run: RunTag(1),
        workers: &[],
        ports: &ClientPorts::new(),
        force_ports: ForcePorts::Never,
        resources: &[],
        baseline: &baseline,
        process_thread: &process_thread,
        progress: &Progress::new(),
    };
    let began = deadline::now();
    let outcome = kill_and_prove(&scope, Deadline::after(Duration::ZERO)).await;
    assert!(deadline::now() - began < 2 * MINIMUM_TIME, "{:?}", deadline::now() - began);
    let kinds: Vec<_> = outcome.findings.iter().map(|finding| finding.kind).collect();
    assert_eq!((kinds, outcome.proof), (vec![FindingKind::ProcessLeft], None));
    assert!(
        outcome.evidence.starts_with("1 could not be killed; nothing more is known"),
        "{}",
        outcome.evidence
    );
}
