//! The report: the one value that is stored, sent and shown.

use jiff::Timestamp;
use mcpd_common::exit_code;
use mcpd_common::os::backend;
use mcpd_common::outcome::{Finding, REPORT_SCHEMA, ShutdownReport};

use super::{Shutdown, SoFar, worker_rows};
use crate::deadline;
use crate::progress::millis;

impl Shutdown {
    /// Everything that is known, whether or not all phases have run.
    pub(super) fn report(&mut self, so_far: SoFar) -> ShutdownReport {
        let SoFar { mut findings, mut verification, workers_before, outcomes, clients, .. } = so_far;
        findings.append(&mut verification.findings);
        while let Ok(finding) = self.other_findings.try_recv() {
            findings.push(finding);
        }
        Finding::sort(&mut findings);
        ShutdownReport {
            schema: REPORT_SCHEMA.to_owned(),
            run: self.run,
            reason: so_far.reason,
            started_at: so_far.started_at,
            finished_at: Timestamp::now(),
            duration_ms: millis(deadline::now().saturating_duration_since(so_far.began)),
            exit_code: exit_code::of(&findings),
            backend: backend(),
            containment: verification.containment,
            proof: verification.proof,
            phases: so_far.phases,
            workers: worker_rows::rows(&outcomes, &workers_before, verification.checks),
            clients: clients.report(),
            ports: verification.ports,
            resources: verification.resources,
            own: verification.own,
            findings,
        }
    }
}
