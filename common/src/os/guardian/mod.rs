//! System calls of the daemon and its guardian: fork, signals without a runtime, shared memory, and the
//! name of the process.
//!
//! ```text
//!   fork              fork(2), while there is a single thread
//!   received_signals  signals and their origin, for a process that only waits
//!   shared            memory that both processes map, and that outlives either
//!   name              the name of the process in ps(1)
//! ```

mod fork;
mod name;
mod received_signals;
mod shared;

pub use fork::{ForkResult, LOOKUP_THREAD, die_with_parent, fork, parent};
pub use name::set_process_name;
pub use received_signals::{BlockedSignals, Origin, ReceivedSignal, ReceivedSignals, block_all_signals};
pub use shared::SharedWords;
