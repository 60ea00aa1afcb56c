//! Resources are closed at the end in reverse order of opening, each with its own timeout,
//! all of them even if one fails (R-VER-3).

pub mod declared;
pub mod logs;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use mcpd_common::outcome::ResourceReport;

use crate::deadline::{self, Deadline};
use crate::progress::millis;

/// The result of closing; the error is a sentence.
pub type Closing<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

pub trait Resource: Send + Sync {
    /// The name in the report.
    fn name(&self) -> String;

    /// Limit for closing it.
    fn timeout(&self) -> Duration;

    /// Closes it, and checks that it is closed.
    fn close(&self, deadline: Deadline) -> Closing<'_>;
}

/// Closes all resources, the last opened one first.
pub async fn close_all(resources: &[Box<dyn Resource>], deadline: Deadline) -> Vec<ResourceReport> {
    let mut reports = vec![];
    for resource in resources.iter().rev() {
        reports.push(close(resource.as_ref(), deadline).await);
    }
    reports
}

async fn close(resource: &dyn Resource, deadline: Deadline) -> ResourceReport {
    let began = deadline::now();
    let limit = deadline.at_most(resource.timeout());
    let result = limit.wait(resource.close(limit)).await.unwrap_or_else(|elapsed| Err(elapsed.to_string()));
    ResourceReport {
        name: resource.name(),
        error: result.err(),
        duration_ms: millis(deadline::now().saturating_duration_since(began)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    struct Noted(&'static str, Result<(), String>, Arc<Mutex<Vec<&'static str>>>);

    impl Resource for Noted {
        fn name(&self) -> String {
            self.0.to_owned()
        }

        fn timeout(&self) -> Duration {
            Duration::from_secs(1)
        }

        fn close(&self, _: Deadline) -> Closing<'_> {
            Box::pin(async {
                self.2.lock().expect("not poisoned").push(self.0);
                match self.0 {
                    "hangs" => std::future::pending().await,
                    _ => self.1.clone(),
                }
            })
        }
    }

    /// R-VER-3.
    #[tokio::test(start_paused = true)]
    async fn all_are_closed_in_reverse_order_even_if_some_fail_or_hang() {
        let order = Arc::new(Mutex::new(vec![]));
        let noted = |name, result| Box::new(Noted(name, result, order.clone())) as Box<dyn Resource>;
        let resources = [noted("first", Ok(())), noted("hangs", Ok(())), noted("fails", Err("no".into()))];
        let reports = close_all(&resources, Deadline::after(Duration::from_secs(10))).await;
        assert_eq!(*order.lock().expect("not poisoned"), ["fails", "hangs", "first"]);
        let errors: Vec<_> = reports.iter().map(|report| report.error.is_some()).collect();
        assert_eq!(errors, [true, true, false]);
    }
}
