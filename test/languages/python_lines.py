"""The text that the suite and its peers exchange, and messages as their bytes: message Chunk { bytes data = 1; }."""

import asyncio
import sys
import zlib
from urllib.parse import quote, unquote


def say(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def message(size):
    """A message whose data has this size."""
    if size == 0:
        return b""
    head = bytearray([0x0A])
    rest = size
    while rest >= 128:
        head.append(rest & 0x7F | 0x80)
        rest >>= 7
    head.append(rest)
    return bytes(head) + bytes((i * 31 + (i >> 8)) & 0xFF for i in range(size))


def data(message):
    """The data of a message."""
    if not message:
        return message
    at = 1
    while message[at] & 0x80:
        at += 1
    return message[at + 1 :]


class HeldCall:
    """The part of a call that both libraries share: it is held, and counts what it receives."""

    def __init__(self, call_id, asked):
        self.id, self.asked = call_id, asked
        self.held = asyncio.Event()
        self.received = Received()
        self.over = False

    async def took(self, response):
        self.received.add(response)
        if len(self.received.sizes) == int(self.asked.get("hold", -1)):
            await self.hold()

    async def hold(self):
        say(f"{self.id} held")
        await self.held.wait()
        if "cancel" in self.asked:
            self.over = True
            await self.cancel()


async def make_calls(start):
    """Makes the calls that standard input asks for, side by side. `start` makes one of its words."""
    loop = asyncio.get_running_loop()
    calls, tasks = {}, set()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        words = line.strip().split(" ")
        if words[0] == "go":
            calls[words[1]].held.set()
            continue
        call = calls[words[0]] = start(words)
        task = asyncio.create_task(call.run())
        tasks.add(task)
        task.add_done_callback(tasks.discard)


def field(name, value):
    """A field of metadata from the suite's text."""
    return (name, bytes.fromhex(value)) if name.endswith("-bin") else (name, value)


def parse(words):
    """Options and metadata of a call."""
    asked, metadata = {}, []
    for word in words:
        name, value = word.split("=", 1)
        if name.startswith("m."):
            metadata.append(field(name[2:], unquote(value)))
        else:
            asked[name] = unquote(value)
    return asked, metadata


class Asked:
    """What the metadata of a request asks the server for."""

    def __init__(self, metadata):
        self.fields = dict(metadata)
        self.echo = [(name, value) for name, value in metadata if name.startswith("e-")]
        self.key = self.fields.get("do-key")
        self.code = int(self.fields.get("do-code", 0))
        self.after = int(self.fields.get("do-after", 0 if self.code else -1))
        self.text = unquote(self.fields.get("do-message", ""))
        self.details = self.fields.get("do-details-bin")
        self.count = int(self.fields.get("do-count", 0))

    def __contains__(self, name):
        return name in self.fields


class Received:
    """What has come of a call."""

    def __init__(self):
        self.sizes = []
        self.crc = 0

    def add(self, message):
        self.sizes.append(len(data(message)))
        self.crc = zlib.crc32(data(message), self.crc)

    def report(self, call, code, text, initial, trailing):
        line = f"{call} end code={code} message={quote(text or '', safe='')}"
        line += f" sizes={','.join(map(str, self.sizes))} crc={self.crc}"
        say(line + _fields("i", initial) + _fields("t", trailing))


def _fields(prefix, metadata):
    words = ""
    for name, value in metadata:
        text = value.hex() if name.endswith("-bin") else quote(value, safe="")
        words += f" {prefix}.{name}={text}"
    return words
