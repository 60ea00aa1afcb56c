"""A server for `uvicorn --reload`: the leader stays, and after each change of a file another process serves."""

import os

from mcp.server.fastmcp import FastMCP

server = FastMCP("reloaded")


@server.tool()
def echo(message: str) -> str:
    """Give the message back."""
    return f"Echo: {message}"


@server.tool()
def process() -> int:
    """The id of the process that serves."""
    return os.getpid()


app = server.streamable_http_app()
