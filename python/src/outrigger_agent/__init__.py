"""Agents for Outrigger in Python.

`serve` runs an agent; `interceptors` passes a task's trace, ids, deadline and budget on from agents that run a server of
their own; `model_client` is an openai client pointed at the sidecar. Begin with the README.
"""

from typing import Any

from .agent import Agent, TaskResult, ToolCall
from .calls import call_agent, stream_agent
from .context import TaskContext, current_task
from .errors import AgentError
from .interceptors import (
    aio_client_interceptors,
    aio_server_interceptor,
    client_interceptors,
    server_interceptor,
)
from .models import configure_openai_agents, http_client, model_client

__all__ = [
    "Agent",
    "AgentError",
    "TaskContext",
    "TaskResult",
    "ToolCall",
    "aio_client_interceptors",
    "aio_server_interceptor",
    "call_agent",
    "client_interceptors",
    "configure_openai_agents",
    "current_task",
    "http_client",
    "model_client",
    "serve",
    "server_interceptor",
    "start_server",
    "stream_agent",
]


def __getattr__(name: str) -> Any:
    # Loaded on demand: the generated code registers agent_service.proto, which an agent with a server of its own
    # may have in another version.
    if name in ("serve", "start_server"):
        from . import server

        return getattr(server, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
