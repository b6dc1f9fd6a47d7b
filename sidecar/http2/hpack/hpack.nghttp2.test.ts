/**
 * Our codec and nghttp2's, as node:http2 has it, against each other over sockets: its encoder with our decoder,
 * our encoder with its decoder, with random fields and table sizes that change between the blocks.
 */
import http2 from 'node:http2';
import net from 'node:net';
import { isDeepStrictEqual } from 'node:util';
import t from 'tap';
import fc from '../../../scripts/harness/properties.ts';
import { HpackDecoder } from './decoder.ts';
import { HpackEncoder } from './encoder.ts';
import { HeaderList } from './header-list.ts';

const DATA_END = 0x1;
const END_HEADERS = 0x4;
const HEADERS = 1;
const SETTINGS = 4;
const PING = 6;
const GOAWAY = 7;
const CONTINUATION = 9;
const SETTINGS_HEADER_TABLE_SIZE = 1;
const MAX_FRAME_BYTES = 16_384;

function frame(type: number, flags: number, streamId: number, payload: Uint8Array): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(streamId, 5);
  return Buffer.concat([head, payload]);
}

function tableSizeSettings(bytes: number): Buffer {
  const payload = Buffer.alloc(6);
  payload.writeUInt16BE(SETTINGS_HEADER_TABLE_SIZE, 0);
  payload.writeUInt32BE(bytes, 2);
  return frame(SETTINGS, 0, 0, payload);
}

/** Splits the bytes of a socket into frames. */
function onFrames(
  socket: net.Socket,
  skip: number,
  onFrame: (type: number, flags: number, streamId: number, payload: Buffer) => void,
): void {
  let held = Buffer.alloc(0);
  let toSkip = skip;
  socket.on('data', (chunk) => {
    held = Buffer.concat([held, chunk]);
    if (toSkip > 0 && held.length < toSkip) return;
    held = held.subarray(toSkip);
    toSkip = 0;
    while (held.length >= 9) {
      const end = 9 + held.readUIntBE(0, 3);
      if (held.length < end) return;
      const whole = held.subarray(0, end);
      held = held.subarray(end);
      onFrame(whole[3]!, whole[4]!, whole.readUInt32BE(5), whole.subarray(9));
    }
  });
}

const listen = (server: net.Server | http2.Http2Server) =>
  new Promise<number>((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve((server.address() as net.AddressInfo).port));
  });

// The fields that node:http2 accepts and returns: names are tokens, values have no line breaks or NUL.
const name = fc.oneof(
  fc.constantFrom(
    'x-a',
    'x-b',
    'grpc-timeout',
    'user-agent',
    'x-api-key',
    'grpc-encoding',
    'accept-encoding',
  ),
  fc
    .string({
      unit: fc.constantFrom(...'abcdefghijklmnopqrstuvwxyz0123456789-_.'),
      minLength: 1,
      maxLength: 30,
    })
    .map((s) => `x-${s}`),
);
const character = fc.oneof(
  { weight: 4, arbitrary: fc.integer({ min: 0x21, max: 0x7e }) },
  { weight: 1, arbitrary: fc.integer({ min: 0x80, max: 0xff }) },
);
const visible = character.map((code) => String.fromCharCode(code));
const value = fc.oneof(
  fc.constantFrom('', '0', 'one', 'two', 'gzip, deflate', 'application/grpc'),
  fc.string({ unit: visible, maxLength: 60 }),
  fc.string({ unit: visible, maxLength: 1500 }),
);
const pairs = fc.uniqueArray(fc.tuple(name, value, fc.boolean()), {
  maxLength: 15,
  selector: ([name]) => name,
});
const SAMPLES = 400;
const seed = 7541;
const samples = fc.sample(pairs, { numRuns: SAMPLES, seed });
const tableSizes = fc.sample(fc.oneof(fc.constantFrom(0, 64, 4096), fc.nat(9000)), {
  numRuns: SAMPLES,
  seed,
});

t.test('our decoder decodes the blocks of nghttp2', async (t) => {
  const decoder = new HpackDecoder({ maxTableBytes: 9000, maxListBytes: 1 << 20 });
  const received: (HeaderList | undefined)[] = [];
  let socketOfServer: net.Socket | undefined;
  const server = net.createServer((socket) => {
    socketOfServer = socket;
    socket.setNoDelay();
    socket.on('error', () => {});
    socket.write(frame(SETTINGS, 0, 0, Buffer.alloc(0)));
    let block = Buffer.alloc(0);
    onFrames(socket, 24, (type, flags, streamId, payload) => {
      if (type === SETTINGS && (flags & 1) === 0) socket.write(frame(SETTINGS, 1, 0, Buffer.alloc(0)));
      if (type !== HEADERS && type !== CONTINUATION) return;
      // nghttp2 sends neither padding nor priority by default.
      if ((flags & 0x28) !== 0) t.fail('the frame is more than its block');
      block = Buffer.concat([block, payload]);
      if ((flags & END_HEADERS) === 0) return;
      received.push(decoder.decode(block, 0, block.length));
      block = Buffer.alloc(0);
      socket.write(frame(HEADERS, DATA_END | END_HEADERS, streamId, Buffer.of(0x88)));
    });
  });
  const port = await listen(server);
  const client = http2.connect(`http://127.0.0.1:${port}`);
  t.teardown(() => {
    client.destroy();
    socketOfServer?.destroy();
    server.close();
  });
  const request = (headers: http2.OutgoingHttpHeaders) =>
    new Promise<void>((resolve, reject) => {
      const stream = client.request(headers, { endStream: true });
      stream.on('error', reject);
      stream.on('close', resolve);
      stream.resume();
    });

  const send = async (fields: [string, string, boolean][], times: number) => {
    const secret = fields.filter(([, , never]) => never).map(([name]) => name);
    const headers: http2.OutgoingHttpHeaders = { ':path': '/', [http2.sensitiveHeaders]: secret };
    for (const [name, value] of fields) headers[name] = value;
    const expected = [':path', '/', ':method', 'GET', ':authority', `127.0.0.1:${port}`, ':scheme', 'http'];
    for (const [name, value] of fields) expected.push(name, value);
    for (let i = 0; i < times; i++) {
      await request(headers);
      const got = received.at(-1);
      if (got === undefined) throw new Error(decoder.error);
      // Node orders the pseudo-header fields.
      const order = new Map<string, string>();
      for (let n = 0; n < got.fields.length; n += 2) order.set(got.fields[n]!, got.fields[n + 1]!);
      const wanted = new Map<string, string>();
      for (let n = 0; n < expected.length; n += 2) wanted.set(expected[n]!, expected[n + 1]!);
      if (!isDeepStrictEqual(order, wanted)) t.same(order, wanted);
      const never = (got.neverIndexed ?? []).map((ordinal) => got.fields[ordinal * 2]!);
      for (const name of secret) if (!never.includes(name)) t.fail(`${name} was sent as never indexed`);
    }
  };

  // Every octet that can be sent, among so many short codes that Huffman coding pays.
  for (let code = 1; code < 256; code++)
    await send([['x', `${'e'.repeat(40)}${String.fromCharCode(code)}e`, false]], 1);
  for (const [n, fields] of samples.entries()) {
    await send(fields, 1 + (n % 3));
    if (n % 10 !== 9) continue;
    socketOfServer!.write(
      Buffer.concat([tableSizeSettings(tableSizes[n - 1]!), tableSizeSettings(tableSizes[n]!)]),
    );
    await new Promise((resolve) => client.once('remoteSettings', resolve));
  }
  t.ok(received.length > SAMPLES && received.every((list) => list !== undefined));
});

t.test('nghttp2 decodes the blocks of our encoder', async (t) => {
  const received: [string[], string[]][] = [];
  let session: http2.ServerHttp2Session | undefined;
  let waiting = () => {};
  const server = http2.createServer({ maxHeaderListPairs: 1000, settings: { maxHeaderListSize: 1 << 20 } });
  server.on('session', (made) => {
    session = made;
  });
  server.on('stream', (stream, headers, _flags, rawHeaders) => {
    received.push([
      rawHeaders as unknown as string[],
      (headers as { [http2.sensitiveHeaders]?: string[] })[http2.sensitiveHeaders] ?? [],
    ]);
    stream.on('error', () => {});
    stream.respond({ ':status': 200 }, { endStream: true });
    waiting();
  });
  const port = await listen(server);
  const socket = net.connect({ port, host: '127.0.0.1', noDelay: true });
  t.teardown(() => {
    socket.destroy();
    session?.destroy();
    server.close();
  });
  const encoder = new HpackEncoder({ maxTableBytes: 8192 });
  let gone = '';
  onFrames(socket, 0, (type, flags, _streamId, payload) => {
    if (type === GOAWAY) gone = `GOAWAY ${payload.readUInt32BE(4)}`;
    if (type === PING && (flags & 1) === 0) socket.write(frame(PING, 1, 0, payload));
    if (type !== SETTINGS || (flags & 1) !== 0) return;
    for (let at = 0; at < payload.length; at += 6) {
      if (payload.readUInt16BE(at) === SETTINGS_HEADER_TABLE_SIZE)
        encoder.setPeerTableBytes(payload.readUInt32BE(at + 2));
    }
    socket.write(frame(SETTINGS, 1, 0, Buffer.alloc(0)));
  });
  socket.on('close', () => {
    gone ||= 'closed';
    waiting();
  });
  socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
  socket.write(frame(SETTINGS, 0, 0, Buffer.alloc(0)));

  let streamId = -1;
  const send = async (list: HeaderList) => {
    encoder.encode(list);
    streamId += 2;
    const { block, blockEnd } = encoder;
    for (let at = 0; at < blockEnd; at += MAX_FRAME_BYTES) {
      const end = Math.min(at + MAX_FRAME_BYTES, blockEnd);
      const flags = (at === 0 ? DATA_END : 0) | (end === blockEnd ? END_HEADERS : 0);
      socket.write(frame(at === 0 ? HEADERS : CONTINUATION, flags, streamId, block.subarray(at, end)));
    }
    const before = received.length;
    await new Promise<void>((resolve) => {
      waiting = resolve;
    });
    if (received.length === before) throw new Error(`no answer: ${gone}`);
    return received.at(-1)!;
  };

  for (const [n, sample] of samples.entries()) {
    const fields = [':method', 'POST', ':scheme', 'http', ':path', `/p${n % 50}`, ':authority', 'here'];
    const never: number[] = [];
    for (const [name, value, secret] of sample) {
      if (secret) never.push(fields.length >> 1);
      fields.push(name, value);
    }
    const list = new HeaderList(fields, never.length > 0 ? never : undefined);
    list.shared = n % 2 === 0;
    for (let i = 0; i < 1 + (n % 4); i++) {
      const [raw, sensitive] = await send(list);
      if (!isDeepStrictEqual([...raw], fields)) t.same([...raw], fields);
      for (const [name, , secret] of sample)
        if (secret && !sensitive.includes(name)) t.fail(`${name} was marked`);
    }
    if (n % 10 !== 9) continue;
    session!.settings({ headerTableSize: tableSizes[n - 1]! });
    session!.settings({ headerTableSize: tableSizes[n]! });
    await new Promise((resolve) => session!.once('localSettings', resolve));
  }
  t.equal(gone, '');
  t.ok(received.length > SAMPLES);
});
