"""Calls an agent from the command line: `python -m outrigger_agent "What is a canoe?"`."""

from __future__ import annotations

import argparse
import sys
import uuid

import grpc

from .agent_service_pb2 import Status, TaskRequest
from .agent_service_pb2_grpc import AgentServiceStub


def main() -> int:
    """:returns: the exit code"""
    parser = argparse.ArgumentParser(
        prog="python -m outrigger_agent", description="Sends a task to an agent, and prints its answer."
    )
    parser.add_argument("input", help="the task")
    parser.add_argument("--stream", action="store_true", help="print the answer as it arises (StreamProcess)")
    parser.add_argument(
        "--address", default="127.0.0.1:15006", help="a sidecar, or the agent itself (default: %(default)s)"
    )
    parser.add_argument("--agent", help="the agent's name, where the address is an outbound listener (15001)")
    parser.add_argument("--timeout", type=float, default=60, help="the deadline, in seconds (default: %(default)s)")
    given = parser.parse_args()
    options = [("grpc.enable_http_proxy", 0)]
    if given.agent is not None:
        options.append(("grpc.default_authority", given.agent))
    task = TaskRequest(task_id=str(uuid.uuid4()), input=given.input)
    try:
        with grpc.insecure_channel(given.address, options) as channel:
            return _send(AgentServiceStub(channel), task, given)
    except grpc.RpcError as error:
        print(f"{error.code().name}: {error.details()}", file=sys.stderr)
        for name, value in error.trailing_metadata() or ():
            if name.startswith(("outrigger-", "agent-error-", "grpc-retry-")):
                print(f"{name}: {value}", file=sys.stderr)
        return 1


def _send(stub: AgentServiceStub, task: TaskRequest, given: argparse.Namespace) -> int:
    if given.stream:
        for answer in stub.StreamProcess(task, timeout=given.timeout):
            print(answer.chunk, end="", flush=True)
        print()
        return 0
    answer = stub.ProcessTask(task, timeout=given.timeout)
    print(answer.output)
    state = Status.Name(answer.status)
    if state != "SUCCESS":
        print(f"status: {state}", file=sys.stderr)
    return 0 if state in ("SUCCESS", "PARTIAL") else 1


if __name__ == "__main__":
    sys.exit(main())
