"""A grpcio server that ends its connections at a certain age. Arguments: AGE GRACE, in milliseconds. Prints its port.

/test.Raw/Unary answers after the seconds in its request, at once without any; /test.Raw/ServerStream answers ten times a
second for so long.
"""

import sys
import time
from concurrent import futures

import grpc


def unary(request, context):
    end = time.monotonic() + float(request or b"0")
    while time.monotonic() < end and context.is_active():
        time.sleep(0.05)
    return b"done"


def server_stream(request, context):
    end = time.monotonic() + float(request or b"0")
    while time.monotonic() < end and context.is_active():
        yield b"more"
        time.sleep(0.1)


age, grace = sys.argv[1:]
server = grpc.server(
    futures.ThreadPoolExecutor(max_workers=40),
    options=[
        ("grpc.max_connection_age_ms", int(age)),
        ("grpc.max_connection_age_grace_ms", int(grace)),
    ],
)
server.add_generic_rpc_handlers(
    (
        grpc.method_handlers_generic_handler(
            "test.Raw",
            {
                "Unary": grpc.unary_unary_rpc_method_handler(unary),
                "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
            },
        ),
    )
)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
server.wait_for_termination()
