# How skipped tests are shown and counted; for `source`. A test that this machine can't run appends "NAME<tab>REASON" to
# MCPD_SKIP_LOG. tests/skips.allowed names those that may be skipped in CI, for each backend (MCPD_BACKEND).
# shellcheck shell=bash
readonly BACKEND=${MCPD_BACKEND:-linux}
readonly ALLOWED=tests/skips.allowed

# is_allowed TEST REASON: whether tests/skips.allowed has both in the section of this backend.
is_allowed() {
    local name pattern section=
    # The right side of == is a pattern, on purpose.
    # shellcheck disable=SC2053
    while read -r name pattern; do
        case $name in
            '' | '#'*) ;;
            '['*) section=$name ;;
            "$1") [[ $section == "[$BACKEND]" && $2 == $pattern ]] && return ;;
        esac
    done <"$ALLOWED"
    return 1
}

# Shows what was skipped. With CI=true or MCPD_STRICT_SKIPS=1, the status is 1 if that must not be.
report_skips() {
    local skips count name reason refused=
    skips=$(sort -u "$MCPD_SKIP_LOG") || return 1
    count=$(cut -f 1 <<<"$skips" | sort -u | grep -c .)
    echo
    if [[ $count == 0 ]]; then
        echo 'no test skipped'
        return
    fi
    if [[ $count == 1 ]]; then echo '1 test skipped:'; else echo "$count tests skipped:"; fi
    while IFS=$'\t' read -r name reason; do
        echo "  $name: $reason"
        is_allowed "$name" "$reason" || refused+="  $name: $reason"$'\n'
    done <<<"$skips"
    [[ -n $refused && (${CI-} == true || ${MCPD_STRICT_SKIPS-} == 1) ]] || return 0
    printf 'skipped, but not in the section [%s] of %s:\n%s' "$BACKEND" "$ALLOWED" "$refused"
    return 1
}
