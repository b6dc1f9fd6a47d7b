"""A grpcio caller whose calls have a deadline. Arguments: PORT METHOD KIND COUNT AT_ONCE SECONDS, where KIND is `sync` or
`aio`, and `-stream` behind either of them asks for streams of answers. Prints the codes that it saw and how often, as one
line of JSON.
"""

import asyncio
import collections
import concurrent.futures
import json
import sys

import grpc

port, method, kind, count, at_once, seconds = sys.argv[1:]
# One call first, without a deadline: with it come the connections of all hops.
WARM = "/test.Raw/Warm"
target = f"127.0.0.1:{port}"
options = [("grpc.default_authority", "upstream"), ("grpc.enable_retries", 0)]
streams = kind.endswith("-stream")
codes = collections.Counter()


def call(channel: grpc.Channel, _: int) -> None:
    try:
        if streams:
            list(channel.unary_stream(method)(b"x", timeout=float(seconds)))
        else:
            channel.unary_unary(method)(b"x", timeout=float(seconds))
        codes["OK"] += 1
    except grpc.RpcError as error:
        codes[error.code().name] += 1


def run_sync() -> None:
    with grpc.insecure_channel(target, options=options) as channel:
        channel.unary_unary(WARM)(b"x")
        with concurrent.futures.ThreadPoolExecutor(int(at_once)) as threads:
            list(threads.map(lambda i: call(channel, i), range(int(count))))


async def call_aio(channel: grpc.aio.Channel, places: asyncio.Semaphore) -> None:
    async with places:
        try:
            if streams:
                async for _ in channel.unary_stream(method)(b"x", timeout=float(seconds)):
                    pass
            else:
                await channel.unary_unary(method)(b"x", timeout=float(seconds))
            codes["OK"] += 1
        except grpc.aio.AioRpcError as error:
            codes[error.code().name] += 1


async def run_aio() -> None:
    places = asyncio.Semaphore(int(at_once))
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        await channel.unary_unary(WARM)(b"x")
        await asyncio.gather(*(call_aio(channel, places) for _ in range(int(count))))


if kind.startswith("aio"):
    asyncio.run(run_aio())
else:
    run_sync()
print(json.dumps(codes))
