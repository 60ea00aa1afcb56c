//! End-to-end tests: real programs, real processes, looked at from outside.

mod bad_input;
mod cli;
mod clients;
mod control_socket;
mod exit_codes;
mod fixture;
mod front_door;
mod front_door_bad_input;
mod front_door_next_daemon;
mod front_door_restart;
mod front_door_shutdown;
mod full_disk;
mod harness;
mod held_ports;
mod inheritance;
mod instance;
mod lifecycle;
mod mcp_client;
mod memory;
mod misbehaviour;
mod repository;
mod restarts;
mod signals;
mod traced;
mod without_configuration;
