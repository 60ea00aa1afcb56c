#!/usr/bin/env bash
# After a poweroff while mcpd ran: looks at the files from outside. Run by boot.sh with the root directory of the boot.
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "$0")/lib.sh"
root=$1
# logged PATTERN: by systemd, a user's manager or mcpd.
logged() { journalctl -D "$root/var/log/journal" -o cat 2>/dev/null | grep -E "$1"; }
# count PATTERN: how many times it was logged.
count() { logged "$1" | wc -l; }
report_has() { grep -qE "$1" "$state/last-shutdown.json"; }

for manager in system user; do
    echo "== after the poweroff: $manager manager"
    state=$root/var/lib/mcpd
    [[ $manager == system ]] || state=$root/home/trial/.local/state/mcpd
    check 'the report has the true code' report_has '"exit_code": 3'
    check 'systemd requested it' report_has '"reason": "service_stop"'
    check 'the run file is removed' test ! -e "$state/run.json"
    # SQLite removes the write-ahead log when the last connection closes.
    check 'the journal is there' test -s "$state/journal.sqlite3"
    check 'and closed' test ! -e "$state/journal.sqlite3-wal"
done
echo '== after the poweroff: both'
check 'both daemons completed their shutdown' test "$(count 'shut down code=3')" = 2
check 'both managers stopped the unit' test "$(count 'Stopped mcpd.service')" = 2
check 'systemd killed no process of mcpd' not logged 'mcpd.service: .*(Killing process|timed out|Failed with result)'
[[ $failed -eq 0 ]] || logged mcpd | tail -40
exit $failed
