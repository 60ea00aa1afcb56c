//! End-to-end tests: real programs, real processes, looked at from outside.

mod fixture;
mod harness;
mod lifecycle;
mod repository;
