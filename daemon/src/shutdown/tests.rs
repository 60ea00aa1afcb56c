//! The whole shutdown in a scripted world: every escalation, every bound, every exit code.

mod bounds;
mod clients;
mod cut_short;
mod escalation;
mod events;
mod exit_codes;
mod restarts;
mod shutdown_run;
