# What the scripts have in common. Those that run inside of boot.sh begin with `source /trial/lib.sh`.
# shellcheck shell=bash disable=SC2034 # each script uses a part of it
set -uo pipefail
export PATH=/trial:$PATH
failed=0

readonly TRIAL_USER=trial TRIAL_UID=1777 OTHER_USER=stranger OTHER_UID=1778

# check SENTENCE COMMAND...: a line for the reader.
check() {
    local name=$1
    shift
    if "$@"; then echo "ok      $name"; else
        echo "FAILED  $name"
        failed=1
        return 1
    fi
}

# skip_script REASON: boot.sh shows it.
skip_script() {
    if [[ $failed -ne 0 ]]; then exit 1; fi
    echo "skipped: $1"
    exit 77
}

# Conditions are awaited, 60 s at most: the machine may be busy.
wait_for() {
    local deadline=$((SECONDS + 60))
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.05
    done
}

not() { ! "$@"; }

# as_user USER UID COMMAND...: in the session bus of this user, if there is one.
as_user() {
    local user=$1 uid=$2
    shift 2
    runuser -u "$user" -- env HOME="/home/$user" USER="$user" XDG_RUNTIME_DIR="/run/user/$uid" PATH="$PATH" "$@"
}

# as COMMAND...: as the user whose manager is on trial.
as() { if [[ $manager == system ]]; then "$@"; else as_user $TRIAL_USER $TRIAL_UID "$@"; fi; }

control() { if [[ $manager == system ]]; then systemctl "$@"; else as systemctl --user "$@"; fi; }
property() { control show -p "$1" --value mcpd.service; }
active() { [[ $(property ActiveState) == "$1" ]]; }
healthy() { as mcpctl health >/dev/null 2>&1; }
nothing_left() { ! { pgrep -x mcpd || pgrep -x mcp-guardian || pgrep -x fixture_worker; } >/dev/null; }
daemon_pid() { pgrep -P "$(property MainPID)" -x mcpd; }
has_code() { grep -q "\"exit_code\": $1" "$state/last-shutdown.json"; }

# ready_workers COUNT
ready_workers() { [[ $(as mcpctl status --json 2>/dev/null | grep -o '"state": *"ready"' | wc -l) -eq $1 ]]; }

# A user whose manager runs without a login, through logind and PAM.
start_user_manager() {
    useradd --create-home --uid $TRIAL_UID --shell /bin/bash $TRIAL_USER
    [[ -e /lib/systemd/system/systemd-logind.service ]] || skip_script 'there is no logind'
    systemctl start dbus.socket systemd-logind.service
    loginctl enable-linger $TRIAL_USER
    check 'logind starts the manager of a user who lingers' wait_for systemctl -q is-active user@$TRIAL_UID.service
    check 'PAM has opened its session' wait_for pam_opened_session
}

pam_opened_session() { journalctl -q -o cat -u user@$TRIAL_UID.service | grep -q 'session opened for user trial'; }

# use_manager system|user: sets where its unit has its files, and makes its user.
use_manager() {
    manager=$1
    echo "== $manager manager"
    if [[ $manager == system ]]; then
        config=/etc/mcpd/config.toml state=/var/lib/mcpd unit=/etc/systemd/system/mcpd.service
        options=(--system) more=(--run-as root) places=("STATE_DIRECTORY=$state" RUNTIME_DIRECTORY=/run/mcpd)
    else
        config=/home/$TRIAL_USER/.config/mcpd/config.toml state=/home/$TRIAL_USER/.local/state/mcpd
        unit=/home/$TRIAL_USER/.config/systemd/user/mcpd.service
        options=() more=() places=()
        start_user_manager
    fi
    mkdir -p /srv/repo "$(dirname "$config")"
}

# Takes the configuration from standard input.
configure() {
    cat >"$config"
    if [[ $manager == user ]]; then chown -R $TRIAL_USER: /home/$TRIAL_USER; fi
}

# worker NAME PORT FLAG...: a section of a configuration.
worker() {
    local name=$1 port=$2 flags
    shift 2
    printf -v flags ', "%s"' "$@"
    printf '[workers.%s]\nrepo = "/srv/repo"\nport = %s\nready = "http:/health"\n' "$name" "$port"
    printf 'command = ["/trial/fixture_worker", "--port", "{port}", "--tag", "trial"%s]\n' "${flags/#, \"\"/}"
}

# three_workers PORT: one that stops when asked, one that must be killed, one whose children escape.
three_workers() {
    printf '[shutdown]\nworker_graceful = "1s"\nworker_total = "2s"\nclients = "2s"\n'
    worker polite "$1" --mcp
    worker stubborn $(($1 + 1)) --ignore-shutdown --ignore-term
    worker forks $(($1 + 2)) --tree 2 2 --escape 2
}

# MCP over curl.
readonly INITIALIZE='{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{}}}'
readonly HEADERS=(-H 'content-type: application/json' -H 'accept: application/json, text/event-stream')

# new_session PORT: its id.
new_session() {
    curl -si --max-time 60 "${HEADERS[@]}" -d "$INITIALIZE" "http://127.0.0.1:$1/mcp" | tr -d '\r' | sed -n 's/^mcp-session-id: //Ip'
}

# open_stream PORT FILE: an event stream that stays open, as an MCP client has one.
open_stream() {
    local session
    session=$(new_session "$1")
    curl -sN -H "mcp-session-id: $session" -H 'accept: text/event-stream' "http://127.0.0.1:$1/mcp" >"$2" &
    wait_for grep -qs '"pid"' "$2"
}

install_unit() { as mcpctl service install "${options[@]}" "${more[@]}" --path "$PATH" "$@" >/trial/install.log 2>&1; }
uninstall_unit() { as mcpctl service uninstall "${options[@]}" "$@" >/trial/uninstall.log 2>&1; }
