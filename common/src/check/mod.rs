//! Checks that need no daemon: the same functions answer `VerifyPorts` and `ListZombies`, run in the
//! verification phase, and run inside `mcpctl` if no daemon runs (R-VER-5).

pub mod listener;
pub mod orphans;
pub mod ports;
pub mod zombies;
