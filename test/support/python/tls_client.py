"""A caller with grpcio over mutual TLS: PORT CA [CERT KEY]. Prints a line of JSON: {"code": ..., "details": ..., "answer": ...}."""

import json
import sys

import grpc


def read(path):
    with open(path, "rb") as file:
        return file.read()


port, authority, *own = sys.argv[1:]
certificate, key = (read(own[0]), read(own[1])) if own else (None, None)
credentials = grpc.ssl_channel_credentials(read(authority), key, certificate)
with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
    call = channel.unary_unary("/test.Raw/Unary", request_serializer=bytes, response_deserializer=bytes)
    found = {"code": "OK", "details": "", "answer": ""}
    try:
        found["answer"] = call(b"from python", timeout=20).decode()
    except grpc.RpcError as error:
        found["code"] = error.code().name
        found["details"] = error.details()
    print(json.dumps(found))
