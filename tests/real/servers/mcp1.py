"""A server of PyPI's mcp 1.x, with sessions and event streams (2025-11-25 and before).

Over HTTP on PORT, without this variable over stdio.
"""

import asyncio
import os
import time

from mcp.server.fastmcp import Context, FastMCP

# A server that starts slowly.
time.sleep(float(os.environ.get("START_DELAY", "0")))
server = FastMCP("mcp1", host="127.0.0.1", port=int(os.environ.get("PORT", "0")))


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


server.run("streamable-http" if "PORT" in os.environ else "stdio")
