//! What a guardian and its daemon need of the system: becoming two processes, hearing signals
//! without a runtime, a piece of memory in common, and being small.
//!
//! ```text
//!   fork      one process becomes two, while it has a single thread
//!   arrivals  signals, and where they came from, for a process that only waits
//!   shared    words that both see, and that outlive either
//!   small     another name, less memory
//! ```

mod arrivals;
mod fork;
mod shared;
mod small;

pub use arrivals::{Arrival, Arrivals, Masked, Origin, mask_all};
pub use fork::{Twin, die_with_parent, fork, parent};
pub use shared::SharedWords;
pub use small::{give_back_memory, rename};
