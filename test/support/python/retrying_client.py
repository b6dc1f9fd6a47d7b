"""A grpcio caller with a retry policy of its own. Arguments: PORT METHOD ATTEMPTS. Prints the status of its call."""

import json
import sys

import grpc

port, method, attempts = sys.argv[1:]
policy = {
    "maxAttempts": int(attempts),
    "initialBackoff": "0.01s",
    "maxBackoff": "0.02s",
    "backoffMultiplier": 1,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
config = {"methodConfig": [{"name": [{}], "retryPolicy": policy}]}
options = [("grpc.default_authority", "upstream"), ("grpc.service_config", json.dumps(config))]
with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
    try:
        channel.unary_unary(method)(b"", timeout=30)
        print("OK")
    except grpc.RpcError as error:
        print(error.code().name, error.details())
