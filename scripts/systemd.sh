#!/usr/bin/env bash
# Boots systemd in namespaces of its own and runs the scripts of tests/systemd there, with mcpd as a service.
#
#   scripts/systemd.sh              all
#   scripts/systemd.sh restart      some, by name
#
# Needs root (or `sudo` without a password), systemd and cgroup v2; what this machine can't run is listed at the end, as by
# scripts/test.sh, under the name systemd::NAME.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

# stop_time.sh measures, and is run by hand.
readonly NAMES=(install analyze units restart poweroff)
readonly FILES=(target/debug/mcpd target/debug/mcpctl target/debug/fixture_worker docs/services.md)
export MCPD_SKIP_LOG=$PWD/target/skipped-tests-systemd.log
# shellcheck source-path=SCRIPTDIR source=skips.sh
source scripts/skips.sh

boot() {
    if [[ $EUID -ne 0 ]] && sudo -n true 2>/dev/null; then
        sudo tests/systemd/boot.sh "$@"
    else
        tests/systemd/boot.sh "$@"
    fi
}

# trial NAME: shows its output. 0 if it passed or was skipped.
trial() {
    local begin=$SECONDS log=target/systemd-$1.log reason status=0
    boot "tests/systemd/$1.sh" "${FILES[@]}" >"$log" 2>&1 </dev/null || status=$?
    if [[ $status -eq 77 ]]; then
        reason=$(sed -n 's/^skipped: //p' "$log" | tail -n 1)
        echo "skipped $1: $reason"
        printf 'systemd::%s\t%s\n' "$1" "$reason" >>"$MCPD_SKIP_LOG"
        return 0
    fi
    cat "$log"
    echo "$1: $(grep -c '^ok ' "$log") checks passed, $(grep -c '^FAILED ' "$log") failed, exit code $status, $((SECONDS - begin)) s"
    return "$status"
}

main() {
    local names=("$@") name status=0
    ((${#names[@]} > 0)) || names=("${NAMES[@]}")
    mkdir -p target && : >"$MCPD_SKIP_LOG" && cargo build --workspace --bins || return 1
    for name in "${names[@]}"; do
        [[ -e tests/systemd/$name.sh ]] || { echo "there is no tests/systemd/$name.sh" >&2; return 64; }
        trial "$name" || status=1
    done
    report_skips || status=1
    return "$status"
}

# In one line, so that editing this file while it runs does no harm: bash reads as it goes.
main "$@"; exit
