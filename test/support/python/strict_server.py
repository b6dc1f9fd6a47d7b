"""A grpcio server with one worker and grpcio's own keepalive rules: PINGs more often than each five minutes, while
nothing moves, are strikes, and the third strike ends the connection. Prints its port.

/strict.Server/Wait sleeps for the seconds in its request and answers with it; grpc.health.v1 waits for the worker.
"""

import time
from concurrent import futures

import grpc


def wait(request, context):
    time.sleep(float(request or b"0"))
    return request


def handler(call):
    return grpc.unary_unary_rpc_method_handler(call)


server = grpc.server(futures.ThreadPoolExecutor(max_workers=1))
server.add_generic_rpc_handlers(
    (
        grpc.method_handlers_generic_handler("strict.Server", {"Wait": handler(wait)}),
        grpc.method_handlers_generic_handler(
            "grpc.health.v1.Health", {"Check": handler(lambda request, context: b"\x08\x01")}
        ),
    )
)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
server.wait_for_termination()
