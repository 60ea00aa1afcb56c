//! Requests that arrive while a shutdown runs.

use mcpd_common::outcome::FindingKind;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::progress::Progress;
use crate::shutdown::request::{Requests, Trigger};
use crate::shutdown::request_listener::RequestListener;
use crate::supervisor::fake::behaviour::Behaviour;
use crate::supervisor::fake::harness::Harness;

/// An internal error during a shutdown is in its report; another request changes nothing.
#[tokio::test(start_paused = true)]
async fn an_internal_error_during_a_shutdown_is_a_finding() {
    let harness = Harness::running([("docs", Behaviour::exits_on_request())]).await;
    let (requests, triggers) = mpsc::unbounded_channel();
    let (findings, mut found) = mpsc::unbounded_channel();
    let (exit_reason, reason) = watch::channel(None);
    let cut_short = CancellationToken::new();
    let mut listener = RequestListener {
        triggers,
        requests: Requests::default(),
        supervisor: harness.workers.clone(),
        progress: Progress::new(),
        cut_short: cut_short.clone(),
        findings,
        exit_reason,
        guardian: mcpd_common::ids::Pid::current(),
    };
    let triggers = [
        Trigger::Signal("SIGTERM"),
        Trigger::Emergency { what: "a panic".to_owned() },
        Trigger::Signal("SIGTERM"),
    ];
    for trigger in triggers {
        requests.send(trigger).expect("received");
    }
    drop(requests);
    assert_eq!(listener.first().await, Trigger::Signal("SIGTERM"));
    listener.listen().await;
    let finding = found.recv().await.expect("a finding");
    assert_eq!((finding.kind, finding.detail.as_str()), (FindingKind::InternalError, "a panic"));
    assert_eq!(found.recv().await, None);
    assert_eq!(reason.borrow().as_deref(), Some("signal_SIGTERM"));
    assert!(!cut_short.is_cancelled());
}
