//! Looking from outside: the same checks answer `VerifyPorts` and `ListZombies`, run in
//! the verification phase, and run inside `mcpctl` when there is no daemon (R-VER-5).

pub mod ports;
pub mod zombies;
