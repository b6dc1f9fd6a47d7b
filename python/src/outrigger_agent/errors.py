"""Translates an agent's errors to gRPC statuses."""

from __future__ import annotations

import json
from typing import Any

import grpc

#: Error codes of providers for an exhausted account: waiting does not help, payment does.
_UNPAID = frozenset(
    (
        "insufficient_quota",
        "billing_hard_limit_reached",
        "billing_not_active",
        "billing_error",
        "insufficient_balance",
        "insufficient_credits",
        "credits_exhausted",
    )
)
#: Statuses of calls to other agents that concern the caller, too.
_PASSED_ON = ("UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "CANCELLED")
_LONGEST_MESSAGE = 300


class AgentError(Exception):
    """An error whose message is intended for the caller. Of any other error the caller receives only the kind.

    :param code: the name of a gRPC status, such as `INVALID_ARGUMENT` or `FAILED_PRECONDITION`
    :param field: the invalid field of TaskRequest; sent as the trailer `agent-error-field`
    :param retry_after_ms: when to try again, in milliseconds; negative for never (gRFC A6)
    :param model: the model provider's refusal; sent as the trailer `agent-error-model`
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        field: str | None = None,
        retry_after_ms: int | None = None,
        model: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        if code not in grpc.StatusCode.__members__ or code == "OK":
            raise ValueError(f"{code!r} is no gRPC status of an error; use a name such as INVALID_ARGUMENT")
        self.code = code
        self.message = message
        self.field = field
        self.retry_after_ms = retry_after_ms
        self.model = model

    @property
    def status(self) -> grpc.StatusCode:
        return grpc.StatusCode[self.code]

    def trailers(self) -> tuple[tuple[str, str], ...]:
        found: list[tuple[str, str]] = []
        if self.field is not None:
            found.append(("agent-error-field", self.field))
        if self.retry_after_ms is not None:
            found.append(("grpc-retry-pushback-ms", str(self.retry_after_ms)))
        if self.model is not None:
            known = {name: value for name, value in self.model.items() if value not in ("", 0)}
            found.append(("agent-error-model", json.dumps(known)))
        return tuple(found)


def classify(error: BaseException, secrets: tuple[str, ...] = ()) -> AgentError:
    """The error for the caller.

    - an AgentError: itself
    - the provider answers 429: RESOURCE_EXHAUSTED, with its Retry-After
    - the provider demands payment: RESOURCE_EXHAUSTED, and callers must not retry
    - the provider answers 400, 413, 422: INVALID_ARGUMENT, it rejected this input
    - the provider answers 401, 403, 404: INTERNAL, this agent is misconfigured, and a retry cannot help
    - the provider answers 408, 409, 5xx, breaks off, or cannot be reached: UNAVAILABLE
    - a call to another agent failed: its status if it also concerns the caller, otherwise INTERNAL
    - anything else: INTERNAL, without its message

    :param secrets: texts to remove from the provider's message
    """
    if isinstance(error, AgentError):
        return error
    if isinstance(error, grpc.RpcError):
        return _classify_agent_call(error)
    if _is_a(error, "openai", "APIError"):
        return _classify_provider(error, secrets)
    if _is_a(error, "httpx", "TransportError") or _is_a(error, "httpx2", "TransportError"):
        # The openai package does not translate what happens in the middle of a stream.
        return AgentError("UNAVAILABLE", "the connection to the model provider broke")
    return AgentError("INTERNAL", "the agent failed")


def _is_a(error: BaseException, module: str, name: str) -> bool:
    """Whether it is of a class of a package that need not be installed."""
    return any(base.__module__.split(".")[0] == module and base.__name__ == name for base in type(error).__mro__)


def _classify_provider(error: Any, secrets: tuple[str, ...]) -> AgentError:
    status = getattr(error, "status_code", None)
    headers = getattr(getattr(error, "response", None), "headers", {})
    said = _message_of(error, secrets)
    reason = headers.get("outrigger-reason", "")
    model = {
        # If the sidecar answered, the status is the sidecar's own.
        "status": 0 if reason or status is None else status,
        "reason": reason,
        "upstream": headers.get("outrigger-upstream", ""),
        "message": said,
    }

    def failed(code: str, what: str, retry_after_ms: int | None = None) -> AgentError:
        text = f"the model provider {what}" + (f": {said}" if said else "")
        return AgentError(code, text, retry_after_ms=retry_after_ms, model=model)

    if status == 402 or getattr(error, "code", None) in _UNPAID or getattr(error, "type", None) in _UNPAID:
        return failed("RESOURCE_EXHAUSTED", "wants to be paid before it serves this agent", -1)
    if status == 429:
        return failed("RESOURCE_EXHAUSTED", "is throttling this agent", _retry_after_ms(headers))
    if status in (400, 413, 422):
        return failed("INVALID_ARGUMENT", "refused the input")
    if status is not None and status < 500 and status not in (408, 409):
        return failed("INTERNAL", f"refused this agent (HTTP {status})")
    if status is not None:
        return failed("UNAVAILABLE", f"is failing (HTTP {status})")
    return failed("UNAVAILABLE", "cannot be reached")


def _message_of(error: Any, secrets: tuple[str, ...]) -> str:
    """The message on one line, bounded, and without keys."""
    body = getattr(error, "body", None)
    said = body.get("message") if isinstance(body, dict) else None
    line = " ".join(str(said or "").split())
    for secret in secrets:
        if len(secret) >= 8:
            line = line.replace(secret, "*" * len(secret))
    return line if len(line) <= _LONGEST_MESSAGE else line[: _LONGEST_MESSAGE - 1] + "…"


def _retry_after_ms(headers: Any) -> int | None:
    for name, factor in (("retry-after-ms", 1), ("retry-after", 1000)):
        text = headers.get(name, "")
        if text.isascii() and text.isdigit() and len(text) <= 9:
            return int(text) * factor
    return None


def _classify_agent_call(error: Any) -> AgentError:
    code = error.code().name if callable(getattr(error, "code", None)) else "UNKNOWN"
    if code not in _PASSED_ON:
        return AgentError("INTERNAL", "a call to another agent failed")
    trailers = error.trailing_metadata() if callable(getattr(error, "trailing_metadata", None)) else None
    pushback = next((value for name, value in trailers or () if name == "grpc-retry-pushback-ms"), "")
    after_ms = int(pushback) if isinstance(pushback, str) and pushback.lstrip("-").isdigit() else None
    return AgentError(code, f"a call to another agent ended with {code}", retry_after_ms=after_ms)
