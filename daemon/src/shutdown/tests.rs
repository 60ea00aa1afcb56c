//! The whole shutdown in a scripted world: every escalation, every bound, every exit code.

mod bounds;
mod clients;
mod ending;
mod escalation;
mod exit_codes;
mod hurrying;
mod restarts;
mod telling;
