//! R-EXIT-1: exit codes that do not come from workers.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use mcpd_common::ids::Port;
use mcpd_common::outcome::{Asked, ExitStatus, FindingKind, PhaseOutcome};
use mcpd_common::phase::Phase;

use super::shutdown_run::{RunResult, ShutdownRun, shut_down};
use crate::client_ports::ClientPorts;
use crate::deadline::Deadline;
use crate::resources::{Closing, Resource};
use crate::supervisor::fake::behaviour::{Behaviour, SignalReaction, ms};
use crate::supervisor::fake::harness::{Harness, name};
use crate::supervisor::fake::system::Effect;

/// A resource whose `close` returns this result; `None`: it hangs.
struct FakeResource(Option<Result<(), &'static str>>);

impl Resource for FakeResource {
    fn name(&self) -> String {
        "database".to_owned()
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(5)
    }

    fn close(&self, _: Deadline) -> Closing<'_> {
        Box::pin(async {
            match self.0 {
                Some(result) => result.map_err(str::to_owned),
                None => std::future::pending().await,
            }
        })
    }
}

async fn graceful_run() -> ShutdownRun {
    ShutdownRun::of(Harness::running([("docs", Behaviour::exits_on_request())]).await)
}

async fn with_resource(resource: FakeResource) -> RunResult {
    let mut run = graceful_run().await;
    run.resources.push(Box::new(resource));
    run.run().await
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_without_workers_is_clean_and_immediate() {
    let result = shut_down([]).await;
    assert_eq!((result.code(), result.seconds()), (0, 0.0));
}

/// R-VER-2: a process that does not belong to mcpd is named and not killed, and the check does not wait until its limit.
#[tokio::test(start_paused = true)]
async fn a_port_that_is_still_held_is_code_4() {
    let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let number = holder.local_addr().expect("an address").port();
    let mut run = graceful_run().await;
    run.ports = ClientPorts::from([(Port::new(number).expect("not 0"), name("docs"))]);
    let result = run.run().await;
    assert_eq!((result.code(), result.faults()), (4, vec![FindingKind::PortInUse]));
    let detail = result.detail(FindingKind::PortInUse);
    assert!(detail.contains(&format!("pid {}", std::process::id())), "{detail}");
    assert!(detail.ends_with("it is not a process of mcpd and was left alone"), "{detail}");
    assert!(result.seconds() < 3.0, "{}", result.seconds());
}

/// R-VER-1.
#[tokio::test(start_paused = true)]
async fn a_zombie_that_can_t_be_reaped_is_code_5() {
    let run = graceful_run().await;
    run.harness.system.add_stray(SignalReaction::UNKILLABLE, 'Z');
    let result = run.run().await;
    assert_eq!((result.code(), result.faults()), (5, vec![FindingKind::ZombieLeft]));
}

/// R-CONT-3: it is reported as information.
#[tokio::test(start_paused = true)]
async fn a_process_of_no_worker_is_killed_and_reported() {
    let run = graceful_run().await;
    run.harness.system.add_stray(SignalReaction { on_term: None, on_kill: Some(ms(300)) }, 'S');
    let result = run.run().await;
    assert_eq!((result.code(), result.system.living()), (0, 0));
    assert!(result.detail(FindingKind::Information).contains("belonged to no worker any more"));
}

/// R-VER-3.
#[tokio::test(start_paused = true)]
async fn a_resource_that_fails_to_close_is_code_6() {
    let result = with_resource(FakeResource(Some(Err("disk full")))).await;
    assert_eq!((result.code(), result.faults()), (6, vec![FindingKind::ResourceFailed]));
    assert_eq!(result.detail(FindingKind::ResourceFailed), "failed to close: disk full");
}

/// R-VER-3: each has its own timeout.
#[tokio::test(start_paused = true)]
async fn a_resource_that_hangs_is_code_6_after_its_timeout() {
    let result = with_resource(FakeResource(None)).await;
    assert_eq!((result.code(), result.seconds()), (6, 5.1));
    let result = with_resource(FakeResource(Some(Ok(())))).await;
    assert_eq!((result.code(), result.report.resources.len()), (0, 1));
}

/// Section 6.
#[tokio::test(start_paused = true)]
async fn an_internal_error_is_code_100() {
    let result = graceful_run().await.with_finding(FindingKind::InternalError).run().await;
    assert_eq!((result.code(), result.faults()), (100, vec![FindingKind::InternalError]));
}

/// R-SUP-5: the workers get no stop request then.
#[tokio::test(start_paused = true)]
async fn without_a_supervisor_the_workers_are_killed_in_verification() {
    let behaviours = [
        ("docs", Behaviour::exits_on_request()),
        ("web", Behaviour::ignores_request().with_descendant(SignalReaction::IGNORES_SIGTERM)),
    ];
    let harness = Harness::running(behaviours).await;
    harness.supervisor_task.abort();
    let result = ShutdownRun::of(harness).with_finding(FindingKind::InternalError).run().await;
    assert_eq!((result.code(), result.system.living()), (100, 0));
    assert_eq!(result.system.count(Effect::Gone), 2);
    assert!(result.seconds() < 1.0, "{}", result.seconds());
}

/// R-EXIT-1.
#[tokio::test(start_paused = true)]
async fn the_report_of_an_overrun_has_code_102_and_all_phases_so_far() {
    let harness =
        Harness::running([("docs", Behaviour::ignores_request().with_leader(SignalReaction::UNKILLABLE))])
            .await;
    let report = ShutdownRun::of(harness).run_with_limit(ms(15_000)).await;
    assert_eq!(report.exit_code, 102);
    let phases: Vec<_> = report.phases.iter().map(|phase| phase.phase).collect();
    assert_eq!(phases, [Phase::Initiated, Phase::WorkersGraceful, Phase::Clients, Phase::WorkersTerminate]);
    assert_eq!(report.phases[3].outcome, PhaseOutcome::Deadline);
    // R-SHUT-10: what was known by then.
    assert_eq!((report.workers[0].asked, report.workers[0].answer.as_deref()), (Asked::Http, Some("202")));
    assert!((15_000..15_100).contains(&report.duration_ms), "{} ms", report.duration_ms);
}

async fn with_stop_command(command: Behaviour) -> RunResult {
    let harness =
        Harness::running([("docs", Behaviour::exits_on_request().with_stop_command("docker-stop"))]).await;
    harness.system.add_command("docker-stop", command);
    ShutdownRun::of(harness).run().await
}

/// Section 6: the command runs together with the request, and the shutdown waits for it.
#[tokio::test(start_paused = true)]
async fn a_stop_command_is_part_of_the_stop() {
    let result = with_stop_command(Behaviour::exits_after(ms(4_000), ExitStatus::Code(0))).await;
    assert_eq!((result.code(), result.seconds()), (0, 4.0));
    assert_eq!(result.system.helpers().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stop_command_that_fails_is_information() {
    let result = with_stop_command(Behaviour::exits_after(ms(100), ExitStatus::Code(3))).await;
    assert_eq!(result.code(), 0);
    assert_eq!(result.detail(FindingKind::Information), "stop_command docker-stop: exit 3");
}

/// R-SHUT-1.
#[tokio::test(start_paused = true)]
async fn a_stop_command_that_hangs_is_killed_after_the_graceful_time() {
    let result =
        with_stop_command(Behaviour::ignores_request().with_leader(SignalReaction::IGNORES_SIGTERM)).await;
    assert_eq!((result.code(), result.seconds()), (0, 10.0));
    let information = result.details(FindingKind::Information);
    assert!(information.contains(&"stop_command docker-stop: not done in time"), "{information:?}");
}
