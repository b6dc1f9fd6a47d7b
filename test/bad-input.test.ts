// Bad input gets a typed answer, is counted, and takes nothing else down.
import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { parseExposition } from '../scripts/harness/exposition.ts';
import {
  errorCode,
  flag,
  frame,
  frameType,
  grpcMessage,
  grpcRequest,
  H2Peer,
  headerBlock,
  preface,
  settings,
} from '../scripts/harness/h2-peer.ts';
import { runProcess } from '../scripts/harness/process.ts';
import { type Sidecar, startSidecar } from '../scripts/harness/sidecar.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { answerWith, startUpstream } from './support/upstream.ts';

t.setTimeout(290_000);

const MAX_MESSAGE_BYTES = 100_000;
const GOOD = '/good.Service/Call';
/** Its answer is a message above the limit. */
const LARGE_ANSWER = '/large.Service/Answer';

type Listener = 'inbound' | 'outbound';
const listeners: readonly Listener[] = ['inbound', 'outbound'];

const status = {
  ok: '0',
  invalidArgument: '3',
  resourceExhausted: '8',
  unimplemented: '12',
} as const;

const upstream = await startUpstream(t, {
  onCall: ({ stream, headers }) => {
    const large = headers[':path'] === LARGE_ANSWER;
    if (large) answerWith(stream, Buffer.alloc(MAX_MESSAGE_BYTES + 1));
    else stream.on('end', () => answerWith(stream, 'good')).resume();
  },
});
const sidecar = await startSidecar(
  t,
  {
    inbound: { app: upstream.address, max_message_bytes: MAX_MESSAGE_BYTES },
    outbound: {
      routes: [{ match: { authority: 'upstream' }, cluster: 'known' }],
      clusters: { known: { endpoints: [upstream.address] } },
    },
  },
  { until: 'live' },
);

function portOf(listener: Listener): number {
  return listener === 'inbound' ? sidecar.inboundPort : sidecar.outboundPort;
}

/** How often this listener refused something for this reason. */
async function rejected({ metricsPort }: Sidecar, listener: Listener, reason: string): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${metricsPort}/metrics`);
  return parseExposition(await response.text()).value('outrigger_rejected_total', { listener, reason }) ?? 0;
}

/** A connection with calls that must go on whatever happens on others. */
class Bystander {
  readonly peer: H2Peer;
  private nextId = 1;

  constructor(peer: H2Peer) {
    this.peer = peer.behave();
  }

  /** One half of a call; `finish` sends the other. */
  begin(): number {
    const id = this.nextId;
    this.nextId += 2;
    this.peer.headers(id, grpcRequest(GOOD));
    return id;
  }

  async finish(t: Test, id: number, when: string): Promise<void> {
    this.peer.data(id, grpcMessage(Buffer.from('good')), true);
    await this.peer.until('a good call ended', () => this.peer.ended.has(id));
    t.equal(this.peer.field(id, 'grpc-status'), status.ok, `a good call ${when}`);
  }
}

/** What a call of the sidecar's own answer looks like. */
function isAnswer(t: Test, peer: H2Peer, id: number, code: string, reason: string, message: RegExp): void {
  t.equal(peer.field(id, 'grpc-status'), code);
  t.equal(peer.field(id, 'outrigger-reason'), reason);
  t.match(decodeURIComponent(peer.field(id, 'grpc-message') ?? ''), message);
}

/** An HTTP/2 connection whose bad call is answered, and which serves a good call afterwards. */
async function badCall(
  t: Test,
  port: number,
  send: (peer: H2Peer) => void,
  [code, reason, message]: readonly [code: string, reason: string, message: RegExp],
): Promise<void> {
  const peer = (await H2Peer.connect(t, port)).behave();
  send(peer);
  await peer.until('the bad call was answered', () => peer.ended.has(1) || peer.closed);
  isAnswer(t, peer, 1, code, reason, message);
  peer.headers(3, grpcRequest(GOOD));
  peer.data(3, grpcMessage(Buffer.from('good')), true);
  await peer.until('a good call ended behind it', () => peer.ended.has(3) || peer.closed);
  t.equal(peer.field(3, 'grpc-status'), status.ok, 'the connection lives on');
}

/** A connection that ends with GOAWAY. */
async function badConnection(
  t: Test,
  port: number,
  first: Buffer,
  code: number,
  message: RegExp,
): Promise<void> {
  const peer = (await H2Peer.connect(t, port, first)).behave();
  await peer.until('the connection was closed', () => peer.closed);
  t.equal(peer.goaway?.code, code);
  t.match(peer.goaway?.debug, message);
}

/** What a port answers to bytes, until it closes. */
function exchange(port: number, bytes: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = '';
    const socket = connect({ port, host: '127.0.0.1' }, () => socket.write(bytes));
    socket.setEncoding('latin1').on('data', (text: string) => {
      answer += text;
    });
    socket.once('close', () => resolve(answer));
    socket.once('error', reject);
  });
}

const start = Buffer.concat([preface, settings()]);

/** HEADERS and as many CONTINUATIONs as it takes. */
function longHeaders(streamId: number, fields: readonly (readonly [string, string])[]): Buffer {
  const block = headerBlock(fields);
  const frames: Buffer[] = [];
  for (let at = 0; at < block.length; at += 16_384) {
    const last = at + 16_384 >= block.length ? flag.endHeaders : 0;
    const [type, flags] =
      at === 0 ? [frameType.headers, last | flag.endStream] : [frameType.continuation, last];
    frames.push(frame(type, flags, streamId, block.subarray(at, at + 16_384)));
  }
  return Buffer.concat(frames);
}

interface Case {
  readonly name: string;
  /** The `reason` it is counted with. */
  readonly reason: string;
  readonly only?: Listener;
  run(t: Test, port: number): Promise<void>;
}

const cases: readonly Case[] = [
  {
    name: 'a preface that is none',
    reason: 'protocol_error',
    run: (t, port) =>
      badConnection(t, port, Buffer.from('SSH-2.0-OpenSSH_9.9\r\n'), errorCode.protocolError, /preface/),
  },
  {
    name: 'a preface with a fault in its last byte',
    reason: 'protocol_error',
    run: (t, port) =>
      badConnection(
        t,
        port,
        Buffer.concat([preface.subarray(0, -1), Buffer.from('!')]),
        errorCode.protocolError,
        /preface/,
      ),
  },
  {
    name: 'another frame than SETTINGS at the beginning',
    reason: 'protocol_error',
    run: (t, port) =>
      badConnection(
        t,
        port,
        Buffer.concat([preface, frame(frameType.ping, 0, 0, Buffer.alloc(8))]),
        errorCode.protocolError,
        /SETTINGS/,
      ),
  },
  ...['GET / HTTP/1.1', 'POST /good.Service/Call HTTP/1.1', 'CONNECT example.test:443 HTTP/1.1'].map(
    (line): Case => ({
      name: line,
      reason: 'http1',
      run: async (t, port) => {
        const answer = await exchange(port, `${line}\r\nhost: example.test\r\n\r\n`);
        t.match(answer, /^HTTP\/1\.1 505 /);
        t.match(answer, /\r\ncontent-type: text\/plain/);
        t.match(answer, /\r\nconnection: close\r\n\r\nThis port speaks gRPC/);
      },
    }),
  ),
  ...[frameType.data, frameType.headers, frameType.ping, 0xee].map(
    (type): Case => ({
      name: `a frame of type ${type} with 16,385 bytes`,
      reason: 'frame_size_error',
      run: (t, port) =>
        badConnection(
          t,
          port,
          Buffer.concat([start, frame(type, 0, 1, Buffer.alloc(16_385))]),
          errorCode.frameSizeError,
          /16385 bytes; at most 16384/,
        ),
    }),
  ),
  ...[66_000, 120_000, 190_000].map(
    (bytes): Case => ({
      name: `header fields of ${bytes} bytes`,
      reason: 'headers_too_large',
      run: (t, port) =>
        badCall(
          t,
          port,
          (peer) => {
            const piece = Buffer.alloc(bytes / 10 - 48, 'x').toString();
            const more = Array.from({ length: 10 }, (_, i): [string, string] => [`x-metadata-${i}`, piece]);
            peer.send(longHeaders(1, grpcRequest(GOOD, ...more)));
          },
          [status.resourceExhausted, 'headers_too_large', /send fewer or shorter metadata/],
        ),
    }),
  ),
  {
    name: 'a header block without an end',
    reason: 'enhance_your_calm',
    run: async (t, port) => {
      const peer = (await H2Peer.connect(t, port)).behave();
      peer.send(frame(frameType.headers, 0, 1, headerBlock(grpcRequest(GOOD))));
      for (let i = 0; i < 100; i++) peer.send(frame(frameType.continuation, 0, 1, Buffer.alloc(16_384)));
      await peer.until('the connection was closed', () => peer.closed);
      t.equal(peer.goaway?.code, errorCode.enhanceYourCalm);
    },
  },
  ...[1, 1_000_000, 0xffff_ffff - MAX_MESSAGE_BYTES].map(
    (above): Case => ({
      name: `a request message ${above} above the limit`,
      reason: 'message_too_large',
      run: (t, port) =>
        badCall(
          t,
          port,
          (peer) => {
            peer.headers(1, grpcRequest(GOOD));
            const message = grpcMessage(Buffer.alloc(100));
            message.writeUInt32BE(MAX_MESSAGE_BYTES + above, 1);
            // It is known from its first bytes: nobody has to send it all.
            peer.data(1, message);
          },
          [
            status.resourceExhausted,
            'message_too_large',
            new RegExp(
              `request message has ${MAX_MESSAGE_BYTES + above} bytes; at most ${MAX_MESSAGE_BYTES}`,
            ),
          ],
        ),
    }),
  ),
  {
    name: 'a response message above the limit',
    reason: 'message_too_large',
    run: (t, port) =>
      badCall(t, port, (peer) => peer.headers(1, grpcRequest(LARGE_ANSWER), true), [
        status.resourceExhausted,
        'message_too_large',
        new RegExp(`response message has ${MAX_MESSAGE_BYTES + 1} bytes; at most ${MAX_MESSAGE_BYTES}`),
      ]),
  },
  {
    name: 'a cluster that nobody knows',
    reason: 'no_route',
    only: 'outbound',
    run: (t, port) => {
      const fields = grpcRequest(GOOD).map(([name, value]): [string, string] => [
        name,
        name === ':authority' ? 'nobody' : value,
      ]);
      return badCall(t, port, (peer) => peer.headers(1, fields, true), [
        status.unimplemented,
        'no_route',
        /no route for nobody\/good\.Service\/Call: /,
      ]);
    },
  },
  ...['', 'S', '1', '1x', '-1S', '1.5S', '123456789012345678901S', '1 S', '1SS', '0x1S'].map(
    (timeout): Case => ({
      name: `grpc-timeout ${JSON.stringify(timeout)}`,
      reason: 'bad_request',
      run: (t, port) =>
        badCall(t, port, (peer) => peer.headers(1, grpcRequest(GOOD, ['grpc-timeout', timeout]), true), [
          status.invalidArgument,
          'bad_request',
          /grpc-timeout is malformed; send 1 to 8 digits/,
        ]),
    }),
  ),
  {
    name: 'CONNECT',
    reason: 'bad_request',
    run: async (t, port) => {
      const peer = (await H2Peer.connect(t, port)).behave();
      peer.headers(1, [
        [':method', 'CONNECT'],
        [':authority', 'example.test:443'],
      ]);
      await peer.until('CONNECT was answered', () => peer.ended.has(1));
      t.equal(peer.field(1, ':status'), '400');
      t.equal(peer.field(1, 'outrigger-reason'), 'bad_request');
      peer.headers(3, grpcRequest(GOOD), true);
      await peer.until('a good call ended behind it', () => peer.ended.has(3) || peer.closed);
      t.equal(peer.field(3, 'grpc-status'), status.ok, 'the connection lives on');
    },
  },
  ...malformedHeads().map(
    ([what, fields]): Case => ({
      name: `a malformed request: ${what}`,
      reason: 'bad_request',
      run: async (t, port) => {
        const peer = (await H2Peer.connect(t, port)).behave();
        peer.headers(1, fields, true);
        await peer.until('the stream was reset', () => peer.resets.has(1));
        t.equal(peer.resets.get(1), errorCode.protocolError);
        peer.headers(3, grpcRequest(GOOD), true);
        await peer.until('a good call ended behind it', () => peer.ended.has(3) || peer.closed);
        t.equal(peer.field(3, 'grpc-status'), status.ok, 'the connection lives on');
      },
    }),
  ),
];

/** RFC 9113 §8.1.1: a stream error. */
function malformedHeads(): [what: string, fields: [string, string][]][] {
  const good = grpcRequest(GOOD);
  return [
    ['no :path', good.filter(([name]) => name !== ':path')],
    ['an upper-case name', [...good, ['X-Upper', 'case']]],
    ['a line feed in a value', [...good, ['x-value', 'a\nb']]],
    ['connection', [...good, ['connection', 'keep-alive']]],
  ];
}

for (const listener of listeners) {
  t.test(`${listener}: bad input gets a typed error`, async (t) => {
    const port = portOf(listener);
    const bystander = new Bystander(await H2Peer.connect(t, port));
    for (const { name, reason, only, run } of cases) {
      if (only !== undefined && only !== listener) continue;
      await t.test(name, async (t) => {
        await bystander.finish(t, bystander.begin(), 'before it');
        const counted = await rejected(sidecar, listener, reason);
        const during = bystander.begin();
        await run(t, port);
        await bystander.finish(t, during, 'during it');
        await bystander.finish(t, bystander.begin(), 'after it');
        await waitUntil('it was counted', async () => (await rejected(sidecar, listener, reason)) > counted);
        t.equal(await rejected(sidecar, listener, reason), counted + 1, `counted once as ${reason}`);
      });
    }
    t.notOk(bystander.peer.closed, 'all of that on one connection beside it');
  });
}

t.test('a configuration with a wrong type and an unknown key is refused', async (t) => {
  const folder = t.testdir({});
  const file = join(folder, 'outrigger.yaml');
  writeFileSync(file, 'name: agent\ninbound:\n  max_message_bytes: plenty\n  time_out: 3s\n');
  const main = join(import.meta.dirname, '..', 'sidecar', 'main.ts');
  const { code, output } = await runProcess(t, process.execPath, [main, 'run', '--config', file]);
  t.equal(code, 64);
  t.match(output, `${file}:3:`, 'the line of the wrong type');
  t.match(output, /inbound\.max_message_bytes: .*\n\s+\S/, 'its path, and a remedy');
  t.match(output, `${file}:4:`, 'the line of the unknown key');
  t.match(output, /inbound\.time_out: .*\n.*timeout/, 'the expected result');
});
