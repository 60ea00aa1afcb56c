"""The client of PyPI's mcp 1.x."""

from contextlib import asynccontextmanager

import commands
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client


class Peer:
    can_listen = False

    def __init__(self, session, server):
        self.session = session
        self.version = server.protocolVersion
        self.logging = server.capabilities.logging is not None

    async def tools(self):
        listed = await self.session.list_tools()
        return [tool.model_dump(by_alias=True, mode="json", exclude_none=True) for tool in listed.tools]

    async def call(self, tool, arguments, on_progress):
        async def progress(_, total, *__):
            on_progress(total)

        result = await self.session.call_tool(tool, arguments, progress_callback=progress)
        return result.model_dump(by_alias=True, mode="json", exclude_none=True)


def connect(to):
    if isinstance(to, str):
        return streamable_http_client(to)
    return stdio_client(StdioServerParameters(command=to[0], args=to[1:]))


@asynccontextmanager
async def peer(to, _era, on_method):
    async def message(received):
        method = getattr(getattr(received, "root", None), "method", None)
        if method:
            on_method(method)

    async with connect(to) as (read, write, *_):
        async with ClientSession(read, write, message_handler=message) as session:
            yield Peer(session, await session.initialize())


commands.main(peer)
