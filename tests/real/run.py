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

# Seconds for everything; 30 are usual.
LIMIT = 200


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
        # What everybody wrote is kept for whoever looks into a failure.
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
    checks.waited_for(table, pairs, lambda: restart(table, daemon))
    checks.run(table, "restarted", pairs, checks.go_on)

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
    checks.run(table, "shutdown", pairs, checks.shutdown)
    leave(table, clients)


def restart(table, daemon):
    """Each by its name, all at the same time."""
    with ThreadPoolExecutor() as pool:
        for name, done in zip(daemon.urls, pool.map(lambda name: daemon.mcpctl("restart", name), daemon.urls)):
            if done.returncode == 0:
                table.ok(("mcpd", name), "restarted")
            else:
                table.failed(("mcpd", name), "restarted", f"exit code {done.returncode}: {done.stderr}")


def leave(table, clients):
    """A client whose server is gone can still end as it likes."""
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
