"""Interceptors that pass a task's trace, ids, deadline and budget on to the calls that the agent makes for it.

For agents that run a grpcio server of their own:

    server = grpc.server(executor, interceptors=[server_interceptor()])
    channel = grpc.intercept_channel(grpc.insecure_channel("127.0.0.1:15001"), *client_interceptors())

and with grpc.aio:

    server = grpc.aio.server(interceptors=[aio_server_interceptor()])
    channel = grpc.aio.insecure_channel("127.0.0.1:15001", interceptors=aio_client_interceptors())

They add nothing to a call that is made outside of tasks, and replace nothing that a call already has.
"""

from __future__ import annotations

import inspect
from collections import namedtuple
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any

import grpc
import grpc.aio

from .context import TaskContext, context_of, current_task, enter


def server_interceptor() -> grpc.ServerInterceptor:
    """For `grpc.server`: remembers each call's context while its handler runs."""
    return _ServerInterceptor()


def aio_server_interceptor() -> grpc.aio.ServerInterceptor:
    """For `grpc.aio.server`."""
    return _AioServerInterceptor()


def client_interceptors() -> Sequence[Any]:
    """For `grpc.intercept_channel`."""
    return (_ClientInterceptor(),)


def aio_client_interceptors() -> list[grpc.aio.ClientInterceptor]:
    """For the channels of `grpc.aio`."""
    return [_AioUnaryUnary(), _AioUnaryStream(), _AioStreamUnary(), _AioStreamStream()]


class _ServerInterceptor(grpc.ServerInterceptor):
    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = continuation(handler_call_details)
        return None if handler is None else _with_context(handler, handler_call_details.invocation_metadata)


class _AioServerInterceptor(grpc.aio.ServerInterceptor):
    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = await continuation(handler_call_details)
        return None if handler is None else _with_context(handler, handler_call_details.invocation_metadata)


def _with_context(handler: Any, metadata: Any) -> Any:
    """The handler, run in the context of its call."""
    request = "stream" if handler.request_streaming else "unary"
    response = "stream" if handler.response_streaming else "unary"
    make = getattr(grpc, f"{request}_{response}_rpc_method_handler")
    return make(
        _wrap(getattr(handler, f"{request}_{response}"), metadata, handler.response_streaming),
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )


def _wrap(behavior: Callable[..., Any], metadata: Any, answers_stream: bool) -> Callable[..., Any]:
    """The same kind of function, because grpc.aio asks which kind a handler is."""

    def entered(servicer_context: Any) -> TaskContext:
        context = context_of(metadata, servicer_context.time_remaining())
        enter(context)
        return context

    async def coroutine(request: Any, servicer_context: Any) -> Any:
        entered(servicer_context)
        return await behavior(request, servicer_context)

    async def async_generator(request: Any, servicer_context: Any) -> Any:
        entered(servicer_context)
        async with aclosing(behavior(request, servicer_context)) as answers:
            async for answer in answers:
                yield answer

    def plain(request: Any, servicer_context: Any) -> Any:
        entered(servicer_context)
        return behavior(request, servicer_context)

    def generator(request: Any, servicer_context: Any) -> Any:
        context = entered(servicer_context)
        answers = iter(behavior(request, servicer_context))
        while True:
            # grpcio may ask for the next answer in another thread, and reuses threads for other calls.
            enter(context)
            try:
                answer = next(answers)
            except StopIteration:
                return
            yield answer

    if inspect.isasyncgenfunction(behavior):
        return async_generator
    if inspect.iscoroutinefunction(behavior):
        return coroutine
    return generator if answers_stream else plain


class _CallDetails(
    namedtuple(
        "_CallDetails",
        ("method", "timeout", "metadata", "credentials", "wait_for_ready", "compression"),
    ),
    grpc.ClientCallDetails,
):
    """What grpcio's interceptors hand on; its own class is an interface."""


class _ClientInterceptor(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    def _go_on(self, continuation: Any, details: Any, request: Any) -> Any:
        timeout, metadata = _passed_on(details)
        return continuation(
            _CallDetails(
                details.method,
                timeout,
                metadata,
                details.credentials,
                getattr(details, "wait_for_ready", None),
                getattr(details, "compression", None),
            ),
            request,
        )

    intercept_unary_unary = _go_on
    intercept_unary_stream = _go_on
    intercept_stream_unary = _go_on
    intercept_stream_stream = _go_on


async def _go_on_aio(_self: Any, continuation: Any, details: Any, request: Any) -> Any:
    timeout, metadata = _passed_on(details)
    return await continuation(
        grpc.aio.ClientCallDetails(
            details.method,
            timeout,
            grpc.aio.Metadata(*metadata),
            details.credentials,
            details.wait_for_ready,
        ),
        request,
    )


class _AioUnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):
    intercept_unary_unary = _go_on_aio


class _AioUnaryStream(grpc.aio.UnaryStreamClientInterceptor):
    intercept_unary_stream = _go_on_aio


class _AioStreamUnary(grpc.aio.StreamUnaryClientInterceptor):
    intercept_stream_unary = _go_on_aio


class _AioStreamStream(grpc.aio.StreamStreamClientInterceptor):
    intercept_stream_stream = _go_on_aio


def _passed_on(details: Any) -> tuple[float | None, tuple[tuple[str, Any], ...]]:
    """The call's timeout and metadata with what its task adds."""
    given = tuple((name, value) for name, value in details.metadata or ())
    task = current_task()
    if task is None:
        return details.timeout, given
    names = {name for name, _ in given}
    added = tuple((name, value) for name, value in task.metadata() if name not in names)
    left = task.time_left()
    timeout = details.timeout
    if left is not None and (timeout is None or left < timeout):
        timeout = left
    return timeout, given + added
