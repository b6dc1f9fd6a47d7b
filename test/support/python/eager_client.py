"""A grpcio client that sends keepalive PINGs far too often. Arguments: PORT SECONDS MILLISECONDS PERMIT, the last one
1 when it sends them without calls, too. Calls /strict.Server/Wait; prints the status and its text, in one line.
"""

import sys

import grpc

port, seconds, milliseconds, permit = sys.argv[1:]
options = [
    ("grpc.keepalive_time_ms", int(milliseconds)),
    ("grpc.keepalive_timeout_ms", 5000),
    ("grpc.keepalive_permit_without_calls", int(permit)),
    ("grpc.http2.max_pings_without_data", 0),
]
with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
    try:
        channel.unary_unary("/strict.Server/Wait")(seconds.encode(), timeout=30)
        print("OK")
    except grpc.RpcError as error:
        print(error.code().name, error.details())
