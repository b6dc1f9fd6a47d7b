"""An agent on plain grpcio with code of its own, and the package's interceptors. It relays each task. Prints its port."""

import os
import sys
from concurrent import futures

import grpc
from outrigger_agent import client_interceptors, server_interceptor

# The package's own copy would register the same file.
assert "outrigger_agent.agent_service_pb2" not in sys.modules

PATH = "/agent.AgentService/ProcessTask"
options = [("grpc.default_authority", "leaf")]
channel = grpc.intercept_channel(grpc.insecure_channel(os.environ["AGENT_OUTBOUND"], options), *client_interceptors())
relay = channel.unary_unary(PATH)


class Relay(grpc.GenericRpcHandler):
    def service(self, details):
        if details.method != PATH:
            return None
        # Field 4 is the input: the leaf is given a task of its own.
        return grpc.unary_unary_rpc_method_handler(lambda request, context: relay(request.replace(b"task-", b"leaf-")))


server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[Relay()], interceptors=[server_interceptor()])
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
server.wait_for_termination()
