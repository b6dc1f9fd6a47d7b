"""An agent on grpcio that compresses its answers. Arguments: its name, gzip or deflate, and the status of every answer.
Prints its port.
"""

import os
import sys
import threading
from concurrent import futures

import grpc

PROTO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "proto")
sys.path.insert(0, PROTO)
messages, services = grpc.protos_and_services("agent_service.proto")

name, algorithm, status = sys.argv[1:]
compression = {"gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}[algorithm]


class Agent(services.AgentServiceServicer):
    def ProcessTask(self, request, context):
        output = f"{name} was asked {request.input} " * 20
        return messages.TaskResponse(output=output, status=messages.Status.Value(status), tokens_used=7)


server = grpc.server(futures.ThreadPoolExecutor(max_workers=4), compression=compression)
services.add_AgentServiceServicer_to_server(Agent(), server)
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
threading.Event().wait()
