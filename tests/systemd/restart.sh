# Clients of mcpd while `systemctl restart` restarts its unit, three times. Run by boot.sh with mcpd, mcpctl and fixture_worker.
# shellcheck shell=bash
# shellcheck source-path=SCRIPTDIR source=lib.sh
source /trial/lib.sh
readonly PORT=8101 URL=http://127.0.0.1:8101/mcp
readonly IDLE=6 CALLERS=4 ROUNDS=3

# post SESSION MESSAGE: body on standard output, then a line "EXIT HTTP", of curl and of the answer.
post() {
    local outcome
    outcome=$(curl -s --max-time 60 -w '\n%{exitcode} %{http_code}' -H "mcp-session-id: $1" "${HEADERS[@]}" -d "$2" $URL)
    echo "$outcome"
}

state_of() { post "$1" '{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"state","arguments":{}}}'; }

# A session with state that a new worker must have, too: "level" and "initialized".
open_session() {
    local session
    session=$(new_session $PORT)
    post "$session" '{"jsonrpc":"2.0","method":"notifications/initialized"}' >/dev/null
    post "$session" '{"jsonrpc":"2.0","id":2,"method":"logging/setLevel","params":{"level":"debug"}}' >/dev/null
    echo "$session"
}

all_continue() {
    local session answer
    for session in "$@"; do
        answer=$(state_of "$session")
        [[ $answer == *debug* ]] || { echo "session $session: $answer"; return 1; }
    done
}

# The status of a GET stream with this session, opened for a moment.
stream_status() {
    curl -s --max-time 1 -o /dev/null -w '%{http_code}' -H "mcp-session-id: $1" -H 'accept: text/event-stream' $URL
}

# call_until_over N: calls in one session, again and again; each outcome is a line of outcomes-N.
call_until_over() {
    local session outcome
    session=$(open_session)
    echo "$session" >"/trial/session-$1"
    until [[ -e /trial/over ]]; do
        outcome=$(state_of "$session")
        if [[ $outcome == *debug* ]]; then echo answered; else echo "${outcome##*$'\n'} ${outcome%$'\n'*}"; fi >>"/trial/outcomes-$1"
    done
}

# 7: refused. 55, 52, 56: the connection ended in the request, or before or in the answer. Else mcpd itself answers that it
# shuts down.
readonly GAP='^(7 000|55 000|52 000|56 000|0 200 .*"the server is shutting down"}.*) *$'
allowed_only() { not grep -hvE "^(answered|restart .)$|$GAP" /trial/outcomes-*; }
all_called() { local number; for number in $(seq $CALLERS); do [[ -s /trial/outcomes-$number ]] || return; done; }
# Each caller has had an answer since the call.
all_answered() { local number; for number in $(seq $CALLERS); do [[ $(tail -n 1 "/trial/outcomes-$number") == answered ]] || return; done; }

trial() {
    use_manager "$1"
    { printf '[shutdown]\nclients = "3s"\n' && worker polite $PORT --mcp; } | configure
    install_unit
    check 'the worker is ready' ready_workers 1 || cat /trial/install.log
    rm -f /trial/over /trial/outcomes-*
    local idle=() number file callers=()
    for number in $(seq $IDLE); do idle+=("$(open_session)"); done
    for number in $(seq $CALLERS); do
        call_until_over "$number" &
        callers+=($!)
    done
    check 'clients call' wait_for all_called
    for number in $(seq $ROUNDS); do
        control restart mcpd.service
        for file in /trial/outcomes-*; do echo "restart $number" >>"$file"; done
        check "restart $number: the unit is active" active active
        check "restart $number: every calling client has answers again" wait_for all_answered
        check "restart $number: $IDLE clients that did not call in between continue" all_continue "${idle[@]}"
        check "restart $number: such a client has its stream again" test "$(stream_status "${idle[0]}")" = 200
    done
    touch /trial/over
    wait "${callers[@]}"
    check 'the others lost a connection at most, and no session' allowed_only
    echo "calls: $(cat /trial/outcomes-* | grep -c answered) answered, $(cat /trial/outcomes-* | grep -cE "$GAP") in the gap"
    control stop mcpd.service
    check 'the unit is inactive' active inactive
    check 'no process is left' nothing_left
    uninstall_unit
}

trial system
trial user
exit $failed
