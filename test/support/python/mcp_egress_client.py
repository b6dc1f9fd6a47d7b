"""The official Python client of MCP, unchanged, at several servers behind the egress, at the same time.

python3 mcp_egress_client.py '[{"name": "…", "url": "http://…/mcp/NAME", "mode": "auto", "sends": true, "forgets": false}]'

`sends`: the server has `change` and `sample`; `forgets`: `forget` makes it forget its sessions. Prints what it saw as JSON.
"""

import asyncio
import json
import sys

import mcp_types as types
from mcp import Client


async def at(given):
    seen = {"progress": [], "changes": 0}
    running, changed = asyncio.Event(), asyncio.Event()

    async def on_progress(progress, total, message):
        seen["progress"].append(message)

    async def on_running(progress, total, message):
        running.set()

    async def on_message(message):
        if "ToolListChanged" in type(message).__name__:
            seen["changes"] += 1
            changed.set()

    async def elicited(context, params):
        return types.ElicitResult(action="accept", content={"name": "you"})

    async def sampled(context, params):
        text = types.TextContent(type="text", text="word")
        return types.CreateMessageResult(role="assistant", content=text, model="m")

    handlers = {"elicitation_callback": elicited, "sampling_callback": sampled, "message_handler": on_message}
    async with Client(given["url"], mode=given["mode"], **handlers) as client:

        async def said(name, arguments={}, **more):
            return (await client.call_tool(name, arguments, **more)).content[0].text

        seen["revision"] = client.protocol_version
        seen["tools"] = [tool.name for tool in (await client.list_tools()).tools]
        seen["write"] = await said("write", {"n": given["name"]})
        seen["steps"] = await said("steps", progress_callback=on_progress)
        if given["mode"] == "legacy":
            seen["ask"] = await said("ask")
        if given["sends"]:
            seen["sample"] = await said("sample")
        slow = asyncio.create_task(said("slow", progress_callback=on_running))
        await running.wait()
        slow.cancel()
        try:
            await slow
        except asyncio.CancelledError:
            seen["cancelled"] = True
        if given["changes"]:
            await said("change")
            await changed.wait()
        if given["forgets"]:
            try:
                # The client lists the tools again, because the server does not list this one.
                await said("forget")
                await said("write", {"n": given["name"]})
            except Exception as error:
                seen["forgotten"] = str(error)
    return [given["name"], seen]


async def main(targets):
    print(json.dumps(dict(await asyncio.gather(*map(at, targets)))), flush=True)


asyncio.run(main(json.loads(sys.argv[1])))
