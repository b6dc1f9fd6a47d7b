"""An agent as teams write them with grpcio today: a thread pool server with keepalive options and a
HealthCheck of its own. It knows nothing of a sidecar. Prints its port.

The input says what it does: "echo TEXT", "sleep SECONDS", "fail CODE", "large BYTES", "metadata KEY",
"remaining", "raise". "seen KEY" tells what earlier calls left: "cancelled" counts the streams that the
caller cancelled.
"""

import os
import sys
import threading
import time
from concurrent import futures

import grpc

PROTO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "proto")
sys.path.insert(0, PROTO)
messages, services = grpc.protos_and_services("agent_service.proto")

MAX_MESSAGE_BYTES = 10 * 1024 * 1024
OPTIONS = [
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30000),
    ("grpc.keepalive_timeout_ms", 10000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 5000),
]


class Agent(services.AgentServiceServicer):
    def __init__(self):
        self.lock = threading.Lock()
        self.seen = {"cancelled": 0}

    def ProcessTask(self, request, context):
        started = time.monotonic()
        context.set_trailing_metadata((("x-agent-task", request.task_id),))
        output = self.answer(request, context)
        return messages.TaskResponse(
            task_id=request.task_id,
            output=output,
            status=messages.SUCCESS,
            tokens_used=len(output.split()),
            latency_ms=int((time.monotonic() - started) * 1000),
            tool_calls=[messages.ToolCall(tool_name="answer", arguments="{}", result="ok", latency_ms=1)],
        )

    def answer(self, request, context):
        verb, _, rest = request.input.partition(" ")
        if verb == "echo":
            return rest
        if verb == "sleep":
            time.sleep(float(rest))
            return "slept"
        if verb == "fail":
            context.abort(getattr(grpc.StatusCode, rest), f"the agent says {rest}")
        if verb == "large":
            return "x" * int(rest)
        if verb == "metadata":
            value = dict(context.invocation_metadata()).get(rest, "none")
            return value if isinstance(value, str) else repr(value)
        if verb == "remaining":
            return str(context.time_remaining())
        if verb == "seen":
            with self.lock:
                return str(self.seen[rest])
        raise ValueError(f"unknown verb {verb}")

    def StreamProcess(self, request, context):
        verb, _, rest = request.input.partition(" ")
        if verb == "forever":
            # Ends when the caller does; a sidecar must pass that on. The callback comes at the call's end,
            # whether or not grpcio asks for another chunk.
            context.add_callback(self.count_cancelled)
            while context.is_active():
                yield messages.TaskChunk(chunk="tick ")
                time.sleep(0.02)
            return
        words = rest.split()
        for word in words:
            yield messages.TaskChunk(chunk=word + " ")
        if verb == "break":
            context.abort(grpc.StatusCode.DATA_LOSS, "lost in the middle")
        yield messages.TaskChunk(chunk="", is_final=True)

    def count_cancelled(self):
        with self.lock:
            self.seen["cancelled"] += 1

    def HealthCheck(self, request, context):
        return messages.HealthResponse(
            healthy=True, agent_name="python-agent", version="3.1.4", checks={"model": "loaded"}
        )


if __name__ == "__main__":
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=32), options=OPTIONS)
    services.add_AgentServiceServicer_to_server(Agent(), server)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()
