"""One request of an unchanged Python client of models: prints what its caller sees as a line of JSON.

python3 model_client.py '{"library": "openai", "base_url": "…", "timeout": 2, "stream": false}'
"""

import json
import sys

MESSAGES = [{"role": "user", "content": "count to five"}]


def ask_openai(options, base_url, stream, model):
    from openai import OpenAI

    client = OpenAI(base_url=base_url, api_key="placeholder", **options)
    if not stream:
        return client.chat.completions.create(model=model, messages=MESSAGES).choices[0].message.content
    text = ""
    for chunk in client.chat.completions.create(model=model, messages=MESSAGES, stream=True):
        text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
    return text


def ask_anthropic(options, base_url, stream, model):
    from anthropic import Anthropic

    client = Anthropic(base_url=base_url.removesuffix("/v1"), api_key="placeholder", **options)
    if not stream:
        return client.messages.create(model=model, max_tokens=10, messages=MESSAGES).content[0].text
    with client.messages.stream(model=model, max_tokens=10, messages=MESSAGES) as events:
        return "".join(events.text_stream)


def main():
    given = json.loads(sys.argv[1])
    options = {name: given[name] for name in ("timeout", "max_retries") if name in given}
    ask = {"openai": ask_openai, "anthropic": ask_anthropic}[given["library"]]
    try:
        seen = {"text": ask(options, given["base_url"], given.get("stream", False), given.get("model", "m"))}
    except Exception as error:
        seen = {"error": type(error).__name__, "status": getattr(error, "status_code", None)}
    print(json.dumps(seen))


main()
