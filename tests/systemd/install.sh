# `mcpctl service install`, `status` and `uninstall`, each twice: as root and not, with an edited unit, without a user bus,
# without systemd. Every refusal says what to do next. Run by boot.sh with mcpd, mcpctl and fixture_worker.
# shellcheck shell=bash
# shellcheck source-path=SCRIPTDIR source=lib.sh
source /trial/lib.sh

# twice CODE TEXT COMMAND...: both times the command ends with this code, and its output has the text (a pattern of grep -E).
twice() {
    local code=$1 text=$2 turn status output
    shift 2
    for turn in first second; do
        output=$("$@" 2>&1)
        status=$?
        if [[ $status -ne $code ]] || ! grep -qE -- "$text" <<<"$output"; then
            printf '%s time: code %s, expected %s and "%s":\n%s\n' "$turn" "$status" "$code" "$text" "$output"
            return 1
        fi
    done
}

# Without its output; that of a failure is shown.
quietly() {
    local output
    output=$("$@" 2>&1) || { echo "$output"; return 1; }
}

service() { as mcpctl service "$@" "${options[@]}"; }
# shellcheck disable=SC2120 # `check` passes the arguments
install_service() { service install "${more[@]}" --path "$PATH" "$@"; }
# Units and configurations, of the system and of the user.
files() { find /etc/systemd /etc/mcpd /home/$TRIAL_USER/.config ! -type d 2>/dev/null | sort; }
edit() { sed -i 's/^RestartSec=2/RestartSec=9/' "$unit"; }

check_not_installed() {
    check 'status without an installation says how to install' twice 3 'mcpctl service install' service status
    check 'uninstall without an installation succeeds' twice 0 'nothing to do' service uninstall
    check 'install without a configuration says how to write one' twice 78 'mcpd init' install_service
}

check_installed() {
    worker polite 8101 --mcp | configure
    files >/trial/before
    check 'a dry run changes nothing' twice 0 'nothing was changed' install_service --dry-run
    check 'indeed' cmp /trial/before <(files)
    check 'install' twice 0 'installed, and running' install_service
    check 'status' twice 0 'active \(running\)' service status
    control stop mcpd.service
    control disable mcpd.service 2>/dev/null
    check 'status of a stopped unit says how to start it' twice 3 'systemctl .*start mcpd.service' service status
    check 'install enables and starts a stopped unit' twice 0 'already there, unchanged' install_service
    check 'it is enabled' test "$(control is-enabled mcpd.service)" = enabled
    check 'uninstall' quietly service uninstall
    check 'uninstall again' twice 0 'nothing to do' service uninstall
    check 'nothing is left' cmp /trial/before <(files)
    check 'not even a failed unit' test "$(control show -p LoadState --value mcpd.service)" = not-found
    check 'no process is left' nothing_left
}

check_edited() {
    install_service >/dev/null
    edit
    check 'install keeps an edited unit' twice 78 'systemctl .*edit mcpd.service' install_service
    check 'uninstall, too' twice 78 '--force' service uninstall
    check 'status names the edit' twice 0 'changed by hand' service status
    check 'install --force replaces it' quietly install_service --force
    check 'and keeps a copy' grep -q RestartSec=9 "$unit.edited"
    edit
    check 'uninstall --force removes it' quietly service uninstall --force
    check 'the copy is all that is left' test "$(comm -13 /trial/before <(files))" = "$unit.edited"
    rm "$unit.edited"
    control mask mcpd.service 2>/dev/null
    check 'install says how to unmask the unit' twice 78 'systemctl .*unmask mcpd.service' install_service
    control unmask mcpd.service 2>/dev/null
}

check_removed_by_hand() {
    install_service >/dev/null
    rm "$unit"
    check 'uninstall stops a unit whose file is gone' quietly service uninstall
    check 'no process is left' nothing_left
    check 'nor a file' cmp /trial/before <(files)
}

check_start_fails() {
    cp "$config" /trial/config
    install_service >/dev/null
    control stop mcpd.service
    mkdir -p "$unit.d"
    printf '[Service]\nExecStartPre=/no/such/program\n' >"$unit.d/broken.conf"
    chown -R --reference="$unit" "$unit.d"
    check 'a start that fails says where to look' twice 69 'journalctl .*-u mcpd.service' install_service
    check 'status, too' twice 3 'journalctl .*-u mcpd.service' service status
    check 'uninstall removes it' quietly service uninstall
    rm -r "$unit.d"
    control daemon-reload
    check 'nothing is left' cmp /trial/before <(files)
}

all() {
    use_manager "$1"
    check_not_installed
    check_installed
    check_edited
    check_removed_by_hand
    check_start_fails
}

# mcpctl with the configuration of the unit finds its daemon, wherever the configuration is.
check_configuration_elsewhere() {
    echo '== a configuration elsewhere'
    use_manager system
    worker polite 8101 --mcp >'/srv/my config.toml'
    check 'install --config' quietly install_service --config '/srv/my config.toml'
    check 'mcpctl finds the daemon by it' quietly mcpctl --config '/srv/my config.toml' health
    check 'also from its directory' quietly env -C /srv mcpctl --config 'my config.toml' health
    check 'not by another one' twice 3 'not running' mcpctl --config "$config" status
    service uninstall >/dev/null
}

# Without --run-as, the user of sudo counts.
check_users_of_the_system_unit() {
    echo '== users of a system unit'
    use_manager system
    export SUDO_USER=$TRIAL_USER
    more=()
    check 'the user of sudo is the user of the unit' quietly install_service
    check 'indeed' test "$(ps -o user= -p "$(property MainPID)")" = $TRIAL_USER
    check 'its user may look' twice 0 'active \(running\)' as_user $TRIAL_USER $TRIAL_UID mcpctl service status --system
    for verb in install uninstall; do
        check "$verb --system needs root" twice 77 sudo as_user $TRIAL_USER $TRIAL_UID mcpctl service $verb --system
    done
    chmod 600 $config
    chown -R root: /etc/mcpd
    check 'a configuration that the user may not read' twice 69 'journalctl' restart_installed
    service uninstall >/dev/null
    unset SUDO_USER
    more=(--run-as no-such-user)
    check 'a user who does not exist' twice 64 '--run-as' install_service
}

restart_installed() {
    control stop mcpd.service
    install_service
}

# In a mount namespace that hides systemd and its buses.
without_systemd() {
    # shellcheck disable=SC2016
    unshare --mount --propagation private bash -c 'mount -t tmpfs tmpfs /run && "$@"' bash "$@"
}
without_programs() { env PATH=/trial "$@"; }
# As su and sudo leave the environment.
as_stranger() { runuser -u $OTHER_USER -- env -u XDG_RUNTIME_DIR HOME=/home/$OTHER_USER USER=$OTHER_USER PATH="$PATH" "$@"; }
as_trial_by_su() { runuser -u $TRIAL_USER -- env -u XDG_RUNTIME_DIR HOME=/home/$TRIAL_USER PATH="$PATH" "$@"; }

# A login through PAM, as by ssh. systemd stops the user's manager 10 s after the logout.
log_in() { su --login $OTHER_USER -c "PATH=$PATH; $1"; }

check_logout() {
    echo '== logout'
    mkdir -p /home/$OTHER_USER/.config/mcpd
    worker polite 8101 >/home/$OTHER_USER/.config/mcpd/config.toml
    chown -R $OTHER_USER: /home/$OTHER_USER
    check 'install after a login explains lingering' twice 0 "loginctl enable-linger $OTHER_USER" log_in 'mcpctl service install'
    check 'the logout stops mcpd' wait_for nothing_left
    check 'as a requested stop' grep -q '"reason": "service_stop"' /home/$OTHER_USER/.local/state/mcpd/last-shutdown.json
    check 'the next login starts it' log_in 'timeout 60 sh -c "until mcpctl health; do sleep 0.1; done" >/dev/null'
    check 'uninstall' twice 0 'uninstalled|nothing to do' log_in 'mcpctl service uninstall'
    wait_for not systemctl -q is-active user@$OTHER_UID.service
}

check_without() {
    local verb
    echo '== without a service manager'
    mkdir -p /home/$OTHER_USER/.config/mcpd /root/.config/mcpd
    worker polite 8101 | tee /home/$OTHER_USER/.config/mcpd/config.toml >/root/.config/mcpd/config.toml
    worker polite 8101 >/etc/mcpd/config.toml
    for verb in install status; do
        check "$verb of a user who has not logged in" twice 69 'log in' as_stranger mcpctl service $verb
        check "$verb after su" twice 69 "XDG_RUNTIME_DIR=/run/user/$TRIAL_UID" as_trial_by_su mcpctl service $verb
        check "$verb of root for itself" twice 69 '--system' env -u XDG_RUNTIME_DIR HOME=/root mcpctl service $verb
        check "$verb --system without systemd" twice 69 'boot this machine with systemd' without_systemd mcpctl service $verb --system
        check "$verb without systemd" twice 69 'boot this machine with systemd' without_systemd env HOME=/root mcpctl service $verb
        check "$verb --system without systemctl" twice 69 'no program systemctl' without_programs mcpctl service $verb --system
    done
    check 'uninstall has nothing to do' twice 0 'nothing to do' as_stranger mcpctl service uninstall
    check 'nor without systemd' twice 0 'nothing to do' without_systemd mcpctl service uninstall --system
    use_manager system
    install_service >/dev/null
    check 'uninstall without systemd says how to remove the unit' twice 69 "$unit" without_systemd mcpctl service uninstall --system
    service uninstall >/dev/null
}

useradd --create-home --uid $OTHER_UID --shell /bin/bash $OTHER_USER
all system
all user
check_configuration_elsewhere
check_users_of_the_system_unit
check_logout
check_without
check 'no process is left' nothing_left
exit $failed
