//! Runs a shutdown and checks the invariants of its result.

use std::sync::Arc;
use std::time::Duration;

use mcpd_common::config::ForcePorts;
use mcpd_common::event::{EventKind, ShutdownEvent, WorkerStep};
use mcpd_common::exit_code;
use mcpd_common::outcome::{Finding, FindingKind, PhaseOutcome, PhaseReport, ShutdownReport, WorkerReport};
use mcpd_common::phase::Phase;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::client_ports::ClientPorts;
use crate::deadline::{self, Deadline};
use crate::journal::JournalHandle;
use crate::progress::Progress;
use crate::proxy::{Proxy, ProxyConfig};
use crate::resources::Resource;
use crate::shutdown::Shutdown;
use crate::shutdown::request::Trigger;
use crate::supervisor::fake::behaviour::{Behaviour, ms};
use crate::supervisor::fake::harness::{self, Harness};
use crate::supervisor::fake::system::{Effect, FakeSystem};
use crate::supervisor::handle::Order;
use crate::verify::self_check::{Baseline, ExpectedDescriptors};
use mcpd_common::time_limits::TimeLimits;

/// The phases of `Shutdown::run`. The phase `exit` comes after the report.
const PHASES: [Phase; 5] =
    [Phase::Initiated, Phase::WorkersGraceful, Phase::Clients, Phase::WorkersTerminate, Phase::Verification];
/// Timers have a resolution of a millisecond.
const TICK_MS: u64 = 5;

/// A shutdown before it begins.
pub struct ShutdownRun {
    pub harness: Harness,
    /// Real client ports to check; the ports of the fake system are never bound.
    pub ports: ClientPorts,
    pub resources: Vec<Box<dyn Resource>>,
    pub progress: Progress,
    cut_short: CancellationToken,
    findings: mpsc::UnboundedSender<Finding>,
    received: mpsc::UnboundedReceiver<Finding>,
}

/// The report and the events of a shutdown.
pub struct RunResult {
    pub report: ShutdownReport,
    pub events: Vec<Arc<ShutdownEvent>>,
    pub system: FakeSystem,
    /// The start of the shutdown, on the fake system's clock.
    pub began: Duration,
}

fn manual() -> Trigger {
    Trigger::Rpc { reason: "manual".to_owned(), now: false }
}

/// Shuts down these workers.
pub async fn shut_down<'a>(behaviours: impl IntoIterator<Item = (&'a str, Behaviour)>) -> RunResult {
    ShutdownRun::of(Harness::running(behaviours).await).run().await
}

/// Shuts down one worker, `docs`.
pub async fn shut_down_one(behaviour: Behaviour) -> RunResult {
    shut_down([("docs", behaviour)]).await
}

impl ShutdownRun {
    pub fn of(harness: Harness) -> Self {
        let (findings, received) = mpsc::unbounded_channel();
        Self {
            harness,
            ports: ClientPorts::new(),
            resources: vec![],
            progress: Progress::new(),
            cut_short: CancellationToken::new(),
            findings,
            received,
        }
    }

    /// Cuts the waits short, like `--now`, this long from now.
    pub fn cut_short_after(self, wait: Duration) -> Self {
        let cut_short = self.cut_short.clone();
        let workers = self.harness.workers.clone();
        self.after(wait, move || {
            cut_short.cancel();
            workers.send(Order::KillAll);
        })
    }

    /// Cuts the waits short before the shutdown starts.
    pub fn cut_short(self) -> Self {
        self.cut_short.cancel();
        self
    }

    /// Runs an action this long from now.
    pub fn after(self, wait: Duration, action: impl FnOnce() + Send + 'static) -> Self {
        let at = deadline::now() + wait;
        tokio::spawn(async move {
            deadline::until(at).await;
            action();
        });
        self
    }

    /// Sends a finding from outside of the shutdown.
    pub fn with_finding(self, kind: FindingKind) -> Self {
        self.findings.send(Finding::new(kind, "mcpd", "a panic")).expect("the receiver exists");
        self
    }

    /// Runs the shutdown with this limit for all phases, and returns its report.
    pub async fn run_with_limit(self, limit: Duration) -> ShutdownReport {
        self.shutdown().run_within(limit, &manual()).await
    }

    /// Runs the shutdown and checks its invariants.
    pub async fn run(self) -> RunResult {
        let system = self.harness.system.clone();
        let progress = self.progress.clone();
        let began = system.now();
        let limit = Deadline::after(TimeLimits::new(&self.harness.config.shutdown).total());
        let report = limit.wait(self.shutdown().run(&manual())).await.expect("within the total limit");
        let result = RunResult { report, events: published(&progress).await, system, began };
        result.assert_invariants();
        result
    }

    fn proxy(&self) -> Proxy {
        let run = harness::run().tag();
        let journal = JournalHandle::none();
        let config = ProxyConfig {
            run,
            journal,
            kept: vec![],
            max_clients: 64,
            inherited: vec![],
            process_requests: tokio::sync::mpsc::unbounded_channel().0,
        };
        Proxy::open(&self.harness.config, config).expect("a thread").0
    }

    fn shutdown(self) -> Shutdown {
        Shutdown {
            run: harness::run(),
            supervisor: self.harness.workers.clone(),
            proxy: Arc::new(self.proxy()),
            ports: self.ports,
            limits: TimeLimits::new(&self.harness.config.shutdown),
            force_ports: ForcePorts::Own,
            resources: self.resources,
            baseline: Baseline::take(ExpectedDescriptors::default()),
            progress: self.progress,
            cut_short: self.cut_short,
            other_findings: self.received,
        }
    }
}

/// All events that a late subscriber receives.
pub async fn published(progress: &Progress) -> Vec<Arc<ShutdownEvent>> {
    let mut subscription = progress.subscribe();
    let mut events = vec![];
    while let Ok(Some(event)) = Deadline::after(ms(1)).wait(subscription.next()).await {
        events.push(event);
    }
    events
}

impl RunResult {
    pub fn code(&self) -> u8 {
        self.report.exit_code
    }

    /// All findings but information, worst first.
    pub fn faults(&self) -> Vec<FindingKind> {
        let kinds = self.report.findings.iter().map(|finding| finding.kind);
        kinds.filter(|kind| *kind != FindingKind::Information).collect()
    }

    /// The details of the findings of this kind. Open descriptors are left out, because other tests have some open in
    /// this process.
    pub fn details(&self, kind: FindingKind) -> Vec<&str> {
        let findings = self.report.findings.iter().filter(|finding| finding.kind == kind);
        findings
            .map(|finding| finding.detail.as_str())
            .filter(|detail| !detail.starts_with("opened since"))
            .collect()
    }

    /// The detail of the only finding of this kind.
    pub fn detail(&self, kind: FindingKind) -> &str {
        let details = self.details(kind);
        assert_eq!(details.len(), 1, "{kind:?} in {:#?}", self.report.findings);
        details[0]
    }

    pub fn phase(&self, phase: Phase) -> &PhaseReport {
        self.report.phases.iter().find(|report| report.phase == phase).expect("every phase runs")
    }

    /// The duration in seconds, to a tenth, without the check of the descriptors: it waits for descriptors that other
    /// tests have open.
    pub fn seconds(&self) -> f64 {
        let descriptor_check = |event: &Arc<ShutdownEvent>| match &event.kind {
            EventKind::Verified { check, duration_ms, .. } if check == "descriptors" => Some(*duration_ms),
            _ => None,
        };
        let excluded = self.events.iter().find_map(descriptor_check).expect("descriptors are checked");
        tenths(ms(self.report.duration_ms - excluded))
    }

    pub fn worker(&self, name: &str) -> &WorkerReport {
        self.report.workers.iter().find(|worker| worker.name.as_str() == name).expect("a known worker")
    }

    /// The effects on a worker since the shutdown began, with seconds to a tenth.
    pub fn effects(&self, name: &str) -> Vec<(f64, Effect)> {
        let since =
            |(at, effect): (Duration, Effect)| (at >= self.began).then(|| (tenths(at - self.began), effect));
        self.system.timed_effects(name).into_iter().filter_map(since).collect()
    }

    pub fn steps(&self, worker: &str) -> Vec<&WorkerStep> {
        let steps = self.events.iter().filter_map(|event| match &event.kind {
            EventKind::Worker { name, step, .. } if name.as_str() == worker => Some(step),
            _ => None,
        });
        steps.collect()
    }

    /// R-SHUT-1, R-SHUT-4, R-SUP-4, R-EXIT-1.
    fn assert_invariants(&self) {
        let phases: Vec<_> = self.report.phases.iter().map(|phase| phase.phase).collect();
        assert_eq!(phases, PHASES, "every phase runs, in order");
        for phase in &self.report.phases {
            assert!(phase.duration_ms <= phase.limit_ms + TICK_MS, "{phase:?}");
            assert_ne!((phase.phase, phase.outcome), (Phase::Verification, PhaseOutcome::CutShort));
        }
        assert_eq!(self.code(), exit_code::of(&self.report.findings));
        assert_eq!(
            self.report.proof.is_some(),
            self.system.living() == 0,
            "there is a proof exactly if no process is left"
        );
        self.assert_events();
        for worker in &self.report.workers {
            let effects = self.system.timed_effects(worker.name.as_str());
            let restarted = effects.iter().any(|(at, effect)| *at > self.began && *effect == Effect::Spawned);
            assert!(!restarted, "restarted: {effects:?}");
        }
    }

    fn assert_events(&self) {
        assert!(self.events.iter().enumerate().all(|(number, event)| event.seq == number as u64));
        assert!(matches!(self.events[0].kind, EventKind::Started { .. }));
        let boundary = |event: &Arc<ShutdownEvent>| match &event.kind {
            EventKind::PhaseStarted { phase, .. } => Some((*phase, "started")),
            EventKind::PhaseFinished { phase, .. } => Some((*phase, "finished")),
            _ => None,
        };
        let boundaries: Vec<_> = self.events.iter().filter_map(boundary).collect();
        let expected = PHASES.into_iter().flat_map(|phase| [(phase, "started"), (phase, "finished")]);
        assert_eq!(boundaries, expected.collect::<Vec<_>>());
    }
}

fn tenths(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).round() / 10.0
}
