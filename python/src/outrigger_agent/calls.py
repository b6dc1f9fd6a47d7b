"""Calls from an agent to other agents, through its sidecar."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import grpc.aio

from .context import current_task
from .interceptors import aio_client_interceptors

if TYPE_CHECKING:
    from .agent_service_pb2 import TaskResponse

#: The sidecar's port for calls to other agents, which it routes by their names.
_SIDECAR = "127.0.0.1:15001"

#: A channel belongs to its event loop.
_stubs: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Any]] = WeakKeyDictionary()


async def call_agent(agent: str, input: str, **fields: Any) -> TaskResponse:
    """Another agent's answer to a part of the current task. AGENT_OUTBOUND replaces the sidecar's address.

    The trace, the ids, the deadline and the token budget of the current task pass on to the call. An error that this
    agent does not catch becomes its own where it concerns the caller, too (`errors.classify`).

    :param agent: the name by which the sidecar routes, such as `writing-agent`
    :param fields: further fields of TaskRequest, such as `max_tokens`
    :raises grpc.aio.AioRpcError: if the call fails
    """
    return await _stub(agent).ProcessTask(_subtask(input, fields))


async def stream_agent(agent: str, input: str, **fields: Any) -> AsyncIterator[str]:
    """The same, in pieces as they arise."""
    call = _stub(agent).StreamProcess(_subtask(input, fields))
    try:
        async for answer in call:
            if answer.chunk:
                yield answer.chunk
    finally:
        call.cancel()


def _stub(agent: str) -> Any:
    from .agent_service_pb2_grpc import AgentServiceStub

    stubs = _stubs.setdefault(asyncio.get_running_loop(), {})
    if agent not in stubs:
        channel = grpc.aio.insecure_channel(
            os.environ.get("AGENT_OUTBOUND") or _SIDECAR,
            options=[("grpc.default_authority", agent), ("grpc.enable_http_proxy", 0)],
            interceptors=aio_client_interceptors(),
        )
        stubs[agent] = AgentServiceStub(channel)
    return stubs[agent]


def _subtask(input: str, fields: dict[str, Any]) -> Any:
    """A task with an id of its own: an id names one piece of work, and sidecars replay answers by it."""
    from .agent_service_pb2 import TaskRequest

    task = current_task()
    fields.setdefault("task_id", str(uuid.uuid4()))
    fields.setdefault("correlation_id", task.correlation_id if task else "")
    return TaskRequest(input=input, **fields)
