// A hostile provider of models behind the egress. What it answers is in the request's `x-fuzz-answer`: a seed.
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { gzipSync } from 'node:zlib';
import { resetSocket } from '../../../scripts/harness/net.ts';
import { Dice } from './dice.ts';

const MAX_HEAD_BYTES = 200_000;
const SLOW_MS = 300;

export interface HostileProvider {
  readonly baseUrl: string;
  close(): void;
}

/** Answers by the head of each request, and does not read its body for more than it takes to find the next head. */
export async function startHostileProvider(): Promise<HostileProvider> {
  const sockets = new Set<Socket>();
  const server = createServer({ noDelay: true }, (socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
    let head = '';
    socket.on('data', (chunk: Buffer) => {
      head = (head + chunk.toString('latin1')).slice(-MAX_HEAD_BYTES);
      const found = /x-fuzz-answer: (\d+)[\s\S]*?\r\n\r\n/i.exec(head);
      if (found === null) return;
      head = head.slice(found.index + found[0].length);
      answer(new Dice(Number(found[1])), socket);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    close: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

function answer(dice: Dice, socket: Socket): void {
  const status = dice.weighted([
    [12, '200 OK'],
    [2, '429 Too Many Requests'],
    [2, '500 Internal Server Error'],
    [1, '503 Service Unavailable'],
    [1, '400 Bad Request'],
    [1, '204 No Content'],
    [1, '302 Found'],
    [1, '999 Odd'],
  ]);
  const { type, body } = dice.weighted(BODIES)(dice);
  const lines = [`HTTP/1.1 ${status}`, `Content-Type: ${type}`];
  for (let more = dice.size(3); more > 0; more--) lines.push(dice.pick(FIELDS));
  const bytes = dice.chance(0.05) ? gzipSync(body) : body;
  if (dice.chance(0.05)) lines.push('Content-Encoding: gzip');
  const before = dice.chance(0.03) ? 'HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n' : '';
  const [framing, sent] = framed(dice, bytes);
  const whole = Buffer.concat([
    Buffer.from(`${before}${[...lines, ...framing].join('\r\n')}\r\n\r\n`, 'latin1'),
    sent,
  ]);
  const out = dice.chance(0.05) ? dice.damage(whole) : whole;
  const end = dice.weighted([
    [8, 'leave open'],
    [2, 'end'],
    [1, 'reset'],
    [1, 'half'],
    [1, 'silence'],
    [1, 'slow'],
  ] as const);
  const at = dice.int(0, out.length);
  if (end === 'silence') return;
  if (end === 'half') socket.end(out.subarray(0, at));
  else if (end === 'slow') {
    socket.write(out.subarray(0, at));
    setTimeout(() => socket.write(out.subarray(at)), SLOW_MS);
  } else {
    socket.write(out);
    if (end === 'end') socket.end();
    else if (end === 'reset') setTimeout(() => resetSocket(socket), 10);
  }
}

const FIELDS = [
  'Retry-After: 0',
  'Retry-After: -1',
  'Retry-After: 99999999999',
  'Retry-After: Wed, 21 Oct 2099 07:28:00 GMT',
  'retry-after-ms: 1',
  'x-should-retry: true',
  'x-ratelimit-remaining-requests: 0',
  'x-ratelimit-reset-requests: 1x',
  'Connection: close',
  'Connection: content-type, x',
  'Set-Cookie: a=b',
  'Location: http://127.0.0.1:1/',
  'X-Line: a\tb',
  `X-Long: ${'x'.repeat(20_000)}`,
  'outrigger-reason: overloaded',
];

function framed(dice: Dice, body: Buffer): [string[], Buffer] {
  const form = dice.weighted([
    [6, 'length'],
    [6, 'chunks'],
    [1, 'too long'],
    [1, 'too short'],
    [1, 'bad chunk'],
    [1, 'both'],
    [1, 'none'],
  ] as const);
  if (form === 'none') return [[], body];
  if (form === 'length') return [[`Content-Length: ${body.length}`], body];
  if (form === 'too long') return [[`Content-Length: ${body.length + 100}`], body];
  if (form === 'too short') return [[`Content-Length: ${Math.floor(body.length / 2)}`], body];
  const parts: Buffer[] = [];
  const most = Math.max(1, dice.size(body.length), body.length >> 8);
  for (let at = 0; at < body.length; at += most) {
    const piece = body.subarray(at, at + most);
    parts.push(Buffer.from(`${piece.length.toString(16)}\r\n`), piece, Buffer.from('\r\n'));
  }
  parts.push(Buffer.from(form === 'bad chunk' ? 'zz\r\n' : '0\r\n\r\n'));
  const both = form === 'both' ? [`Content-Length: ${body.length}`] : [];
  return [['Transfer-Encoding: chunked', ...both], Buffer.concat(parts)];
}

interface AnswerBody {
  readonly type: string;
  readonly body: Buffer;
}

const completion = {
  id: 'x',
  object: 'chat.completion',
  model: 'gpt-4o-mini',
  choices: [{ index: 0, message: { role: 'assistant', content: 'hello' }, finish_reason: 'stop' }],
  usage: { prompt_tokens: 5, completion_tokens: 5, total_tokens: 10 },
};

const json = (value: unknown): AnswerBody => ({
  type: 'application/json',
  body: Buffer.from(JSON.stringify(value)),
});

const BODIES: readonly (readonly [weight: number, make: (dice: Dice) => AnswerBody])[] = [
  [5, () => json(completion)],
  [5, (dice) => stream(dice)],
  [
    1,
    (dice) =>
      json({
        ...completion,
        usage: dice.pick([null, {}, { total_tokens: -1 }, { total_tokens: 1e300 }, 'x']),
      }),
  ],
  [
    1,
    (dice) =>
      json({
        error: dice.pick([null, 'x', { code: 'insufficient_quota' }, { message: 'm'.repeat(50_000) }]),
      }),
  ],
  [1, (dice) => ({ type: 'application/json', body: dice.damage(Buffer.from(JSON.stringify(completion))) })],
  [1, (dice) => ({ type: 'application/json', body: Buffer.from('['.repeat(dice.size(200_000))) })],
  [
    1,
    (dice) => ({
      type: dice.pick(['text/html', '', 'application/octet-stream']),
      body: dice.bytes(dice.size(5_000)),
    }),
  ],
  [1, (dice) => ({ type: 'application/json', body: Buffer.alloc(dice.size(5_000_000), 0x20) })],
];

/** Server-sent events, with and without an end, in every form of line. */
function stream(dice: Dice): AnswerBody {
  const end = dice.pick(['\n\n', '\n\n', '\r\n\r\n', '\r\r', '\n']);
  const events: string[] = [];
  for (let count = dice.size(100); count > 0; count--) {
    const event = dice.weighted([
      [12, `data: ${JSON.stringify({ id: 'x', choices: [{ index: 0, delta: { content: 'a' } }] })}`],
      [1, ': comment'],
      [1, 'event: x\ndata: {}'],
      [1, 'data: {"choices":'],
      [1, 'data'],
      [1, 'retry: 1'],
      [1, `data: ${'x'.repeat(dice.size(300_000))}`],
      [1, `data: ${JSON.stringify({ choices: [{ index: 0, delta: {}, finish_reason: 'stop' }] })}`],
      [1, `data: ${JSON.stringify({ error: { message: 'overloaded' } })}`],
    ]);
    events.push(event + end);
  }
  if (dice.chance(0.7)) events.push(`data: [DONE]${end}`);
  return { type: 'text/event-stream', body: Buffer.from(events.join('')) };
}
