// Statuses, status messages and socket errors.
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { status as grpcJsStatus } from '@grpc/grpc-js';
import t from 'tap';
import { resetSocket } from '../../scripts/harness/net.ts';
import { seededRandom } from '../../test/support/seeded-random.ts';
import { socketFailure } from './socket-failure.ts';
import {
  parseStatus,
  STATUS_NAMES,
  Status,
  statusFromHttp,
  statusFromHttp2Error,
  statusFromName,
  statusName,
} from './status.ts';
import { decodeStatusMessage, encodeStatusMessage, MAX_MESSAGE_BYTES } from './status-message.ts';

t.test('codes and names are those of grpc-js', async (t) => {
  const theirs = Object.entries(grpcJsStatus).filter(([name]) => Number.isNaN(Number(name)));
  t.strictSame(Object.entries(Status), theirs);
  for (const [name, code] of Object.entries(Status)) {
    t.equal(statusName(code), name);
    t.equal(statusFromName(name), code);
    t.equal(parseStatus(`${code}`), code);
  }
  t.equal(STATUS_NAMES.length, 17);
});

t.test('a code that gRPC does not define counts as UNKNOWN', async (t) => {
  for (const code of [17, -1, 2.5, Number.NaN, 1e9]) t.equal(statusName(code), 'UNKNOWN', `${code}`);
  for (const value of ['', '17', '-1', '99', '100', '1.', 'OK', ' 0', '0x', '٣']) {
    t.equal(parseStatus(value), Status.UNKNOWN, JSON.stringify(value));
  }
  t.equal(parseStatus('00'), Status.OK);
  for (const name of ['ok', '', 'toString', '__proto__', 'CANCELED'])
    t.equal(statusFromName(name), undefined, name);
});

t.test('HTTP/2 error codes and HTTP statuses map as the specification says', async (t) => {
  const http2: Record<number, number> = {
    7: Status.UNAVAILABLE,
    8: Status.CANCELLED,
    11: Status.RESOURCE_EXHAUSTED,
    12: Status.PERMISSION_DENIED,
  };
  for (let code = 0; code < 20; code++) {
    t.equal(statusFromHttp2Error(code), http2[code] ?? Status.INTERNAL, `HTTP/2 error ${code}`);
  }
  const http: Record<number, number> = {
    400: Status.INTERNAL,
    401: Status.UNAUTHENTICATED,
    403: Status.PERMISSION_DENIED,
    404: Status.UNIMPLEMENTED,
    429: Status.UNAVAILABLE,
    502: Status.UNAVAILABLE,
    503: Status.UNAVAILABLE,
    504: Status.UNAVAILABLE,
  };
  for (let code = 200; code < 600; code++) {
    if (statusFromHttp(code) !== (http[code] ?? Status.UNKNOWN)) t.fail(`HTTP ${code}`);
  }
});

t.test('a status message survives, whatever its characters', async (t) => {
  // The message of the interoperability suite's special_status_message.
  const special = '\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n';
  t.equal(
    encodeStatusMessage(special),
    '%09%0Atest with whitespace%0D%0Aand Unicode BMP %E2%98%BA and non-BMP %F0%9F%98%88%09%0A',
  );
  t.equal(decodeStatusMessage(encodeStatusMessage(special)), special);
  const expected: [string, string][] = [
    ['', ''],
    ['plain text: no "escapes"', 'plain text: no "escapes"'],
    ['100%', '100%25'],
    [' both ends ', '%20both ends%20'],
    [' ', '%20'],
    ['\u007f~', '%7F~'],
    ['\ufeffmark', '%EF%BB%BFmark'],
  ];
  for (const [message, value] of expected) {
    t.equal(encodeStatusMessage(message), value, JSON.stringify(message));
    t.equal(decodeStatusMessage(value), message, JSON.stringify(message));
  }
  t.equal(encodeStatusMessage('\ud83d'), '%EF%BF%BD', 'half a character becomes the replacement character');

  const random = seededRandom(3);
  const alphabet = ['a', ' ', '%', '\n', 'é', '☺', '😈', '4', 'F', '\0'];
  for (let i = 0; i < 2000; i++) {
    const length = Math.floor(random() * 80);
    const message = Array.from({ length }, () => alphabet[Math.floor(random() * alphabet.length)]).join('');
    const value = encodeStatusMessage(message);
    if (decodeStatusMessage(value) !== message) t.equal(decodeStatusMessage(value), message);
    if (!/^([!-~]([ -~]*[!-~])?)?$/.test(value)) t.fail(`not a header value: ${JSON.stringify(value)}`);
  }
});

t.test('a message is bounded, and cut between characters', async (t) => {
  for (const character of ['a', 'é', '☺', '😈', '%', ' x']) {
    for (let shift = 0; shift < 12; shift++) {
      const message = 'a'.repeat(shift) + character.repeat(2000);
      const value = encodeStatusMessage(message);
      const room = MAX_MESSAGE_BYTES - value.length;
      if (room < 0 || room >= 12) t.fail(`${value.length} bytes for ${character}`);
      if (!message.startsWith(decodeStatusMessage(value)))
        t.fail(`cut within ${character}: ${value.slice(-20)}`);
      const decoded = decodeStatusMessage(encodeURIComponent(message));
      const bytes = Buffer.byteLength(decoded);
      if (!message.startsWith(decoded) || bytes > MAX_MESSAGE_BYTES || bytes < MAX_MESSAGE_BYTES - 3) {
        t.fail(`decoding cut within ${character}: ${decoded.slice(-5)}`);
      }
    }
  }
  t.notOk(encodeStatusMessage(`${'a'.repeat(1023)} b`).endsWith(' '));
});

t.test('decoding never fails', async (t) => {
  const expected: [string, string][] = [
    ['100%', '100%'],
    ['%4', '%4'],
    ['%zz%41', '%zzA'],
    ['%e2%98%ba', '☺'],
    ['%E2%98', '\ufffd'],
    ['%FFok', '\ufffdok'],
    // Bytes of the sender that were never escaped arrive as Latin-1.
    ['\u00e2\u0098\u00ba', '☺'],
  ];
  for (const [value, message] of expected)
    t.equal(decodeStatusMessage(value), message, JSON.stringify(value));
});

/** Returns the error of connecting with `options`, or of the connection later. */
async function errorOf(options: net.NetConnectOpts, connected?: (socket: net.Socket) => void) {
  const socket = net.connect(options);
  socket.on('connect', () => connected?.(socket));
  const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException];
  socket.destroy();
  return error;
}

t.test('errors of real sockets map to their meaning and a hint', async (t) => {
  const server = net.createServer((socket) => socket.on('data', () => resetSocket(socket)));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;
  const reset = await errorOf({ port, host: '127.0.0.1' }, (socket) => socket.write('call'));
  t.equal(reset.code, 'ECONNRESET');
  t.match(socketFailure(reset.code, true), { status: Status.UNAVAILABLE, notProcessed: false, local: false });
  t.match(
    socketFailure(reset.code, false),
    { notProcessed: true },
    'before it was usable nothing was written',
  );

  server.close();
  await once(server, 'close');
  const refused = await errorOf({ port, host: '127.0.0.1' });
  t.equal(refused.code, 'ECONNREFUSED');
  t.match(socketFailure(refused.code, false), {
    status: Status.UNAVAILABLE,
    notProcessed: true,
    local: false,
  });
  t.match(socketFailure(refused.code, false).hint, /check that something listens/);
  t.ok(socketFailure(refused.code, true).notProcessed, 'a refusal proves it whatever the caller thinks');

  const folder = await mkdtemp(join(tmpdir(), 'outrigger-'));
  t.teardown(() => rm(folder, { recursive: true }));
  const missing = await errorOf({ path: join(folder, 'none.sock') });
  t.match(socketFailure(missing.code, false), { notProcessed: true, hint: /no such socket/ });

  t.match(socketFailure('EMFILE', false), { local: true, notProcessed: true, hint: /file descriptors/ });
  t.match(socketFailure('EPIPE', true), { local: false, notProcessed: false });
  t.match(socketFailure('ETIMEDOUT', true), { notProcessed: false });
  t.match(socketFailure(undefined, true), { notProcessed: false, hint: /no code/ });
  t.match(socketFailure('DEPTH_ZERO_SELF_SIGNED_CERT', false), { notProcessed: true, hint: /SELF_SIGNED/ });
  t.match(socketFailure('constructor', true), { notProcessed: false, local: false });
});
