"""A caller as teams write them with grpcio today. It knows nothing of a sidecar.

Arguments: PORT; runs every check below and prints a line of JSON for each: {"check": ..., "error": null
or what was wrong}.
"""

import itertools
import json
import os
import sys
import time
from concurrent import futures

import grpc

PROTO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "proto")
sys.path.insert(0, PROTO)
messages, services = grpc.protos_and_services("agent_service.proto")

MAX_MESSAGE_BYTES = 10 * 1024 * 1024
OPTIONS = [
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30000),
    ("grpc.keepalive_timeout_ms", 10000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]
LIMIT_SECONDS = 30


def expect(found, wanted):
    if found != wanted:
        raise AssertionError(f"{found!r:.200} instead of {wanted!r:.200}")


def task(text, **fields):
    return messages.TaskRequest(task_id="task-1", agent_type="research", input=text, **fields)


def expect_error(call, code, details=None):
    try:
        call()
    except grpc.RpcError as error:
        expect(error.code(), code)
        if details is not None:
            expect(error.details(), details)
        return error
    raise AssertionError(f"OK instead of {code}")


def unary(stub):
    request = task("echo hello there", correlation_id="c-9", metadata={"k": "v"}, max_tokens=7, temperature=0.5)
    response, call = stub.ProcessTask.with_call(request, timeout=LIMIT_SECONDS)
    expect((response.task_id, response.output, response.status), ("task-1", "hello there", messages.SUCCESS))
    expect((response.tokens_used, response.tool_calls[0].tool_name), (2, "answer"))
    expect(call.code(), grpc.StatusCode.OK)
    expect(dict(call.trailing_metadata()).get("x-agent-task"), "task-1")


def unicode_text(stub):
    text = "naïve ☃ 😈 " * 50
    expect(stub.ProcessTask(task("echo " + text), timeout=LIMIT_SECONDS).output, text)


def stream(stub):
    chunks = list(stub.StreamProcess(task("stream one two three"), timeout=LIMIT_SECONDS))
    expect([chunk.chunk for chunk in chunks], ["one ", "two ", "three ", ""])
    expect([chunk.is_final for chunk in chunks], [False, False, False, True])


def stream_of_thousands(stub):
    words = [str(number) for number in range(5000)]
    chunks = stub.StreamProcess(task("stream " + " ".join(words)), timeout=LIMIT_SECONDS)
    expect("".join(chunk.chunk for chunk in chunks).split(), words)


def stream_that_breaks(stub):
    call = stub.StreamProcess(task("break one two"), timeout=LIMIT_SECONDS)
    received = []

    def read():
        for chunk in call:
            received.append(chunk.chunk)

    expect_error(read, grpc.StatusCode.DATA_LOSS, "lost in the middle")
    expect(received, ["one ", "two "])


def deadline(stub):
    started = time.monotonic()
    expect_error(lambda: stub.ProcessTask(task("sleep 5"), timeout=0.3), grpc.StatusCode.DEADLINE_EXCEEDED)
    if time.monotonic() - started > 4:
        raise AssertionError("the deadline did not end the call")


def deadline_reaches_the_agent(stub):
    remaining = float(stub.ProcessTask(task("remaining"), timeout=7).output)
    # Rounded up on the way: grpc-timeout has at most eight digits, and clients choose fewer.
    if not 0 < remaining < 7.5:
        raise AssertionError(f"the agent had {remaining} s left of 7")


def cancel(stub):
    # A task that is sent again gets the answer that it got before: each look is a task of its own.
    looks = itertools.count()

    def seen_cancelled():
        look = task("seen cancelled", correlation_id=f"look-{next(looks)}")
        return int(stub.ProcessTask(look, timeout=LIMIT_SECONDS).output)

    before = seen_cancelled()
    call = stub.StreamProcess(task("forever"), timeout=LIMIT_SECONDS)
    expect(next(call).chunk, "tick ")
    call.cancel()
    expect_error(lambda: list(call), grpc.StatusCode.CANCELLED)
    # The agent learns of it, too.
    end = time.monotonic() + 10
    while seen_cancelled() <= before:
        if time.monotonic() > end:
            raise AssertionError("the agent did not learn of the cancellation")
        time.sleep(0.02)


def cancel_of_a_future(stub):
    call = stub.ProcessTask.future(task("sleep 2"), timeout=LIMIT_SECONDS)
    call.cancel()
    expect((call.cancelled(), call.code()), (True, grpc.StatusCode.CANCELLED))


def error_statuses(stub):
    # ABORTED and the like are the caller's or the agent's business: they come through as they are.
    for name in ("INVALID_ARGUMENT", "NOT_FOUND", "PERMISSION_DENIED", "ABORTED", "RESOURCE_EXHAUSTED", "INTERNAL"):
        call = lambda: stub.ProcessTask(task("fail " + name), timeout=LIMIT_SECONDS)
        expect_error(call, getattr(grpc.StatusCode, name), f"the agent says {name}")


def exception_in_the_agent(stub):
    error = expect_error(lambda: stub.ProcessTask(task("raise"), timeout=LIMIT_SECONDS), grpc.StatusCode.UNKNOWN)
    expect("unknown verb raise" in error.details(), True)


def unimplemented(stub, channel):
    call = channel.unary_unary("/agent.AgentService/Other")
    expect_error(lambda: call(b"", timeout=LIMIT_SECONDS), grpc.StatusCode.UNIMPLEMENTED)


def request_of_9_mib(stub):
    text = "y" * (9 * 1024 * 1024)
    expect(stub.ProcessTask(task("echo " + text), timeout=LIMIT_SECONDS).output, text)


def response_of_9_mib(stub):
    output = stub.ProcessTask(task(f"large {9 * 1024 * 1024}"), timeout=LIMIT_SECONDS).output
    expect(len(output), 9 * 1024 * 1024)


def metadata(stub):
    sent = (("x-tenant", "blue"), ("x-raw-bin", b"\x00\x01\xff"))
    expect(stub.ProcessTask(task("metadata x-tenant"), metadata=sent, timeout=LIMIT_SECONDS).output, "blue")
    output = stub.ProcessTask(task("metadata x-raw-bin"), metadata=sent, timeout=LIMIT_SECONDS).output
    expect(output, "b'\\x00\\x01\\xff'")


def compression(stub):
    text = "compress me " * 1000
    request = task("echo " + text)
    response = stub.ProcessTask(request, timeout=LIMIT_SECONDS, compression=grpc.Compression.Gzip)
    expect(response.output, text)


def concurrent_calls(stub):
    def one(number):
        return stub.ProcessTask(task(f"echo number {number}"), timeout=LIMIT_SECONDS).output

    with futures.ThreadPoolExecutor(max_workers=16) as pool:
        expect(list(pool.map(one, range(400))), [f"number {number}" for number in range(400)])


def concurrent_streams(stub):
    def one(number):
        chunks = stub.StreamProcess(task("stream " + f"w{number} " * 50), timeout=LIMIT_SECONDS)
        return "".join(chunk.chunk for chunk in chunks).split()

    with futures.ThreadPoolExecutor(max_workers=16) as pool:
        expect(list(pool.map(one, range(48))), [[f"w{number}"] * 50 for number in range(48)])


def health_check(stub):
    response = stub.HealthCheck(messages.HealthRequest(), timeout=LIMIT_SECONDS)
    expect(response.healthy, True)
    # Beside a sidecar it is the sidecar that answers, so only what both say is held here.
    expect(response.agent_name != "", True)


def second_channel(stub, channel):
    """Many short-lived callers, each with a connection of its own."""
    for number in range(20):
        options = OPTIONS + [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(sys.argv[1], options=options) as other:
            reply = services.AgentServiceStub(other).ProcessTask(task(f"echo {number}"), timeout=LIMIT_SECONDS)
            expect(reply.output, str(number))


CHECKS = [
    unary,
    unicode_text,
    stream,
    stream_of_thousands,
    stream_that_breaks,
    deadline,
    deadline_reaches_the_agent,
    cancel,
    cancel_of_a_future,
    error_statuses,
    exception_in_the_agent,
    unimplemented,
    request_of_9_mib,
    response_of_9_mib,
    metadata,
    compression,
    concurrent_calls,
    concurrent_streams,
    health_check,
    second_channel,
]


def main():
    with grpc.insecure_channel(sys.argv[1], options=OPTIONS) as channel:
        stub = services.AgentServiceStub(channel)
        for check in CHECKS:
            error = None
            try:
                arguments = (stub, channel) if check.__code__.co_argcount == 2 else (stub,)
                check(*arguments)
            except Exception as problem:  # noqa: BLE001 - every problem is the check's result
                error = f"{type(problem).__name__}: {problem}"
            print(json.dumps({"check": check.__name__, "error": error}), flush=True)


if __name__ == "__main__":
    main()
