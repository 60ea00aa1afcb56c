# Ends, and with it this boot, while mcpd runs under both managers, with hostile workers and open streams.
# poweroff.after.sh looks at what is left. Run by boot.sh with mcpd, mcpctl and fixture_worker.
# shellcheck shell=bash
# shellcheck source-path=SCRIPTDIR source=lib.sh
source /trial/lib.sh

# start MANAGER PORT
start() {
    use_manager "$1"
    three_workers "$2" | configure
    install_unit
    check 'all workers are ready' ready_workers 3 || cat /trial/install.log
    check 'a client has a stream' open_stream "$2" "/trial/stream-$1"
}

start system 8101
start user 8111
exit $failed
