"""The checks: every client with every server, all at the same time.

A round is a function that takes a pair to a generator: it yields futures and gets their results, so that
all pairs wait together. What it raises is the pair's failure.
"""

import subprocess
import time
from concurrent.futures import TimeoutError as TooLate

from client import Failed
from daemon import ENVIRONMENT, MODULES, wait_for

TIMEOUT = 60
CHECKS = [
    "connect", "as direct", "progress", "in flight", "killed", "waited for", "restarted",
    "finished", "replaced", "shutdown", "back", "end",
]

# The tool that gives an answer at once, and the one that works for a while and tells of it.
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

    def ask(self, do, **given):
        return self.client.ask(do, server=self.server, **given)

    def echo(self):
        tool, arguments = ECHO.get(self.server, ("echo", {"message": "hello"}))
        return self.ask("call", tool=tool, arguments=arguments)

    def slow(self, duration):
        self.seen = len(self.client.progress[self.server])
        return self.ask("call", tool=SLOW[self.server], arguments={"duration": duration, "steps": 4 * duration})

    def progress(self):
        """When the steps of the last slow call were reported."""
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
    except TooLate:
        table.failed(pair.row, check, f"no answer within {TIMEOUT} s")
    except Exception as error:
        table.failed(pair.row, check, f"{type(error).__name__}: {error}")


def connect(pair):
    answer = yield pair.ask("connect", url=pair.url, era=pair.client.era)
    pair.version, pair.logging = answer["version"], answer["logging"]
    pair.listens = yield from listen(pair.ask("listen"))
    yield pair.ask("tools")


def listen(asked):
    """What came of it: True, None where the era has sessions, or how the server refuses it (some do)."""
    try:
        return True if (yield asked) == "listening" else None
    except Failed as error:
        return f"{error}"


def as_direct(pair):
    """The same tools, the same answer, the same version as without mcpd."""
    beside = f"{pair.server} direct"
    straight = yield pair.client.ask("connect", server=beside, url=pair.direct, era=pair.client.era)
    straight["listens"] = yield from listen(pair.client.ask("listen", server=beside))
    there = {"version": pair.version, "logging": pair.logging, "listens": pair.listens}
    assert there == straight, f"{there} instead of {straight}"
    tool, arguments = ECHO.get(pair.server, ("echo", {"message": "hello"}))
    wanted = (
        (yield pair.client.ask("tools", server=beside)),
        (yield pair.client.ask("call", server=beside, tool=tool, arguments=arguments)),
    )
    got = ((yield pair.ask("tools")), (yield pair.echo()))
    yield pair.client.ask("close", server=beside)
    assert got == wanted, f"{got} instead of {wanted}"


def progress(pair):
    """Steps are reported while the tool runs: the first one long before the answer."""
    answer = pair.slow(duration=2)
    yield answer
    steps = pair.progress()
    assert len(steps) == 8, f"{len(steps)} of 8 steps were reported"
    early = answer.at - steps[0]
    assert early > 1, f"the first step was reported {early:.2f} s before the answer"


def go_on(pair):
    """The same client object, the same session."""
    yield from works(pair)
    if pair.listens is True:
        seen = yield pair.ask("seen")
        assert seen["listening"] == "open", f"the subscription is {seen['listening']}"


def go_on_with_another_daemon(pair):
    """A subscription of the era without sessions ends with its daemon, in that era's own words."""
    yield from works(pair)
    if pair.listens is True:
        seen = yield pair.ask("seen")
        assert seen["listening"] in ("ended", "graceful"), f"the subscription is {seen['listening']}"
        assert (yield from listen(pair.ask("listen"))) is True, "no new subscription"


def works(pair):
    yield pair.ask("tools")
    result = yield pair.echo()
    assert not result.get("isError"), f"{result}"


def in_flight(table, pairs, kill):
    """What is in flight when its worker is killed is answered with an error of JSON-RPC."""
    slow = [pair for pair in pairs if pair.has_slow]
    calls = {pair: pair.slow(duration=30) for pair in slow}
    all_began(slow)
    kill()

    def refused(pair):
        try:
            yield calls[pair]
        except Failed as error:
            # The SDKs have errors of their own for a broken connection; this one is mcpd's.
            mcpds = isinstance(error.code, int) and "the server was restarted" in str(error)
            assert mcpds, f"not mcpd's error of JSON-RPC: {error}"
        else:
            raise AssertionError("the call of a killed worker had a result")

    return lambda: run(table, "in flight", slow, refused)


def waited_for(table, check, pairs, restart):
    """A wanted restart lets what is in flight finish."""
    slow = [pair for pair in pairs if pair.has_slow]
    calls = {pair: pair.slow(duration=3) for pair in slow}
    all_began(slow)
    restart()

    def finished(pair):
        result = yield calls[pair]
        assert not result.get("isError"), f"{result}"

    run(table, check, slow, finished)


def all_began(pairs):
    wait_for("every slow call to tell of a step", lambda: all(pair.progress() for pair in pairs), 30)


def shutdown(pair):
    """Every client is notified in the form of its era, and none of them crashes."""
    end = time.monotonic() + 10
    while missing := not_told(pair, (yield pair.ask("seen"))):
        assert time.monotonic() < end, missing


def not_told(pair, seen):
    if pair.listens is True:
        return None if seen["listening"] in ("ended", "graceful") else f"the subscription is {seen['listening']}"
    if pair.listens is not None:
        return None  # no stream, no client to notify
    wanted = set()
    if pair.logging:
        wanted.add("notifications/message")
    # The Python clients drop what they do not know.
    if pair.client.name.startswith("typescript"):
        wanted.add("notifications/shutdown")
    missing = wanted - set(seen["methods"])
    return f"{missing} not seen, only {sorted(set(seen['methods']))}" if missing else None


def inspector(table, check, daemon, servers):
    """The inspector's command line: the same words as without mcpd."""
    for server in servers:
        row = ("inspector", server)
        try:
            through, straight = (inspect(daemon, url) for url in (daemon.urls[server], daemon.direct_url(server)))
            assert through == straight, f"{through} instead of {straight}"
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
