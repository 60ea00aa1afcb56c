//! The workers: started, watched, restarted, stopped.
//!
//! ```text
//!   state.rs, stop.rs, backoff.rs   what to do           (pure)
//!   supervisor.rs                   one task owns them all, performs the acts
//!   keeper.rs                       one thread starts, signals, reaps all children
//!     processes.rs                  the narrow interface; containment/ is the truth
//!   output.rs, worker_log.rs        draining what they write
//!   reach.rs                        asking them; ready.rs, http.rs, ports.rs are the truth
//! ```

pub mod backoff;
pub mod containment;
pub mod http;
pub mod keeper;
pub mod orders;
pub mod output;
pub mod ports;
pub mod processes;
pub mod reach;
pub mod ready;
pub mod record;
pub mod spawn;
pub mod state;
pub mod stop;
pub mod supervisor;
pub mod worker_log;

#[cfg(test)]
pub mod fake;
