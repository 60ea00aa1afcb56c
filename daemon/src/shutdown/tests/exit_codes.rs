//! R-EXIT-1: what else decides the code, besides the workers.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use mcpd_common::ids::Port;
use mcpd_common::outcome::{ExitStatus, FindingKind};
use mcpd_common::phase::Phase;

use super::shutdown_run::{Ended, ShutdownRun, shut_down};
use crate::client_ports::ClientPorts;
use crate::deadline::Deadline;
use crate::resources::{Closing, Resource};
use crate::supervisor::fake::behaviour::{Behaviour, SignalReaction, ms};
use crate::supervisor::fake::harness::{Harness, name};
use crate::supervisor::fake::system::Effect;

struct Scripted(Option<Result<(), &'static str>>);

impl Resource for Scripted {
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

async fn polite() -> ShutdownRun {
    ShutdownRun::of(Harness::running([("docs", Behaviour::exits_on_request())]).await)
}

async fn with_resource(resource: Scripted) -> Ended {
    let mut ending = polite().await;
    ending.resources.push(Box::new(resource));
    ending.run().await
}

#[tokio::test(start_paused = true)]
async fn without_workers_there_is_nothing_to_do() {
    let ended = shut_down([]).await;
    assert_eq!((ended.code(), ended.seconds()), (0, 0.0));
}

/// R-VER-2: 4. A stranger is named and left alone, and not waited for as long as our own.
#[tokio::test(start_paused = true)]
async fn a_port_that_is_still_held_is_4() {
    let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let number = holder.local_addr().expect("an address").port();
    let mut ending = polite().await;
    ending.ports = ClientPorts::from([(Port::new(number).expect("not 0"), name("docs"))]);
    let ended = ending.run().await;
    assert_eq!((ended.code(), ended.faults()), (4, vec![FindingKind::PortInUse]));
    let detail = ended.detail(FindingKind::PortInUse);
    assert!(detail.contains(&format!("pid {}", std::process::id())), "{detail}");
    assert!(detail.ends_with("it is not a process of mcpd and was left alone"), "{detail}");
    assert!(ended.seconds() < 3.0, "{}", ended.seconds());
}

/// R-VER-1: 5.
#[tokio::test(start_paused = true)]
async fn a_zombie_that_can_t_be_reaped_is_5() {
    let ending = polite().await;
    ending.harness.system.add_stray(SignalReaction::UNKILLABLE, 'Z');
    let ended = ending.run().await;
    assert_eq!((ended.code(), ended.faults()), (5, vec![FindingKind::ZombieLeft]));
}

/// R-CONT-3: it is told, and ends with the daemon.
#[tokio::test(start_paused = true)]
async fn a_process_of_no_worker_is_killed_and_reported() {
    let ending = polite().await;
    ending.harness.system.add_stray(SignalReaction { on_term: None, on_kill: Some(ms(300)) }, 'S');
    let ended = ending.run().await;
    assert_eq!((ended.code(), ended.system.living()), (0, 0));
    assert!(ended.detail(FindingKind::Information).contains("belonged to no worker any more"));
}

/// R-VER-3: 6, and the code is the highest that applies.
#[tokio::test(start_paused = true)]
async fn a_resource_that_fails_to_close_is_6() {
    let ended = with_resource(Scripted(Some(Err("disk full")))).await;
    assert_eq!((ended.code(), ended.faults()), (6, vec![FindingKind::ResourceFailed]));
    assert_eq!(ended.detail(FindingKind::ResourceFailed), "failed to close: disk full");
}

/// R-VER-3: each has its own timeout.
#[tokio::test(start_paused = true)]
async fn a_resource_that_hangs_is_6_after_its_timeout() {
    let ended = with_resource(Scripted(None)).await;
    assert_eq!((ended.code(), ended.seconds()), (6, 5.1));
    let ended = with_resource(Scripted(Some(Ok(())))).await;
    assert_eq!((ended.code(), ended.report.resources.len()), (0, 1));
}

/// Section 6: an internal error during any shutdown still adds 100.
#[tokio::test(start_paused = true)]
async fn an_internal_error_is_100_whatever_else_happened() {
    let ended = polite().await.noting(FindingKind::InternalError).run().await;
    assert_eq!((ended.code(), ended.faults()), (100, vec![FindingKind::InternalError]));
}

/// R-SUP-5: without a supervisor no worker gets a stop request, and none is left all the same.
#[tokio::test(start_paused = true)]
async fn without_a_supervisor_everybody_is_ended_in_verification() {
    let behaviours = [
        ("docs", Behaviour::exits_on_request()),
        ("web", Behaviour::ignores_request().with_descendant(SignalReaction::IGNORES_SIGTERM)),
    ];
    let harness = Harness::running(behaviours).await;
    harness.supervising.abort();
    let ended = ShutdownRun::of(harness).noting(FindingKind::InternalError).run().await;
    assert_eq!((ended.code(), ended.system.living()), (100, 0));
    assert_eq!(ended.system.count(Effect::Gone), 2);
    assert!(ended.seconds() < 1.0, "{}", ended.seconds());
}

/// R-EXIT-1: 102.
#[tokio::test(start_paused = true)]
async fn the_report_of_an_overrun_is_102_and_has_what_was_known_by_then() {
    let harness =
        Harness::running([("docs", Behaviour::ignores_request().with_leader(SignalReaction::UNKILLABLE))])
            .await;
    let report = ShutdownRun::of(harness).overrunning_after(ms(15_000)).await;
    assert_eq!(report.exit_code, 102);
    let phases: Vec<_> = report.phases.iter().map(|phase| phase.phase).collect();
    assert_eq!(phases, [Phase::Initiated, Phase::WorkersGraceful, Phase::Clients]);
    assert!((15_000..15_100).contains(&report.duration_ms), "{} ms", report.duration_ms);
}

async fn with_stop_command(command: Behaviour) -> Ended {
    let harness =
        Harness::running([("docs", Behaviour::exits_on_request().with_stop_command("docker-stop"))]).await;
    harness.system.add_command("docker-stop", command);
    ShutdownRun::of(harness).run().await
}

/// Section 6: run with the request, and waited for.
#[tokio::test(start_paused = true)]
async fn a_stop_command_is_part_of_the_stop() {
    let ended = with_stop_command(Behaviour::exits_after(ms(4_000), ExitStatus::Code(0))).await;
    assert_eq!((ended.code(), ended.seconds()), (0, 4.0));
    assert_eq!(ended.system.helpers().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stop_command_that_fails_is_information() {
    let ended = with_stop_command(Behaviour::exits_after(ms(100), ExitStatus::Code(3))).await;
    assert_eq!(ended.code(), 0);
    assert_eq!(ended.detail(FindingKind::Information), "stop_command docker-stop: exit 3");
}

/// R-SHUT-1.
#[tokio::test(start_paused = true)]
async fn a_stop_command_that_hangs_has_the_graceful_time_and_is_ended() {
    let ended =
        with_stop_command(Behaviour::ignores_request().with_leader(SignalReaction::IGNORES_SIGTERM)).await;
    assert_eq!((ended.code(), ended.seconds()), (0, 10.0));
    let told = ended.details(FindingKind::Information);
    assert!(told.contains(&"stop_command docker-stop: not done in time"), "{told:?}");
}
