#!/usr/bin/env bash
# All checks of this project; CI runs this same script.
#
#   scripts/check.sh           everything
#   scripts/check.sh --quick   without what is slow: end-to-end tests, systemd, dependency policy, macOS
#
# Every check runs even if an earlier one failed. The last line but one counts the tests, the last line is the verdict, the
# exit status is 0 or 1. What is missing is installed: cargo-nextest for the user (scripts/test.sh), cargo-deny into
# target/tools, the macOS target by rustup, MCP clients and servers of others into target/real (they need node, npm and
# python3 with venv).
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

readonly DENY=0.20.2
readonly TOOLS=target/tools
readonly LOGS=target/check

# The output is the same with and without a terminal, and names no path of this machine.
export CARGO_TERM_COLOR=never CARGO_TERM_PROGRESS_WHEN=never CARGO_TERM_QUIET=true
export NEXTEST_PROFILE=ci NEXTEST_SHOW_PROGRESS=none
# A skipped test fails unless tests/skips.allowed names it.
export MCPD_STRICT_SKIPS=1

check_format() {
    cargo fmt --all --check -- --color never
}

check_clippy() {
    cargo clippy --locked --workspace --all-targets --keep-going -- -D warnings
}

# The fuzz targets are run by scripts/fuzz.sh, not here; that they build is checked.
check_fuzz_targets() {
    RUSTFLAGS='--cfg fuzzing' cargo clippy --locked --manifest-path tests/fuzz/Cargo.toml --target-dir target/fuzz/check -- -D warnings
}

check_docs() {
    RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps --document-private-items --keep-going
}

# Advisories are left out: their database comes from a code host, which not every machine can reach.
check_dependencies() {
    install_deny && "$TOOLS/bin/cargo-deny" --locked check bans licenses sources
}

check_tests() {
    local status=0
    grep -qF scripts/test.sh README.md || {
        echo 'README.md does not name the test command: scripts/test.sh'
        status=1
    }
    scripts/test.sh 2>&1 | tee "$LOGS/tests.log" || status=1
    return "$status"
}

# What the backend for macOS promises: how workers and mcpd start and end without subreaper, pidfds and cgroups.
check_portable_backend() {
    MCPD_BACKEND=portable scripts/test.sh -E 'package(mcpd-tests) & (
        test(/^(lifecycle|misbehaviour|frozen|no_descriptors)::/) + test(/^crash::known_processes/)
        + test(/^zoo::.*::(is_stopped|does_not_outlive_a_crash)$/))'
}

# mcpd as a service of a real systemd, in namespaces.
check_systemd() {
    scripts/systemd.sh
}

check_unit_tests() {
    scripts/test.sh --lib --bins 2>&1 | tee "$LOGS/tests.log"
}

# A minute of what scripts/soak.sh does for an hour.
check_soak() {
    target/debug/soak 60
}

check_real_clients() {
    scripts/real_clients.sh
}

# Nothing is linked, so no SDK is needed. The tests are left out: they drive real processes on Linux.
check_macos() {
    rustup target add aarch64-apple-darwin >"$LOGS/target.log" 2>&1 || { cat "$LOGS/target.log"; return 1; }
    CC_aarch64_apple_darwin="$PWD/scripts/apple-cc" AR_aarch64_apple_darwin=ar SDKROOT=/ \
        cargo clippy --locked --target aarch64-apple-darwin --keep-going \
        -p mcpd-common -p mcpd-proto -p mcpd-daemon -p mcpd-cli -- -D warnings
}

install_deny() {
    [[ "$("$TOOLS/bin/cargo-deny" --version 2>/dev/null)" == "cargo-deny $DENY" ]] && return
    # Without optimisation it is built in a third of the time and still checks within a second.
    CARGO_PROFILE_DEV_DEBUG=0 install --debug --root "$TOOLS" --force "cargo-deny@$DENY"
}

# Takes what `cargo install` takes; its output is shown only if it fails.
install() {
    echo "installing ${*: -1} (once)"
    CARGO_TARGET_DIR="$TOOLS/build" cargo install --locked "$@" >"$LOGS/install.log" 2>&1 || {
        cat "$LOGS/install.log"
        return 1
    }
    rm -rf "$TOOLS/build"
}

failed=()

# run TITLE FUNCTION: headline, check, time and outcome. Paths are shown relative to the project.
run() {
    local title=$1 begin=$SECONDS outcome=ok
    printf '\n== %s\n' "$title"
    "$2" </dev/null 2>&1 | sed -u "s|$PWD/||g; s|$PWD|.|g" || { outcome=FAILED; failed+=("$title"); }
    printf -- '-- %s: %s, %d s\n' "$title" "$outcome" "$((SECONDS - begin))"
}

# What nextest counted, as "N passed, N failed".
test_counts() {
    local summary passed failures
    summary=$(grep -E '^ *Summary \[' "$LOGS/tests.log" 2>/dev/null | tail -n 1)
    passed=$(grep -oE '[0-9]+ passed' <<<"$summary") || passed='0 passed'
    failures=$(grep -oE '[0-9]+ (failed|timed out|exec failed)' <<<"$summary" | awk '{ n += $1 } END { print n + 0 }')
    echo "$passed, $failures failed"
}

verdict() {
    printf '\ntests: %s\n' "$(test_counts)"
    if ((${#failed[@]} == 0)); then
        echo "all checks passed in $SECONDS s"
        return 0
    fi
    local list
    printf -v list '%s, ' "${failed[@]}"
    echo "checks failed after $SECONDS s: ${list%, }"
    return 1
}

main() {
    local quick=no
    case "${1-}" in
        '') ;;
        --quick) quick=yes ;;
        *)
            echo 'usage: scripts/check.sh [--quick]' >&2
            exit 64
            ;;
    esac
    mkdir -p "$LOGS" "$TOOLS"
    # The verdict counts the tests of this run only.
    rm -f "$LOGS/tests.log" || exit 1
    run format check_format
    run clippy check_clippy
    run documentation check_docs
    if [[ $quick == yes ]]; then
        run 'unit tests' check_unit_tests
    else
        run 'dependency policy' check_dependencies
        run tests check_tests
        run 'portable backend' check_portable_backend
        run systemd check_systemd
        run 'real MCP clients' check_real_clients
        run soak check_soak
        run 'fuzz targets' check_fuzz_targets
        run macOS check_macos
    fi
    verdict
}

# In one line, so that editing this file while it runs does no harm: bash reads as it goes.
main "$@"; exit
