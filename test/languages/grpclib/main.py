"""grpclib in either role: main.py client|server PORT."""

import asyncio
import sys
from os.path import abspath, dirname

from grpclib.client import Channel
from grpclib.const import Cardinality, Handler, Status
from grpclib.encoding.base import CodecBase, StatusDetailsCodecBase
from grpclib.exceptions import GRPCError, StreamTerminatedError
from grpclib.server import Server

sys.path.insert(0, dirname(dirname(abspath(__file__))))
from python_lines import Asked, HeldCall, data, make_calls, message, parse, say  # noqa: E402

SERVICE = "languages.Bytes"
KINDS = {
    "unary": ("Unary", Cardinality.UNARY_UNARY),
    "client": ("ClientStream", Cardinality.STREAM_UNARY),
    "server": ("ServerStream", Cardinality.UNARY_STREAM),
    "bidi": ("BidiStream", Cardinality.STREAM_STREAM),
}


class Bytes(CodecBase):
    """Messages as their bytes."""

    __content_subtype__ = "proto"

    def encode(self, message, message_type):
        return message

    def decode(self, data, message_type):
        return data


class Details(StatusDetailsCodecBase):
    def encode(self, status, message, details):
        return details

    def decode(self, status, message, data):
        return data


class Call(HeldCall):
    """One call of the suite."""

    def __init__(self, channel, words):
        asked, self.metadata = parse(words[2:])
        super().__init__(words[0], asked)
        self.channel, self.kind = channel, words[1]
        self.stream = None

    async def run(self):
        if "gzip" in self.asked:
            self.received.report(self.id, "unsupported", "grpclib compresses nothing", (), ())
            return
        name, cardinality = KINDS[self.kind]
        timeout = int(self.asked["deadline"]) / 1000 if "deadline" in self.asked else None
        code, text, details = Status.OK.value, "", None
        stream = self.stream = self.channel.request(
            f"/{SERVICE}/{name}", cardinality, bytes, bytes, timeout=timeout, metadata=self.metadata
        )
        try:
            async with stream:
                await self.make(cardinality)
        except GRPCError as error:
            code, text, details = error.status.value, error.message, error.details
        except asyncio.TimeoutError:
            code, text = Status.DEADLINE_EXCEEDED.value, "the deadline has passed"
        except (StreamTerminatedError, asyncio.CancelledError):
            code, text = Status.CANCELLED.value, "cancelled"
        except Exception as error:  # what the library refuses
            self.received.report(self.id, "client", repr(error), (), ())
            return
        initial = [(name, value) for name, value in (stream.initial_metadata or {}).items()]
        trailing = [(name, value) for name, value in (stream.trailing_metadata or {}).items()]
        if details:
            trailing.append(("grpc-status-details-bin", details))
        self.received.report(self.id, code, text, initial, trailing)

    async def make(self, cardinality):
        sizes = [int(size) for size in self.asked.get("send", "").split(",") if size]
        if cardinality.client_streaming:
            await self.stream.send_request()
        for at, size in enumerate(sizes):
            if self.over:
                break
            try:
                await self.stream.send_message(message(size), end=not cardinality.client_streaming)
            except StreamTerminatedError:
                # The answer came before the end of the request.
                break
            if "turns" in self.asked:
                await self.receive()
        if cardinality.client_streaming and not self.over:
            await self.stream.end()
        if self.asked.get("hold") == "0":
            await self.hold()
        while await self.receive():
            pass

    async def receive(self):
        if self.over:
            return False
        response = await self.stream.recv_message()
        if response is None:
            self.over = True
            return False
        await self.took(response)
        return True

    async def cancel(self):
        await self.stream.cancel()
        raise asyncio.CancelledError


async def client(port):
    channel = Channel("127.0.0.1", int(port), codec=Bytes(), status_details_codec=Details())
    await make_calls(lambda words: Call(channel, words))


class Service:
    def __init__(self):
        self.stop = asyncio.Event()

    def __mapping__(self):
        return {
            f"/{SERVICE}/{name}": Handler(self.handler(kind), cardinality, bytes, bytes)
            for kind, (name, cardinality) in KINDS.items()
        }

    def handler(self, kind):
        async def handle(stream):
            asked = Asked([(name, value) for name, value in stream.metadata.items()])
            if asked.key:
                say(f"{asked.key} started")
            try:
                await self.run(kind, stream, asked)
            except (asyncio.CancelledError, StreamTerminatedError):
                if asked.key:
                    say(f"{asked.key} cancelled")
                raise

        return handle

    async def run(self, kind, stream, asked):
        trailing = list(asked.echo)
        if "do-deadline" in asked:
            left = "none" if stream.deadline is None else str(int(stream.deadline.time_remaining() * 1000))
            trailing.append(("deadline", left))
        if "do-hang" in asked:
            await asyncio.Event().wait()
        if asked.after != 0:
            await stream.send_initial_metadata(metadata=asked.echo)
            await self.answer(kind, stream, asked)
        elif kind in ("unary", "client") and asked.code == 0:
            await stream.send_message(b"")
        await stream.send_trailing_metadata(
            status=Status(asked.code),
            status_message=asked.text or None,
            status_details=asked.details or None,
            metadata=trailing,
        )
        if "do-stop" in asked:
            self.stop.set()

    async def answer(self, kind, stream, asked):
        if kind == "unary":
            await stream.send_message(await stream.recv_message())
        elif kind == "client":
            received = total = 0
            while received != asked.after and (request := await stream.recv_message()) is not None:
                received += 1
                total += len(data(request))
            if asked.code == 0:
                await stream.send_message(message(total))
        elif kind == "server":
            request = await stream.recv_message()
            for sent in range(asked.count):
                if sent == asked.after:
                    break
                await stream.send_message(request)
        else:
            late, sent = [], 0
            while sent != asked.after and (request := await stream.recv_message()) is not None:
                sent += 1
                if "do-late" in asked:
                    late.append(request)
                else:
                    await stream.send_message(request)
            for request in late:
                await stream.send_message(request)


async def server(port):
    service = Service()
    running = Server([service], codec=Bytes(), status_details_codec=Details())
    await running.start("127.0.0.1", int(port))
    say("listening")
    await service.stop.wait()
    await asyncio.sleep(0.05)
    running.close()
    await running.wait_closed()


asyncio.run({"client": client, "server": server}[sys.argv[1]](sys.argv[2]))
