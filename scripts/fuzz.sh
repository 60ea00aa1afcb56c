#!/usr/bin/env bash
# Runs the fuzz targets one after the other: scripts/fuzz.sh SECONDS [TARGET ...]
#
# Each target runs for SECONDS of wall-clock time on one core. The corpus in target/fuzz/corpus grows with each run. The
# last line of each target shows the number of inputs. The exit status is 1 if a target crashed.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly FUZZ=0.13.2
readonly TOOLS=target/tools
readonly PLACE=target/fuzz

# The sanitizer and the coverage flags need a nightly compiler. This variable makes the pinned stable one accept them.
export RUSTC_BOOTSTRAP=1
export CARGO_TARGET_DIR=$PWD/target/fuzz/build

cargo_fuzz() {
    [[ "$("$TOOLS/bin/cargo-fuzz" --version 2>/dev/null)" == "cargo-fuzz $FUZZ" ]] ||
        CARGO_TARGET_DIR=$TOOLS/build cargo install --quiet --locked --root "$TOOLS" --force "cargo-fuzz@$FUZZ"
    "$TOOLS/bin/cargo-fuzz" "$1" --fuzz-dir tests/fuzz "${@:2}"
}

main() {
    if [[ ! ${1-} =~ ^[0-9]+$ ]]; then
        echo 'usage: scripts/fuzz.sh SECONDS [TARGET ...]' >&2
        exit 64
    fi
    local seconds=$1 status=0 host target targets=("${@:2}")
    host=$(rustc -vV | sed -n 's/^host: //p')
    ((${#targets[@]})) || mapfile -t targets < <(cargo_fuzz list)
    for target in "${targets[@]}"; do
        mkdir -p "$PLACE/corpus/$target" "$PLACE/artifacts/$target"
        cp -r "tests/fuzz/seeds/$target/." "$PLACE/corpus/$target" 2>/dev/null || true
        echo "== $target, $seconds s"
        # Without --target cargo-fuzz uses the target that it was built for; its standard library may not be installed.
        cargo_fuzz run "$target" --target "$host" "$PLACE/corpus/$target" -- -max_total_time="$seconds" -max_len=4096 -timeout=20 \
            -artifact_prefix="$PWD/$PLACE/artifacts/$target/" -print_final_stats=1 >"$PLACE/$target.log" 2>&1 || status=1
        grep -E '^(Done|stat::number_of_executed|SUMMARY|.*panicked)' "$PLACE/$target.log" || tail -n 20 "$PLACE/$target.log"
    done
    exit "$status"
}

main "$@"
