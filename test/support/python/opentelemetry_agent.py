"""An agent with OpenTelemetry's SDK as its documentation sets it up, and nothing said of propagation. It works on
three tasks at a time: each calls the agent "leaf" through the sidecar, whose address is the argument. Prints its port.
"""

import sys
import threading
from concurrent import futures

import grpc
from opentelemetry import trace
from opentelemetry.instrumentation.grpc import GrpcInstrumentorClient, GrpcInstrumentorServer
from opentelemetry.sdk.trace import TracerProvider

TASKS = 3
METHOD = "/agent.AgentService/ProcessTask"

trace.set_tracer_provider(TracerProvider())
GrpcInstrumentorServer().instrument()
GrpcInstrumentorClient().instrument()

all_here = threading.Barrier(TASKS)
channel = grpc.insecure_channel(sys.argv[1], options=[("grpc.default_authority", "leaf")])
leaf = channel.unary_unary(METHOD)


def process_task(request, context):
    all_here.wait(60)
    # A subtask of its own: only the input comes from the task, behind its id.
    subtask_id = b"own " + str(threading.get_ident()).encode()
    caller = request[request.index(b"caller-") :]
    subtask = b"\x0a" + bytes([len(subtask_id)]) + subtask_id + b"\x22" + bytes([len(caller)]) + caller
    return leaf(subtask, timeout=100)


class Handler(grpc.GenericRpcHandler):
    def service(self, call):
        return grpc.unary_unary_rpc_method_handler(process_task) if call.method == METHOD else None


server = grpc.server(futures.ThreadPoolExecutor(max_workers=TASKS))
server.add_generic_rpc_handlers((Handler(),))
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
server.wait_for_termination()
