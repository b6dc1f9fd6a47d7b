"""The client's end of gRPC's interoperability cases with grpcio.

Arguments: PORT CASE...; prints one line of JSON for each case: {"case": ..., "error": null or what was wrong}.
"""

import json
import queue
import sys

import grpc
from interop_service import ECHO_INITIAL, ECHO_TRAILING, messages, services

REQUEST_SIZES = [27182, 8, 1828, 45904]
RESPONSE_SIZES = [31415, 9, 2653, 58979]
LIMIT_SECONDS = 20


def payload(size):
    return messages.Payload(body=bytes(size))


def output_request(response_size, request_size):
    return messages.StreamingOutputCallRequest(
        response_parameters=[messages.ResponseParameters(size=response_size)],
        payload=payload(request_size),
    )


def expect(found, wanted):
    if found != wanted:
        raise AssertionError(f"{found!r} instead of {wanted!r}")


def expect_error(call, code, details=None):
    """Runs a function that must end in this status."""
    try:
        call()
    except grpc.RpcError as error:
        expect(error.code(), code)
        if details is not None:
            expect(error.details(), details)
        return
    raise AssertionError(f"OK instead of {code}")


def sizes(responses):
    return [len(response.payload.body) for response in responses]


def empty_unary(stub, _):
    expect(stub.EmptyCall(messages.Empty(), timeout=LIMIT_SECONDS), messages.Empty())


def large_unary(stub, _):
    request = messages.SimpleRequest(response_size=314159, payload=payload(271828))
    expect(len(stub.UnaryCall(request, timeout=LIMIT_SECONDS).payload.body), 314159)


def client_streaming(stub, _):
    requests = (messages.StreamingInputCallRequest(payload=payload(size)) for size in REQUEST_SIZES)
    expect(stub.StreamingInputCall(requests, timeout=LIMIT_SECONDS).aggregated_payload_size, 74922)


def server_streaming(stub, _):
    parameters = [messages.ResponseParameters(size=size) for size in RESPONSE_SIZES]
    request = messages.StreamingOutputCallRequest(response_parameters=parameters)
    expect(sizes(stub.StreamingOutputCall(request, timeout=LIMIT_SECONDS)), RESPONSE_SIZES)


def ping_pong(stub, _):
    pipe = queue.Queue()
    call = stub.FullDuplexCall(iter(pipe.get, None), timeout=LIMIT_SECONDS)
    for request_size, response_size in zip(REQUEST_SIZES, RESPONSE_SIZES):
        pipe.put(output_request(response_size, request_size))
        expect(len(next(call).payload.body), response_size)
    pipe.put(None)
    expect(list(call), [])


def empty_stream(stub, _):
    expect(list(stub.FullDuplexCall(iter([]), timeout=LIMIT_SECONDS)), [])


def timeout_on_sleeping_server(stub, _):
    pipe = queue.Queue()
    pipe.put(messages.StreamingOutputCallRequest(payload=payload(27182)))
    call = stub.FullDuplexCall(iter(pipe.get, None), timeout=0.001)
    try:
        expect_error(lambda: list(call), grpc.StatusCode.DEADLINE_EXCEEDED)
    finally:
        pipe.put(None)


def cancel_after_begin(stub, _):
    pipe = queue.Queue()
    call = stub.StreamingInputCall.future(iter(pipe.get, None), timeout=LIMIT_SECONDS)
    call.cancel()
    pipe.put(None)
    expect((call.cancelled(), call.code()), (True, grpc.StatusCode.CANCELLED))


def cancel_after_first_response(stub, _):
    pipe = queue.Queue()
    pipe.put(output_request(31415, 27182))
    call = stub.FullDuplexCall(iter(pipe.get, None), timeout=LIMIT_SECONDS)
    expect(len(next(call).payload.body), 31415)
    call.cancel()
    pipe.put(None)
    expect_error(lambda: next(call), grpc.StatusCode.CANCELLED)


def status_code_and_message(stub, _):
    status = messages.EchoStatus(code=2, message="test status message")
    unary = messages.SimpleRequest(response_status=status)
    stream = messages.StreamingOutputCallRequest(response_status=status)
    expected = (grpc.StatusCode.UNKNOWN, status.message)
    expect_error(lambda: stub.UnaryCall(unary, timeout=LIMIT_SECONDS), *expected)
    expect_error(lambda: list(stub.FullDuplexCall(iter([stream]), timeout=LIMIT_SECONDS)), *expected)


def special_status_message(stub, _):
    message = "\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \U0001f608\t\n"
    request = messages.SimpleRequest(response_status=messages.EchoStatus(code=2, message=message))
    expect_error(lambda: stub.UnaryCall(request, timeout=LIMIT_SECONDS), grpc.StatusCode.UNKNOWN, message)


def unimplemented_method(stub, _):
    call = lambda: stub.UnimplementedCall(messages.Empty(), timeout=LIMIT_SECONDS)
    expect_error(call, grpc.StatusCode.UNIMPLEMENTED)


def unimplemented_service(_, channel):
    stub = services.UnimplementedServiceStub(channel)
    call = lambda: stub.UnimplementedCall(messages.Empty(), timeout=LIMIT_SECONDS)
    expect_error(call, grpc.StatusCode.UNIMPLEMENTED)


def custom_metadata(stub, _):
    metadata = ((ECHO_INITIAL, "test_initial_metadata_value"), (ECHO_TRAILING, b"\xab\xab\xab"))

    def expect_echoes(call):
        expect(dict(call.initial_metadata()).get(ECHO_INITIAL), "test_initial_metadata_value")
        expect(dict(call.trailing_metadata()).get(ECHO_TRAILING), b"\xab\xab\xab")

    request = messages.SimpleRequest(response_size=314159, payload=payload(271828))
    _response, call = stub.UnaryCall.with_call(request, metadata=metadata, timeout=LIMIT_SECONDS)
    expect_echoes(call)
    requests = iter([output_request(314159, 271828)])
    stream = stub.FullDuplexCall(requests, metadata=metadata, timeout=LIMIT_SECONDS)
    expect(sizes(stream), [314159])
    expect_echoes(stream)


def main(port, cases):
    for case in cases:
        error = None
        # A connection a case, as the other ends have it.
        options = (("grpc.use_local_subchannel_pool", 1),)
        with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
            try:
                globals()[case](services.TestServiceStub(channel), channel)
            except Exception as problem:  # noqa: BLE001 - every problem is the case's result
                error = f"{type(problem).__name__}: {problem}"
        print(json.dumps({"case": case, "error": error}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
