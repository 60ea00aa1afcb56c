# The units of `mcpctl service install` under a real systemd: that of the system manager, then that of a user's manager.
# Run by boot.sh with mcpd, mcpctl and fixture_worker.
set -uo pipefail
export PATH=/trial:$PATH
failed=0

check() {
    local name=$1
    shift
    if "$@"; then echo "ok      $name"; else echo "FAILED  $name"; failed=1; fi
}

readonly TRIAL_USER=trial TRIAL_UID=1777

# as COMMAND...: as the user whose manager is on trial.
as() {
    if [[ $manager == system ]]; then "$@"; else
        runuser -u $TRIAL_USER -- env HOME=/home/$TRIAL_USER XDG_RUNTIME_DIR=/run/user/$TRIAL_UID PATH="$PATH" "$@"
    fi
}

control() { if [[ $manager == system ]]; then systemctl "$@"; else as systemctl --user "$@"; fi; }
property() { control show -p "$1" --value mcpd.service; }
active() { [[ $(property ActiveState) == "$1" ]]; }
wait_for() { for _ in $(seq 300); do "$@" && return; sleep 0.1; done; return 1; }
all_ready() { [[ $(as mcpctl status --json | grep -o '"state": *"ready"' | wc -l) -eq 3 ]]; }
healthy() { as mcpctl health >/dev/null 2>&1; }
nothing_left() { ! { pgrep -x mcpd || pgrep -x mcp-guardian || pgrep -x fixture_worker; } >/dev/null; }
daemon_pid() { pgrep -P "$(property MainPID)" -x mcpd; }
worker_cgroups() { for pid in $(pgrep -x fixture_worker); do cut -d: -f3 "/proc/$pid/cgroup"; done | grep mcpd | sort -u | wc -l; }
has_code() { grep -q "\"exit_code\": $1" "$state/last-shutdown.json"; }

# Without logind and PAM, which minimal machines lack.
start_user_manager() {
    mkdir -p /etc/systemd/system/user@$TRIAL_UID.service.d
    printf '[Service]\nPAMName=\nEnvironment=XDG_RUNTIME_DIR=/run/user/%%i\n' >/etc/systemd/system/user@$TRIAL_UID.service.d/trial.conf
    cat >/etc/systemd/system/user-runtime-dir@$TRIAL_UID.service <<END
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/install -d -m 0700 -o $TRIAL_USER -g $TRIAL_USER /run/user/$TRIAL_UID
END
    systemctl daemon-reload
    systemctl start user@$TRIAL_UID.service
}

# An event stream that stays open, as an MCP client has one.
open_stream() {
    local url=http://127.0.0.1:8101/mcp session
    local initialize='{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{}}}'
    local headers=(-H 'content-type: application/json' -H 'accept: application/json, text/event-stream')
    session=$(curl -si "${headers[@]}" -d "$initialize" $url | tr -d '\r' | sed -n 's/^mcp-session-id: //Ip')
    curl -sN -H "mcp-session-id: $session" -H 'accept: text/event-stream' $url >/trial/stream &
    wait_for grep -q '"pid"' /trial/stream
}

configure() {
    mkdir -p /srv/repo "$(dirname "$config")"
    cat >"$config" <<'END'
[shutdown]
worker_graceful = "1s"
worker_total = "2s"
clients = "2s"
[workers.polite]
repo = "/srv/repo"
port = 8101
command = ["/trial/fixture_worker", "--port", "{port}", "--tag", "trial", "--mcp"]
ready = "http:/health"
[workers.stubborn]
repo = "/srv/repo"
port = 8102
command = ["/trial/fixture_worker", "--port", "{port}", "--tag", "trial", "--ignore-shutdown", "--ignore-term"]
ready = "http:/health"
[workers.forks]
repo = "/srv/repo"
port = 8103
command = ["/trial/fixture_worker", "--port", "{port}", "--tag", "trial", "--tree", "2", "2", "--escape", "2"]
ready = "http:/health"
END
}

trial() {
    manager=$1
    echo "== $manager manager"
    if [[ $manager == system ]]; then
        config=/etc/mcpd/config.toml state=/var/lib/mcpd unit=/etc/systemd/system/mcpd.service
        options='--system --run-as root' places=(STATE_DIRECTORY=$state RUNTIME_DIRECTORY=/run/mcpd)
    else
        config=/home/$TRIAL_USER/.config/mcpd/config.toml state=/home/$TRIAL_USER/.local/state/mcpd options=
        unit=/home/$TRIAL_USER/.config/systemd/user/mcpd.service places=()
        useradd --create-home --uid $TRIAL_UID $TRIAL_USER
        start_user_manager
    fi
    configure
    if [[ $manager == user ]]; then chown -R $TRIAL_USER: /home/$TRIAL_USER; fi

    # shellcheck disable=SC2086
    as mcpctl service install $options --path "$PATH" >/trial/install.log 2>&1
    check 'install starts it and returns when the workers are ready' all_ready || cat /trial/install.log
    check 'the unit is active' active active
    check 'each worker has a cgroup of its own' test "$(worker_cgroups)" -ge 3
    as mcpctl restart forks >/dev/null
    check 'also after a restart' test "$(worker_cgroups)" -ge 3
    # shellcheck disable=SC2086
    as mcpctl service install $options --path "$PATH" >/trial/install.log 2>&1
    check 'a second install changes nothing' test $? -eq 0

    open_stream
    control stop mcpd.service
    check 'stop ends with Result=success' test "$(property Result)" = success
    check 'the unit is inactive' active inactive
    check 'no process is left' nothing_left
    check 'the report has the true code' has_code 3
    check 'its client got the shutdown notice' grep -q notifications/shutdown /trial/stream

    control start mcpd.service
    check 'start returns when the workers are ready' all_ready
    # This script runs in a unit of its own, whose directories would not be those of mcpd.
    as env -u SYSTEMD_EXEC_PID "${places[@]}" timeout 30 mcpd --config "$config" >/trial/second.log 2>&1
    check 'a second instance ends with 75' test $? -eq 75
    as mcpctl shutdown --wait >/dev/null
    check 'mcpctl shutdown --wait ends with the code of the daemon' test $? -eq 3
    check 'and leaves an inactive unit' wait_for active inactive
    check 'no process is left' nothing_left

    control start mcpd.service
    kill -9 "$(daemon_pid)"
    check 'a killed daemon is started again' wait_for all_ready
    kill -9 "$(property MainPID)"
    check 'a killed guardian is started again' wait_for all_ready
    local before
    before=$(property MainPID)
    as mcpctl restart --daemon >/dev/null
    check 'restart --daemon keeps the main process' test "$(property MainPID)" = "$before"
    check 'all workers are ready after it' wait_for all_ready
    check 'and each has its cgroup' test "$(worker_cgroups)" -ge 3

    control stop mcpd.service
    cp "$config" /trial/config && echo 'broken =' >>"$config"
    control start mcpd.service 2>/dev/null
    check 'a broken configuration fails' wait_for active failed
    # RestartSec is 2 s.
    sleep 4
    check 'and is not restarted' test "$(property NRestarts)" = 0
    cat /trial/config >"$config"
    control reset-failed mcpd.service

    control start mcpd.service
    kill -STOP "$(daemon_pid)"
    check 'a daemon that hangs is ended by the watchdog' wait_for_watchdog
    check 'and started again' wait_for healthy
    # shellcheck disable=SC2086
    as mcpctl service uninstall ${options%% *} >/trial/uninstall.log 2>&1
    check 'uninstall removes the unit' test ! -e $unit
    check 'no process is left in the end' wait_for nothing_left
}

wait_for_watchdog() { for _ in $(seq 900); do [[ $(property NRestarts) -ge 1 ]] && return; sleep 0.1; done; return 1; }

trial system
trial user
exit $failed
