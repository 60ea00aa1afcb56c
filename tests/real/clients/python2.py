"""The client of PyPI's mcp 2.x, in either era."""

from contextlib import asynccontextmanager

import commands
from mcp import Client, StdioServerParameters


class Peer:
    def __init__(self, client):
        self.client = client
        self.version = client.protocol_version
        self.logging = client.server_capabilities.logging is not None
        self.can_listen = self.version >= "2026-07-28"

    async def tools(self):
        listed = await self.client.list_tools()
        return [tool.model_dump(by_alias=True, mode="json", exclude_none=True) for tool in listed.tools]

    async def call(self, tool, arguments, on_progress):
        async def progress(_, total, *__):
            on_progress(total)

        result = await self.client.call_tool(tool, arguments, progress_callback=progress)
        return result.model_dump(by_alias=True, mode="json", exclude_none=True)

    def subscription(self):
        return self.client.listen(tools_list_changed=True)


@asynccontextmanager
async def peer(to, era, on_method):
    async def message(received):
        method = getattr(received, "method", None)
        if method:
            on_method(method)

    server = to if isinstance(to, str) else StdioServerParameters(command=to[0], args=to[1:])
    # Without the cache, so that every request reaches the server.
    async with Client(server, mode=era, cache=None, message_handler=message) as client:
        yield Peer(client)


commands.main(peer)
