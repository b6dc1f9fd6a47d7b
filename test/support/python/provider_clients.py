"""Unchanged Python clients of several providers, each made as its documentation says: its base URL comes from the environment.

python3 provider_clients.py '{"library": "anthropic", "models": ["fine", "cut"]}'

Asks each model for a plain and for a streamed answer, and prints what its caller saw: {"fine plain": {"text": "…"}, …}.
"""

import asyncio
import json
import os
import sys

QUESTION = "what is one and two?"
MESSAGES = [{"role": "user", "content": QUESTION}]


async def ask_anthropic(model, streamed, seen):
    from anthropic import AsyncAnthropic

    client = AsyncAnthropic()
    request = {"model": model, "max_tokens": 100, "messages": MESSAGES}
    if not streamed:
        answer = await client.messages.create(**request)
        seen["text"] = "".join(block.text for block in answer.content)
        seen["counted"] = (await client.messages.count_tokens(model=model, messages=MESSAGES)).input_tokens
        return
    async with client.messages.stream(**request) as stream:
        async for text in stream.text_stream:
            seen["text"] += text


async def ask_completions(client, model, streamed, seen):
    if not streamed:
        answer = await client.chat.completions.create(model=model, messages=MESSAGES)
        seen["text"] = answer.choices[0].message.content
        return
    async for chunk in await client.chat.completions.create(model=model, messages=MESSAGES, stream=True):
        for choice in chunk.choices:
            seen["text"] += choice.delta.content or ""


async def ask_azure(model, streamed, seen):
    from openai import AsyncAzureOpenAI

    await ask_completions(AsyncAzureOpenAI(api_version="2024-10-21"), model, streamed, seen)


async def ask_openai_at_gemini(model, streamed, seen):
    from openai import AsyncOpenAI

    base_url = os.environ["GOOGLE_GEMINI_BASE_URL"] + "/v1beta/openai/"
    await ask_completions(AsyncOpenAI(base_url=base_url), model, streamed, seen)


async def ask_gemini(model, streamed, seen):
    from google import genai

    client = genai.Client()
    if not streamed:
        answer = await client.aio.models.generate_content(model=model, contents=QUESTION)
        seen["text"] = answer.text
        seen["counted"] = (await client.aio.models.count_tokens(model=model, contents=QUESTION)).total_tokens
        return
    async for chunk in await client.aio.models.generate_content_stream(model=model, contents=QUESTION):
        seen["text"] += chunk.text or ""


LIBRARIES = {
    "anthropic": ask_anthropic,
    "azure": ask_azure,
    "openai-at-gemini": ask_openai_at_gemini,
    "google-genai": ask_gemini,
}


async def ask(library, model, streamed):
    seen = {"text": ""}
    try:
        await LIBRARIES[library](model, streamed, seen)
    except Exception as error:
        # google-genai has the status in `code`.
        status = getattr(error, "status_code", None) or getattr(error, "code", None)
        seen["error"] = f"{type(error).__name__} {status}"
        seen["message"] = str(error)
    return seen


async def main():
    given = json.loads(sys.argv[1])
    cases = [(model, mode) for model in given["models"] for mode in ("plain", "streamed")]
    seen = await asyncio.gather(*(ask(given["library"], model, mode == "streamed") for model, mode in cases))
    print()
    print(json.dumps({f"{model} {mode}": one for (model, mode), one in zip(cases, seen)}), flush=True)


asyncio.run(main())
