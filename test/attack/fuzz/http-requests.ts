// HTTP/1.1 requests as bytes: mostly as clients send them, and with faults in each part of them.
import { brotliCompressSync, deflateSync, gzipSync } from 'node:zlib';
import type { Dice } from './dice.ts';
import { anyJson, type JsonKind, jsonText } from './json.ts';

/** What a listener serves, so that most requests get beyond its first check. */
export interface HttpTarget {
  readonly requests: readonly (readonly [weight: number, method: string, path: string, body: JsonKind])[];
}

export const EGRESS: HttpTarget = {
  requests: [
    [10, 'POST', '/v1/chat/completions', 'chat'],
    [4, 'POST', '/v1/responses', 'responses'],
    [2, 'POST', '/v1/messages', 'chat'],
    [2, 'POST', '/v1/completions', 'chat'],
    [2, 'POST', '/v1/embeddings', 'embeddings'],
    [2, 'GET', '/v1/models', 'none'],
    [1, 'DELETE', '/v1/files/x', 'none'],
    [1, 'GET', '/v1/realtime?model=x', 'none'],
  ],
};
export const GATEWAY: HttpTarget = {
  requests: [
    [10, 'POST', '/api/v1/tasks', 'task'],
    [2, 'GET', '/api/v1/tasks?limit=3&state=done', 'none'],
    [1, 'GET', `/api/v1/tasks/${'x'.repeat(43)}`, 'none'],
    [1, 'GET', `/api/v1/tasks/${'x'.repeat(43)}/events`, 'none'],
    [1, 'DELETE', `/api/v1/tasks/${'x'.repeat(43)}`, 'none'],
    [2, 'GET', '/api/v1/health', 'none'],
    [1, 'GET', '/', 'none'],
    [1, 'GET', '/docs/json', 'none'],
    [1, 'GET', '/page.js', 'none'],
  ],
};
export const WEBHOOK: HttpTarget = {
  requests: [
    [10, 'POST', '/mutate', 'review'],
    [1, 'GET', '/mutate', 'none'],
    [1, 'POST', '/other', 'review'],
  ],
};
/** Pages that change nothing: neither the drain nor the reload. */
export const PAGES: HttpTarget = {
  requests: [
    [2, 'GET', '/healthz/live', 'none'],
    [2, 'GET', '/healthz/ready', 'none'],
    [2, 'GET', '/healthz/app?service=x', 'none'],
    [2, 'GET', '/metrics', 'none'],
    [1, 'POST', '/metrics', 'task'],
  ],
};

const FIELDS: readonly (readonly [name: string, values: readonly string[]])[] = [
  ['Authorization', ['Bearer a', 'Bearer b', '', 'x'.repeat(9_000)]],
  ['Accept', ['text/event-stream', 'application/json', '*/*;q=0', ','.repeat(500)]],
  ['Accept-Encoding', ['gzip', 'br', 'identity;q=0']],
  ['X-Task-Id', ['same', 'x'.repeat(400)]],
  ['traceparent', ['00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', '00-x']],
  ['baggage', ['a=b', ','.repeat(3_000)]],
  ['outrigger-token-budget', ['100', '0', '-1', '999999999', 'NaN']],
  ['Idempotency-Key', ['one', 'two', '']],
  ['Prefer', ['respond-async', 'wait=1, respond-async', ','.repeat(500)]],
  ['Last-Event-ID', ['1', '-1', '9'.repeat(30), 'x']],
  ['X-Stainless-Timeout', ['1', '0.1', '-1', 'x']],
  ['X-Stainless-Retry-Count', ['0', '1', '-1', 'x']],
  ['Expect', ['100-continue', 'x']],
  ['Connection', ['close', 'keep-alive', 'authorization', 'x, y, content-length', 'upgrade']],
  ['Upgrade', ['websocket', 'h2c', 'x']],
  ['Sec-WebSocket-Key', ['dGhlIHNhbXBsZSBub25jZQ==', 'x']],
  ['Sec-WebSocket-Version', ['13', '0']],
  ['Origin', ['http://other.example']],
  ['Host', ['127.0.0.1', 'other.example', 'localhost', '']],
  ['Content-Type', ['application/json', 'text/plain', 'multipart/form-data; boundary=x', '']],
  ['Trailer', ['x']],
  ['TE', ['trailers']],
  ['X-Long', ['x'.repeat(3_000), 'x'.repeat(70_000)]],
  ['X-Line', ['a\r\n b', 'a\nb: c', '\u0000', '\u00ff']],
  ['X Space', ['a']],
  ['', ['a']],
];

const PATHS = [
  '//',
  '/./',
  '/../../etc/passwd',
  '/%2e%2e/x',
  '*',
  'http://other.example/v1/x',
  '',
  '/\u0001',
  '/é',
];

/** A request with everything that belongs to it, as the pieces that it is sent in. */
export function anyRequest(dice: Dice, target: HttpTarget, answerSeed: number): Buffer[] {
  const [usualMethod, usualPath, kind] = dice.weighted(
    target.requests.map(([weight, ...request]) => [weight, request] as const),
  );
  const method = dice.chance(0.95)
    ? usualMethod
    : dice.pick(['PUT', 'OPTIONS', 'CONNECT', 'TRACE', 'get', 'PRI', '']);
  const path = dice.chance(0.93) ? usualPath : spoiltPath(dice, usualPath);
  const version = dice.chance(0.97)
    ? 'HTTP/1.1'
    : dice.pick(['HTTP/1.0', 'HTTP/2.0', 'HTTP/0.9', 'HTTP/1.1 x', '']);
  const lines = [`${method} ${path} ${version}`, 'Host: 127.0.0.1', `X-Fuzz-Answer: ${answerSeed}`];
  for (let more = dice.size(5); more > 0; more--) {
    const [name, values] = dice.pick(FIELDS);
    lines.push(`${name}:${dice.pick([' ', '', ' '])}${dice.pick(values)}`);
  }
  if (dice.chance(0.02))
    lines.push(...Array.from({ length: dice.size(3_000) }, (_, index) => `x-${index}: y`));
  const head = (more: string[]): Buffer =>
    Buffer.from(`${[...lines, ...more].join('\r\n')}\r\n\r\n`, 'latin1');
  if (kind === 'none' && dice.chance(0.9)) return [head([])];
  lines.push('Content-Type: application/json');
  const plain = jsonText(dice, anyJson(dice, kind === 'none' ? 'chat' : kind));
  const { body, encoding } = encoded(dice, plain);
  if (encoding !== undefined) lines.push(`Content-Encoding: ${encoding}`);
  return dice.chance(0.7) ? sized(dice, body, head) : chunked(dice, body, head);
}

function spoiltPath(dice: Dice, path: string): string {
  if (dice.chance(0.3)) return dice.pick(PATHS);
  const at = dice.int(0, path.length);
  const more = dice.pick(['/', '/.', '%2F', '%63', '?', '#', ';x', ' ', 'A', 'x'.repeat(dice.size(20_000))]);
  return path.slice(0, at) + more + path.slice(at);
}

function encoded(dice: Dice, body: Buffer): { body: Buffer; encoding: string | undefined } {
  const encoding = dice.weighted([
    [12, undefined],
    [1, 'gzip'],
    [1, 'deflate'],
    [1, 'br'],
    [1, 'zstd'],
    [1, 'gzip, gzip'],
  ]);
  let bytes = body;
  if (encoding === 'gzip') bytes = gzipSync(bytes);
  else if (encoding === 'deflate') bytes = deflateSync(bytes);
  else if (encoding === 'br') bytes = brotliCompressSync(bytes);
  // Encoded bytes that are broken, and plain ones that say that they are encoded.
  return { body: dice.chance(0.2) ? dice.damage(bytes) : bytes, encoding };
}

function sized(dice: Dice, body: Buffer, head: (more: string[]) => Buffer): Buffer[] {
  if (dice.chance(0.9)) return [head([`Content-Length: ${body.length}`]), ...pieces(dice, body)];
  const lengths = dice.pick<string[]>([
    [`Content-Length: ${body.length + 1 + dice.size(1_000)}`],
    [`Content-Length: ${dice.int(0, body.length)}`],
    ['Content-Length: 99999999999999999999'],
    ['Content-Length: -1'],
    ['Content-Length: 10', 'Content-Length: 11'],
    [`Content-Length: ${body.length}`, 'Transfer-Encoding: chunked'],
    [],
  ]);
  return [head(lengths), ...pieces(dice, body)];
}

function chunked(dice: Dice, body: Buffer, head: (more: string[]) => Buffer): Buffer[] {
  const coding = dice.chance(0.95)
    ? 'chunked'
    : dice.pick(['gzip, chunked', 'chunked, chunked', 'x', 'Chunked ']);
  const parts = pieces(dice, body).flatMap((piece) => {
    const size = dice.chance(0.98)
      ? piece.length.toString(16)
      : dice.pick(['-1', 'x', '0', 'ffffffffffffffff', '5;ext=1', `0${piece.length.toString(16)}`]);
    return [Buffer.from(`${size}\r\n`), piece, Buffer.from(dice.chance(0.99) ? '\r\n' : 'x')];
  });
  const end = dice.weighted([
    [20, '0\r\n\r\n'],
    [1, '0\r\nx-trailer: y\r\n\r\n'],
    [1, ''],
    [1, '0\r\nbad trailer\r\n\r\n'],
  ]);
  return [head([`Transfer-Encoding: ${coding}`]), Buffer.concat([...parts, Buffer.from(end)])];
}

function pieces(dice: Dice, body: Buffer): Buffer[] {
  if (dice.chance(0.7) || body.length < 2) return [body];
  const parts: Buffer[] = [];
  const most = Math.max(1, dice.size(body.length));
  for (let at = 0; at < body.length; ) {
    const end = parts.length > 50 ? body.length : at + most;
    parts.push(body.subarray(at, end));
    at = end;
  }
  return parts;
}
