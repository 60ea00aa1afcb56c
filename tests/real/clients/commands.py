"""A client program takes commands as lines of JSON and answers them in any order.

What differs between the SDKs is in `peer`: how a connection is opened and asked.
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

    async def connect(self, server, url, era):
        connection = self.open[server] = Connection()
        # One task opens and closes it: the SDKs insist on that.
        await self.tasks.start(connection.hold, self.peer, url, era)
        return {"version": connection.peer.version, "logging": connection.peer.logging}

    async def tools(self, server):
        return sorted(await self.open[server].peer.tools(), key=lambda tool: tool["name"])

    async def call(self, server, tool, arguments):
        return await self.open[server].peer.call(tool, arguments, lambda: say({"progress": server}))

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
        connection.leave.set()
        await connection.left.wait()
        return connection.end


class Connection:
    def __init__(self):
        self.peer = None
        self.seen = []
        self.listening = None
        self.leave = anyio.Event()
        self.left = anyio.Event()
        self.end = None

    async def hold(self, peer, url, era, *, task_status):
        try:
            async with peer(url, era, self.seen.append) as self.peer:
                task_status.started()
                await self.leave.wait()
            self.end = "closed"
        except Exception as error:
            self.end = explain(error)
            if self.peer is None:
                raise
        finally:
            self.left.set()

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


def say(message):
    print(json.dumps(message), flush=True)


def explain(error):
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


async def answer(connections, command):
    number, name = command.pop("id"), command.pop("do")
    try:
        with anyio.fail_after(TIMEOUT):
            said = {"ok": await getattr(connections, name)(**command)}
    except Exception as error:
        traceback.print_exc()
        code = getattr(getattr(error, "error", None), "code", None)
        said = {"error": explain(error), "code": code}
    say({"id": number, **said})


async def serve(peer):
    async with anyio.create_task_group() as tasks:
        connections = Connections(peer, tasks)
        while line := await anyio.to_thread.run_sync(sys.stdin.readline):
            tasks.start_soon(answer, connections, json.loads(line))
        for connection in connections.open.values():
            connection.leave.set()


def main(peer):
    anyio.run(serve, peer)
