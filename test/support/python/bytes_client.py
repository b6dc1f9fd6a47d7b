"""One unary call that carries bytes, as grpcio makes it. Arguments: ADDRESS PATH [KEY=VALUE ...], the latter as
metadata. Prints a line of JSON: the code's name, the details, and the metadata that came.
"""

import json
import sys

import grpc


def texts(metadata):
    return [[key, value if isinstance(value, str) else repr(value)] for key, value in metadata or ()]


address, path, *pairs = sys.argv[1:]
with grpc.insecure_channel(address, options=[("grpc.enable_retries", 0)]) as channel:
    call = channel.unary_unary(path)
    result = {"code": "OK", "details": ""}
    try:
        response, ended = call.with_call(b"x", timeout=20, metadata=[tuple(pair.split("=", 1)) for pair in pairs])
        result["response"] = response.decode("latin-1")
    except grpc.RpcError as error:
        ended = error
        result["code"] = error.code().name
        result["details"] = error.details()
    result["initial"] = texts(ended.initial_metadata())
    result["trailing"] = texts(ended.trailing_metadata())
print(json.dumps(result))
