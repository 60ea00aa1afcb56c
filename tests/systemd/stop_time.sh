# `systemctl stop` of mcpd with 50 workers beside the same 50 as plain units, alternately. Run by boot.sh with mcpd, mcpctl
# and fixture_worker.
# shellcheck shell=bash
set -euo pipefail
export PATH=/trial:$PATH
readonly COUNT=50 TURNS=5

mkdir -p /etc/mcpd /srv/repo
for number in $(seq $COUNT); do
    printf '[workers.w%s]\nrepo = "/srv/repo"\nport = %s\ncommand = ["/trial/fixture_worker", "--port", "{port}", "--tag", "trial"]\nready = "http:/health"\n' \
        "$number" $((8200 + number))
done >/etc/mcpd/config.toml
cat >/etc/systemd/system/plain@.service <<'END'
[Service]
WorkingDirectory=/srv/repo
ExecStart=/trial/fixture_worker --port %i --tag trial
END
systemctl daemon-reload
mcpctl service install --system --run-as root --path "$PATH" >/trial/install.log 2>&1

plain=()
for number in $(seq $COUNT); do plain+=("plain@$((8300 + number)).service"); done
serving() { for number in $(seq $COUNT); do (exec 3<>/dev/tcp/127.0.0.1/$((8300 + number))) 2>/dev/null || return; done; }
stop_millis() {
    local begin=${EPOCHREALTIME/./}
    systemctl stop "$@"
    echo $(((${EPOCHREALTIME/./} - begin) / 1000))
}

# "median (lowest to highest)"
summary() { printf '%s\n' "$@" | sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] " ms (" v[1] " to " v[NR] ")" }'; }

own=() others=()
for turn in $(seq $TURNS); do
    systemctl start mcpd.service
    own+=("$(stop_millis mcpd.service)")
    systemctl start "${plain[@]}"
    until serving; do sleep 0.1; done
    others+=("$(stop_millis "${plain[@]}")")
    echo "turn $turn: mcpd ${own[-1]} ms, plain units ${others[-1]} ms"
done
echo "mcpd $(summary "${own[@]}"), plain units $(summary "${others[@]}")"
mcpctl service uninstall --system >/trial/uninstall.log 2>&1
