#!/usr/bin/env bash
# Stresses the daemon: scripts/soak.sh [SECONDS [SEED]], by default for an hour.
#
# The first part causes random crashes, restarts, client storms, control calls, floods, a full disk, a lack of file
# descriptors and jumps of the clock. At its end the daemon must use no more resources than at its start. The second
# part kills daemon, guardian or both at a random moment, MCPD_CRASH_ROUNDS (500) times. Seeds are printed. Exit
# status 1: resource use grew, or something was left.
#
# The full disk needs root, the clock jumps need Debian's faketime. Without them these steps are skipped with a message.
set -euo pipefail
cd "$(dirname "$0")/.."

export CARGO_TERM_QUIET=true
cargo build --locked --workspace --bins
target/debug/soak "${1:-3600}" "${@:2}"
MCPD_CRASH_ROUNDS=${MCPD_CRASH_ROUNDS:-500} \
    cargo test --quiet --locked --package mcpd-tests --test e2e -- --exact crash_random::sudden_deaths_at_random_moments_leave_nothing
