//! Bounds the memory of all messages together that are kept whole: without room, a message is passed on as it arrives.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes for all messages of all clients.
const TOTAL: usize = 16 * 1024 * 1024;
/// Bytes that each holder may keep beside the total, so that small messages never lack room.
const FREE: usize = 16 * 1024;

#[derive(Debug, Default)]
pub struct Budget {
    used: AtomicUsize,
}

/// What one message uses; given back when it is dropped.
#[derive(Debug, Default)]
pub struct Share {
    budget: Arc<Budget>,
    taken: usize,
}

impl Share {
    pub fn of(budget: &Arc<Budget>) -> Self {
        Self { budget: budget.clone(), taken: 0 }
    }

    /// Takes as much as this many bytes of memory need; `false`, and nothing is changed, if there is no room.
    #[must_use]
    pub fn resize(&mut self, bytes: usize) -> bool {
        let wanted = bytes.saturating_sub(FREE);
        if wanted == self.taken {
            return true;
        }
        if wanted < self.taken {
            self.budget.used.fetch_sub(self.taken - wanted, Ordering::Relaxed);
        } else {
            let more = wanted - self.taken;
            let used = self.budget.used.fetch_add(more, Ordering::Relaxed);
            if used.saturating_add(more) > TOTAL {
                self.budget.used.fetch_sub(more, Ordering::Relaxed);
                return false;
            }
        }
        self.taken = wanted;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.taken > 0 {
            self.budget.used.fetch_sub(self.taken, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn small_messages_never_lack_room() {
        let budget = Arc::default();
        let mut large = Share::of(&budget);
        assert!(!large.resize(TOTAL + FREE + 1));
        assert!(large.resize(TOTAL + FREE));
        let mut small = Share::of(&budget);
        assert!(small.resize(FREE));
        assert!(!small.resize(FREE + 1));
        drop(large);
        assert!(small.resize(TOTAL));
    }

    proptest! {
        #[test]
        fn everything_is_given_back(sizes in prop::collection::vec((0usize..4, 0..2 * TOTAL), 0..40)) {
            let budget: Arc<Budget> = Arc::default();
            let mut shares: Vec<_> = (0..4).map(|_| Share::of(&budget)).collect();
            for (which, size) in sizes {
                let before = shares[which].taken;
                let fits = shares[which].resize(size);
                prop_assert_eq!(shares[which].taken, if fits { size.saturating_sub(FREE) } else { before });
                let taken: usize = shares.iter().map(|share| share.taken).sum();
                prop_assert_eq!(budget.used.load(Ordering::Relaxed), taken);
                prop_assert!(taken <= TOTAL);
            }
            drop(shares);
            prop_assert_eq!(budget.used.load(Ordering::Relaxed), 0);
        }
    }
}
