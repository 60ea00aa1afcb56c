//! R-SHUT-1: for any behaviour of the workers, and whenever the waits are cut short, every phase runs, in order and
//! within its limit, and the report is true.

use std::time::Duration;

use mcpd_common::outcome::ExitStatus;
use proptest::prelude::*;

use super::shutdown_run::{RunResult, ShutdownRun};
use crate::supervisor::fake::behaviour::{Behaviour, Reply, SignalReaction, ms};
use crate::supervisor::fake::harness::Harness;
use crate::supervisor::fake::system::Effect;

/// No delay, a delay of at most this many seconds, or never.
fn delay(at_most_s: u64) -> impl Strategy<Value = Option<Duration>> {
    prop_oneof![
        2 => Just(Some(Duration::ZERO)),
        3 => (0..at_most_s * 1000).prop_map(|number| Some(ms(number))),
        1 => Just(None),
    ]
}

fn reaction() -> impl Strategy<Value = SignalReaction> {
    let killable = prop_oneof![4 => Just(Some(Duration::ZERO)), 1 => delay(20)];
    (delay(25), killable).prop_map(|(on_term, on_kill)| SignalReaction { on_term, on_kill })
}

fn behaviour() -> impl Strategy<Value = Behaviour> {
    let reply = prop_oneof![
        4 => Just(Reply::Status(202)),
        2 => prop_oneof![Just(404), Just(500), Just(501), Just(302)].prop_map(Reply::Status),
        1 => Just(Reply::Refused),
        1 => Just(Reply::Silence),
    ];
    let descendants = proptest::collection::vec(reaction(), 0..3);
    let unrequested_exit =
        proptest::option::weighted(0.3, (0u64..40_000).prop_map(|at| (ms(at), ExitStatus::Code(1))));
    (any::<bool>(), any::<bool>(), reply, delay(40), reaction(), descendants, unrequested_exit).prop_map(
        |(probe_succeeds, has_route, reply, on_request, leader, descendants, unrequested_exit)| Behaviour {
            probe_succeeds,
            has_route,
            reply,
            on_request,
            leader,
            descendants,
            unrequested_exit,
            ..Behaviour::exits_on_request()
        },
    )
}

fn shut_down(behaviours: &[Behaviour], cut_short: Option<Duration>) -> RunResult {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().expect("a runtime");
    let names = ["a", "b", "c", "d"];
    runtime.block_on(async {
        let run = ShutdownRun::of(Harness::running(names.into_iter().zip(behaviours.iter().cloned())).await);
        match cut_short {
            Some(wait) => run.cut_short_after(wait).run().await,
            None => run.run().await,
        }
    })
}

fn all_exit_at_once_on_sigkill(behaviours: &[Behaviour]) -> bool {
    let reactions =
        behaviours.iter().flat_map(|behaviour| behaviour.descendants.iter().chain([&behaviour.leader]));
    reactions.into_iter().all(|reaction| reaction.on_kill == Some(Duration::ZERO))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// `ShutdownRun::run` checks phases, limits, proof and events, too.
    #[test]
    fn every_shutdown_ends_in_time_and_reports_truthfully(
        behaviours in proptest::collection::vec(behaviour(), 1..5),
        cut_short in proptest::option::of((0u64..60_000).prop_map(ms)),
    ) {
        let result = shut_down(&behaviours, cut_short);
        let has_effect = |effect| ["a", "b", "c", "d"][..behaviours.len()].iter().any(|name| {
            result.effects(name).iter().any(|(_, done)| *done == effect)
        });
        prop_assert!(result.code() >= 3 || !has_effect(Effect::Killed), "{:?}", result.faults());
        prop_assert!(result.code() == 5 || result.system.living() == 0);
        if all_exit_at_once_on_sigkill(&behaviours) {
            prop_assert!(result.code() <= 3, "{:?}", result.faults());
            let limit = cut_short.map_or(30.2, |cut_short| cut_short.as_secs_f64().min(30.0) + 0.2);
            prop_assert!(result.seconds() <= limit, "{} s", result.seconds());
        }
    }
}
