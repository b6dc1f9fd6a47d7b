"""The context of the task that runs: what its own calls must carry, and how long it may take.

A `contextvars` variable holds it, so coroutines and `asyncio.to_thread` have it without being given it. A thread that the
agent starts itself has it after `contextvars.copy_context().run(...)`.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass

#: The headers that carry a trace from hop to hop: W3C Trace Context, B3 in both forms, Jaeger's, gRPC's binary form.
TRACE_NAMES = (
    "traceparent",
    "tracestate",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "uber-trace-id",
    "grpc-trace-bin",
)
#: `baggage` names the call to the sidecar, which knows the task's deadline, path and token budget by it.
FORWARDED_NAMES = (*TRACE_NAMES, "baggage", "x-request-id", "x-task-id", "x-correlation-id")

Metadata = tuple[tuple[str, "str | bytes"], ...]

_HEADER_VALUE = re.compile(r"[\x21-\x7e]{1,256}")


@dataclass(frozen=True)
class TaskContext:
    """What an agent knows of one task besides its request."""

    #: What the task's own calls carry, too.
    forwarded: Metadata = ()
    #: The end of the caller's deadline by `time.monotonic()`; None if the caller set none.
    deadline: float | None = None
    task_id: str = ""
    correlation_id: str = ""
    #: The call's metadata, unchanged: what the caller says of itself, such as `authorization`.
    incoming: Metadata = ()

    def time_left(self) -> float | None:
        """Seconds until the deadline, never below 0; None without one."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def metadata(self) -> Metadata:
        """Metadata for the task's calls to other agents."""
        if not _opentelemetry_is_active():
            return self.forwarded
        # OpenTelemetry's own instrumentation continues the trace at the agent's span.
        return tuple((name, value) for name, value in self.forwarded if name not in TRACE_NAMES)

    def headers(self) -> dict[str, str]:
        """HTTP headers for the task's requests to models."""
        headers = {name: value for name, value in self.metadata() if isinstance(value, str)}
        for name, value in (("x-task-id", self.task_id), ("x-correlation-id", self.correlation_id)):
            # Callers choose the ids: omit what is no header value, or too long.
            if _HEADER_VALUE.fullmatch(value):
                headers[name] = value
        return headers


_current: ContextVar[TaskContext | None] = ContextVar("outrigger_task", default=None)


def current_task() -> TaskContext | None:
    """The context of the task that this code runs for; None outside of tasks."""
    return _current.get()


def enter(context: TaskContext) -> None:
    """Makes it the context of what runs from here on in this coroutine or thread."""
    _current.set(context)


def context_of(
    metadata: Iterable[tuple[str, str | bytes]] | None,
    time_remaining: float | None,
    task_id: str = "",
    correlation_id: str = "",
) -> TaskContext:
    """The context of a call.

    :param time_remaining: seconds, as grpcio's `ServicerContext.time_remaining` returns them
    """
    incoming = tuple((name, value) for name, value in metadata or ())
    forwarded = tuple((name, value) for name, value in incoming if name in FORWARDED_NAMES)
    # Without a deadline grpcio says None, or a time of many years.
    bounded = time_remaining is not None and time_remaining < 10 * 365 * 86_400
    deadline = time.monotonic() + time_remaining if bounded and time_remaining is not None else None
    return TaskContext(forwarded, deadline, task_id, correlation_id, incoming)


def _opentelemetry_is_active() -> bool:
    if "opentelemetry.trace" not in sys.modules:
        return False
    from opentelemetry import trace  # type: ignore[import-not-found]

    return bool(trace.get_current_span().get_span_context().is_valid)
