"""The checks of every client with every server, all at the same time.

A round is a generator function with a pair as its argument. It yields futures and gets their results, so that
all pairs wait together. An exception is the failure of its pair.
"""

import json
import re
import subprocess
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from urllib.error import HTTPError

from client import PROGRAMS, Failed
from daemon import ENVIRONMENT, MODULES, RUNNERS, STDIO, wait_for

TIMEOUT = 60
CHECKS = [
    "connect", "as direct", "progress", "crowd", "in flight", "killed", "waited for", "restarted",
    "reloaded", "finished", "replaced", "shutdown", "back", "end",
]

# The tool that responds at once, and the one that reports progress for some time.
ECHO = {
    "builtin": ("status", {}),
    "filesystem": ("list_directory", {"path": "{home}/repos/git"}),
    "memory": ("read_graph", {}),
    "time": ("convert_time", {"source_timezone": "Asia/Tokyo", "time": "12:00", "target_timezone": "UTC"}),
    "git": ("git_status", {"repo_path": "{home}/repos/git"}),
    "uvx": ("git_status", {"repo_path": "{home}/repos/git"}),
}
SLOW = {
    "everything": "trigger-long-running-operation", "npx": "trigger-long-running-operation",
    "mcp1": "slow", "mcp2": "slow", "fastmcp": "slow",
    "everything-stdio": "trigger-long-running-operation", "npx-stdio": "trigger-long-running-operation",
    "mcp1-stdio": "slow", "mcp2-stdio": "slow", "fastmcp-stdio": "slow",
}
# The servers that get a crowd of clients: those that give a text back and have a slow tool.
CROWD = ["everything-stdio", "mcp1-stdio", "mcp2-stdio", "fastmcp-stdio"]
# Connections of each client program to each of them.
CONNECTIONS = 4

# Tools that are missing through mcpd: it declares no roots, sampling and elicitation to a shared server, and this one
# registers them only for a client that does. Of the clients here, only the inspector declares one of these (roots).
NOT_SHARED = {"everything-stdio": {"get-roots-list"}}


# The `_meta` of a request of 2026-07-28.
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "real", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


class Pair:
    def __init__(self, client, server, daemon):
        self.client = client
        self.server = server
        self.url = daemon.urls[server]
        self.direct = daemon.direct(server)
        self.row = (client.name, server)
        self.has_slow = server in SLOW
        tool, arguments = ECHO.get(server, ("echo", {"message": "hello"}))
        texts = {name: text.replace("{home}", str(daemon.home)) for name, text in arguments.items()}
        self.echo_call = {"tool": tool, "arguments": texts}
        # mcpd initializes a server that speaks stdio once, which selects the era with sessions for all clients. The client
        # must do the same without mcpd; there `auto` would select 2026-07-28 for a server that supports both.
        self.direct_era = "legacy" if server in STDIO else client.era

    def send(self, do, **arguments):
        return self.client.send(do, server=self.server, **arguments)

    def echo(self):
        return self.send("call", **self.echo_call)

    def slow(self, duration):
        self.seen = len(self.client.progress[self.server])
        return self.send("call", tool=SLOW[self.server], arguments={"duration": duration, "steps": 4 * duration})

    def progress(self):
        """The times at which the steps of the last slow call were reported."""
        return [at for at, _ in self.client.progress[self.server][self.seen:]]


def run(table, check, pairs, round_, at_once=None):
    """Runs a round for all these pairs, at most for `at_once` at the same time, and waits for the last."""
    waiting, queue = {}, list(pairs)
    while waiting or queue:
        while queue and (at_once is None or len(waiting) < at_once):
            pair = queue.pop(0)
            step(table, check, waiting, pair, round_(pair), None)
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
    result = yield pair.send("connect", to=pair.url, era=pair.client.era)
    pair.version, pair.logging = result["version"], result["logging"]
    pair.listens = yield from listen(pair.send("listen"))
    yield pair.send("tools")


def listen(future):
    """Returns True, None if the era has sessions, or the error of a server that refuses it."""
    try:
        return True if (yield future) == "listening" else None
    except Failed as error:
        return f"{error}"


def as_runner(pair):
    """A package runner starts the same server as its command, which is compared with a direct connection."""
    got = (yield pair.send("tools")), (yield pair.echo())
    client, base = pair.client, RUNNERS[pair.server]
    expected = (yield client.send("tools", server=base)), (yield client.send("call", server=base, **pair.echo_call))
    assert got == expected, f"{got} instead of {expected}"


def as_direct(pair):
    """Tools, results and version are the same as without mcpd."""
    yield from compare(pair, (yield from without_mcpd(pair)))


def as_direct_once(known):
    """The same; the clients of one SDK that would start the same process share the results of one."""

    def round_(pair):
        key = (pair.client.sdk, pair.direct_era, pair.server)
        if key not in known:
            known[key] = yield from without_mcpd(pair)
        yield from compare(pair, known[key])

    return round_


def compare(pair, expected):
    through = {"version": pair.version, "logging": pair.logging, "listens": pair.listens}
    got = (through, (yield pair.send("tools")), (yield pair.echo()))
    assert got == expected, f"{got} instead of {expected}"


def without_mcpd(pair):
    name = f"{pair.server} direct"
    direct = yield pair.client.send("connect", server=name, to=pair.direct, era=pair.direct_era)
    direct["listens"] = yield from listen(pair.client.send("listen", server=name))
    tools = yield pair.client.send("tools", server=name)
    result = yield pair.client.send("call", server=name, **pair.echo_call)
    yield pair.client.send("close", server=name)
    return direct, tools, result


def progress(pair):
    """Steps are reported while the tool runs, the first one long before the result."""
    call = pair.slow(duration=2)
    yield call
    steps = pair.progress()
    assert len(steps) == 8, f"{len(steps)} of 8 steps were reported"
    early = call.at - steps[0]
    assert early > 1, f"the first step was reported {early:.2f} s before the result"


def crowd(pair):
    """All client programs call at the same time, with several connections each; each gets only its own."""
    # Numbers that no other client program has. A call has this number of steps, which shows whose step it is.
    first = 2 + CONNECTIONS * list(PROGRAMS).index(pair.client.name)
    members = {f"{pair.server} {number}": number for number in range(first, first + CONNECTIONS)}

    def all_at_once(do, **arguments):
        return [(name, pair.client.send(do, server=name, **arguments)) for name in members]

    for _, connected in all_at_once("connect", to=pair.url, era=pair.client.era):
        yield connected
    for turn in range(5):
        texts = {name: f"{number}-{turn}" for name, number in members.items()}
        calls = {
            name: pair.client.send("call", server=name, tool="echo", arguments={"message": text})
            for name, text in texts.items()
        }
        for name, call in calls.items():
            got = (yield call)["content"][0]["text"]
            assert got == f"Echo: {texts[name]}", f"{got} instead of {texts[name]}"
    calls = {
        name: pair.client.send("call", server=name, tool=SLOW[pair.server], arguments={"duration": 3, "steps": number})
        for name, number in members.items()
    }
    for name, call in calls.items():
        text = (yield call)["content"][0]["text"]
        assert re.search(rf"\b{members[name]}\b", text), f"{text} instead of {members[name]} steps"
    for name, number in members.items():
        totals = [total for _, total in pair.client.progress[name]]
        assert totals == [number] * number, f"steps of calls with {totals} steps instead of {number}"
    for _, closed in all_at_once("close"):
        yield closed


def session_continues(pair):
    """The same client object, the same session."""
    yield from works(pair)
    if pair.listens is True:
        seen = yield pair.send("seen")
        assert seen["listening"] == "open", f"the subscription is {seen['listening']}"


def session_continues_in_another_process(pair):
    """The leader of the worker is the same, and the session as well."""
    yield from works(pair)
    result = yield pair.send("call", tool="process", arguments={})
    pair.process, before = result["content"][0]["text"], getattr(pair, "process", None)
    assert pair.process != before, f"still process {before}"


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


def without_sessions(table, check, daemon, servers):
    """A client of 2026-07-28 gets an error that names the versions with sessions; then clients of both eras initialize."""
    for server in servers:
        row = ("2026-07-28", server)
        try:
            status, answer = post(daemon.urls[server], "server/discover", {"_meta": ENVELOPE})
            error = answer["error"]
            got = (status, answer["id"], error["code"], error["data"]["requested"], error["data"]["supported"][-1])
            assert got == (400, 1, -32022, "2026-07-28", "2025-11-25"), f"{status} {answer}"
        except (AssertionError, OSError, ValueError, LookupError) as error:
            table.failed(row, check, f"{type(error).__name__}: {error}")
        else:
            table.ok(row, check)


def post(url, method, params):
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    request = urllib.request.Request(url, body, {**headers, "mcp-protocol-version": "2026-07-28", "mcp-method": method})
    # Without the proxy settings of the caller.
    try:
        response = urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=TIMEOUT)
    except HTTPError as error:
        response = error
    with response:
        return response.status, json.load(response)


def inspector(table, check, daemon, servers):
    """The command line of the inspector lists the same tools as without mcpd."""
    def compare(server):
        row = ("inspector", server)
        try:
            through = inspect(daemon, daemon.urls[server])
            direct = inspect(daemon, daemon.direct(server))
            not_shared = NOT_SHARED.get(server, set())
            missing = [tool["name"] for tool in direct if tool not in through]
            assert set(missing) == not_shared, f"{missing} are missing or different, expected: {not_shared}"
            direct = [tool for tool in direct if tool["name"] not in not_shared]
            assert through == direct, f"{through} instead of {direct}"
        except (AssertionError, subprocess.SubprocessError) as error:
            table.failed(row, check, error)
        else:
            table.ok(row, check)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(compare, servers))


def inspect(daemon, to):
    command = [MODULES / ".bin/mcp-inspector", "--cli"]
    target = [to, "--transport", "http"] if isinstance(to, str) else to
    done = subprocess.run(
        [*command, *target, "--method", "tools/list"], cwd=MODULES.parent,
        env={**ENVIRONMENT, "HOME": str(daemon.home)}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=TIMEOUT,
    )
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr[-500:]}"
    assert '"tools"' in done.stdout, f"no tools: {done.stdout[:200]}"
    return json.loads(done.stdout)["tools"]
