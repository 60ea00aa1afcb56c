#!/usr/bin/env bash
# Measures the figures of section 11 and prints them as a Markdown table. Takes some minutes.
#
#   scripts/bench.sh                      everything, 5 samples of each figure
#   scripts/bench.sh door                 the front door against nginx alone, two minutes
#   scripts/bench.sh --repeat 3 stop      fewer samples, one group (stop, crash, peer, start, contained, idle, status, door)
#
# Exit status 1: a figure was missed. The comparisons need s6, nginx and wrk
# (`apt-get install s6 nginx-light wrk`); without them, they are left out.
set -euo pipefail
cd "$(dirname "$0")/.."

# The programs are built apart from the tests, whose MCP client would bring its features into the daemon.
export CARGO_TERM_QUIET=true
cargo build --release --locked -p mcpd-daemon -p mcpd-cli
cargo build --release --locked -p mcpd-tests --bins

exec target/release/bench "$@"
