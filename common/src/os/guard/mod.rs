//! What a guardian and its daemon need of the system: becoming two processes, hearing signals
//! without a runtime, a piece of memory in common, and a name of its own.
//!
//! ```text
//!   fork      one process becomes two, while it has a single thread
//!   arrivals  signals, and where they came from, for a process that only waits
//!   shared    words that both see, and that outlive either
//!   name      how it shows itself
//! ```

mod arrivals;
mod fork;
mod name;
mod shared;

pub use arrivals::{Arrival, Arrivals, Masked, Origin, mask_all};
pub use fork::{Twin, die_with_parent, fork, parent};
pub use name::rename;
pub use shared::SharedWords;
