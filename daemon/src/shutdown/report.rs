//! From all that came together to the report: the one value that is kept, sent and shown.

use jiff::Timestamp;
use mcpd_common::exit_code;
use mcpd_common::os::backend;
use mcpd_common::outcome::{ClientsReport, Finding, FindingKind, OwnReport, REPORT_SCHEMA, ShutdownReport};

use super::{Collected, Shutdown, worker_rows};
use crate::deadline;
use crate::progress::millis;
use crate::supervisor::handle::WorkerOutcome;

impl Shutdown {
    /// What is reported if all of this overruns its total bound, which no phase should allow.
    pub fn overrun_report(&self) -> ShutdownReport {
        let detail = format!("not done within {} s", self.limits.total().as_secs());
        let findings = vec![Finding::new(FindingKind::Overrun, "mcpd", detail)];
        let now = Timestamp::now();
        ShutdownReport {
            schema: REPORT_SCHEMA.to_owned(),
            run: self.run,
            reason: self.reason.clone(),
            started_at: now,
            finished_at: now + self.limits.total(),
            duration_ms: millis(self.limits.total()),
            exit_code: exit_code::of(&findings),
            backend: backend(),
            containment: None,
            proof: None,
            phases: vec![],
            workers: vec![],
            clients: ClientsReport::default(),
            ports: vec![],
            resources: vec![],
            own: OwnReport::default(),
            findings,
        }
    }

    pub(super) fn report(&mut self, so_far: Collected, outcomes: &[WorkerOutcome]) -> ShutdownReport {
        let Collected { mut findings, verdict, before, clients, .. } = so_far;
        while let Ok(finding) = self.noted.try_recv() {
            findings.push(finding);
        }
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.kind.severity()));
        ShutdownReport {
            schema: REPORT_SCHEMA.to_owned(),
            run: self.run,
            reason: self.reason.clone(),
            started_at: so_far.started_at,
            finished_at: Timestamp::now(),
            duration_ms: millis(deadline::now().saturating_duration_since(so_far.began)),
            exit_code: exit_code::of(&findings),
            backend: backend(),
            containment: verdict.containment,
            proof: verdict.proof,
            phases: so_far.phases,
            workers: worker_rows::rows(outcomes, &before, verdict.checks),
            clients: clients.report(),
            ports: verdict.ports,
            resources: verdict.resources,
            own: verdict.own,
            findings,
        }
    }
}
