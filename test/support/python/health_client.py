"""A caller whose channel goes by the health of one service (gRFC A17): health_client.py ADDRESS SERVICE

Says each state of its channel as it comes: "state READY". A line on standard input makes a call, whose outcome it says:
"call OK", or the name of the status.
"""

import json
import sys

import grpc

address, service = sys.argv[1:]
config = {
    # Of C-core's policies those that watch health are this one and the ones built on it.
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": service},
}
channel = grpc.insecure_channel(
    address,
    options=[
        ("grpc.service_config", json.dumps(config)),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 500),
    ],
)
channel.subscribe(lambda state: print("state", state.name, flush=True), try_to_connect=True)
call = channel.unary_unary("/my.Tools/Echo", lambda request: request, lambda response: response)
for _ in sys.stdin:
    try:
        call(b"hello", timeout=20)
        print("call OK", flush=True)
    except grpc.RpcError as error:
        print("call", error.code().name, error.details(), flush=True)
