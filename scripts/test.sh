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
readonly BACKEND=${MCPD_BACKEND:-linux}
readonly ALLOWED=tests/skips.allowed
readonly TOOLS=target/tools
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

# is_allowed TEST REASON: whether tests/skips.allowed has both in the section of this backend.
is_allowed() {
    local name pattern section=
    while read -r name pattern; do
        case $name in
            '' | '#'*) ;;
            '['*) section=$name ;;
            # The right side of == is a pattern, on purpose.
            "$1") [[ $section == "[$BACKEND]" && $2 == $pattern ]] && return ;;
        esac
    done <"$ALLOWED"
    return 1
}

# Shows what was skipped. The status is 1 if that must not be.
report_skips() {
    local skips count name reason refused=
    skips=$(sort -u "$MCPD_SKIP_LOG") || return 1
    count=$(cut -f 1 <<<"$skips" | sort -u | grep -c .)
    echo
    if [[ $count == 0 ]]; then
        echo 'no test skipped'
        return
    fi
    if [[ $count == 1 ]]; then echo '1 test skipped:'; else echo "$count tests skipped:"; fi
    while IFS=$'\t' read -r name reason; do
        echo "  $name: $reason"
        is_allowed "$name" "$reason" || refused+="  $name: $reason"$'\n'
    done <<<"$skips"
    [[ -n $refused && (${CI-} == true || ${MCPD_STRICT_SKIPS-} == 1) ]] || return 0
    printf 'skipped, but not in the section [%s] of %s:\n%s' "$BACKEND" "$ALLOWED" "$refused"
    return 1
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
