//! Messages of a server for its one client, while no stream is open on which the client could get them.

use super::inbox::Inbox;

/// Limit in bytes: further messages are refused.
const LIMIT: usize = 256 * 1024;

#[derive(Default)]
pub struct Undelivered {
    messages: Vec<Vec<u8>>,
    bytes: usize,
}

impl Undelivered {
    /// `false`: there is no room for it.
    pub fn push(&mut self, message: Vec<u8>) -> bool {
        if self.bytes + message.len() > LIMIT {
            return false;
        }
        self.bytes += message.len();
        self.messages.push(message);
        true
    }

    /// The client reads here now.
    pub fn move_to(&mut self, inbox: &Inbox) {
        self.bytes = 0;
        for message in std::mem::take(&mut self.messages) {
            // The limit of an inbox is not smaller.
            let _ = inbox.push(message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::stdio::inbox::Received;

    #[tokio::test]
    async fn what_is_kept_is_bounded_and_delivered_once() {
        let mut undelivered = Undelivered::default();
        let taken = (0..1000).filter(|_| undelivered.push(vec![b'x'; 4096])).count();
        assert_eq!(taken, LIMIT / 4096);
        let (first, second) = (Inbox::default(), Inbox::default());
        undelivered.move_to(&first);
        for _ in 0..taken {
            assert!(matches!(first.next().await, Received::Event(_)));
        }
        assert!(undelivered.push(b"more".to_vec()));
        undelivered.move_to(&second);
        assert!(matches!(second.next().await, Received::Event(message) if message == b"more"));
    }
}
