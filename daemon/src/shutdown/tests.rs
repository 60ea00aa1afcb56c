//! The whole shutdown on a fake system: every escalation, every bound, every exit code.

mod bounds;
mod clients;
mod cut_short;
mod escalation;
mod events;
mod exit;
mod exit_codes;
mod requests;
mod restarts;
mod shutdown_run;
