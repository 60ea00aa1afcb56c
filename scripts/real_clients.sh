#!/usr/bin/env bash
# Tries MCP clients and servers that are not ours against the front door: see tests/real/README.md.
#
# What is missing is installed into target/real. The last line is "N passed, N failed", the exit status 0 or 1.
set -euo pipefail
cd "$(dirname "$0")/.."
readonly REAL=target/real

# install_python N: a virtual environment with requirements-N.txt, made anew when that file changes.
install_python() {
    local place=$REAL/python$1 wanted=tests/real/requirements-$1.txt
    cmp -s "$wanted" "$place/installed" && return
    echo "installing $(tr '\n' ' ' <"$wanted")(once)"
    rm -rf "$place"
    python3 -m venv "$place"
    "$place/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted"
    cp "$wanted" "$place/installed"
}

install_npm() {
    local place=$REAL/npm wanted=tests/real/package.json
    # Modules are looked for beside the programs and above.
    ln -sfn "../../$place/node_modules" tests/real/node_modules
    cmp -s "$wanted" "$place/installed" && return
    echo "installing the packages of $wanted (once)"
    rm -rf "$place"
    mkdir -p "$place"
    cp "$wanted" "$place/"
    npm install --prefix "$place" --ignore-scripts --no-audit --no-fund --loglevel=error
    cp "$wanted" "$place/installed"
}

main() {
    mkdir -p "$REAL"
    install_python 1
    install_python 2
    install_npm
    cargo build --locked --quiet --workspace --bins
    exec python3 tests/real/run.py "$@"
}

main "$@"
