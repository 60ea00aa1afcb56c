//! How a process is used by the session that it belongs to.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, Weak};

use tokio::time::Instant;

use super::{ProcessNumber, SessionProcesses};
use crate::deadline;

pub struct Usage {
    number: ProcessNumber,
    processes: Weak<SessionProcesses>,
    is_claimed: AtomicBool,
    /// When its last request was answered.
    rests_since: Mutex<Instant>,
}

impl Usage {
    pub fn new(number: ProcessNumber, processes: Weak<SessionProcesses>) -> Self {
        let rests_since = Mutex::new(deadline::now());
        Self { number, processes, is_claimed: AtomicBool::new(false), rests_since }
    }

    pub fn number(&self) -> ProcessNumber {
        self.number
    }

    pub fn claim(&self) {
        self.is_claimed.store(true, Ordering::Release);
    }

    /// No request is in flight any more. A process that no session has claimed is not needed then.
    pub fn rests(&self) {
        *self.rests_since.lock().unwrap_or_else(PoisonError::into_inner) = deadline::now();
        if !self.is_claimed.load(Ordering::Acquire)
            && let Some(processes) = self.processes.upgrade()
        {
            processes.end(self.number);
        }
    }

    /// Since when it has been idle, if no request is in flight.
    pub fn idle_since(&self) -> Option<Instant> {
        let is_claimed = self.is_claimed.load(Ordering::Acquire);
        is_claimed.then(|| *self.rests_since.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
