//! The listening sockets of this machine, read once for all tasks that need them at the same moment: the kernel goes
//! through its whole table, however few sockets are asked for.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use mcpd_common::os::socket::{self, Socket};

use crate::deadline;

type Reading = Shared<BoxFuture<'static, Result<Arc<[Socket]>, Arc<io::Error>>>>;

/// How soon the sockets are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    AtOnce,
    /// A moment later, so that tasks that are nearly as far share the reading.
    Together,
}

/// How long tasks wait for each other.
const MOMENT: Duration = Duration::from_millis(1);

/// A reading that has not begun.
static NEXT: Mutex<Option<Reading>> = Mutex::new(None);

/// The sockets that listen at a moment after the call.
///
/// # Errors
/// When the socket table can't be read.
pub async fn listening_sockets(pace: Pace) -> io::Result<Arc<[Socket]>> {
    let reading = next().get_or_insert_with(|| read(pace).boxed().shared()).clone();
    reading.await.map_err(io::Error::other)
}

async fn read(pace: Pace) -> Result<Arc<[Socket]>, Arc<io::Error>> {
    match pace {
        // Tasks that are ready to run may join.
        Pace::AtOnce => tokio::task::yield_now().await,
        Pace::Together => deadline::until(deadline::now() + MOMENT).await,
    }
    // Not later: what is read now is too old for a task that asks from here on.
    *next() = None;
    Ok(socket::listeners()?.into())
}

fn next() -> MutexGuard<'static, Option<Reading>> {
    NEXT.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn tasks_share_a_reading_that_begins_after_they_asked() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let listens = |sockets: &[Socket]| sockets.iter().any(|socket| socket.local == address);
        let (first, second) =
            tokio::join!(listening_sockets(Pace::Together), listening_sockets(Pace::AtOnce));
        let (first, second) = (first.expect("a table"), second.expect("a table"));
        assert!(Arc::ptr_eq(&first, &second) && listens(&first));
        drop(listener);
        assert!(!listens(&listening_sockets(Pace::AtOnce).await.expect("a table")));
    }
}
