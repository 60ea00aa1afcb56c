//! The real supervisor in a scripted world: what it does, when, and in which order.

#[path = "supervisor_tests/life.rs"]
mod life;
#[path = "supervisor_tests/stopping.rs"]
mod stopping;
