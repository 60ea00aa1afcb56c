#!/usr/bin/env bash
# Tests the front door with third-party MCP clients and servers: see tests/real/README.md.
#
# Installs missing packages into target/real. The last line is "N passed, N failed", the exit status is 0 or 1.
set -euo pipefail
cd "$(dirname "$0")/.."
readonly REAL=target/real

# install_python N: creates a virtual environment with requirements-N.txt, again if that file has changed.
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
    # Node.js searches for modules in the directory of the program and above.
    ln -sfn "../../$place/node_modules" tests/real/node_modules
    cmp -s "$wanted" "$place/installed" && return
    echo "installing the packages of $wanted (once)"
    rm -rf "$place"
    mkdir -p "$place"
    cp "$wanted" "$place/"
    npm install --prefix "$place" --ignore-scripts --no-audit --no-fund --loglevel=error
    cp "$wanted" "$place/installed"
}

# Fills the cache of uvx, so that the tests need no network.
install_uvx() {
    local wanted cache=$REAL/uv
    wanted=$(grep mcp-server-git tests/real/requirements-2.txt)
    [[ -e $cache/$wanted ]] && return
    echo "installing $wanted for uvx (once)"
    rm -rf "$cache"
    local bin=$REAL/python2/bin
    "$bin/uvx" --quiet --cache-dir "$cache" --python "$bin/python" "$wanted" --help >/dev/null
    touch "$cache/$wanted"
}

main() {
    mkdir -p "$REAL"
    install_python 1
    install_python 2
    install_uvx
    install_npm
    cargo build --locked --quiet --workspace --bins
    "$REAL/python1/bin/python" tests/real/framing.py
    exec python3 tests/real/run.py "$@"
}

main "$@"
