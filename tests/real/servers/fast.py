"""A server of PyPI's fastmcp, over HTTP on PORT, without this variable over stdio."""

import asyncio
import os

from fastmcp import Context, FastMCP

server = FastMCP("fastmcp")


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
    server.run("http", show_banner=False, host="127.0.0.1", port=int(port))
else:
    server.run("stdio", show_banner=False)
