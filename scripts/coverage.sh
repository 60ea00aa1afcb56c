#!/usr/bin/env bash
# Line coverage of the rooms that stop and prove, by all tests: also of the daemons that end-to-end tests start.
#
#   scripts/coverage.sh                            all tests, also on the portable backend, then a table by room
#   scripts/coverage.sh -E 'test(/^crash::/)'      some: arguments go to `cargo nextest run`
#   scripts/coverage.sh --lines ROOM               the uncovered lines of the last run, by file
#
# cargo-llvm-cov is installed into target/tools if it is missing. The counters are in files that are mapped into memory
# (%c, which needs runtime-counter-relocation): also a process that ends by SIGKILL, exec or _exit leaves its counts,
# and so does a child between fork and exec. %8m: all processes of a program share 8 files.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

readonly LLVM_COV=0.9.1
readonly TOOLS=$PWD/target/tools
readonly ROOMS='shutdown supervisor process verify guardian recovery proxy'
readonly RESULT=target/coverage/result.json

install_llvm_cov() {
    export PATH=$TOOLS/bin:$PATH
    cargo llvm-cov --version >/dev/null 2>&1 && return
    CARGO_TARGET_DIR=$TOOLS/build cargo install --locked --root "$TOOLS" "cargo-llvm-cov@$LLVM_COV" || return
    rm -rf "$TOOLS/build"
}

run_tests() {
    rustup component add llvm-tools >/dev/null 2>&1
    # shellcheck disable=SC1090
    source <(cargo llvm-cov show-env --sh 2>/dev/null || cargo llvm-cov show-env --export-prefix)
    export CARGO_TARGET_DIR=$PWD/target/coverage
    export LLVM_PROFILE_FILE=$CARGO_TARGET_DIR/counts-%8m%c.profraw
    export RUSTFLAGS="${RUSTFLAGS-} -Cllvm-args=-runtime-counter-relocation"
    export CARGO_LLVM_COV_TARGET_DIR=$CARGO_TARGET_DIR
    mkdir -p "$CARGO_TARGET_DIR"
    find "$CARGO_TARGET_DIR" -maxdepth 1 -name '*.profraw' -delete
    cargo build --workspace && cargo nextest run --workspace --no-fail-fast "$@"
    # The portable backend's lines, by tests of what it promises (see check.sh).
    [[ $# -gt 0 ]] || MCPD_BACKEND=portable cargo nextest run -p mcpd-tests --no-fail-fast -E '
        test(/^(lifecycle|misbehaviour|frozen|no_descriptors)::/) + test(/^crash::known_processes/)
        + test(/^zoo::.*::(is_stopped|does_not_outlive_a_crash)$/)'
    cargo llvm-cov report --json --output-path "$RESULT"
}

# table: lines, covered lines and share of each room, and the files with the most uncovered lines.
table() {
    python3 - "$RESULT" "$ROOMS" <<'END'
import json, sys
rooms = {room: [0, 0] for room in sys.argv[2].split()}
files = []
for file in json.load(open(sys.argv[1]))["data"][0]["files"]:
    path = file["filename"].split("/daemon/src/")
    room = path[1].split("/")[0] if len(path) == 2 else None
    if room not in rooms or "/tests/" in path[1] or "_tests.rs" in path[1] or "/fake/" in path[1]:
        continue
    lines = file["summary"]["lines"]
    rooms[room][0] += lines["count"]
    rooms[room][1] += lines["covered"]
    files.append((lines["count"] - lines["covered"], path[1]))
for room, (count, covered) in rooms.items():
    print(f"{room:12} {covered:6} of {count:6} lines  {100 * covered / max(count, 1):6.2f} %")
print()
for uncovered, path in sorted(files, reverse=True)[:25]:
    if uncovered:
        print(f"{uncovered:5} uncovered  {path}")
END
}

# lines ROOM: "file:line" of each line that no test reached, counted like the table (LineCoverageStats in LLVM's
# CoverageMapping.cpp). A line of which only a part was not reached, as the error of a `?`, counts as reached.
lines() {
    python3 - "$RESULT" "$1" <<'END'
import json, sys
def uncovered(segments, length):
    by_line = {}
    for segment in segments:
        by_line.setdefault(segment[0], []).append(segment)
    wrapped = None
    for number in range(1, length + 1):
        # [line, column, count, has_count, is_region_entry, is_gap]
        own = by_line.get(number, [])
        starts = [segment for segment in own if segment[3] and segment[4] and not segment[5]]
        is_skipped = own and not own[0][3] and own[0][4]
        is_mapped = not is_skipped and (starts or wrapped and wrapped[3])
        count = max([segment[2] for segment in starts] + [wrapped[2] if wrapped else 0])
        if is_mapped and count == 0:
            yield number
        if own:
            wrapped = own[-1]
for file in json.load(open(sys.argv[1]))["data"][0]["files"]:
    path = file["filename"].split("/daemon/src/")
    if len(path) < 2 or path[1].split("/")[0] != sys.argv[2] or "tests" in path[1] or "/fake/" in path[1]:
        continue
    text = open(file["filename"]).read().splitlines()
    for number in uncovered(file["segments"], len(text)):
        print(f"{path[1]}:{number}: {text[number - 1].strip()}")
END
}

if [[ ${1-} == --lines ]]; then
    lines "${2:?name a room: $ROOMS}" | sort -u -t: -k1,1 -k2,2n
    exit
fi
install_llvm_cov && run_tests "$@" && table
