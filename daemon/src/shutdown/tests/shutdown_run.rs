//! Runs a shutdown and holds the result against what always has to be true.

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
use crate::time_limits::TimeLimits;
use crate::verify::self_check::{Baseline, ExpectedDescriptors};

/// The phases that `Shutdown::run` has; the last one needs its report.
const PHASES: [Phase; 5] =
    [Phase::Initiated, Phase::WorkersGraceful, Phase::Clients, Phase::WorkersTerminate, Phase::Verification];
/// Timers have a resolution of a millisecond.
const TICK_MS: u64 = 5;

/// A shutdown before it begins.
pub struct ShutdownRun {
    pub harness: Harness,
    /// Real ports to look at; the ports of the fake system do not exist.
    pub ports: ClientPorts,
    /// What has to be closed.
    pub resources: Vec<Box<dyn Resource>>,
    /// Where every step is told.
    pub progress: Progress,
    cut_short: CancellationToken,
    findings: mpsc::UnboundedSender<Finding>,
    received: mpsc::UnboundedReceiver<Finding>,
}

/// A shutdown that is over.
pub struct Ended {
    pub report: ShutdownReport,
    /// Every step.
    pub story: Vec<Arc<ShutdownEvent>>,
    /// What was done to each worker.
    pub system: FakeSystem,
    /// When it began, on the fake system's clock.
    pub began: Duration,
}

fn manual() -> Trigger {
    Trigger::Rpc { reason: "manual".to_owned(), now: false }
}

/// Shuts these workers down, without anything special.
pub async fn shut_down<'a>(behaviours: impl IntoIterator<Item = (&'a str, Behaviour)>) -> Ended {
    ShutdownRun::of(Harness::running(behaviours).await).run().await
}

/// Shuts down one worker, `docs`.
pub async fn shut_down_one(behaviour: Behaviour) -> Ended {
    shut_down([("docs", behaviour)]).await
}

impl ShutdownRun {
    /// Of this harness.
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

    /// `--now` comes this long after the beginning.
    pub fn cut_short_after(self, wait: Duration) -> Self {
        let cut_short = self.cut_short.clone();
        let workers = self.harness.workers.clone();
        self.after(wait, move || {
            cut_short.cancel();
            workers.send(Order::KillAll);
        })
    }

    /// `--now` was said before it began.
    pub fn cut_short(self) -> Self {
        self.cut_short.cancel();
        self
    }

    /// Something happens this long after the beginning.
    pub fn after(self, wait: Duration, act: impl FnOnce() + Send + 'static) -> Self {
        let at = deadline::now() + wait;
        tokio::spawn(async move {
            deadline::until(at).await;
            act();
        });
        self
    }

    /// Something is found outside.
    pub fn noting(self, kind: FindingKind) -> Self {
        self.findings.send(Finding::new(kind, "mcpd", "a panic")).expect("the receiver exists");
        self
    }

    /// The report of a shutdown whose total bound passes so early.
    pub async fn overrunning_after(self, bound: Duration) -> ShutdownReport {
        self.shutdown().run_until(Deadline::after(bound), &manual()).await
    }

    /// From the beginning to the report; what always has to be true is.
    pub async fn run(self) -> Ended {
        let system = self.harness.system.clone();
        let progress = self.progress.clone();
        let began = system.now();
        let bound = Deadline::after(TimeLimits::new(&self.harness.config.shutdown).total());
        let report = bound.wait(self.shutdown().run(&manual())).await.expect("the total bound holds");
        let ended = Ended { report, story: published(&progress).await, system, began };
        ended.assert_invariants();
        ended
    }

    fn proxy(&self) -> Proxy {
        let run = harness::run().tag();
        let journal = JournalHandle::none();
        let opening = ProxyConfig { run, journal, kept: vec![], inherited: vec![] };
        Proxy::open(&self.harness.config, opening).expect("a thread").0
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

/// Everything that a late subscriber is told.
pub async fn published(progress: &Progress) -> Vec<Arc<ShutdownEvent>> {
    let mut subscription = progress.subscribe();
    let mut story = vec![];
    while let Ok(Some(event)) = Deadline::after(ms(1)).wait(subscription.next()).await {
        story.push(event);
    }
    story
}

impl Ended {
    pub fn code(&self) -> u8 {
        self.report.exit_code
    }

    /// All findings but information, worst first.
    pub fn faults(&self) -> Vec<FindingKind> {
        let kinds = self.report.findings.iter().map(|finding| finding.kind);
        kinds.filter(|kind| *kind != FindingKind::Information).collect()
    }

    /// What the findings of this kind say, except for descriptors: those of other tests are open in
    /// this process, too.
    pub fn details(&self, kind: FindingKind) -> Vec<&str> {
        let found = self.report.findings.iter().filter(|finding| finding.kind == kind);
        found
            .map(|finding| finding.detail.as_str())
            .filter(|detail| !detail.starts_with("opened since"))
            .collect()
    }

    /// What the only finding of this kind says.
    pub fn detail(&self, kind: FindingKind) -> &str {
        let details = self.details(kind);
        assert_eq!(details.len(), 1, "{kind:?} in {:#?}", self.report.findings);
        details[0]
    }

    /// How this phase went.
    pub fn phase(&self, phase: Phase) -> &PhaseReport {
        self.report.phases.iter().find(|report| report.phase == phase).expect("every phase runs")
    }

    /// How long all of it took, in seconds, to a tenth; but for the look at descriptors, which
    /// waits for those that other tests have open.
    pub fn seconds(&self) -> f64 {
        let look = |event: &Arc<ShutdownEvent>| match &event.kind {
            EventKind::Verified { check, duration_ms, .. } if check == "descriptors" => Some(*duration_ms),
            _ => None,
        };
        let looking = self.story.iter().find_map(look).expect("descriptors are looked at");
        tenths(ms(self.report.duration_ms - looking))
    }

    /// A worker's row.
    pub fn worker(&self, name: &str) -> &WorkerReport {
        self.report.workers.iter().find(|worker| worker.name.as_str() == name).expect("a known worker")
    }

    /// What was done to a worker since the shutdown began, with seconds to a tenth.
    pub fn effects(&self, name: &str) -> Vec<(f64, Effect)> {
        let since =
            |(at, effect): (Duration, Effect)| (at >= self.began).then(|| (tenths(at - self.began), effect));
        self.system.timed_effects(name).into_iter().filter_map(since).collect()
    }

    /// The steps of a worker.
    pub fn steps(&self, worker: &str) -> Vec<&WorkerStep> {
        let step = |event: &'_ Arc<ShutdownEvent>| match &event.kind {
            EventKind::Worker { name, .. } => name.as_str() == worker,
            _ => false,
        };
        let of_worker = self.story.iter().filter(|event| step(event));
        of_worker
            .filter_map(|event| match &event.kind {
                EventKind::Worker { step, .. } => Some(step),
                _ => None,
            })
            .collect()
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
        assert_eq!(self.report.proof.is_some(), self.system.living() == 0, "the proof speaks of everybody");
        self.assert_story();
        for worker in &self.report.workers {
            let effects = self.system.timed_effects(worker.name.as_str());
            let restarted = effects.iter().any(|(at, effect)| *at > self.began && *effect == Effect::Spawned);
            assert!(!restarted, "restarted: {effects:?}");
        }
    }

    fn assert_story(&self) {
        assert!(self.story.iter().enumerate().all(|(number, event)| event.seq == number as u64));
        assert!(matches!(self.story[0].kind, EventKind::Started { .. }));
        let border = |event: &Arc<ShutdownEvent>| match &event.kind {
            EventKind::PhaseStarted { phase, .. } => Some((*phase, "started")),
            EventKind::PhaseFinished { phase, .. } => Some((*phase, "finished")),
            _ => None,
        };
        let borders: Vec<_> = self.story.iter().filter_map(border).collect();
        let expected = PHASES.into_iter().flat_map(|phase| [(phase, "started"), (phase, "finished")]);
        assert_eq!(borders, expected.collect::<Vec<_>>());
    }
}

fn tenths(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).round() / 10.0
}
