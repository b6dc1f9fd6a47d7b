"""The official Python server of MCP, with tools whose effects are counted, for clients behind the egress.

Prints its port. GET /state tells what its tools have done; POST /finish ends the calls of `slow` that run.
"""

import asyncio
import json
import socket

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.streamable_http import EventMessage, EventStore
from mcp_types import SamplingMessage, TextContent
from pydantic import BaseModel
from starlette.responses import JSONResponse

seen = {"writes": {}, "slow": 0, "cancelled": 0}
finished = asyncio.Event()


class Events(EventStore):
    def __init__(self):
        self.events = []

    async def store_event(self, stream_id, message):
        self.events.append((stream_id, message))
        return str(len(self.events))

    async def replay_events_after(self, last_event_id, send_callback):
        stream_id = self.events[int(last_event_id) - 1][0]
        for number, (stream, message) in enumerate(self.events, 1):
            if number > int(last_event_id) and stream == stream_id and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream_id


class Name(BaseModel):
    name: str


server = MCPServer("counting")


@server.tool()
async def write(n: str) -> str:
    seen["writes"][n] = seen["writes"].get(n, 0) + 1
    return f"write {seen['writes'][n]}"


@server.tool()
async def steps(ctx: Context) -> str:
    for step in (1, 2):
        await ctx.report_progress(step, message=f"step {step}")
    return "steps"


@server.tool()
async def ask(ctx: Context) -> str:
    answer = await ctx.elicit("your name?", Name)
    return f"hello {answer.data.name}"


@server.tool()
async def sample(ctx: Context) -> str:
    said = SamplingMessage(role="user", content=TextContent(type="text", text="a word?"))
    answer = await ctx.session.create_message([said], max_tokens=5, related_request_id=ctx.request_id)
    return f"the model said {answer.content.text}"


@server.tool()
async def slow(ctx: Context) -> str:
    seen["slow"] += 1
    await ctx.report_progress(1, message="running")
    try:
        await finished.wait()
    except asyncio.CancelledError:
        seen["cancelled"] += 1
        raise
    return "slow"


@server.tool()
async def change(ctx: Context) -> str:
    await ctx.session.send_tool_list_changed()
    return "changed"


@server.custom_route("/state", methods=["GET"])
async def state(request):
    return JSONResponse(seen)


@server.custom_route("/finish", methods=["POST"])
async def finish(request):
    finished.set()
    return JSONResponse({})


listening = socket.socket()
listening.bind(("127.0.0.1", 0))
print(json.dumps({"port": listening.getsockname()[1]}), flush=True)
app = server.streamable_http_app(event_store=Events())
uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])
