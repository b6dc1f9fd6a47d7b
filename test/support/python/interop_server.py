"""The server's end of gRPC's interoperability cases with grpcio. Prints its port."""

import time
from concurrent import futures

import grpc
from interop_service import ECHO_INITIAL, ECHO_TRAILING, messages, services


def echo(context):
    """Sends the caller's echo metadata back: one in the headers, one in the trailers."""
    for key, value in context.invocation_metadata():
        if key == ECHO_INITIAL:
            context.send_initial_metadata(((key, value),))
        elif key == ECHO_TRAILING:
            context.set_trailing_metadata(((key, value),))


def end_if_asked(request, context):
    if request.HasField("response_status") and request.response_status.code != 0:
        status = next(code for code in grpc.StatusCode if code.value[0] == request.response_status.code)
        context.abort(status, request.response_status.message)


def payload(size):
    return messages.Payload(body=bytes(size))


class TestService(services.TestServiceServicer):
    def EmptyCall(self, request, context):
        echo(context)
        return messages.Empty()

    def UnaryCall(self, request, context):
        echo(context)
        end_if_asked(request, context)
        return messages.SimpleResponse(payload=payload(request.response_size))

    def StreamingOutputCall(self, request, context):
        end_if_asked(request, context)
        for parameters in request.response_parameters:
            time.sleep(parameters.interval_us / 1e6)
            yield messages.StreamingOutputCallResponse(payload=payload(parameters.size))

    def StreamingInputCall(self, request_iterator, context):
        total = sum(len(request.payload.body) for request in request_iterator)
        return messages.StreamingInputCallResponse(aggregated_payload_size=total)

    def FullDuplexCall(self, request_iterator, context):
        echo(context)
        for request in request_iterator:
            yield from self.StreamingOutputCall(request, context)


if __name__ == "__main__":
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
    services.add_TestServiceServicer_to_server(TestService(), server)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()
