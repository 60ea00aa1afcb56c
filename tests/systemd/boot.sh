#!/usr/bin/env bash
# Boots systemd in namespaces of its own, runs a script there as root, and prints its output.
#
#   tests/systemd/boot.sh SCRIPT [FILE...]      FILEs are available to it below /trial
#   tests/systemd/boot.sh tests/systemd/units.sh target/debug/{mcpd,mcpctl,fixture_worker}
#
# The root is an overlay: nothing that the script writes reaches this machine. Services that set up a kernel or hardware are
# masked, and /proc/sys is read-only. Needs root, systemd and a mounted cgroup v2. Exit code: that of the script; 77 if this
# machine can't do it.
set -euo pipefail

skip() {
    echo "skipped: $1" >&2
    exit 77
}

[[ $EUID -eq 0 ]] || skip 'it needs root'
systemd=$(command -v /lib/systemd/systemd || command -v /usr/lib/systemd/systemd) || skip 'there is no systemd'
hierarchy=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
[[ -n $hierarchy ]] || skip 'no cgroup v2 is mounted'

directory=$(mktemp -d)
cgroup=$hierarchy/$(basename "$directory")
mkdir "$cgroup" || skip 'no cgroup can be made'
cleanup() {
    find "$cgroup" -depth -type d -exec rmdir {} \; 2>/dev/null || true
    rm -rf "$directory"
}
trap cleanup EXIT
mkdir "$directory/trial"
cp "$1" "$directory/trial/script"
shift
for file in "$@"; do cp "$file" "$directory/trial/"; done
export directory systemd

readonly MASKED='systemd-modules-load systemd-sysctl systemd-binfmt systemd-udevd systemd-udev-trigger
    systemd-random-seed systemd-tmpfiles-setup systemd-tmpfiles-setup-dev systemd-timesyncd systemd-pstore
    systemd-remount-fs kmod-static-nodes apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer'
export MASKED

# As process 1 to be: a root of its own, then systemd.
become_init() {
    set -eu
    local space=$directory/space unit
    mkdir "$space" && mount -t tmpfs tmpfs "$space"
    mkdir "$space/upper" "$space/work" "$space/root"
    mount -t overlay overlay -o "lowerdir=/,upperdir=$space/upper,workdir=$space/work" "$space/root"
    cd "$space/root"
    mount -t proc proc proc
    mount --bind proc/sys proc/sys && mount -o remount,bind,ro proc/sys
    mount --rbind /dev dev
    mount -t sysfs -o ro sysfs sys
    mount -t cgroup2 cgroup2 sys/fs/cgroup
    mount -t tmpfs tmpfs run
    mount -t tmpfs tmpfs tmp
    mkdir -p trial old && mount --bind "$directory/trial" trial
    for unit in $MASKED; do
        [[ $unit == *.* ]] || unit=$unit.service
        ln -sf /dev/null "etc/systemd/system/$unit"
    done
    cat >etc/systemd/system/trial.service <<'END'
[Service]
Type=oneshot
ExecStart=/bin/bash -c '/bin/bash /trial/script; echo $? > /trial/code'
StandardOutput=append:/trial/output
StandardError=append:/trial/output
ExecStopPost=/bin/sh -c '/usr/bin/systemctl --no-block poweroff 2>/dev/null'
END
    pivot_root . old
    umount -l /old
    exec env -i container=trial PATH="$PATH" "$systemd" --unit=trial.service --log-level=warning
}
export -f become_init

enter() {
    echo $BASHPID >"$cgroup/cgroup.procs"
    exec timeout -s KILL "${TRIAL_SECONDS:-180}" unshare --cgroup --pid --mount --uts --ipc --fork --kill-child \
        --propagation private bash -c become_init
}

# A poweroff ends the first process of the namespace with SIGINT, reboot(2).
status=0
(enter) >"$directory/console" 2>&1 || status=$?
[[ -s $directory/trial/output ]] || {
    tail -5 "$directory/console" >&2
    skip 'systemd does not boot in namespaces here'
}
cat "$directory/trial/output"
if [[ $status -ne 130 ]]; then
    echo "systemd did not power off cleanly (status $status):" >&2
    tail -20 "$directory/console" >&2
    exit 1
fi
exit "$(cat "$directory/trial/code" 2>/dev/null || echo 1)"
