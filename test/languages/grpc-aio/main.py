"""grpc.aio in either role: main.py client|server PORT."""

import asyncio
import sys
from os.path import abspath, dirname

import grpc

sys.path.insert(0, dirname(dirname(abspath(__file__))))
from python_lines import Asked, HeldCall, data, make_calls, message, parse, say  # noqa: E402

SERVICE = "languages.Bytes"
CANCEL_FOLLOWS_SECONDS = 2
CODES = {code.value[0]: code for code in grpc.StatusCode}


class Call(HeldCall):
    """One call of the suite, with the operations of its kind."""

    def __init__(self, channel, words):
        asked, metadata = parse(words[2:])
        super().__init__(words[0], asked)
        self.kind = words[1]
        options = {"metadata": metadata}
        if "deadline" in self.asked:
            options["timeout"] = int(self.asked["deadline"]) / 1000
        if "gzip" in self.asked:
            options["compression"] = grpc.Compression.Gzip
        self.channel, self.options = channel, options
        self.call = None

    def start(self, request=None):
        method, name = {
            "unary": (self.channel.unary_unary, "Unary"),
            "client": (self.channel.stream_unary, "ClientStream"),
            "server": (self.channel.unary_stream, "ServerStream"),
            "bidi": (self.channel.stream_stream, "BidiStream"),
        }[self.kind]
        args = [] if request is None else [request]
        self.call = method(f"/{SERVICE}/{name}")(*args, **self.options)

    async def run(self):
        streams = self.kind in ("client", "bidi")
        try:
            if streams:
                self.start()
            for size in filter(None, self.asked.get("send", "").split(",")):
                if self.over:
                    break
                if not streams:
                    self.start(message(int(size)))
                    break
                try:
                    await self.call.write(message(int(size)))
                except (grpc.RpcError, asyncio.InvalidStateError, asyncio.CancelledError):
                    break
                if "turns" in self.asked:
                    await self.receive()
            if streams and not self.over and not self.call.done():
                await self.call.done_writing()
            if self.asked.get("hold") == "0":
                await self.hold()
            while await self.receive():
                pass
            code, text = await self.call.code(), await self.call.details()
            initial, trailing = await self.call.initial_metadata(), await self.call.trailing_metadata()
            self.received.report(self.id, code.value[0], text, initial or (), trailing or ())
        except Exception as error:  # what the library refuses
            self.received.report(self.id, "client", repr(error), (), ())

    async def receive(self):
        if self.over:
            return False
        try:
            if self.kind in ("unary", "client"):
                response = await self.call
                self.over = True
            else:
                response = await self.call.read()
        except (grpc.RpcError, asyncio.CancelledError):
            response = grpc.aio.EOF
        if response is grpc.aio.EOF:
            self.over = True
            return False
        await self.took(response)
        return True

    async def cancel(self):
        self.call.cancel()


async def client(port):
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
    await make_calls(lambda words: Call(channel, words))


class Service(grpc.GenericRpcHandler):
    def __init__(self):
        self.stop = asyncio.Event()

    def service(self, details):
        kinds = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "ClientStream": grpc.stream_unary_rpc_method_handler(self.client_stream),
            "ServerStream": grpc.unary_stream_rpc_method_handler(self.server_stream),
            "BidiStream": grpc.stream_stream_rpc_method_handler(self.bidi_stream),
        }
        return kinds.get(details.method.rsplit("/", 1)[-1])

    async def unary(self, request, context):
        return await self.run(context, self.unary_answer, request)

    async def client_stream(self, requests, context):
        return await self.run(context, self.client_answer, requests)

    async def server_stream(self, request, context):
        await self.run(context, self.server_answer, request)

    async def bidi_stream(self, requests, context):
        await self.run(context, self.bidi_answer, requests)

    async def run(self, context, answer, given):
        asked = Asked(context.invocation_metadata())
        if asked.key:
            say(f"{asked.key} started")
        try:
            trailing = list(asked.echo)
            if "do-deadline" in asked:
                left = context.time_remaining()
                trailing.append(("deadline", "none" if left is None else str(int(left * 1000))))
            if asked.details:
                trailing.append(("grpc-status-details-bin", asked.details))
            context.set_trailing_metadata(tuple(trailing))
            if "do-gzip" in asked:
                context.set_compression(grpc.Compression.Gzip)
            if "do-hang" in asked:
                await asyncio.Event().wait()
            result = b""
            if asked.after != 0:
                await context.send_initial_metadata(tuple(asked.echo))
                result = await answer(asked, context, given)
            if context.cancelled():
                raise asyncio.CancelledError
            if asked.code:
                await context.abort(CODES[asked.code], asked.text)
            if "do-stop" in asked:
                self.stop.set()
            return result
        except asyncio.CancelledError:
            if asked.key:
                say(f"{asked.key} cancelled")
            raise

    async def unary_answer(self, asked, context, request):
        return request

    async def client_answer(self, asked, context, requests):
        received = total = 0
        while received != asked.after:
            request = await context.read()
            if request is grpc.aio.EOF:
                break
            received += 1
            total += len(data(request))
        return message(total)

    async def server_answer(self, asked, context, request):
        for sent in range(asked.count):
            if sent == asked.after:
                break
            await context.write(request)

    async def bidi_answer(self, asked, context, requests):
        late, sent = [], 0
        while sent != asked.after:
            request = await context.read()
            if request is grpc.aio.EOF:
                if asked.key:
                    # A cancelled call's requests end first; the cancel follows.
                    await asyncio.sleep(CANCEL_FOLLOWS_SECONDS)
                break
            sent += 1
            if "do-late" in asked:
                late.append(request)
            else:
                await context.write(request)
        for request in late:
            await context.write(request)


async def server(port):
    service = Service()
    running = grpc.aio.server()
    running.add_generic_rpc_handlers((service,))
    running.add_insecure_port(f"127.0.0.1:{port}")
    await running.start()
    say("listening")
    await service.stop.wait()
    await running.stop(60)


asyncio.run({"client": client, "server": server}[sys.argv[1]](sys.argv[2]))
