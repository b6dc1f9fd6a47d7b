"""Unchanged Python clients of models: runs all cases of one library at once, and prints what each caller saw.

python3 model_cases.py '{"library": "openai", "cases": [{"id": "…", "kind": "plain", "base_url": "…"}]}'

A case that is to be cancelled is so when its id comes on a line of standard input and, where it is streamed, its first
piece has come. Prints `{"id": {…}}` as a line of JSON.
"""

import asyncio
import json
import sys
import threading

QUESTION = "what is one and two?"
MESSAGES = [{"role": "user", "content": QUESTION}]
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
    "required": ["a", "b"],
    "additionalProperties": False,
}


def options_of(case):
    """The client as it comes, unless the case is about its clock."""
    if case["kind"].startswith("hangs"):
        return {"timeout": 2, "max_retries": 1}
    return {}


def is_streamed(case):
    return case["kind"].endswith("streamed")


def with_tools(case):
    return case["kind"].startswith("tools")


def root_of(case):
    return case["base_url"].removesuffix("/v1")


async def ask_openai(case, seen):
    from openai import AsyncOpenAI

    client = AsyncOpenAI(base_url=case["base_url"], api_key="placeholder", **options_of(case))
    await ask_completions(client, case, seen)


async def ask_azure(case, seen):
    from openai import AsyncAzureOpenAI

    client = AsyncAzureOpenAI(
        azure_endpoint=root_of(case), api_version="2024-10-21", api_key="placeholder", **options_of(case)
    )
    await ask_completions(client, case, seen)


async def ask_completions(client, case, seen):
    function = {"name": "add", "parameters": SCHEMA}
    more = {"tools": [{"type": "function", "function": function}]} if with_tools(case) else {}
    request = {"model": case["kind"], "messages": MESSAGES, **more}
    if not is_streamed(case):
        message = (await client.chat.completions.create(**request)).choices[0].message
        seen["text"] = message.content or ""
        for call in message.tool_calls or []:
            seen["tool"] = call.function.name + call.function.arguments
        return
    async for chunk in await client.chat.completions.create(**request, stream=True):
        for choice in chunk.choices:
            seen["text"] += choice.delta.content or ""
            for call in choice.delta.tool_calls or []:
                seen["tool"] += (call.function.name or "") + (call.function.arguments or "")


async def ask_anthropic(case, seen):
    from anthropic import AsyncAnthropic

    client = AsyncAnthropic(base_url=root_of(case), api_key="placeholder", **options_of(case))
    more = {"tools": [{"name": "add", "input_schema": SCHEMA}]} if with_tools(case) else {}
    request = {"model": case["kind"], "max_tokens": 100, "messages": MESSAGES, **more}
    if is_streamed(case):
        async with client.messages.stream(**request) as stream:
            async for text in stream.text_stream:
                seen["text"] += text
            message = await stream.get_final_message()
    else:
        message = await client.messages.create(**request)
        seen["text"] = "".join(block.text for block in message.content if block.type == "text")
    for block in message.content:
        if block.type == "tool_use":
            seen["tool"] += block.name + json.dumps(block.input)


async def ask_gemini(case, seen):
    from google import genai
    from google.genai import types

    clock = {"timeout": 2_000} if case["kind"].startswith("hangs") else {}
    client = genai.Client(
        api_key="placeholder", http_options=types.HttpOptions(base_url=root_of(case), **clock)
    )
    declaration = {"name": "add", "parameters_json_schema": SCHEMA}
    tools = [{"function_declarations": [declaration]}] if with_tools(case) else None
    config = types.GenerateContentConfig(tools=tools)
    request = {"model": case["kind"], "contents": QUESTION, "config": config}

    def note(answer):
        for part in answer.candidates[0].content.parts or []:
            seen["text"] += part.text or ""
            if part.function_call:
                seen["tool"] += part.function_call.name + json.dumps(part.function_call.args)

    if not is_streamed(case):
        note(await client.aio.models.generate_content(**request))
        return
    async for chunk in await client.aio.models.generate_content_stream(**request):
        note(chunk)


async def ask_langchain(case, seen):
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(
        model=case["kind"], base_url=case["base_url"], api_key="placeholder", **options_of(case)
    )
    await ask_runnable(model, case, seen)


async def ask_langchain_anthropic(case, seen):
    from langchain_anthropic import ChatAnthropic

    model = ChatAnthropic(
        model=case["kind"],
        base_url=root_of(case),
        api_key="placeholder",
        max_tokens=100,
        **options_of(case),
    )
    await ask_runnable(model, case, seen)


async def ask_runnable(model, case, seen):
    from langchain_core.tools import tool

    @tool
    def add(a: int, b: int) -> int:
        """Adds."""
        return a + b

    if with_tools(case):
        model = model.bind_tools([add])
    if not is_streamed(case):
        whole = await model.ainvoke(QUESTION)
        seen["text"] = whole.text
    else:
        whole = None
        async for chunk in model.astream(QUESTION):
            seen["text"] += chunk.text
            whole = chunk if whole is None else whole + chunk
    for call in whole.tool_calls:
        seen["tool"] += call["name"] + json.dumps(call["args"])


async def ask_agents(case, seen):
    from agents import Agent, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled
    from openai import AsyncOpenAI

    set_tracing_disabled(True)

    @function_tool
    def add(a: int, b: int) -> int:
        """Adds."""
        seen["tool"] += f"add({a}, {b})"
        return a + b

    client = AsyncOpenAI(base_url=case["base_url"], api_key="placeholder", **options_of(case))
    agent = Agent(
        name="counter",
        instructions="Answer.",
        model=OpenAIResponsesModel(model=case["kind"], openai_client=client),
        tools=[add] if with_tools(case) else [],
    )
    if not is_streamed(case):
        seen["text"] = (await Runner.run(agent, QUESTION)).final_output
        return
    result = Runner.run_streamed(agent, QUESTION)
    async for event in result.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            seen["text"] += event.data.delta


LIBRARIES = {
    "openai": ask_openai,
    "anthropic": ask_anthropic,
    "langchain-openai": ask_langchain,
    "langchain-anthropic": ask_langchain_anthropic,
    "azure": ask_azure,
    "google-genai": ask_gemini,
    "openai-agents": ask_agents,
}


async def run(ask, case, cancel):
    seen = {"text": "", "tool": ""}
    task = asyncio.ensure_future(ask(case, seen))
    cancelled = asyncio.ensure_future(cancel.wait())
    await asyncio.wait([task, cancelled], return_when=asyncio.FIRST_COMPLETED)
    while is_streamed(case) and not task.done() and seen["text"] == "":
        await asyncio.sleep(0.01)
    try:
        if not task.done():
            task.cancel()
        await task
    except asyncio.CancelledError:
        seen["error"] = "cancelled"
    except Exception as error:
        # google-genai has the status in `code`.
        status = getattr(error, "status_code", None) or getattr(error, "code", None)
        # An answer that does not come ends a client's call by its own clock, or by ours just before.
        is_late = status == 504 or "Timeout" in type(error).__name__
        seen["error"] = "late" if is_late else f"{type(error).__name__} {status}"
    cancelled.cancel()
    return seen


async def main():
    given = json.loads(sys.argv[1])
    cases = given["cases"]
    cancels = {case["id"]: asyncio.Event() for case in cases}
    loop = asyncio.get_running_loop()

    def read():
        for line in sys.stdin:
            loop.call_soon_threadsafe(cancels[line.strip()].set)

    threading.Thread(target=read, daemon=True).start()
    ask = LIBRARIES[given["library"]]
    # Short clocks tell something only once the library is loaded, and nothing else runs.
    hanging = [case for case in cases if case["kind"].startswith("hangs")]
    seen = {}
    for together in ([case for case in cases if case not in hanging], hanging):
        ends = await asyncio.gather(*(run(ask, case, cancels[case["id"]]) for case in together))
        seen.update({case["id"]: one for case, one in zip(together, ends)})
    print()
    print(json.dumps(seen), flush=True)


asyncio.run(main())
