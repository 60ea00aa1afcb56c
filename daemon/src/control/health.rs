//! The standard `grpc.health.v1.Health`: serving until the shutdown begins (R-SHUT-7).

use mcpd_proto::v1::control_server::ControlServer;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use super::service::ControlService;

/// Reports the control service's health.
pub struct Health {
    reporter: HealthReporter,
}

impl Health {
    pub async fn new() -> Self {
        let reporter = HealthReporter::new();
        reporter.set_serving::<ControlServer<ControlService>>().await;
        Self { reporter }
    }

    pub fn service(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(self.reporter.clone()))
    }

    pub async fn set_not_serving(&self) {
        self.reporter.set_not_serving::<ControlServer<ControlService>>().await;
    }
}
