//! R-SHUT-1: whatever the workers do, and whenever the waits are cut short, every phase runs, in order,
//! within its time, and the outcome is true.

use std::time::Duration;

use mcpd_common::outcome::ExitStatus;
use proptest::prelude::*;

use super::shutdown_run::{Ended, ShutdownRun};
use crate::supervisor::fake::behaviour::{Behaviour, Reply, SignalReaction, ms};
use crate::supervisor::fake::harness::Harness;
use crate::supervisor::fake::system::Effect;

/// How soon, if ever; often at once.
fn soon(at_most_s: u64) -> impl Strategy<Value = Option<Duration>> {
    prop_oneof![
        2 => Just(Some(Duration::ZERO)),
        3 => (0..at_most_s * 1000).prop_map(|number| Some(ms(number))),
        1 => Just(None),
    ]
}

fn reaction() -> impl Strategy<Value = SignalReaction> {
    let killable = prop_oneof![4 => Just(Some(Duration::ZERO)), 1 => soon(20)];
    (soon(25), killable).prop_map(|(on_term, on_kill)| SignalReaction { on_term, on_kill })
}

fn behaviour() -> impl Strategy<Value = Behaviour> {
    let reply = prop_oneof![
        4 => Just(Reply::Status(202)),
        2 => prop_oneof![Just(404), Just(500), Just(501), Just(302)].prop_map(Reply::Status),
        1 => Just(Reply::Refused),
        1 => Just(Reply::Silence),
    ];
    let descendants = proptest::collection::vec(reaction(), 0..3);
    let own_exit =
        proptest::option::weighted(0.3, (0u64..40_000).prop_map(|at| (ms(at), ExitStatus::Code(1))));
    (any::<bool>(), any::<bool>(), reply, soon(40), reaction(), descendants, own_exit).prop_map(
        |(answers_probe, has_route, reply, on_request, leader, descendants, own_exit)| Behaviour {
            answers_probe,
            has_route,
            reply,
            on_request,
            leader,
            descendants,
            own_exit,
            ..Behaviour::exits_on_request()
        },
    )
}

fn play(behaviours: &[Behaviour], cut_short: Option<Duration>) -> Ended {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().expect("a runtime");
    let names = ["a", "b", "c", "d"];
    runtime.block_on(async {
        let ending =
            ShutdownRun::of(Harness::running(names.into_iter().zip(behaviours.iter().cloned())).await);
        match cut_short {
            Some(wait) => ending.cut_short_after(wait).run().await,
            None => ending.run().await,
        }
    })
}

fn everybody_is_killable(behaviours: &[Behaviour]) -> bool {
    let reactions =
        behaviours.iter().flat_map(|behaviour| behaviour.descendants.iter().chain([&behaviour.leader]));
    reactions.into_iter().all(|reaction| reaction.on_kill == Some(Duration::ZERO))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// `ShutdownRun::run` holds phases, bounds, proof and story against what is always true.
    #[test]
    fn every_shutdown_ends_in_time_and_reports_truthfully(
        behaviours in proptest::collection::vec(behaviour(), 1..5),
        cut_short in proptest::option::of((0u64..60_000).prop_map(ms)),
    ) {
        let ended = play(&behaviours, cut_short);
        let done = |effect| ["a", "b", "c", "d"][..behaviours.len()].iter().any(|name| {
            ended.effects(name).iter().any(|(_, done)| *done == effect)
        });
        prop_assert!(ended.code() >= 3 || !done(Effect::Killed), "{:?}", ended.faults());
        prop_assert!(ended.code() == 5 || ended.system.living() == 0);
        if everybody_is_killable(&behaviours) {
            prop_assert!(ended.code() <= 3, "{:?}", ended.faults());
            let limit = cut_short.map_or(30.2, |cut_short| cut_short.as_secs_f64().min(30.0) + 0.2);
            prop_assert!(ended.seconds() <= limit, "{} s", ended.seconds());
        }
    }
}
