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
# The longest first.
readonly NAMES=(units install restart poweroff analyze)
readonly FILES=(target/debug/mcpd target/debug/mcpctl target/debug/fixture_worker docs/services.md)
readonly LOGS=target/systemd
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

# trial NAME: its output goes to LOGS/NAME.log, its exit code and its duration to LOGS/NAME.
trial() {
    local begin=$SECONDS status=0
    # boot.sh gets the signal, too, and is waited for.
    trap : TERM
    boot "tests/systemd/$1.sh" "${FILES[@]}" >"$LOGS/$1.log" 2>&1 </dev/null || status=$?
    echo "$status $((SECONDS - begin))" >"$LOGS/$1"
}

# report NAME: 0 if it passed or was skipped.
report() {
    local log=$LOGS/$1.log status seconds reason
    read -r status seconds <"$LOGS/$1" || return
    printf '\n%s.sh\n' "$1"
    if [[ $status -eq 77 ]]; then
        reason=$(sed -n 's/^skipped: //p' "$log" | tail -n 1)
        echo "skipped: $reason"
        printf 'systemd::%s\t%s\n' "$1" "$reason" >>"$MCPD_SKIP_LOG"
        return 0
    fi
    cat "$log"
    echo "$1: $(grep -c '^ok ' "$log") checks passed, $(grep -c '^FAILED ' "$log") failed, exit code $status, $seconds s"
    return "$status"
}

end_trials() {
    local group
    for group in $(jobs -rp); do kill -TERM -- "-$group" 2>/dev/null; done
    wait
}

main() {
    local names=("$@") name status=0
    ((${#names[@]} > 0)) || names=("${NAMES[@]}")
    for name in "${names[@]}"; do
        [[ -e tests/systemd/$name.sh ]] || { echo "there is no tests/systemd/$name.sh" >&2; return 64; }
    done
    mkdir -p "$LOGS" && : >"$MCPD_SKIP_LOG" && cargo build --workspace --bins || return 1
    rm -f "${names[@]/#/$LOGS/}"
    # Each trial in a process group of its own, which is ended with this script. Most of the time a trial waits, so two run
    # at the same time.
    set -m
    trap end_trials EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    for name in "${names[@]}"; do
        if [[ $(jobs -rp | wc -l) -ge 2 ]]; then wait -n; fi
        trial "$name" &
    done
    wait
    for name in "${names[@]}"; do report "$name" || status=1; done
    report_skips || status=1
    return "$status"
}

# In one line, so that editing this file while it runs does no harm: bash reads as it goes.
main "$@"; exit
