"""A client program reads commands as lines of JSON and writes their results in any order.

The code that depends on the SDK is in `peer`: it opens and uses a connection.
"""

import json
import sys
import traceback

import anyio

TIMEOUT = 60


class Connections:
    def __init__(self, peer, tasks):
        self.peer = peer
        self.tasks = tasks
        self.open = {}

    async def connect(self, server, to, era):
        """`to` is a URL, or a command whose standard input and output are used."""
        connection = self.open[server] = Connection()
        # The SDKs require that the same task opens and closes a connection.
        await self.tasks.start(connection.hold, self.peer, to, era)
        return {"version": connection.peer.version, "logging": connection.peer.logging}

    async def tools(self, server):
        return sorted(await self.open[server].peer.tools(), key=lambda tool: tool["name"])

    async def call(self, server, tool, arguments):
        return await self.open[server].peer.call(tool, arguments, lambda total: write({"progress": server, "total": total}))

    async def listen(self, server):
        connection = self.open[server]
        if not connection.peer.can_listen:
            return "session"
        await self.tasks.start(connection.listen)
        return "listening"

    async def seen(self, server):
        connection = self.open[server]
        return {"methods": connection.seen, "listening": connection.listening}

    async def close(self, server):
        connection = self.open.pop(server)
        connection.closing.set()
        await connection.closed.wait()
        return connection.end


class Connection:
    def __init__(self):
        self.peer = None
        self.seen = []
        self.listening = None
        self.closing = anyio.Event()
        self.closed = anyio.Event()
        self.end = None

    async def hold(self, peer, to, era, *, task_status):
        try:
            async with peer(to, era, self.seen.append) as self.peer:
                task_status.started()
                await self.closing.wait()
            self.end = "closed"
        except Exception as error:
            self.end = explain(error)
            if self.peer is None:
                raise
        finally:
            self.closed.set()

    async def listen(self, *, task_status):
        try:
            async with self.peer.subscription() as events:
                self.listening = "open"
                task_status.started()
                async for _ in events:
                    pass
            self.listening = "ended"
        except Exception as error:
            if self.listening is None:
                raise
            self.listening = explain(error)


def write(message):
    print(json.dumps(message), flush=True)


def explain(error):
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


async def execute(connections, command):
    number, name = command.pop("id"), command.pop("do")
    try:
        with anyio.fail_after(TIMEOUT):
            result = {"ok": await getattr(connections, name)(**command)}
    except Exception as error:
        traceback.print_exc()
        code = getattr(getattr(error, "error", None), "code", None)
        result = {"error": explain(error), "code": code}
    write({"id": number, **result})


async def serve(peer):
    async with anyio.create_task_group() as tasks:
        connections = Connections(peer, tasks)
        while line := await anyio.to_thread.run_sync(sys.stdin.readline):
            tasks.start_soon(execute, connections, json.loads(line))
        for connection in connections.open.values():
            connection.closing.set()


def main(peer):
    anyio.run(serve, peer)
