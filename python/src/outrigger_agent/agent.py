"""The interface of an agent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .agent_service_pb2 import TaskRequest
    from .context import TaskContext


@dataclass(frozen=True)
class ToolCall:
    """A tool that the agent used for a task. `arguments` is JSON."""

    tool_name: str
    arguments: str = "{}"
    result: str = ""
    latency_ms: int = 0


@dataclass(frozen=True)
class TaskResult:
    """The result of a task. The server adds the task's id and its duration."""

    output: str
    #: SUCCESS, PARTIAL, FAILED or TIMEOUT.
    status: str = "SUCCESS"
    tokens_used: int = 0
    tool_calls: Sequence[ToolCall] = field(default_factory=tuple)


class Agent(Protocol):
    """An agent: its name, and how it processes a task.

    Both methods may be coroutines (an async generator for `stream_process`) or plain functions, which run in a thread.
    Both may raise; `errors.classify` decides what the caller receives. `process_task` may return plain text.
    """

    name: str
    version: str

    def process_task(
        self, task: TaskRequest, context: TaskContext
    ) -> TaskResult | str | Awaitable[TaskResult | str]: ...

    def stream_process(
        self, task: TaskRequest, context: TaskContext
    ) -> AsyncIterator[str] | Iterator[str]: ...
