"""The official Python client of MCP, unchanged, against a tool runner.

python3 mcp_client.py '{"url": "http://…/mcp", "key": "…", "mode": "auto"}'

Prints what it saw as JSON: the revision, the tools, a result, the progress of a run, and the error of a cancelled call.
"""

import asyncio
import json
import sys

from mcp import Client
from mcp.client.streamable_http import create_mcp_http_client, streamable_http_client


async def main(given):
    seen = {"progress": []}

    async def on_progress(progress, total, message):
        seen["progress"].append(message)

    async with create_mcp_http_client(headers={"authorization": f"Bearer {given['key']}"}) as http:
        async with Client(streamable_http_client(given["url"], http_client=http), mode=given["mode"]) as client:
            seen["revision"] = client.protocol_version
            seen["tools"] = [tool.name for tool in (await client.list_tools()).tools]
            answer = await client.call_tool("python", {"code": "print(6 * 7)"})
            seen["result"] = [answer.content[0].text, answer.is_error]
            code = "echo one; sleep 0.3; echo two; exit 3"
            answer = await client.call_tool("shell", {"code": code}, progress_callback=on_progress)
            seen["failed"] = [answer.content[0].text, answer.is_error]
            slow = asyncio.create_task(client.call_tool("shell", {"code": f": {given['mark']}; sleep 300; :"}))
            print("calling", flush=True)
            await asyncio.to_thread(sys.stdin.readline)
            slow.cancel()
            try:
                await slow
            except asyncio.CancelledError:
                seen["cancelled"] = True
            print("cancelled", flush=True)
            await asyncio.to_thread(sys.stdin.readline)
    print(json.dumps(seen), flush=True)


asyncio.run(main(json.loads(sys.argv[1])))
