"""A grpcio client that compresses its tasks. Arguments: PORT ALGORITHM AGENT_TYPE TIMES. Prints each answer's output, or
the status and its text, in a line.
"""

import os
import sys

import grpc

PROTO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "proto")
sys.path.insert(0, PROTO)
messages, services = grpc.protos_and_services("agent_service.proto")

port, algorithm, agent_type, times = sys.argv[1:]
compression = {"gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}[algorithm]
with grpc.insecure_channel(f"127.0.0.1:{port}", compression=compression) as channel:
    agent = services.AgentServiceStub(channel)
    for n in range(int(times)):
        # C-core compresses only what gets shorter by it.
        task = messages.TaskRequest(
            task_id=f"{algorithm} {n}", agent_type=agent_type, input="a question, and again a question " * 30
        )
        try:
            print(agent.ProcessTask(task, timeout=60).output)
        except grpc.RpcError as error:
            print(error.code().name, error.details())
