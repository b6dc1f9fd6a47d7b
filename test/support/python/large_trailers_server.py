"""A server whose method names say how many bytes of metadata stand in the trailers of its NOT_FOUND; "sleep" answers
after a second. Prints its port.
"""

import time
from concurrent import futures

import grpc


class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        method = details.method.rsplit("/", 1)[1]

        def answer(request, context):
            if method == "sleep":
                time.sleep(1)
                return b"slept"
            context.set_trailing_metadata((("x-large", "y" * int(method)),))
            context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")

        if method != "sleep" and not method.isdigit():
            return None
        return grpc.unary_unary_rpc_method_handler(answer)


if __name__ == "__main__":
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    server.add_generic_rpc_handlers((Handler(),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()
