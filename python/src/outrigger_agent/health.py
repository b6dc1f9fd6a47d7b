"""grpc.health.v1.Health, without generated code of its own: an agent may have grpcio-health-checking, too.

Two copies of generated code for one file may not differ, so this module reads and writes the two small messages itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

_SERVICES = ("", "agent.AgentService")
_MAX_WATCHES = 100
#: HealthCheckResponse with field 1, `status`, set to SERVING, NOT_SERVING, SERVICE_UNKNOWN.
_SERVING, _NOT_SERVING, _UNKNOWN = b"\x08\x01", b"\x08\x02", b"\x08\x03"


class Health:
    """Whether the agent accepts tasks: from its start until it stops. The sidecar judges an agent that fails."""

    def __init__(self) -> None:
        self.serving = True
        self._watches = 0
        self._stopped = asyncio.Event()

    def add_to(self, server: Any) -> None:
        handlers = {
            "Check": grpc.unary_unary_rpc_method_handler(self._check),
            "Watch": grpc.unary_stream_rpc_method_handler(self._watch),
        }
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("grpc.health.v1.Health", handlers),)
        )

    async def stop(self) -> None:
        """Reports NOT_SERVING from now on, and ends the watches, which would keep the server open."""
        self.serving = False
        self._stopped.set()

    def _status(self) -> bytes:
        return _SERVING if self.serving else _NOT_SERVING

    async def _check(self, request: bytes, context: Any) -> bytes:
        if _service_of(request) not in _SERVICES:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return self._status()

    async def _watch(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        if self._watches >= _MAX_WATCHES:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, f"at most {_MAX_WATCHES} watches at a time"
            )
        self._watches += 1
        try:
            known = _service_of(request) in _SERVICES
            yield self._status() if known else _UNKNOWN
            if self.serving:
                await self._stopped.wait()
                if known:
                    yield self._status()
        finally:
            self._watches -= 1


def _service_of(request: bytes) -> str:
    """HealthCheckRequest: field 1, `service`, a string of less than 128 bytes for each name that is known here."""
    if request == b"":
        return ""
    if request[0] != 0x0A or len(request) < 2 or request[1] != len(request) - 2:
        return "?"
    return request[2:].decode("utf-8", "replace")
