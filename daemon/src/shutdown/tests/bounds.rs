//! R-SHUT-1: whatever the workers do, and whenever the waits are cut short, every phase runs, in order,
//! within its time, and the outcome is true.

use std::time::Duration;

use mcpd_common::outcome::ExitStatus;
use proptest::prelude::*;

use super::shutdown_run::{Ended, ShutdownRun};
use crate::supervisor::fake::scene::Scene;
use crate::supervisor::fake::script::{Nature, Reply, Script, ms};
use crate::supervisor::fake::world::Effect;

/// How soon, if ever; often at once.
fn soon(at_most_s: u64) -> impl Strategy<Value = Option<Duration>> {
    prop_oneof![
        2 => Just(Some(Duration::ZERO)),
        3 => (0..at_most_s * 1000).prop_map(|number| Some(ms(number))),
        1 => Just(None),
    ]
}

fn nature() -> impl Strategy<Value = Nature> {
    let killable = prop_oneof![4 => Just(Some(Duration::ZERO)), 1 => soon(20)];
    (soon(25), killable).prop_map(|(on_term, on_kill)| Nature { on_term, on_kill })
}

fn script() -> impl Strategy<Value = Script> {
    let reply = prop_oneof![
        4 => Just(Reply::Status(202)),
        2 => prop_oneof![Just(404), Just(500), Just(501), Just(302)].prop_map(Reply::Status),
        1 => Just(Reply::Refused),
        1 => Just(Reply::Silence),
    ];
    let descendants = proptest::collection::vec(nature(), 0..3);
    let own_end =
        proptest::option::weighted(0.3, (0u64..40_000).prop_map(|at| (ms(at), ExitStatus::Code(1))));
    (any::<bool>(), any::<bool>(), reply, soon(40), nature(), descendants, own_end).prop_map(
        |(answers_probe, has_route, reply, on_request, leader, descendants, own_end)| Script {
            answers_probe,
            has_route,
            reply,
            on_request,
            leader,
            descendants,
            own_end,
            ..Script::polite()
        },
    )
}

fn play(scripts: &[Script], cut_short: Option<Duration>) -> Ended {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().expect("a runtime");
    let names = ["a", "b", "c", "d"];
    runtime.block_on(async {
        let ending = ShutdownRun::of(Scene::running(names.into_iter().zip(scripts.iter().cloned())).await);
        match cut_short {
            Some(wait) => ending.cut_short_after(wait).run().await,
            None => ending.run().await,
        }
    })
}

fn everybody_is_killable(scripts: &[Script]) -> bool {
    let natures = scripts.iter().flat_map(|script| script.descendants.iter().chain([&script.leader]));
    natures.into_iter().all(|nature| nature.on_kill == Some(Duration::ZERO))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// `ShutdownRun::run` holds phases, bounds, proof and story against what is always true.
    #[test]
    fn every_shutdown_ends_in_time_and_reports_truthfully(
        scripts in proptest::collection::vec(script(), 1..5),
        cut_short in proptest::option::of((0u64..60_000).prop_map(ms)),
    ) {
        let ended = play(&scripts, cut_short);
        let done = |deed| ["a", "b", "c", "d"][..scripts.len()].iter().any(|name| {
            ended.effects(name).iter().any(|(_, done)| *done == deed)
        });
        prop_assert!(ended.code() >= 3 || !done(Effect::Killed), "{:?}", ended.faults());
        prop_assert!(ended.code() == 5 || ended.world.living() == 0);
        if everybody_is_killable(&scripts) {
            prop_assert!(ended.code() <= 3, "{:?}", ended.faults());
            let limit = cut_short.map_or(30.2, |cut_short| cut_short.as_secs_f64().min(30.0) + 0.2);
            prop_assert!(ended.seconds() <= limit, "{} s", ended.seconds());
        }
    }
}
