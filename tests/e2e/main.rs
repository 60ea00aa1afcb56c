//! End-to-end tests: real programs, real processes, looked at from outside.

mod bad_input;
mod cli;
mod control_socket;
mod fixture;
mod full_disk;
mod harness;
mod inheritance;
mod instance;
mod lifecycle;
mod mcp_client;
mod memory;
mod repository;
mod without_configuration;
