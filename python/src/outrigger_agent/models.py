"""The openai client of an agent, pointed at the sidecar. It needs the openai package: `outrigger-agent[openai]`."""

from __future__ import annotations

import os
from typing import Any

from .context import current_task

#: The sidecar's port for models, which adds the provider's key, retries, and counts tokens.
_SIDECAR = "http://127.0.0.1:15002/v1"


def model_client(**options: Any) -> Any:
    """An `openai.AsyncOpenAI` whose requests carry the ids and the trace of the task that makes them.

    OPENAI_BASE_URL and OPENAI_API_KEY have precedence over the sidecar's address and the key "none". The client itself
    does not retry, because the sidecar does: both together would multiply the attempts.

    :param options: options of `openai.AsyncOpenAI`
    """
    import openai

    options.setdefault("base_url", os.environ.get("OPENAI_BASE_URL") or _SIDECAR)
    options.setdefault("api_key", os.environ.get("OPENAI_API_KEY") or "none")
    options.setdefault("max_retries", int(os.environ.get("OPENAI_MAX_RETRIES") or 0))
    if "http_client" not in options:
        options["http_client"] = http_client()
    return openai.AsyncOpenAI(**options)


def http_client(**options: Any) -> Any:
    """The HTTP client of `model_client`, for other packages that take one: `ChatOpenAI(http_async_client=http_client())`.

    :param options: options of httpx's `AsyncClient`
    """
    import openai

    hooks = options.pop("event_hooks", {})
    requests = [*hooks.get("request", []), _add_headers]
    return openai.DefaultAsyncHttpxClient(event_hooks={**hooks, "request": requests}, **options)


def configure_openai_agents(**options: Any) -> Any:
    """Makes `model_client(...)` the client of openai-agents, and keeps its tracing, which needs a key, away from it.

    :returns: the client
    """
    from agents import set_default_openai_client

    client = model_client(**options)
    set_default_openai_client(client, use_for_tracing=False)
    if not os.environ.get("OPENAI_API_KEY"):
        from agents import set_tracing_disabled

        set_tracing_disabled(True)
    return client


async def _add_headers(request: Any) -> None:
    task = current_task()
    if task is None:
        return
    for name, value in task.headers().items():
        if name not in request.headers:
            request.headers[name] = value
