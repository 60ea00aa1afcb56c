//! The files of `/proc`: any process may choose its name, arguments and environment.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| mcpd_common::os::fuzzing::proc(bytes));
