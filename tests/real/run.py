"""Every client with every server through mcpd: see README.md."""

import json
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
from daemon import REAL, RUNNERS, STDIO, Daemon
from table import Table

# Limit for the whole run in seconds; it takes 155 on two processors that other programs use, too.
LIMIT = 400
BEGIN = time.monotonic()


def main():
    for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, interrupt)
    signal.alarm(LIMIT)
    home = Path(tempfile.mkdtemp(prefix="mcpd-real-"))
    table = Table(checks.CHECKS)
    daemon = Daemon(home)
    clients = [Client(name, home) for name in PROGRAMS]
    try:
        run_steps(table, daemon, clients)
    except (Exception, Interrupted) as error:
        table.failed(("run",), "end", f"{type(error).__name__}: {error}")
    finally:
        signal.alarm(0)
        for client in clients:
            client.kill()
        daemon.stop()
        # All output is kept to investigate a failure.
        logs = REAL / "last-run"
        shutil.rmtree(logs, ignore_errors=True)
        shutil.copytree(home, logs, ignore=shutil.ignore_patterns("repos", "socket", ".npm"))
        shutil.rmtree(home)
    sys.exit(0 if table.show() else 1)


def run_steps(table, daemon, clients):
    log("starting")
    daemon.wait_ready()
    pairs = [checks.Pair(client, server, daemon) for client in clients for server in daemon.urls]
    log("connecting")
    checks.run(table, "connect", pairs, checks.connect)
    pairs = [pair for pair in pairs if hasattr(pair, "listens")]
    for pair in pairs:
        stream = {True: ", listens", None: ""}.get(pair.listens, ", can't listen")
        log(f"  {pair.client.name} x {pair.server}: {pair.version}{stream}")
    checks.run(table, "as direct", [pair for pair in pairs if pair.server not in STDIO], checks.as_direct)
    log("starting each server for each client")
    alone = [pair for pair in pairs if pair.server in STDIO and pair.server not in RUNNERS]
    as_direct = checks.as_direct_once({})
    # The clients with `auto` come last, and use the results of the others.
    for is_auto in (False, True):
        some = [pair for pair in alone if (pair.client.era == "auto") == is_auto]
        checks.run(table, "as direct", some, as_direct, at_once=12)
    checks.run(table, "as direct", [pair for pair in pairs if pair.server in RUNNERS], checks.as_runner)
    log("waiting for progress")
    checks.run(table, "progress", [pair for pair in pairs if pair.has_slow], checks.progress)
    log("calling with all connections at the same time")
    checks.run(table, "crowd", [pair for pair in pairs if pair.server in checks.CROWD], checks.crowd)
    checks.without_sessions(table, "connect", daemon, STDIO)
    log("inspecting")
    checks.inspector(table, "as direct", daemon, [name for name in daemon.urls if name not in RUNNERS])

    log("killing all workers")
    refused = checks.in_flight(table, pairs, daemon.kill_workers)
    checks.run(table, "killed", pairs, checks.session_continues)
    refused()
    log("restarting all workers")
    daemon.wait_ready()
    checks.waited_for(table, "waited for", pairs, lambda: restart(table, daemon))
    checks.run(table, "restarted", pairs, checks.session_continues)
    log("reloading in place")
    reloading = [pair for pair in pairs if pair.server == "reload"]
    for _ in range(2):
        checks.run(table, "reloaded", reloading, checks.session_continues_in_another_process)
        daemon.reload()
    checks.run(table, "reloaded", reloading, checks.session_continues_in_another_process)
    log("restarting the daemon")
    checks.waited_for(table, "finished", pairs, lambda: restart_daemon(table, daemon))
    checks.run(table, "replaced", pairs, checks.session_continues_with_another_daemon)

    shut_down(table, daemon)
    ended(table, daemon, clients)
    checks.run(table, "shutdown", pairs, checks.shutdown)
    log("starting again, 5 s later")
    time.sleep(5)
    daemon.start()
    daemon.wait_ready()
    checks.run(table, "back", pairs, checks.session_continues_with_another_daemon)
    close(table, clients)


def shut_down(table, daemon):
    log("shutting down")
    begin = time.monotonic()
    done = daemon.mcpctl("shutdown", "--wait", "--reason", "the clients were tested", timeout=100)
    code = daemon.process.wait(20)
    took = time.monotonic() - begin
    log(f"  mcpctl: {done.returncode}, mcpd: {code}, {took:.1f} s")
    # If a worker waited for the streams of its clients, it would take the graceful time of 10 s.
    if (done.returncode, code) == (0, 0) and took < 8:
        table.ok(("mcpd",), "shutdown")
    else:
        why = f"exit codes {done.returncode}, {code} after {took:.1f} s:\n{done.stdout}{done.stderr}"
        table.failed(("mcpd",), "shutdown", why)


def ended(table, daemon, clients):
    """Every worker that speaks stdio exited at the end of its input; no process of any worker is left."""
    report = json.loads(daemon.mcpctl("--config", daemon.config, "report", "--json").stdout)
    for worker in report["workers"]:
        if worker["name"] in STDIO:
            how = (worker["asked"], worker["departure"])
            if how == ("end_of_input", "left"):
                table.ok(("mcpd", worker["name"]), "shutdown")
            else:
                table.failed(("mcpd", worker["name"]), "shutdown", f"{how}: {worker}")
    if left := daemon.left({client.process.pid for client in clients}):
        table.failed(("mcpd", "processes"), "shutdown", f"left: {left}")
    else:
        table.ok(("mcpd", "processes"), "shutdown")


def restart(table, daemon):
    """Restarts all workers at the same time, each by its name."""
    with ThreadPoolExecutor() as pool:
        for name, done in zip(daemon.urls, pool.map(lambda name: daemon.mcpctl("restart", name), daemon.urls)):
            if done.returncode == 0:
                table.ok(("mcpd", name), "restarted")
            else:
                table.failed(("mcpd", name), "restarted", f"exit code {done.returncode}: {done.stderr}")


def restart_daemon(table, daemon):
    """Re-executes the daemon."""
    done = daemon.mcpctl("restart", "--daemon", timeout=100)
    if done.returncode == 0:
        table.ok(("mcpd",), "replaced")
    else:
        table.failed(("mcpd",), "replaced", f"exit code {done.returncode}: {done.stdout}{done.stderr}")


def close(table, clients):
    """All client programs are still running, and exit with 0."""
    for client in clients:
        try:
            code = client.close()
        except subprocess.TimeoutExpired as error:
            table.failed((client.name,), "end", error)
            continue
        if code == 0:
            table.ok((client.name,), "end")
        else:
            table.failed((client.name,), "end", f"exit code {code}")


class Interrupted(BaseException):
    """A BaseException, so that no check catches it."""


def interrupt(number, _frame):
    raise Interrupted(f"ended by {signal.Signals(number).name}; SIGALRM comes after {LIMIT} s")


def log(what):
    print(f"{time.monotonic() - BEGIN:5.1f} s  {what}", flush=True)


main()
