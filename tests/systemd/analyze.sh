# `systemd-analyze verify` and `security` of the units of `mcpctl service install`. Run by boot.sh with mcpd, mcpctl,
# fixture_worker and docs/services.md, which has a reason for each thing that is not locked down.
# shellcheck shell=bash
# shellcheck source-path=SCRIPTDIR source=lib.sh
source /trial/lib.sh
readonly DOCUMENTED=252

silent() {
    local output
    output=$("$@" 2>&1) && [[ -z $output ]] && return
    echo "$output"
    return 1
}

# Settings without the mark of those that are as systemd-analyze wants them.
open_settings() { sed -n 's/^✗ \([A-Za-z]*\).*/\1/p' "/trial/security-$1" | grep -v '^Overall' | sort -u; }

all_documented() {
    local setting status=0
    for setting in $(open_settings "$1"); do
        grep -q "^| [^|]*\`$setting\`" /trial/services.md || { echo "$setting"; status=1; }
    done
    return $status
}

# analyze USER
analyze() {
    echo "== system unit with --run-as $1"
    more=(--run-as "$1")
    check 'install' install_unit || cat /trial/install.log
    check 'systemd-analyze verify is silent' silent systemd-analyze verify "$unit"
    LC_ALL=C.UTF-8 systemd-analyze security --no-pager mcpd.service >"/trial/security-$1"
    local score version
    score=$(sed -n 's/.*Overall exposure level for mcpd.service: \([0-9.]*\).*/\1/p' "/trial/security-$1")
    version=$(systemctl --version | sed -n '1s/systemd \([0-9]*\).*/\1/p')
    echo "systemd $version: exposure $score"
    if [[ $version == "$DOCUMENTED" ]]; then
        check 'each open setting has a reason in docs/services.md' all_documented "$1"
        check 'the exposure is that of docs/services.md' grep -qF "exposure $score with \`--run-as $1\`" <(sed "s/--run-as USER/--run-as $TRIAL_USER/" /trial/services.md)
    fi
    uninstall_unit
}

use_manager user
worker polite 8101 --mcp | configure
check 'install' install_unit || cat /trial/install.log
check 'systemd-analyze verify is silent' silent as systemd-analyze --user verify "$unit"
uninstall_unit
use_manager system
worker polite 8101 --mcp | configure
analyze $TRIAL_USER
analyze root
exit $failed
