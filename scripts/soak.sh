#!/usr/bin/env bash
# The soak test of the daemon: scripts/soak.sh [SECONDS [SEED]], an hour by default.
#
# Random crashes, restarts, client storms, control calls, floods, a full disk, no descriptors, a clock that jumps; at
# the end the daemon must hold what it held at the start. Then MCPD_CRASH_ROUNDS (500) times daemon, guardian or both
# are killed at a random moment. Seeds are printed. Exit status 1: something grew, or was left.
#
# The full disk needs root, the clock Debian's faketime; without them these are left out, which is printed.
set -euo pipefail
cd "$(dirname "$0")/.."

export CARGO_TERM_QUIET=true
cargo build --locked --workspace --bins
target/debug/soak "${1:-3600}" "${@:2}"
MCPD_CRASH_ROUNDS=${MCPD_CRASH_ROUNDS:-500} \
    cargo test --quiet --locked --package mcpd-tests --test e2e -- --exact crash_random::sudden_deaths_at_random_moments_leave_nothing
