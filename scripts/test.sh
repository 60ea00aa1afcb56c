#!/usr/bin/env bash
# Builds the programs and runs all tests. Rust (rustup), git and a C compiler are enough; cargo-nextest, the test runner,
# is installed for the user if it is missing.
#
#   scripts/test.sh                                all tests
#   scripts/test.sh -E 'test(/^front_door::/)'     some: arguments go to `cargo nextest run`
#
# Tests that this machine can't run are listed at the end, with the reason. With CI=true or MCPD_STRICT_SKIPS=1 a skipped
# test that tests/skips.allowed does not name fails the run. MCPD_BACKEND=portable tests the portable backend.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

readonly NEXTEST=0.9.143
readonly TOOLS=target/tools
# shellcheck source-path=SCRIPTDIR source=skips.sh
source scripts/skips.sh
# Absolute: cargo runs each test in the directory of its package.
export MCPD_SKIP_LOG=$PWD/target/skipped-tests-$BACKEND.log

# Linking needs a C compiler, and SQLite is compiled with it. A try, because macOS has a `cc` that only offers to install one.
check_compiler() {
    cc --version >/dev/null 2>&1 && return
    cat >&2 <<'END'
There is no C compiler (`cc`). Rust programs are linked with it, and SQLite is compiled with it. Install one:
  Debian, Ubuntu   sudo apt-get install build-essential
  Fedora           sudo dnf install gcc
  macOS            xcode-select --install
END
    return 1
}

check_git() {
    command -v git >/dev/null && return
    echo 'There is no git, and the tests make repositories with it. Install the package `git`.' >&2
    return 1
}

# rustup may have to fetch the pinned toolchain first; that is shown.
check_cargo() {
    cargo --version >/dev/null && return
    echo 'There is no usable cargo. Install Rust with rustup: https://rustup.rs' >&2
    return 1
}

install_nextest() {
    cargo nextest --version >/dev/null 2>&1 && return
    local log=$TOOLS/nextest.log
    echo "installing cargo-nextest $NEXTEST (once, some minutes)"
    mkdir -p "$TOOLS"
    CARGO_TARGET_DIR=$TOOLS/build cargo install --locked "cargo-nextest@$NEXTEST" >"$log" 2>&1 || {
        cat "$log" >&2
        return 1
    }
    rm -rf "$TOOLS/build"
}

main() {
    check_compiler && check_git && check_cargo && install_nextest || return 1
    # Tests append to it. A list of an earlier run must not be shown for this one.
    mkdir -p target && : >"$MCPD_SKIP_LOG" || return 1
    local status=0
    cargo build --workspace --bins && cargo nextest run --workspace "$@" || status=$?
    report_skips || status=1
    return "$status"
}

# In one line, so that editing this file while it runs does no harm: bash reads as it goes.
main "$@"; exit
