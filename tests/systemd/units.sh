# The units of `mcpctl service install` under a real systemd: that of the system manager, then that of a user's manager.
# Run by boot.sh with mcpd, mcpctl and fixture_worker.
# shellcheck shell=bash
# shellcheck source-path=SCRIPTDIR source=lib.sh
source /trial/lib.sh

all_ready() { ready_workers 3; }
worker_cgroups() { for pid in $(pgrep -x fixture_worker); do cut -d: -f3 "/proc/$pid/cgroup"; done | grep mcpd | sort -u | wc -l; }
three_cgroups() { [[ $(worker_cgroups) -ge 3 ]]; }
answers() { as mcpctl --socket "$1" health >/dev/null 2>&1; }
restarted() { [[ $(property NRestarts) -ge 1 ]]; }

check_install_and_stop() {
    install_unit
    check 'install starts it and returns when the workers are ready' all_ready || cat /trial/install.log
    check 'the unit is active' active active
    check 'each worker has a cgroup of its own' three_cgroups
    as mcpctl restart forks >/dev/null
    check 'also after a restart' three_cgroups
    check 'a second install changes nothing' install_unit
    check 'and says so' grep -q 'already there, unchanged' /trial/install.log

    check_mcpctl
    open_stream 8101 /trial/stream
    control stop mcpd.service
    check 'stop ends with Result=success' test "$(property Result)" = success
    check 'the unit is inactive' active inactive
    check 'no process is left' nothing_left
    check 'the report has the true code' has_code 3
    check 'mcpctl --config finds it' finds_report
    check 'its client got the shutdown notice' grep -q notifications/shutdown /trial/stream
}

check_start_and_shutdown() {
    control start mcpd.service
    check 'start returns when the workers are ready' all_ready
    # This script runs in a unit of its own, whose directories would not be those of mcpd.
    as env -u SYSTEMD_EXEC_PID "${places[@]}" timeout 60 mcpd --config "$config" >/trial/second.log 2>&1
    check 'a second instance ends with 75' test $? -eq 75
    as mcpctl shutdown --wait >/dev/null
    check 'mcpctl shutdown --wait ends with the code of the daemon' test $? -eq 3
    check 'and leaves an inactive unit' wait_for active inactive
    check 'no process is left' nothing_left
}

# In a terminal, which knows nothing of the unit's directories.
check_mcpctl() {
    check 'plain mcpctl finds the daemon' healthy
    check 'mcpctl --config, too' finds_daemon "$config"
    [[ $manager == system ]] || return
    cp "$config" /tmp/other.toml
    check 'not with a configuration that the unit does not have' not finds_daemon /tmp/other.toml
}

finds_daemon() { as mcpctl --config "$1" health >/dev/null 2>&1; }
finds_report() { [[ $(as mcpctl --config "$config" report --json | grep -c '"exit_code": *3') -ge 1 ]]; }

check_crashes() {
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
    check 'and each has its cgroup' three_cgroups
    control stop mcpd.service
}

# systemd decides at once whether it starts a unit again: until then it is "auto-restart", not "failed".
check_broken_configuration() {
    cp "$config" /trial/config && echo 'broken =' >>"$config"
    control start mcpd.service 2>/dev/null
    check 'a broken configuration fails' wait_for active failed
    check 'with 78' test "$(property ExecMainStatus)" = 78
    check 'and is not restarted' test "$(property SubState) $(property NRestarts)" = 'failed 0'
    cat /trial/config >"$config"
    control reset-failed mcpd.service
}

# The second instance is the unit: a daemon with the same state already runs by itself, with a socket elsewhere.
check_second_unit() {
    local run=/tmp/first-$manager
    as install -d -m 700 $run
    as env -u SYSTEMD_EXEC_PID -u NOTIFY_SOCKET STATE_DIRECTORY="$state" RUNTIME_DIRECTORY=$run \
        mcpd --config "$config" >/trial/first.log 2>&1 &
    check 'a daemon runs by itself' wait_for answers $run/control.sock
    control start mcpd.service 2>/dev/null
    check 'the unit beside it fails with 75' test "$(property ExecMainStatus)" = 75
    check 'and is not restarted' test "$(property SubState) $(property NRestarts)" = 'failed 0'
    as mcpctl --socket $run/control.sock shutdown --wait >/dev/null
    check 'it stops as always' test $? -eq 3
    control reset-failed mcpd.service
}

# The drop-in shortens the wait for the watchdog.
check_watchdog() {
    as mkdir -p "$unit.d"
    printf '[Service]\nWatchdogSec=10\n' | as tee "$unit.d/watchdog.conf" >/dev/null
    control daemon-reload
    control start mcpd.service
    check 'a drop-in is used' test "$(property WatchdogUSec)" = 10s
    kill -STOP "$(daemon_pid)"
    check 'a daemon that hangs is ended by the watchdog' wait_for restarted
    check 'and started again' wait_for healthy
    uninstall_unit
    check 'uninstall removes the unit' test ! -e "$unit"
    check 'and keeps the drop-in' test -e "$unit.d/watchdog.conf"
    check 'no process is left in the end' wait_for nothing_left
}

trial() {
    use_manager "$1"
    three_workers 8101 | configure
    check_install_and_stop
    check_start_and_shutdown
    check_crashes
    check_broken_configuration
    check_second_unit
    check_watchdog
}

trial system
trial user
exit $failed
