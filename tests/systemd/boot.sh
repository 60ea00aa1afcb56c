#!/usr/bin/env bash
# Boots systemd in namespaces of its own, runs a script there as root, and prints its output.
#
#   tests/systemd/boot.sh SCRIPT [FILE...]      FILEs, and the scripts beside SCRIPT, are available to it below /trial
#   tests/systemd/boot.sh tests/systemd/units.sh target/debug/{mcpd,mcpctl,fixture_worker}
#
# The root is an overlay, and the network is a loopback alone: nothing that the script does reaches this machine. Services that set up a kernel or hardware are
# masked, and /proc/sys is read-only. Needs root, systemd and cgroup v2. A script beside SCRIPT with the name NAME.after.sh
# runs after the poweroff, outside, with the directory of all that was written as its argument.
#
# Exit code: that of the script, or of NAME.after.sh; 77 if this machine can't boot it, with the reason on standard error. The
# boot is killed after TRIAL_SECONDS (480). Whatever ends this script, no process, mount or cgroup is left; what a `kill -9`
# leaves (two directories) is removed by the next run.
set -uo pipefail

skip() {
    echo "skipped: $1" >&2
    exit 77
}

# In a mount namespace of its own, so that the mounts end with the last process.
if [[ ${TRIAL_NAMESPACE-} != mount ]]; then
    [[ $EUID -eq 0 ]] || skip 'it needs root'
    unshare --mount true 2>/dev/null || skip 'not permitted: no mount namespace can be made'
    TRIAL_NAMESPACE=mount exec unshare --mount --propagation private "$BASH" "${BASH_SOURCE[0]}" "$@"
fi
unset TRIAL_NAMESPACE

readonly LIMIT=${TRIAL_SECONDS:-480} PREFIX=mcpd-trial.
readonly PLACE=${TMPDIR:-/tmp}
readonly MASKED='systemd-modules-load systemd-sysctl systemd-binfmt systemd-udevd systemd-udev-trigger
    systemd-random-seed systemd-tmpfiles-setup systemd-tmpfiles-setup-dev systemd-timesyncd systemd-pstore
    systemd-remount-fs kmod-static-nodes apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer'
export MASKED

# end_all CGROUP: kills everything in it and removes it. The names of others' processes play no part.
end_all() {
    [[ -d $1 ]] || return 0
    local pid
    for _ in {1..100}; do
        if ! echo 1 2>/dev/null >"$1/cgroup.kill"; then
            # Linux before 5.14.
            find "$1" -name cgroup.procs -exec cat {} + 2>/dev/null | while read -r pid; do kill -KILL "$pid" 2>/dev/null; done
        fi
        find "$1" -depth -type d -exec rmdir {} \; 2>/dev/null
        [[ -d $1 ]] || return 0
        sleep 0.1
    done
    echo "the cgroup $1 can't be removed"
}

# remove DIRECTORY: ends a trial and removes what it had.
remove() {
    end_all "$hierarchy/${1##*/}"
    umount "$1/space" 2>/dev/null
    rm -rf --one-file-system "$1"
}

# The directory is locked while its trial runs.
remove_leftovers() {
    local old lock
    for old in "$PLACE/$PREFIX"*; do
        [[ -d $old && -O $old ]] || continue
        exec {lock}<"$old"
        if flock --nonblock "$lock"; then remove "$old"; fi
        exec {lock}<&-
    done
}

find_cgroups() {
    hierarchy=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
    [[ -z $hierarchy ]] || return 0
    # Nothing uses cgroup v2 here; a mount of it shows all of them.
    hierarchy=$PLACE/mcpd-cgroups
    mkdir -p "$hierarchy"
    mount -t cgroup2 cgroup2 "$hierarchy" 2>/dev/null || skip 'not permitted: no cgroup v2 can be mounted'
}

# As process 1 to be: a root of its own, then systemd.
become_init() {
    set -u
    local space=$directory/space unit
    refuse() {
        echo "$1" >"$directory/refused"
        exit 1
    }
    mount -t overlay overlay -o "lowerdir=/,upperdir=$space/upper,workdir=$space/work" "$space/root" ||
        refuse 'no overlay can be mounted'
    cd "$space/root" || exit
    mount -t proc proc proc || refuse 'no /proc can be mounted'
    mount --bind proc/sys proc/sys && mount -o remount,bind,ro proc/sys || refuse '/proc/sys can not be made read-only'
    mount --rbind /dev dev && mount --bind /dev/null dev/kmsg || refuse '/dev can not be mounted'
    mount -t sysfs -o ro sysfs sys || refuse 'no /sys can be mounted'
    mount -t cgroup2 cgroup2 sys/fs/cgroup || refuse 'no cgroup v2 can be mounted in a namespace'
    mount -t tmpfs tmpfs run && mount -t tmpfs tmpfs tmp || refuse 'no tmpfs can be mounted'
    mkdir -p trial old && mount --bind "$directory/trial" trial || refuse 'no directory can be mounted'
    for unit in $MASKED; do
        [[ $unit == *.* ]] || unit=$unit.service
        ln -sf /dev/null "etc/systemd/system/$unit"
    done
    # What systemd logged is looked at after the end.
    mkdir -p var/log/journal etc/systemd/journald.conf.d
    printf '[Journal]\nStorage=persistent\nRateLimitBurst=0\nReadKMsg=no\n' >etc/systemd/journald.conf.d/trial.conf
    cat >etc/systemd/system/trial.service <<'END'
[Service]
Type=oneshot
ExecStart=/bin/bash -c '/bin/bash /trial/script; echo $? > /trial/code'
StandardOutput=append:/trial/output
StandardError=append:/trial/output
ExecStopPost=/bin/sh -c '/usr/bin/systemctl --no-block poweroff 2>/dev/null'
END
    pivot_root . old && umount -l /old || exit
    exec env -i container=trial PATH="$PATH" "$systemd" --unit=trial.service --log-level=info
}
export -f become_init

# Ends with this script, also if that is killed.
boot() {
    echo $BASHPID >"$hierarchy/${directory##*/}/cgroup.procs" || exit
    exec setpriv --pdeathsig KILL unshare --cgroup --pid --mount --net --uts --ipc --fork --kill-child \
        --propagation private "$BASH" -c become_init
}

# Waits in the background, so that a signal to this script has its effect at once. The lock is not inherited.
boot_in_time() {
    local boot timer status=0
    boot {lock}>&- >"$directory/console" 2>&1 &
    boot=$!
    setpriv --pdeathsig KILL sleep "$LIMIT" {lock}>&- &
    timer=$!
    wait -n "$boot" "$timer"
    if kill -0 "$timer" 2>/dev/null; then kill "$timer"; else end_all "$hierarchy/${directory##*/}"; fi
    wait "$boot" 2>/dev/null || status=$?
    return "$status"
}

# One at a time: a directory that is not locked yet must not look like a leftover.
make_directory() {
    local turn
    exec {turn}<"$PLACE"
    flock "$turn"
    remove_leftovers
    directory=$(mktemp -d "$PLACE/${PREFIX}XXXXXX") || exit
    exec {lock}<"$directory"
    flock --nonblock "$lock" || exit
    exec {turn}<&-
}

prepare() {
    # bash reports on standard error that a child was killed.
    trap 'remove "$directory" 2>/dev/null' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    mkdir "$hierarchy/${directory##*/}" 2>/dev/null || skip 'not permitted: no cgroup can be made'
    mkdir "$directory/space" "$directory/trial" || exit
    mount -t tmpfs tmpfs "$directory/space" 2>/dev/null || skip 'not permitted: no tmpfs can be mounted'
    mkdir "$directory/space/upper" "$directory/space/work" "$directory/space/root" || exit
    cp "$(dirname "$1")"/*.sh "$directory/trial/" && cp "$1" "$directory/trial/script" || exit
    shift
    local file
    for file in "$@"; do cp "$file" "$directory/trial/" || exit; done
    export directory systemd
}

# What the boot came to, as the exit code.
outcome() {
    if [[ -s $directory/refused ]]; then
        tail -5 "$directory/console" >&2
        skip "not permitted: $(cat "$directory/refused")"
    fi
    if [[ ! -e $directory/trial/output ]]; then
        tail -5 "$directory/console" >&2
        skip "systemd does not boot in namespaces here (status $1)"
    fi
    cat "$directory/trial/output"
    # A poweroff ends the first process of the namespace with SIGINT, reboot(2).
    if [[ $1 -ne 130 ]]; then
        if [[ $1 -eq 137 ]]; then echo "killed after $LIMIT s"; else echo "no clean poweroff (status $1):"; fi
        tail -20 "$directory/console"
        return 1
    fi
    return "$(cat "$directory/trial/code" 2>/dev/null || echo 1)"
}

main() {
    systemd=$(command -v /lib/systemd/systemd || command -v /usr/lib/systemd/systemd) || skip 'there is no systemd'
    find_cgroups
    make_directory
    prepare "$@"
    local after=${1%.sh}.after.sh
    boot_in_time
    outcome $? || exit
    if [[ -e $after ]]; then "$BASH" "$after" "$directory/space/upper" || exit; fi
}

main "$@"; exit
