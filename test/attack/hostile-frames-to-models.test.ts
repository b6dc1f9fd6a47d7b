// Frames of HTTP/2 to the egress that end, or break off, where no client's do: in the middle of a header block, of a field, of a
// frame. Each is sent many times while the sidecar collects its garbage. Nothing of it ends the process, and a request of
// somebody else's goes on meanwhile. Node's own HTTP/2 ended it with malformed requests before a block in many frames.
import { createServer } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import {
  errorCode,
  flag,
  frame,
  frameType,
  headerBlock,
  preface,
  settings,
  uint32,
} from '../../scripts/harness/h2-peer.ts';
import { resetSocket } from '../../scripts/harness/net.ts';
import { type Sidecar, startSidecar } from '../../scripts/harness/sidecar.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';

t.setTimeout(240_000);

const PATH = '/v1/chat/completions';
const ROUNDS = 24;
/** Of what did end it. */
const MORE_ROUNDS = 144;
const LANES = 4;
/** Of an answer: more than the sockets between take, so that a part of it is on its way when the connection ends. */
const PIECE = `data: ${JSON.stringify({ choices: [{ delta: { content: 'x'.repeat(60_000) } }] })}\n\n`;
const checkout = process.env['ATTACKED_CHECKOUT'];

const request = headerBlock([
  [':method', 'POST'],
  [':scheme', 'http'],
  [':path', PATH],
  [':authority', 'localhost'],
  ['content-type', 'application/json'],
]);
const fields = (count: number, bytes = 60): Buffer =>
  headerBlock(Array.from({ length: count }, (_, index) => [`x-${index}`, 'v'.repeat(bytes)]));
/** Refers to an entry that the dynamic table does not have. */
const noSuchEntry = Buffer.from([0xbe]);
/** A size of the table above what was announced. */
const tableTooLarge = Buffer.from([0x3f, 0xe1, 0xff, 0x7f]);
const ping = frame(frameType.ping, 0, 0, Buffer.alloc(8));
const rst = frame(frameType.rstStream, 0, 1, uint32(errorCode.cancel));
const data = (text: string): Buffer => frame(frameType.data, flag.endStream, 1, Buffer.from(text));
const body = data(JSON.stringify({ model: 'm', stream: true, messages: [] }));
const open = (...parts: Buffer[]): Buffer =>
  frame(frameType.headers, flag.endStream, 1, Buffer.concat(parts));
const whole = (...parts: Buffer[]): Buffer =>
  frame(frameType.headers, flag.endHeaders, 1, Buffer.concat(parts));
const more = (flags: number, ...parts: Buffer[]): Buffer =>
  frame(frameType.continuation, flags, 1, Buffer.concat(parts));

/** A block in as many frames as it takes. */
function pieces(block: Buffer, flags = 0): Buffer {
  const frames: Buffer[] = [];
  for (let at = 0; at < block.length; at += 16_384) {
    const end = at + 16_384 >= block.length ? flag.endHeaders : 0;
    const type = at === 0 ? frameType.headers : frameType.continuation;
    frames.push(frame(type, (at === 0 ? flags : 0) | end, 1, block.subarray(at, at + 16_384)));
  }
  return Buffer.concat(frames);
}

const withLength = (bytes: Buffer, length: number): Buffer => {
  const wrong = Buffer.from(bytes);
  wrong.writeUIntBE(length, 0, 3);
  return wrong;
};

/** What follows preface and SETTINGS. */
const beginnings: Record<string, Buffer> = {
  'a block without its end': open(request, fields(50)),
  'a block that is cut in a field': open(request, fields(50).subarray(0, -10)),
  'a block that is cut in a Huffman code': open(request, Buffer.from([0x40, 0x83, 0x1f])),
  'a frame of a block that is cut': whole(request, fields(50)).subarray(0, -20),
  'a block that ends in a field': whole(request, fields(50).subarray(0, -10)),
  'a block with an error behind fields': whole(request, fields(10), noSuchEntry, fields(10)),
  'an error in a continuation': Buffer.concat([
    open(request, fields(10)),
    more(flag.endHeaders, noSuchEntry),
  ]),
  'a table that is too large': whole(tableTooLarge, request),
  'a field of 70,000 bytes': pieces(Buffer.concat([request, headerBlock([['x', 'v'.repeat(70_000)]])])),
  'a field of 70,000 bytes without its end': open(request, fields(3)).subarray(0, -1),
  'too many fields': whole(request, fields(300, 4)),
  'fields that are too large together': pieces(Buffer.concat([request, fields(120, 4_000)])),
  'a block and a reset in it': Buffer.concat([open(request, fields(10)), rst]),
  'a block and DATA in it': Buffer.concat([open(request, fields(10)), body]),
  'a block and a PING in it': Buffer.concat([open(request, fields(10)), ping]),
  'a block and GOAWAY in it': Buffer.concat([
    open(request, fields(10)),
    frame(frameType.goaway, 0, 0, Buffer.alloc(8)),
  ]),
  'a block and another one in it': Buffer.concat([
    open(request, fields(10)),
    frame(frameType.headers, flag.endHeaders, 3, request),
  ]),
  'a continuation that is too long': Buffer.concat([
    open(request, fields(10)),
    withLength(more(flag.endHeaders, fields(10)), 0xff_ffff),
  ]),
  'a name in capitals among fields': whole(request, fields(10), headerBlock([['X-UP', '']]), fields(10)),
  'fields without a method': whole(fields(10)),
};

/** What follows a request whose answer is not read. */
const endings: Record<string, Buffer> = {
  nothing: Buffer.alloc(0),
  'a reset': rst,
  'trailers without their end': open(fields(3)),
  'trailers with an error': frame(
    frameType.headers,
    flag.endStream | flag.endHeaders,
    1,
    Buffer.concat([fields(3), noSuchEntry]),
  ),
  'too many trailers, and a reset': Buffer.concat([pieces(fields(300, 4), flag.endStream), rst]),
  'too large trailers, and a reset': Buffer.concat([pieces(fields(120, 4_000), flag.endStream), rst]),
  'a field too large in trailers, and a reset': Buffer.concat([
    pieces(Buffer.concat([fields(3), headerBlock([['x', 'v'.repeat(70_000)]])]), flag.endStream),
    rst,
  ]),
  'trailers twice': Buffer.concat([pieces(fields(3), flag.endStream), pieces(fields(3), flag.endStream)]),
};

const ways: readonly ((socket: Socket) => void)[] = [
  (socket) => socket.destroy(),
  (socket) => resetSocket(socket),
  (socket) => socket.end(),
];

/** A provider of endless streams, which go on as fast as they are read. */
async function startProvider(t: Test): Promise<string> {
  const server = createServer((incoming, response) => {
    incoming.resume().on('end', () => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      const send = (): void => {
        while (!response.destroyed && response.write(PIECE));
      };
      response.on('drain', send);
      send();
    });
    response.on('error', () => {});
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
}

/** One with little memory for what is new, so that it collects its garbage all the time, and in the middle of a read. */
async function startCollecting(t: Test): Promise<{ sidecar: Sidecar; isAlive: () => boolean }> {
  const url = await startProvider(t);
  const sidecar = await startSidecar(
    t,
    { llm: { upstreams: [{ name: 'model', url }] } },
    { until: 'live', checkout, env: { NODE_OPTIONS: '--max-semi-space-size=1' } },
  );
  let ended = false;
  void sidecar.ended.then(() => {
    ended = true;
  });
  return { sidecar, isAlive: () => !ended };
}

/** A stream that somebody else reads slowly, through all of it. @returns whether it still goes on */
function bystander(t: Test, port: number): () => boolean {
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  let failed = false;
  const fail = (): void => {
    failed = true;
  };
  session.on('error', fail).on('close', fail);
  const stream = session.request({ ':method': 'POST', ':path': PATH, 'content-type': 'application/json' });
  let bytes = 0;
  let before = -1;
  stream.on('data', (part: Buffer) => {
    bytes += part.length;
    stream.pause();
    setTimeout(() => stream.resume(), 5);
  });
  stream.on('error', fail).on('close', fail);
  stream.end(JSON.stringify({ model: 'm', stream: true, messages: [] }));
  t.teardown(() => {
    session.removeAllListeners('close').destroy();
  });
  return () => {
    const goesOn = !failed && bytes > before;
    before = bytes;
    return goesOn;
  };
}

async function attack(port: number, way: (socket: Socket) => void, ...parts: Buffer[]): Promise<void> {
  const socket = connect({ port, host: '127.0.0.1' });
  socket.on('error', () => {});
  socket.pause();
  for (const part of parts) {
    socket.write(part);
    await sleep(parts.length > 1 ? 30 : 5);
  }
  way(socket);
  setTimeout(() => socket.destroy(), 200);
}

const greeting = Buffer.concat([
  preface,
  settings([4, 0x7fff_ffff]),
  frame(frameType.windowUpdate, 0, 0, uint32(2 ** 30)),
]);
/** Requests with a field that only responses have, and of which none is served. */
const malformed = Buffer.concat(
  Array.from({ length: 20 }, (_, index) =>
    frame(
      frameType.headers,
      flag.endHeaders,
      3 + 2 * index,
      Buffer.concat([request, fields(3), headerBlock([[':status', '200']]), fields(3)]),
    ),
  ),
);
/** A block in so many pieces that some servers give up in the middle of it. */
function inTinyPieces(block: Buffer, id: number): Buffer {
  const frames: Buffer[] = [];
  for (let at = 0; at < block.length; at += 60) {
    const type = at === 0 ? frameType.headers : frameType.continuation;
    frames.push(frame(type, at + 60 >= block.length ? flag.endHeaders : 0, id, block.subarray(at, at + 60)));
  }
  return Buffer.concat(frames);
}

const served = Buffer.concat([
  preface,
  settings(),
  frame(frameType.headers, flag.endHeaders, 1, request),
  data('{}'),
]);
const all: [name: string, parts: readonly Buffer[], rounds?: number][] = [
  [
    'malformed requests, and a block in tiny pieces',
    [served, Buffer.concat([malformed, inTinyPieces(Buffer.concat([request, fields(100)]), 99)])],
    MORE_ROUNDS,
  ],
  ['a block in tiny pieces', [served, inTinyPieces(Buffer.concat([request, fields(100)]), 3)]],
  ...Object.entries(beginnings).map(([name, bytes]): [string, Buffer[]] => [
    name,
    [Buffer.concat([greeting, bytes])],
  ]),
  ...Object.entries(endings).map(([name, bytes]): [string, Buffer[]] => [
    `an answer that is not read, and ${name}`,
    [Buffer.concat([greeting, frame(frameType.headers, flag.endHeaders, 1, request), body]), bytes],
  ]),
];

t.test("no frames end the process, or another caller's request", async (t) => {
  const { sidecar, isAlive } = await startCollecting(t);
  const goesOn = bystander(t, sidecar.llmPort);
  await waitUntil('the bystander is answered', goesOn);
  for (const [name, parts, rounds = ROUNDS] of all) {
    for (const way of ways)
      await Promise.all(
        Array.from({ length: LANES }, async () => {
          for (let round = 0; round < rounds / LANES; round++) await attack(sidecar.llmPort, way, ...parts);
        }),
      );
    if (!isAlive()) t.comment(sidecar.logs().slice(-1_500));
    t.ok(isAlive(), `the sidecar lives after ${name}`);
    if (!isAlive()) return;
    await waitUntil(`the bystander goes on after ${name}`, goesOn);
  }
  await waitUntil('no request of theirs is left', async () => {
    const stats = (await (await fetch(`http://127.0.0.1:${sidecar.adminPort}/stats`)).json()) as {
      llm: { active_requests: number };
    };
    return stats.llm.active_requests === 1;
  });
});
