"""Every client with every server through mcpd: see README.md."""

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import checks
from client import PROGRAMS, Client
from daemon import REAL, Daemon
from table import Table

# Seconds for everything; 60 are usual.
LIMIT = 300


def main():
    for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, give_up)
    signal.alarm(LIMIT)
    home = Path(tempfile.mkdtemp(prefix="mcpd-real-"))
    table = Table(checks.CHECKS)
    daemon = Daemon(home)
    clients = [Client(name, home) for name in PROGRAMS]
    try:
        play(table, daemon, clients)
    except (Exception, GivenUp) as error:
        table.failed(("play",), "end", f"{type(error).__name__}: {error}")
    finally:
        signal.alarm(0)
        for client in clients:
            client.end()
        daemon.end()
        # All output is kept to investigate a failure.
        logs = REAL / "last-run"
        shutil.rmtree(logs, ignore_errors=True)
        shutil.copytree(home, logs, ignore=shutil.ignore_patterns("repos", "socket", ".npm"))
        shutil.rmtree(home)
    sys.exit(0 if table.show() else 1)


def play(table, daemon, clients):
    tell("starting")
    daemon.wait_ready()
    pairs = [checks.Pair(client, server, daemon) for client in clients for server in daemon.urls]
    tell("connecting")
    checks.run(table, "connect", pairs, checks.connect)
    pairs = [pair for pair in pairs if hasattr(pair, "listens")]
    for pair in pairs:
        stream = {True: ", listens", None: ""}.get(pair.listens, ", can't listen")
        tell(f"  {pair.client.name} x {pair.server}: {pair.version}{stream}")
    checks.run(table, "as direct", pairs, checks.as_direct)
    checks.run(table, "progress", [pair for pair in pairs if pair.has_slow], checks.progress)
    tell("inspecting")
    checks.inspector(table, "as direct", daemon, daemon.urls)

    tell("killing all workers")
    refused = checks.in_flight(table, pairs, daemon.kill_workers)
    checks.run(table, "killed", pairs, checks.go_on)
    refused()
    tell("restarting all workers")
    daemon.wait_ready()
    checks.waited_for(table, "waited for", pairs, lambda: restart(table, daemon))
    checks.run(table, "restarted", pairs, checks.go_on)
    tell("restarting the daemon")
    checks.waited_for(table, "finished", pairs, lambda: replace(table, daemon))
    checks.run(table, "replaced", pairs, checks.go_on_with_another_daemon)

    shut_down(table, daemon)
    checks.run(table, "shutdown", pairs, checks.shutdown)
    tell("starting again, 5 s later")
    time.sleep(5)
    daemon.start()
    daemon.wait_ready()
    checks.run(table, "back", pairs, checks.go_on_with_another_daemon)
    leave(table, clients)


def shut_down(table, daemon):
    tell("shutting down")
    begin = time.monotonic()
    done = daemon.mcpctl("shutdown", "--wait", "--reason", "the clients were tried", timeout=100)
    code = daemon.process.wait(20)
    took = time.monotonic() - begin
    tell(f"  mcpctl: {done.returncode}, mcpd: {code}, {took:.1f} s")
    # No worker waits for the streams of its clients: that would take the 10 s that it has to leave.
    if (done.returncode, code) == (0, 0) and took < 8:
        table.ok(("mcpd",), "shutdown")
    else:
        why = f"exit codes {done.returncode}, {code} after {took:.1f} s:\n{done.stdout}{done.stderr}"
        table.failed(("mcpd",), "shutdown", why)


def restart(table, daemon):
    """Each by its name, all at the same time."""
    with ThreadPoolExecutor() as pool:
        for name, done in zip(daemon.urls, pool.map(lambda name: daemon.mcpctl("restart", name), daemon.urls)):
            if done.returncode == 0:
                table.ok(("mcpd", name), "restarted")
            else:
                table.failed(("mcpd", name), "restarted", f"exit code {done.returncode}: {done.stderr}")


def replace(table, daemon):
    """The daemon itself, as another program in the same process."""
    done = daemon.mcpctl("restart", "--daemon", timeout=100)
    if done.returncode == 0:
        table.ok(("mcpd",), "replaced")
    else:
        table.failed(("mcpd",), "replaced", f"exit code {done.returncode}: {done.stdout}{done.stderr}")


def leave(table, clients):
    """None of them was broken by all that."""
    for client in clients:
        try:
            code = client.leave()
        except subprocess.TimeoutExpired as error:
            table.failed((client.name,), "end", error)
            continue
        if code == 0:
            table.ok((client.name,), "end")
        else:
            table.failed((client.name,), "end", f"exit code {code}")


class GivenUp(BaseException):
    """No check catches it."""


def give_up(number, _frame):
    raise GivenUp(f"ended by {signal.Signals(number).name}; SIGALRM comes after {LIMIT} s")


def tell(what):
    print(what, flush=True)


main()
