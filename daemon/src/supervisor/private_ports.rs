//! Chooses and checks the port that a worker is to bind (R-SUP-6, R-SUP-7).

use std::collections::HashSet;

use mcpd_common::check::ports;
use mcpd_common::config::WorkerConfig;
use mcpd_common::ids::Port;

use crate::port_holder;

/// The kernel assigns the same port again in a tenth of all rounds of fifty, so a few tries are enough.
const MAX_TRIES: usize = 100;

/// Checks that the worker's port can be bound.
///
/// # Errors
/// If the port is in use: names the holder, and what the user can do.
pub fn is_free(worker: &WorkerConfig) -> Result<(), String> {
    if ports::is_bindable(worker.port) {
        return Ok(());
    }
    Err(port_holder::sentence(worker.port, &worker.name))
}

/// A private port, chosen by the kernel, that is none of `assigned`. Another process may bind it before the worker
/// does: the probe notices it, and the next start gets another port.
///
/// # Errors
/// If the kernel has no free port.
pub fn private(assigned: &HashSet<Port>) -> Result<Port, String> {
    // The listeners of refused ports stay open, so that the kernel assigns another port each time.
    let mut refused = vec![];
    for _ in 0..MAX_TRIES {
        let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0));
        let listener = listener.map_err(|error| format!("the kernel assigns no private port: {error}"))?;
        let number = listener.local_addr().map_err(|error| error.to_string())?.port();
        match Port::new(number) {
            Some(port) if !assigned.contains(&port) => return Ok(port),
            _ => refused.push(listener),
        }
    }
    Err(format!("the kernel assigned only ports that are in use, {MAX_TRIES} times"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R-SUP-7: a port that was assigned is not assigned again, however often the kernel returns it.
    #[test]
    fn no_port_is_assigned_twice() {
        let mut assigned = HashSet::new();
        for _ in 0..500 {
            let port = private(&assigned).expect("a port");
            assert!(assigned.insert(port), "{port} was assigned before");
        }
    }

    #[test]
    fn a_machine_without_a_free_port_is_reported() {
        let all = (1..=u32::from(u16::MAX)).filter_map(Port::new).collect();
        let error = private(&all).expect_err("every port is assigned");
        assert!(error.contains("only ports that are in use"), "{error}");
    }
}
