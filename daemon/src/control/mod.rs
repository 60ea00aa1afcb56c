//! The control service: gRPC on a Unix socket, for the daemon's user and root only.
//!
//! `accept.rs` accepts connections, `service.rs` has one thin function for each RPC, `worker_actions.rs`
//! follows a worker until the requested action is done.

mod accept;
pub mod health;
pub mod service;
mod worker_actions;

use std::sync::Arc;
use std::time::Duration;

use mcpd_proto::v1::control_server::ControlServer as ControlGrpc;
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::health::Health;
use self::service::ControlService;
use crate::verify::self_check::ExpectedDescriptors;

/// Between two HTTP/2 pings that find out whether a client still exists.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// The running service.
pub struct ControlServer {
    pub health: Health,
    pub task: JoinHandle<()>,
    /// Ends the task, after open responses.
    pub stop: CancellationToken,
}

/// Serves until `stop` is cancelled. The connections' descriptors are registered in `expected`.
pub async fn serve(
    service: ControlService,
    listener: Arc<UnixListener>,
    max_connections: usize,
    expected: ExpectedDescriptors,
) -> ControlServer {
    let health = Health::new().await;
    let stop = CancellationToken::new();
    let server = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .add_service(ControlGrpc::new(service))
        .add_service(health.service())
        .add_service(reflection().build_v1().expect(DESCRIPTORS))
        .add_service(reflection().build_v1alpha().expect(DESCRIPTORS))
        .serve_with_incoming_shutdown(
            accept::accept(listener, max_connections, expected),
            stop.clone().cancelled_owned(),
        );
    let task = tokio::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "the control service ended");
        }
    });
    ControlServer { health, task, stop }
}

const DESCRIPTORS: &str = "the descriptors were made by our own build";

/// For both versions: most tools still ask for `v1alpha` (grpcurl before 1.9, Python's grpcio-reflection).
fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(mcpd_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}
