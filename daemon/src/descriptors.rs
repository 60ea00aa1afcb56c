//! Divides the open files that the system allows, so that control, accept and shutdown always have some. Pure.

use mcpd_common::wording::count;

/// Files, sockets and pipes of the daemon itself, and what a shutdown opens: the socket table, `/proc`, the journal.
const RESERVED: u64 = 36;
/// Pipes and cgroups of each worker, and a connection for its probe or stop request.
const FOR_EACH_WORKER: u64 = 3;
/// A client's connection, and the one to its worker.
const FOR_EACH_CLIENT: u64 = 2;
const MAX_CONTROL: u64 = 256;
const MIN_CONTROL: u64 = 4;
/// With fewer clients the user is warned at the start.
const ENOUGH_CLIENTS: usize = 64;

/// How many connections there may be at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    limit: u64,
    /// Connections of all clients together.
    pub clients: usize,
    /// Connections on the control socket.
    pub control: usize,
}

impl Descriptors {
    /// `limit` is the soft limit of open files (`RLIMIT_NOFILE`).
    pub fn divide(limit: u64, workers: usize) -> Self {
        let control = (limit / 8).clamp(MIN_CONTROL, MAX_CONTROL);
        let kept_back = RESERVED + control + FOR_EACH_WORKER * workers as u64;
        let clients = (limit.saturating_sub(kept_back) / FOR_EACH_CLIENT).max(1);
        let size = |number| usize::try_from(number).unwrap_or(usize::MAX);
        // tokio's limit for a semaphore is far above any number of descriptors.
        Self { limit, clients: size(clients).min(u32::MAX as usize), control: size(control) }
    }

    /// A limit that users will notice.
    pub fn warning(self) -> Option<String> {
        (self.clients < ENOUGH_CLIENTS).then(|| {
            format!(
                "the limit of open files is {}: at most {} at the same time; raise the hard limit (ulimit -Hn, \
                 LimitNOFILE=)",
                self.limit,
                count(self.clients, "client connection")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn usual_limits_allow_thousands_of_clients() {
        let usual = Descriptors::divide(65_536, 50);
        assert!(usual.clients > 30_000 && usual.control == 256 && usual.warning().is_none(), "{usual:?}");
    }

    #[test]
    fn a_low_limit_is_named() {
        let low = Descriptors::divide(64, 1);
        assert_eq!((low.clients, low.control), (8, 8));
        assert!(
            low.warning().is_some_and(|text| text.contains("64: at most 8 client connections")),
            "{low:?}"
        );
    }

    proptest! {
        #[test]
        fn everything_fits_into_the_limit(limit in 60u64..100_000, workers in 0usize..5) {
            let shares = Descriptors::divide(limit, workers);
            let used = RESERVED + shares.control as u64 + 2 * shares.clients as u64 + 3 * workers as u64;
            prop_assert!(used <= limit.max(RESERVED + shares.control as u64 + 2 + 3 * workers as u64));
        }
    }
}
