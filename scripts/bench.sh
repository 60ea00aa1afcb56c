#!/usr/bin/env bash
# Measures the figures of the README and prints them as a Markdown table. Takes some minutes.
#
#   scripts/bench.sh                      all groups, 5 samples per figure
#   scripts/bench.sh door                 only the front door compared with nginx, two minutes
#   scripts/bench.sh --repeat 3 stop      3 samples, one group (stop, crash, peer, start, contained, idle, status, door)
#
# Exit status 1: a goal was missed. The comparisons need s6, nginx and wrk
# (`apt-get install s6 nginx-light wrk`) and are skipped without them.
set -euo pipefail
cd "$(dirname "$0")/.."

# Built separately from the tests: cargo would otherwise enable the features of the tests' MCP client in the daemon's
# dependencies.
export CARGO_TERM_QUIET=true
cargo build --release --locked -p mcpd-daemon -p mcpd-cli
cargo build --release --locked -p mcpd-tests --bins

exec target/release/bench "$@"
