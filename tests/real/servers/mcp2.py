"""A server of PyPI's mcp 2.x, which supports both eras of MCP.

Over HTTP on PORT, without this variable over stdio.
"""

import asyncio
import os
import time

from mcp.server.mcpserver import Context, MCPServer

# A server that starts slowly.
time.sleep(float(os.environ.get("START_DELAY", "0")))
server = MCPServer("mcp2")


@server.tool()
def echo(message: str) -> str:
    """Give the message back."""
    return f"Echo: {message}"


@server.tool()
async def slow(duration: float, steps: int, ctx: Context) -> str:
    """Work for this number of seconds and report each step."""
    for step in range(1, steps + 1):
        await asyncio.sleep(duration / steps)
        await ctx.report_progress(step, steps)
    return f"done in {steps} steps"


if port := os.environ.get("PORT"):
    server.run("streamable-http", host="127.0.0.1", port=int(port))
else:
    server.run("stdio")
