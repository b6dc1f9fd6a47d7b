"""The gRPC server of an agent, on grpc.aio."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import grpc
import grpc.aio

from . import agent_service_pb2 as messages
from .agent import Agent, TaskResult
from .agent_service_pb2_grpc import AgentServiceServicer, add_AgentServiceServicer_to_server
from .context import TaskContext, context_of, enter
from .errors import AgentError, classify
from .health import Health

log = logging.getLogger("outrigger_agent")

#: The longest message that an agent or its caller sends or accepts.
MAX_MESSAGE_BYTES = 10 * 1024 * 1024
_HIGHEST_TEMPERATURE = 2.0
#: The time for aborted tasks to send their last status.
_FAREWELL_SECONDS = 0.5


def serve(agent: Agent) -> None:
    """Runs an agent as this process, until SIGTERM or SIGINT.

    It listens on AGENT_LISTEN (127.0.0.1:50051 by default). On the signal it finishes the running tasks within
    AGENT_DRAIN_TIMEOUT (25s), and then ends.
    """
    if not logging.getLogger().handlers:
        logging.basicConfig(stream=sys.stdout, level=os.environ.get("LOG_LEVEL", "info").upper(), format="%(message)s")
        logging.getLogger().handlers[0].setFormatter(_JsonLines(agent.name))
        # A line for each request to the model; the sidecar counts them, with their tokens.
        for client in ("httpx", "httpx2"):
            logging.getLogger(client).setLevel(logging.WARNING)
    asyncio.run(_serve(agent))


async def _serve(agent: Agent) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    server = await start_server(agent)
    await stopping.wait()
    log.info("finishing the running tasks")
    await server.stop()
    log.info("stopped")


class AgentServer:
    """A running server."""

    def __init__(self, server: grpc.aio.Server, health: Health, address: str) -> None:
        self._server = server
        self._health = health
        #: `host:port` with the real port, or `unix:/path`.
        self.address = address

    async def stop(self, limit: float | None = None) -> None:
        """Accepts no new tasks and waits for the running ones; after the limit, in seconds, it ends the rest."""
        await self._health.stop()
        seconds = _duration("AGENT_DRAIN_TIMEOUT", "25s") if limit is None else limit
        await self._server.stop(seconds)
        await self._server.stop(_FAREWELL_SECONDS)


async def start_server(agent: Agent, listen: str | None = None) -> AgentServer:
    """Starts an agent in this process.

    :param listen: `host:port` or `unix:/path`; AGENT_LISTEN by default
    :raises RuntimeError: if the address cannot be bound
    """
    address = listen or os.environ.get("AGENT_LISTEN") or "127.0.0.1:50051"
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            # Two agents on one port would share its connections, and nobody would notice.
            ("grpc.so_reuseport", 0),
        ]
    )
    health = Health()
    health.add_to(server)
    add_AgentServiceServicer_to_server(_TaskService(agent, health), server)
    port = server.add_insecure_port(address)
    if port == 0 and not address.startswith("unix:"):
        raise RuntimeError(f"the agent can't listen on {address}: set AGENT_LISTEN to a free address")
    await server.start()
    if not address.startswith("unix:"):
        address = re.sub(r":\d+$", f":{port}", address)
    log.info("listening", extra={"fields": {"address": address, "version": agent.version}})
    return AgentServer(server, health, address)


class _TaskService(AgentServiceServicer):
    """agent.AgentService."""

    def __init__(self, agent: Agent, health: Health) -> None:
        self._agent = agent
        self._health = health

    async def ProcessTask(self, request: Any, context: Any) -> Any:
        started = time.monotonic()
        try:
            task_context = _begin(request, context)
            result = await _called(self._agent.process_task, request, task_context)
        except Exception as error:
            await self._fail(request, context, error)
            raise AssertionError("unreachable") from error
        if not isinstance(result, TaskResult):
            result = TaskResult(str(result))
        return messages.TaskResponse(
            task_id=request.task_id,
            output=result.output,
            status=messages.Status.Value(result.status),
            tokens_used=result.tokens_used,
            latency_ms=round((time.monotonic() - started) * 1000),
            tool_calls=[messages.ToolCall(**vars(call)) for call in result.tool_calls],
        )

    async def StreamProcess(self, request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            task_context = _begin(request, context)
            async with aclosing(_pieces(self._agent.stream_process, request, task_context)) as pieces:
                async for piece in pieces:
                    yield messages.TaskChunk(chunk=piece, is_final=False)
        except Exception as error:
            await self._fail(request, context, error)
        yield messages.TaskChunk(chunk="", is_final=True)

    async def HealthCheck(self, request: Any, context: Any) -> Any:
        serving = self._health.serving
        return messages.HealthResponse(
            healthy=serving,
            agent_name=self._agent.name,
            version=self._agent.version,
            checks={"runtime": "serving" if serving else "stopping"},
        )

    async def _fail(self, request: Any, context: Any, error: Exception) -> None:
        """Ends the call with the error's status."""
        if isinstance(error, grpc.aio.AbortError):
            raise error
        secrets = tuple(filter(None, (os.environ.get("OPENAI_API_KEY"),)))
        failure = classify(error, secrets)
        level = logging.ERROR if failure.code == "INTERNAL" else logging.WARNING
        log.log(
            level,
            failure.message,
            exc_info=error if failure.code == "INTERNAL" else None,
            extra={"fields": {"task_id": request.task_id, "code": failure.code}},
        )
        await context.abort(failure.status, failure.message, failure.trailers())


def _begin(request: Any, context: Any) -> TaskContext:
    """Refuses invalid tasks, and makes the task's context the current one."""
    if request.input.strip() == "":
        raise AgentError("INVALID_ARGUMENT", "input must not be empty", field="input")
    if request.max_tokens < 0:
        raise AgentError("INVALID_ARGUMENT", "max_tokens must not be negative", field="max_tokens")
    if not 0 <= request.temperature <= _HIGHEST_TEMPERATURE:
        message = f"temperature must lie between 0 and {_HIGHEST_TEMPERATURE:g}"
        raise AgentError("INVALID_ARGUMENT", message, field="temperature")
    task_context = context_of(
        context.invocation_metadata(), context.time_remaining(), request.task_id, request.correlation_id
    )
    enter(task_context)
    return task_context


async def _called(method: Callable[..., Any], task: Any, context: TaskContext) -> Any:
    if inspect.iscoroutinefunction(method):
        return await method(task, context)
    result = await asyncio.to_thread(method, task, context)
    return await result if inspect.isawaitable(result) else result


async def _pieces(method: Callable[..., Any], task: Any, context: TaskContext) -> AsyncIterator[str]:
    pieces = method(task, context)
    if hasattr(pieces, "__aiter__"):
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece
        return
    iterator = iter(pieces)
    end = object()
    while (piece := await asyncio.to_thread(next, iterator, end)) is not end:
        yield piece  # type: ignore[misc]


def _duration(name: str, default: str) -> float:
    text = os.environ.get(name) or default
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m)", text)
    if match is None:
        raise ValueError(f"{name} is {text!r}: write a number and one of ms, s, m, such as 25s")
    return float(match[1]) * {"ms": 0.001, "s": 1.0, "m": 60.0}[match[2]]


class _JsonLines(logging.Formatter):
    """Log lines in JSON, as the agents in TypeScript write them."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "level": record.levelname.lower(),
            "time": round(record.created * 1000),
            "name": self._name,
            **getattr(record, "fields", {}),
            "msg": record.getMessage(),
        }
        if record.exc_info:
            line["err"] = self.formatException(record.exc_info)
        return json.dumps(line)
