"""The checks of every client with every server, all at the same time.

A round is a generator function with a pair as its argument. It yields futures and gets their results, so that
all pairs wait together. An exception is the failure of its pair.
"""

import subprocess
import time
from concurrent.futures import TimeoutError as FutureTimeout

from client import Failed
from daemon import ENVIRONMENT, MODULES, wait_for

TIMEOUT = 60
CHECKS = [
    "connect", "as direct", "progress", "in flight", "killed", "waited for", "restarted",
    "finished", "replaced", "shutdown", "back", "end",
]

# The tool that responds at once, and the one that reports progress for some time.
ECHO = {"builtin": ("status", {})}
SLOW = {
    "everything": "trigger-long-running-operation", "npx": "trigger-long-running-operation",
    "mcp1": "slow", "mcp2": "slow", "fastmcp": "slow",
}


class Pair:
    def __init__(self, client, server, daemon):
        self.client = client
        self.server = server
        self.url = daemon.urls[server]
        self.direct = daemon.direct_url(server)
        self.row = (client.name, server)
        self.has_slow = server in SLOW

    def send(self, do, **arguments):
        return self.client.send(do, server=self.server, **arguments)

    def echo(self):
        tool, arguments = ECHO.get(self.server, ("echo", {"message": "hello"}))
        return self.send("call", tool=tool, arguments=arguments)

    def slow(self, duration):
        self.seen = len(self.client.progress[self.server])
        return self.send("call", tool=SLOW[self.server], arguments={"duration": duration, "steps": 4 * duration})

    def progress(self):
        """The times at which the steps of the last slow call were reported."""
        return self.client.progress[self.server][self.seen:]


def run(table, check, pairs, round_):
    """Runs a round for all these pairs and waits for the last."""
    waiting = {}
    for pair in pairs:
        step(table, check, waiting, pair, round_(pair), None)
    while waiting:
        for pair, (steps, future) in list(waiting.items()):
            step(table, check, waiting, pair, steps, future)


def step(table, check, waiting, pair, steps, future):
    waiting.pop(pair, None)
    try:
        if future is None:
            waiting[pair] = (steps, next(steps))
            return
        try:
            result = future.result(max(0, future.begun + TIMEOUT - time.monotonic()))
        except Exception as error:
            waiting[pair] = (steps, steps.throw(error))
        else:
            waiting[pair] = (steps, steps.send(result))
    except StopIteration:
        table.ok(pair.row, check)
    except FutureTimeout:
        table.failed(pair.row, check, f"no response within {TIMEOUT} s")
    except Exception as error:
        table.failed(pair.row, check, f"{type(error).__name__}: {error}")


def connect(pair):
    result = yield pair.send("connect", url=pair.url, era=pair.client.era)
    pair.version, pair.logging = result["version"], result["logging"]
    pair.listens = yield from listen(pair.send("listen"))
    yield pair.send("tools")


def listen(future):
    """Returns True, None if the era has sessions, or the error of a server that refuses it."""
    try:
        return True if (yield future) == "listening" else None
    except Failed as error:
        return f"{error}"


def as_direct(pair):
    """Tools, results and version are the same as without mcpd."""
    name = f"{pair.server} direct"
    direct = yield pair.client.send("connect", server=name, url=pair.direct, era=pair.client.era)
    direct["listens"] = yield from listen(pair.client.send("listen", server=name))
    through = {"version": pair.version, "logging": pair.logging, "listens": pair.listens}
    assert through == direct, f"{through} instead of {direct}"
    tool, arguments = ECHO.get(pair.server, ("echo", {"message": "hello"}))
    expected = (
        (yield pair.client.send("tools", server=name)),
        (yield pair.client.send("call", server=name, tool=tool, arguments=arguments)),
    )
    got = ((yield pair.send("tools")), (yield pair.echo()))
    yield pair.client.send("close", server=name)
    assert got == expected, f"{got} instead of {expected}"


def progress(pair):
    """Steps are reported while the tool runs, the first one long before the result."""
    call = pair.slow(duration=2)
    yield call
    steps = pair.progress()
    assert len(steps) == 8, f"{len(steps)} of 8 steps were reported"
    early = call.at - steps[0]
    assert early > 1, f"the first step was reported {early:.2f} s before the result"


def session_continues(pair):
    """The same client object, the same session."""
    yield from works(pair)
    if pair.listens is True:
        seen = yield pair.send("seen")
        assert seen["listening"] == "open", f"the subscription is {seen['listening']}"


def session_continues_with_another_daemon(pair):
    """In the era without sessions, a subscription ends with the daemon, as that era specifies."""
    yield from works(pair)
    if pair.listens is True:
        seen = yield pair.send("seen")
        assert seen["listening"] in ("ended", "graceful"), f"the subscription is {seen['listening']}"
        assert (yield from listen(pair.send("listen"))) is True, "no new subscription"


def works(pair):
    yield pair.send("tools")
    result = yield pair.echo()
    assert not result.get("isError"), f"{result}"


def in_flight(table, pairs, kill):
    """A call in flight when its worker is killed gets a JSON-RPC error."""
    slow = [pair for pair in pairs if pair.has_slow]
    calls = {pair: pair.slow(duration=30) for pair in slow}
    wait_progress(slow)
    kill()

    def refused(pair):
        try:
            yield calls[pair]
        except Failed as error:
            # An SDK has another error for a broken connection.
            from_mcpd = isinstance(error.code, int) and "the server was restarted" in str(error)
            assert from_mcpd, f"not mcpd's JSON-RPC error: {error}"
        else:
            raise AssertionError("the call of a killed worker had a result")

    return lambda: run(table, "in flight", slow, refused)


def waited_for(table, check, pairs, restart):
    """In a requested restart, calls in flight are finished."""
    slow = [pair for pair in pairs if pair.has_slow]
    calls = {pair: pair.slow(duration=3) for pair in slow}
    wait_progress(slow)
    restart()

    def finished(pair):
        result = yield calls[pair]
        assert not result.get("isError"), f"{result}"

    run(table, check, slow, finished)


def wait_progress(pairs):
    wait_for("every slow call to report a step", lambda: all(pair.progress() for pair in pairs), 30)


def shutdown(pair):
    """Every client gets the shutdown notice of its era, and none crashes."""
    end = time.monotonic() + 10
    while missing := missing_notices(pair, (yield pair.send("seen"))):
        assert time.monotonic() < end, missing


def missing_notices(pair, seen):
    if pair.listens is True:
        return None if seen["listening"] in ("ended", "graceful") else f"the subscription is {seen['listening']}"
    if pair.listens is not None:
        return None  # Without a stream there is no notice.
    expected = set()
    if pair.logging:
        expected.add("notifications/message")
    # The Python clients drop unknown notifications.
    if pair.client.name.startswith("typescript"):
        expected.add("notifications/shutdown")
    missing = expected - set(seen["methods"])
    return f"{missing} not received, only {sorted(set(seen['methods']))}" if missing else None


def inspector(table, check, daemon, servers):
    """The output of the inspector's command line is the same as without mcpd."""
    for server in servers:
        row = ("inspector", server)
        try:
            through = inspect(daemon, daemon.urls[server])
            direct = inspect(daemon, daemon.direct_url(server))
            assert through == direct, f"{through} instead of {direct}"
        except (AssertionError, subprocess.SubprocessError) as error:
            table.failed(row, check, error)
        else:
            table.ok(row, check)


def inspect(daemon, url):
    command = ["npx", "--no-install", "@modelcontextprotocol/inspector", "--cli", url]
    done = subprocess.run(
        [*command, "--transport", "http", "--method", "tools/list"], cwd=MODULES.parent,
        env={**ENVIRONMENT, "HOME": str(daemon.home)}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=TIMEOUT,
    )
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr[-500:]}"
    assert '"tools"' in done.stdout, f"no tools: {done.stdout[:200]}"
    return done.stdout
