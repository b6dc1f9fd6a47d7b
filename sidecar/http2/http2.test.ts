// The parts of the engine, each alone.
import { createHash } from 'node:crypto';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import t from 'tap';
import fc from '../../scripts/harness/properties.ts';
import { seededRandom } from '../../test/support/seeded-random.ts';
import { socketPair } from '../../test/support/socket-pair.ts';
import { ClosedStreams } from './closed-streams.ts';
import { Expansion, ExpansionAllowance } from './expansion.ts';
import { FloodGuard } from './flood-guard.ts';
import { type SendSide, WaitingStreams } from './flow-control.ts';
import { beginBatch, endBatch } from './flush-queue.ts';
import { ErrorCode, Flag, FrameType, MAX_WINDOW_BYTES, PREFACE, writeFrameHeader } from './frame.ts';
import { FrameReader, type FrameSink } from './frame-reader.ts';
import { HeaderBlock } from './header-block.ts';
import { HpackDecoder } from './hpack/decoder.ts';
import { HeaderList } from './hpack/header-list.ts';
import { DEFAULT_LIMITS } from './limits.ts';
import { widen } from './send-credit.ts';
import { SendQueue } from './send-queue.ts';
import { applySettings, PeerSettings, SettingId } from './settings.ts';
import { isSharedRead, readShared, sharedRead } from './shared-read.ts';
import { Stream, type StreamHandler } from './streams.ts';
import { FrameWriter } from './writer.ts';

function frameOf(type: number, flags: number, streamId: number, payload: Buffer): Buffer {
  const header = Buffer.alloc(9);
  writeFrameHeader(header, 0, payload.length, type, flags, streamId);
  return Buffer.concat([header, payload]);
}

/** Records the frames of a reader, with the pieces of each DATA frame joined again. */
class Recorder implements FrameSink {
  readonly events: unknown[] = [];
  pieces = 0;
  private data: { streamId: number; flags: number; frameBytes: number; parts: Buffer[] } | undefined;

  onFrame(type: number, flags: number, streamId: number, buffer: Buffer, start: number, end: number): void {
    this.events.push({ type, flags, streamId, payload: buffer.toString('hex', start, end) });
  }

  onData(
    streamId: number,
    flags: number,
    frameBytes: number,
    buffer: Buffer,
    start: number,
    end: number,
    complete: boolean,
  ): void {
    this.data = { streamId, flags, frameBytes, parts: [] };
    this.onDataMore(buffer, start, end, complete);
  }

  onDataMore(buffer: Buffer, start: number, end: number, complete: boolean): void {
    const { data } = this;
    if (data === undefined) throw new Error('a piece of DATA without its beginning');
    this.pieces++;
    data.parts.push(Buffer.from(buffer.subarray(start, end)));
    if (!complete) return;
    const { parts, ...rest } = data;
    this.events.push({ ...rest, payload: Buffer.concat(parts).toString('hex') });
    this.data = undefined;
  }

  onOversizeFrame(type: number, streamId: number, length: number): void {
    this.events.push({ oversize: type, streamId, length });
  }

  onForeignClient(looksLike: string): void {
    this.events.push({ badPreface: looksLike });
  }

  onForeignServer(begins: Buffer): void {
    this.events.push({ foreignServer: begins.toString('latin1') });
  }

  onPreface(): void {
    this.events.push('preface');
  }
}

function read(bytes: Buffer, cuts: readonly number[], expectPreface = true): Recorder {
  const recorder = new Recorder();
  const reader = new FrameReader(recorder, 16_384, expectPreface);
  // All reads use one buffer, as those of sockets that share one do.
  const shared = Buffer.alloc(bytes.length);
  const push = (piece: Buffer): void => {
    piece.copy(shared);
    reader.push(shared.subarray(0, piece.length));
    shared.fill(0xdb);
  };
  let from = 0;
  for (const cut of [...cuts].sort((a, b) => a - b)) {
    if (cut <= from || cut >= bytes.length) continue;
    push(bytes.subarray(from, cut));
    from = cut;
  }
  push(bytes.subarray(from));
  return recorder;
}

const wireFrame = fc
  .record({
    type: fc.oneof(fc.constant(0), fc.nat(12)),
    flags: fc.constantFrom(0, 1, 4, 5, 8, 9),
    streamId: fc.constantFrom(0, 1, 3, 2 ** 31 - 1),
    payload: fc.oneof(
      fc.uint8Array({ maxLength: 40 }),
      fc.integer({ min: 1, max: 16_384 }).map((length) => Buffer.alloc(length, length & 0xff)),
    ),
  })
  .map(({ type, flags, streamId, payload }) => frameOf(type, flags, streamId, Buffer.from(payload)));

t.test('sockets that share a read buffer, made or accepted, receive their own bytes', async (t) => {
  const server = createServer();
  const lengths: number[] = [];
  let sharedReads = 0;
  const collect = (socket: Socket, pause: boolean): Promise<string> => {
    const hash = createHash('sha256');
    socket.on('data', (chunk: Buffer) => {
      if (isSharedRead(chunk)) sharedReads++;
      lengths.push(chunk.length);
      hash.update(chunk);
      if (!pause) return;
      socket.pause();
      setImmediate(() => socket.resume());
    });
    return new Promise((resolve) => socket.on('end', () => resolve(hash.digest('hex'))));
  };
  const accepted: Promise<string>[] = [];
  server.on('connection', (socket) => {
    t.equal(readShared(socket), true, 'this Node has the properties that it needs');
    accepted.push(collect(socket, accepted.length % 2 === 0));
    for (let i = 0; i < 40; i++) socket.write(Buffer.alloc(50_000, i));
    socket.end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const digest = (pieces: Buffer[]): string =>
    createHash('sha256').update(Buffer.concat(pieces)).digest('hex');
  const expected = digest(Array.from({ length: 40 }, (_, i) => Buffer.alloc(50_000, i)));
  const made = Array.from({ length: 4 }, (_, n) => {
    const socket: Socket = connect({ host: '127.0.0.1', port, onread: sharedRead(() => socket) });
    const received = collect(socket, n % 2 === 1);
    const pieces = Array.from({ length: 30 }, (_, i) => Buffer.alloc(30_000, 100 + n + i));
    for (const piece of pieces) socket.write(piece);
    socket.end();
    return { received, sent: digest(pieces) };
  });
  for (const { received } of made) t.equal(await received, expected);
  t.strictSame((await Promise.all(accepted)).sort(), made.map(({ sent }) => sent).sort());
  t.equal(sharedReads, lengths.length, 'all reads used it');
  server.close();
});

t.test('the reader finds the same frames wherever the reads end', async (t) => {
  fc.assert(
    fc.property(
      fc.array(wireFrame, { maxLength: 12 }),
      fc.array(fc.nat(120_000), { maxLength: 60 }),
      (frames, cuts) => {
        const bytes = Buffer.concat([PREFACE, ...frames]);
        t.strictSame(read(bytes, cuts).events, read(bytes, []).events);
      },
    ),
    { numRuns: 150 },
  );
  const small = Buffer.concat([
    PREFACE,
    frameOf(FrameType.SETTINGS, 0, 0, Buffer.alloc(12)),
    frameOf(FrameType.DATA, 9, 1, Buffer.from([2, 1, 0, 0])),
  ]);
  const byteByByte = read(
    small,
    Array.from(small, (_, index) => index),
  );
  t.strictSame(byteByByte.events, read(small, []).events, 'a byte at a time');
  t.equal(byteByByte.events.length, 3);
});

t.test('the reader passes the available part of a DATA frame, unless it is padded', async (t) => {
  const bytes = frameOf(FrameType.DATA, Flag.END_STREAM, 1, Buffer.alloc(16_384, 7));
  const cut = read(bytes, [2_000, 9_000], false);
  t.equal(cut.pieces, 3, 'the part of each read passed at once');
  t.match(cut.events, [{ streamId: 1, flags: 1, frameBytes: 16_384 }]);
  t.equal(read(bytes, [500, 900], false).pieces, 1, 'short beginnings wait');
  const padded = frameOf(FrameType.DATA, Flag.PADDED, 1, Buffer.alloc(16_384, 7));
  t.equal(read(padded, [2_000, 9_000], false).pieces, 1);
});

t.test('a wrong preface and an oversize frame are reported and end the reading', async (t) => {
  t.strictSame(read(Buffer.from('GET / HTTP/1.1\r\nhost: a\r\n\r\n'), [1, 2, 3]).events, [
    { badPreface: 'http1' },
  ]);
  t.strictSame(read(Buffer.from('POST / HTTP/1.0\r\n'), [2]).events, [{ badPreface: 'http1' }]);
  t.strictSame(read(Buffer.from('OPTIONS * HTTP/1.1\r\n'), []).events, [{ badPreface: 'http1' }]);
  t.strictSame(read(Buffer.from([22, 3, 1, 2, 0, 1, 0]), []).events, [{ badPreface: 'tls' }]);
  t.strictSame(read(Buffer.from('PRI * HTTP/2.0\r\n\r\nXX'), [9]).events, [{ badPreface: 'nothing known' }]);
  t.strictSame(read(Buffer.from('PRI * HTTP/2.0\r\n\r\nSM'), [9]).events, [], 'not yet');
  const tooLong = Buffer.concat([
    frameOf(FrameType.PING, 0, 0, Buffer.alloc(8)),
    frameOf(FrameType.HEADERS, 4, 1, Buffer.alloc(16_385)),
    frameOf(FrameType.PING, 0, 0, Buffer.alloc(8)),
  ]);
  const { events } = read(tooLong, [30], false);
  t.equal(events.length, 2, 'the reader drops the bytes after it');
  t.strictSame(events[1], { oversize: FrameType.HEADERS, streamId: 1, length: 16_385 });
});

t.test('a reader works in turns, and loses nothing in between', async (t) => {
  const seen: number[] = [];
  const sink: FrameSink = {
    onFrame: (_type, _flags, streamId) => seen.push(streamId),
    onData: (streamId) => seen.push(streamId),
    onDataMore() {},
    onOversizeFrame() {},
    onForeignClient() {},
    onForeignServer() {},
    onPreface() {},
  };
  const reader = new FrameReader(sink, 16_384, false);
  const frames = Buffer.concat(
    Array.from({ length: 5_000 }, (_, id) =>
      id % 2 === 0
        ? frameOf(FrameType.WINDOW_UPDATE, 0, id, Buffer.alloc(4))
        : frameOf(FrameType.PING, 0, id, Buffer.alloc(8)),
    ),
  );
  const cut = frames.length - 3;
  reader.push(frames.subarray(0, cut));
  t.equal(seen.length, 2_048);
  t.equal(reader.halted, true);
  t.ok(reader.heldBytes > 30_000);
  reader.push(frames.subarray(cut), 0);
  t.equal(seen.length, 2_048, 'bytes that arrive meanwhile wait, too');
  reader.goOn();
  t.equal(seen.length, 4_096);
  reader.goOn();
  t.equal(reader.halted, false);
  t.strictSame(
    seen,
    Array.from({ length: 5_000 }, (_, id) => id),
  );
  t.equal(reader.heldBytes, 0);

  const begins = frameOf(FrameType.PING, 0, 7, Buffer.alloc(8));
  reader.push(begins.subarray(0, 4), 0);
  reader.spend(2_048);
  reader.push(begins.subarray(4), 0);
  t.equal(reader.halted, true, 'after a costly frame the next ones wait longer');
  reader.goOn();
  t.equal(seen.at(-1), 7);
  reader.spend(4_096);
  reader.push(begins, 100);
  t.equal(reader.halted, false, 'after some time');

  seen.length = 0;
  const data = new FrameReader(sink, 16_384, false);
  data.push(Buffer.concat(Array(20_000).fill(frameOf(FrameType.DATA, 0, 1, Buffer.from('x')))));
  t.equal(seen.length, 8_192, 'DATA is a quarter of the work of another frame');
  const empty = new FrameReader(sink, 16_384, false);
  seen.length = 0;
  empty.push(Buffer.concat(Array(20_000).fill(frameOf(FrameType.DATA, 0, 1, Buffer.alloc(0)))));
  t.equal(seen.length, 2_048, 'but not without any time');
});

t.test('limits of bytes and frames bound a header block', async (t) => {
  const limits = { ...DEFAULT_LIMITS, maxHeaderBlockBytes: 100, maxContinuations: 3 };
  // x-0: 0, x-1: 1, …
  const bytes = Buffer.concat(
    Array.from({ length: 20 }, (_, n) =>
      Buffer.from([0, 3, 0x78, 0x2d, 0x30 + (n % 10), 1, 0x30 + (n % 10)]),
    ),
  );
  const block = new HeaderBlock(limits, new HpackDecoder({ maxTableBytes: 4_096, maxListBytes: 2_000 }));
  block.begin(5, true, false);
  t.equal(block.streamId, 5);
  t.equal(block.add(bytes, 0, 60, false), undefined);
  t.strictSame(block.add(bytes, 60, 98, true)?.fields.length, 28, 'up to the limit');
  t.equal(block.streamId, 0, 'no block is open');
  block.begin(7, false, false);
  t.equal(block.add(bytes, 0, 100, false), undefined);
  t.equal(block.errorCode, 0);
  t.equal(block.add(bytes, 0, 1, true), undefined);
  t.equal(block.errorCode, ErrorCode.ENHANCE_YOUR_CALM, 'a byte above it');
  block.begin(9, false, false);
  for (let frames = 0; frames < 4; frames++) block.add(bytes, 0, 0, false);
  t.equal(block.errorCode, 0, 'empty ones too');
  block.add(bytes, 0, 0, false);
  t.equal(block.errorCode, ErrorCode.ENHANCE_YOUR_CALM, 'count as frames');
  block.begin(11, false, false);
  block.add(bytes, 0, 5, true);
  t.match(block, { errorCode: ErrorCode.COMPRESSION_ERROR, error: 'HPACK: the block ends within a field' });
});

function settingsPayload(...entries: [number, number][]): Buffer {
  const payload = Buffer.alloc(entries.length * 6);
  entries.forEach(([id, value], index) => {
    payload.writeUInt16BE(id, index * 6);
    payload.writeUInt32BE(value, index * 6 + 2);
  });
  return payload;
}

t.test('SETTINGS apply in order, and outside their ranges cause errors', async (t) => {
  const apply = (peer: PeerSettings, fromServer: boolean, ...entries: [number, number][]) => {
    const payload = settingsPayload(...entries);
    return applySettings(peer, payload, 0, payload.length, fromServer)?.code;
  };
  const peer = new PeerSettings([0xf0a7]);
  t.equal(
    apply(
      peer,
      true,
      [SettingId.HEADER_TABLE_SIZE, 0],
      [SettingId.ENABLE_PUSH, 0],
      [SettingId.MAX_CONCURRENT_STREAMS, 7],
      [SettingId.INITIAL_WINDOW_SIZE, 5],
      [SettingId.INITIAL_WINDOW_SIZE, MAX_WINDOW_BYTES],
      [SettingId.MAX_FRAME_SIZE, 16_777_215],
      [SettingId.MAX_HEADER_LIST_SIZE, 9],
      [0xf0a7, 1],
      [0xabcd, 1],
    ),
    undefined,
  );
  t.match(peer, {
    headerTableBytes: 0,
    maxConcurrentStreams: 7,
    initialWindowBytes: MAX_WINDOW_BYTES,
    maxFrameBytes: 16_777_215,
    maxHeaderListBytes: 9,
    extensions: [1],
  });
  const code = (fromServer: boolean, ...entry: [number, number]) =>
    apply(new PeerSettings(), fromServer, entry);
  t.equal(code(false, SettingId.ENABLE_PUSH, 2), ErrorCode.PROTOCOL_ERROR);
  t.equal(code(false, SettingId.ENABLE_PUSH, 1), undefined);
  t.equal(code(true, SettingId.ENABLE_PUSH, 1), ErrorCode.PROTOCOL_ERROR, 'a server offers no push');
  t.equal(code(true, SettingId.INITIAL_WINDOW_SIZE, MAX_WINDOW_BYTES + 1), ErrorCode.FLOW_CONTROL_ERROR);
  t.equal(code(true, SettingId.MAX_FRAME_SIZE, 16_383), ErrorCode.PROTOCOL_ERROR);
  t.equal(code(true, SettingId.MAX_FRAME_SIZE, 16_777_216), ErrorCode.PROTOCOL_ERROR);
});

t.test('a window grows up to 2^31-1 and not beyond', async (t) => {
  t.equal(widen(-70_000, 65_535), -4_465, 'also from below zero');
  t.equal(widen(MAX_WINDOW_BYTES - 5, 5), MAX_WINDOW_BYTES);
  t.ok(Number.isNaN(widen(MAX_WINDOW_BYTES, 1)));
});

/** A socket that takes everything, or nothing while `full`. */
class FakeSocket {
  readonly written: Buffer[] = [];
  full = false;
  writableLength = 0;

  get writableNeedDrain(): boolean {
    return this.writableLength >= 65_536;
  }

  write(bytes: Buffer): void {
    this.written.push(bytes);
    if (this.full) this.writableLength += bytes.length;
  }

  cork(): void {}
  uncork(): void {}
}

/** A sender without a connection: sends DATA of waiting streams, and records the order of their turns. */
class Sender implements SendSide {
  readonly socket = new FakeSocket();
  readonly writer = new FrameWriter(this.socket as unknown as Socket);
  readonly waiting = new WaitingStreams();
  readonly turns: number[] = [];
  sendWindow = 0;
  maxFrameBytes = 16_384;

  readonly handler: StreamHandler = {
    onHeaders() {},
    onData: () => 0,
    onDataSent: (stream) => this.turns.push(stream.id),
    onFailed() {},
  };

  stream(id: number, bytes: number, sendWindow = MAX_WINDOW_BYTES): Stream {
    const stream = new Stream(undefined as never, id, this.handler, sendWindow, 0);
    for (let left = bytes; left > 0; left -= 16_384)
      this.waiting.push(stream, Buffer.alloc(16_384), 0, Math.min(left, 16_384), false);
    return stream;
  }

  pump(): void {
    beginBatch();
    this.waiting.pump(this);
    endBatch();
  }

  onTurn(): void {}
  onQueueSent(): void {}
}

t.test('waiting streams take turns, also if the window opens a little at a time', async (t) => {
  const sender = new Sender();
  for (const id of [1, 3, 5]) sender.stream(id, 65_536);
  for (let update = 0; update < 6; update++) {
    sender.sendWindow += 16_384;
    sender.pump();
  }
  t.strictSame(sender.turns, [1, 3, 5, 1, 3, 5]);
  sender.sendWindow = MAX_WINDOW_BYTES;
  sender.pump();
  t.strictSame(sender.turns.slice(6), [1, 3, 5, 1, 3, 5], 'and when it opens at once');
  t.equal(sender.waiting.size, 0);
});

t.test('a stream without a window costs the others no turn, and a full socket ends the turns', async (t) => {
  const sender = new Sender();
  const stuck = sender.stream(1, 65_536, 0);
  const negative = sender.stream(3, 65_536, -100);
  sender.stream(5, 65_536);
  sender.sendWindow = MAX_WINDOW_BYTES;
  sender.pump();
  t.strictSame(sender.turns, [5, 5, 5, 5]);
  t.equal(sender.waiting.size, 2);
  negative.sendWindow += 150;
  sender.waiting.windowOpened(negative);
  sender.pump();
  t.strictSame(sender.turns.slice(4), [3], 'the stream with a window is sent');
  t.equal(negative.queue?.bytes, 65_536 - 50);

  sender.socket.full = true;
  for (const stream of [stuck, negative]) {
    stream.sendWindow = MAX_WINDOW_BYTES;
    sender.waiting.windowOpened(stream);
  }
  sender.stream(7, 1_000_000);
  sender.pump();
  const { writableLength } = sender.socket;
  t.ok(sender.writer.blocked);
  t.ok(writableLength >= 65_536 && writableLength < 200_000, `${writableLength} bytes were handed over`);
  sender.pump();
  t.equal(sender.socket.writableLength, writableLength, 'a blocked socket gets no more');
});

t.test('a frame of the peer costs only the turns that it allows, however many streams wait', async (t) => {
  const sender = new Sender();
  let looks = 0;
  for (let id = 1; id < 2_000; id += 2) {
    const stream = sender.stream(id, 100, 0);
    Object.defineProperty(stream, 'sendWindow', {
      get: () => {
        looks++;
        return 0;
      },
    });
  }
  const open = sender.stream(2_001, 1_000);
  looks = 0;
  for (let update = 0; update < 500; update++) {
    sender.sendWindow += 1;
    sender.pump();
  }
  t.equal(sender.turns.length, 500);
  t.equal(open.queue?.bytes, 500);
  t.equal(looks, 0, 'no turn checks streams whose windows are shut');
  t.equal([...sender.waiting].length, 1_001);
  t.equal([...sender.waiting].at(-1), open, 'the streams that have waited longest come first');
  // A turn finds once that SETTINGS have shut a window meanwhile.
  open.sendWindow = -5;
  sender.sendWindow = MAX_WINDOW_BYTES;
  for (let update = 0; update < 3; update++) sender.pump();
  t.equal(open.queue?.bytes, 500);
  open.sendWindow = 20;
  sender.waiting.pumpOne(sender, open);
  t.equal(open.queue?.bytes, 480);
  for (const stream of sender.waiting) sender.waiting.discard(stream);
  t.equal(sender.waiting.size, 0);
  t.equal(sender.waiting.bytes, 0);
});

t.test('a queue returns its bytes in order, whatever their slices were', async (t) => {
  fc.assert(
    fc.property(
      fc.array(
        fc.oneof(fc.integer({ min: 1, max: 200 }), fc.integer({ min: 900, max: 1_200 }), fc.nat(16_384)),
        { maxLength: 60 },
      ),
      fc.integer({ min: 1, max: 20_000 }),
      fc.integer(),
      (lengths, portion, seed) => {
        const random = seededRandom(seed);
        const queue = new SendQueue(undefined as never);
        const pushed: Buffer[] = [];
        const sent: Buffer[] = [];
        const send = () => {
          let left = portion;
          for (let chunk = queue.first; chunk !== undefined && left > 0; chunk = queue.first) {
            const bytes = Math.min(chunk.end - chunk.start, left);
            // By reference, as the writer sends it: later pushes must not overwrite it.
            sent.push(chunk.buffer.subarray(chunk.start, chunk.start + bytes));
            queue.sent(chunk, bytes);
            left -= bytes;
          }
        };
        for (const length of lengths.filter((length) => length > 0)) {
          const slice = Buffer.from(Array.from({ length }, () => Math.floor(random() * 256)));
          pushed.push(slice);
          queue.push(Buffer.concat([Buffer.alloc(3), slice, Buffer.alloc(2)]), 3, 3 + length);
          if (random() < 0.4) send();
        }
        while (queue.first !== undefined) send();
        t.equal(queue.bytes, 0);
        t.ok(Buffer.concat(sent).equals(Buffer.concat(pushed)));
      },
    ),
    { numRuns: 100 },
  );
});

t.test('the waiting bytes of a queue bound the memory that it keeps alive', async (t) => {
  const kept = (slices: Iterable<{ buffer: Buffer; start: number; end: number }>) => {
    const queue = new SendQueue(undefined as never);
    for (const { buffer, start, end } of slices) queue.push(buffer, start, end);
    const stores = new Set<ArrayBufferLike>();
    let chunks = 0;
    const { bytes } = queue;
    for (let chunk = queue.first; chunk !== undefined; chunk = queue.first) {
      stores.add(chunk.buffer.buffer);
      chunks++;
      queue.sent(chunk, chunk.end - chunk.start);
    }
    let keptBytes = 0;
    for (const store of stores) keptBytes += store.byteLength;
    return { bytes, keptBytes, chunks };
  };
  function* slices(count: number, length: number, readBytes: number) {
    for (let i = 0; i < count; i++) {
      yield { buffer: Buffer.allocUnsafeSlow(readBytes), start: 100, end: 100 + length };
    }
  }
  const tokens = kept(slices(10_000, 25, 65_536));
  t.equal(tokens.bytes, 250_000);
  t.ok(tokens.keptBytes < 262_144, `tokens: ${tokens.keptBytes} bytes are kept`);
  t.ok(tokens.chunks < 70, `in ${tokens.chunks} pieces`);
  const frames = kept(slices(16, 16_384, 65_536));
  t.ok(frames.keptBytes <= 2 * frames.bytes + 65_536, `frames of other reads: ${frames.keptBytes} are kept`);
  const read = Buffer.allocUnsafeSlow(65_536);
  const whole = kept([0, 1, 2, 3].map((i) => ({ buffer: read, start: i * 16_384, end: (i + 1) * 16_384 })));
  t.equal(whole.keptBytes, 65_536, 'frames of one read stay in it');
});

t.test('a connection remembers how its latest streams closed', async (t) => {
  const closed = new ClosedStreams();
  t.equal(closed.find(1), 'forgotten');
  closed.add(1, true);
  for (let id = 3; id < 3 + 2 * 1_000; id += 2) closed.add(id, false);
  t.equal(closed.find(1), 'reset-by-us', 'streams that end do not displace it');
  t.equal(closed.find(2_001), 'ended');
  t.equal(closed.find(3), 'forgotten');
  closed.add(1, false);
  t.equal(closed.find(1), 'ended', 'the peer has reset it too');
  for (let id = 5_001; id < 5_001 + 2 * 1_024; id += 2) closed.add(id, true);
  t.equal(closed.find(5_001), 'reset-by-us', 'all streams of a connection may be reset at once');
});

t.test('frames without use spend the allowances of the flood guard, and calls earn them back', async (t) => {
  let nowMs = 0;
  const limits = { ...DEFAULT_LIMITS, maxConcurrentStreams: 100, cancelBurst: 3_000 };
  const guard = new FloodGuard(() => nowMs, limits);
  const spent = (spend: () => boolean) => {
    let count = 0;
    while (count < 100_000 && spend()) count++;
    return count;
  };
  const control = () => guard.controlFrame();
  t.equal(spent(control), 2_000, 'a new peer may send some');
  nowMs += 1_000;
  t.equal(spent(control), 100, 'and some more each second');
  nowMs += 3_600_000;
  t.equal(spent(control), 10_000, 'but a quiet hour does not save up without end');
  for (let i = 0; i < 51; i++) guard.progress();
  t.equal(spent(control), 203, 'calls and data earn four each; one was owed');
  for (let i = 0; i < 100_000; i++) {
    guard.progress();
    if (!guard.controlFrame() || !guard.controlFrame()) return t.fail('a peaceful peer was refused');
  }

  const small = new FloodGuard(() => nowMs, limits);
  for (let i = 0; i < 2_000; i++) small.controlFrame();
  for (let i = 0; i < 100; i++) small.moved(1);
  t.equal(
    spent(() => small.controlFrame()),
    100,
    'a byte earns one',
  );
  for (let i = 0; i < 100; i++) small.moved(256);
  t.equal(
    spent(() => small.controlFrame()),
    399,
    'and a message four; one was owed',
  );
  small.moved(256);
  t.equal(small.settingsMove(0), true);
  t.equal(small.settingsMove(1_000), false, 'SETTINGS cost what they make us do');

  const faulty = new FloodGuard(() => nowMs, limits);
  const fault = () => faulty.fault(true) === 'within';
  t.equal(spent(fault), 1_124, 'a peer may make an error on all its streams at once, but not without end');
  t.equal(faulty.fault(true), 'faults');
  const cancel = (guard: FloodGuard) => spent(() => guard.cancel(true));
  t.equal(cancel(faulty), 3_000 - 1_126, 'errors also spend the allowance for cancels');
  t.equal(faulty.cancelsAtOnce, true, 'all of them ended right after they began');
  for (let i = 0; i < 500; i++) faulty.cancel(false);
  t.equal(faulty.cancelsAtOnce, false);

  const late = new FloodGuard(() => nowMs, limits);
  t.equal(cancel(late), 3_000);
  t.equal(late.fault(true), 'resets', 'and cancels that for errors');
  for (let i = 0; i < 31; i++) late.streamFinished();
  t.equal(cancel(late), 30, 'a finished call earns one');
  nowMs += 500;
  t.equal(cancel(late), 100);
  t.equal(late.cancel(true, 2), false);

  const leaving = new FloodGuard(() => nowMs, limits);
  const callAndReset = () => leaving.lateCall() && leaving.controlFrame();
  t.equal(spent(callAndReset), 32_768, 'a peer may receive GOAWAY late');
  return undefined;
});

t.test('a slow socket receives exactly the bytes of the writer', async (t) => {
  for (const seed of [1, 2, 3]) {
    const random = seededRandom(seed);
    const [near, far] = await socketPair(t);
    const writer = new FrameWriter(near);
    near.on('drain', () => {
      writer.blocked = false;
    });
    const received: Buffer[] = [];
    let receivedBytes = 0;
    far.on('data', (chunk: Buffer) => {
      received.push(chunk);
      receivedBytes += chunk.length;
      if (random() < 0.5) {
        far.pause();
        setTimeout(() => far.resume(), random() * 10);
      }
    });
    const sent: Buffer[] = [];
    let sentBytes = 0;
    let wasBlocked = 0;
    // Another connection's writer shares the spare slabs.
    const [otherNear, otherFar] = await socketPair(t);
    const other = new FrameWriter(otherNear);
    const otherReceived: Buffer[] = [];
    otherFar.on('data', (chunk: Buffer) => otherReceived.push(chunk));
    const otherSent: Buffer[] = [];
    for (let event = 0; sentBytes < 12_000_000; event++) {
      beginBatch();
      for (let frames = Math.floor(random() * 40); frames >= 0; frames--) {
        const kind = random();
        const length = Math.floor(kind < 0.6 ? random() * 200 : kind < 0.9 ? random() * 16_384 : 70_000);
        const payload = Buffer.alloc(length, Math.floor(random() * 256));
        const type = random() < 0.7 ? FrameType.DATA : FrameType.HEADERS;
        writer.frame(type, 0, 1, payload, 0, length);
        sent.push(frameOf(type, 0, 1, payload));
        sentBytes += 9 + length;
      }
      other.uint32Frame(FrameType.WINDOW_UPDATE, event, event);
      const eventBytes = Buffer.alloc(4);
      eventBytes.writeUInt32BE(event);
      otherSent.push(frameOf(FrameType.WINDOW_UPDATE, 0, event, eventBytes));
      endBatch();
      if (writer.pendingBytes > 0) t.fail('a batch ends with everything handed over');
      if (writer.blocked) wasBlocked++;
      if (writer.blocked && random() < 0.5) await new Promise((resolve) => near.once('drain', resolve));
      else if (random() < 0.2) await new Promise((resolve) => setImmediate(resolve));
    }
    near.end();
    otherNear.end();
    await Promise.all(
      [near, otherNear].map((socket) => new Promise((resolve) => socket.on('close', resolve))),
    );
    t.ok(wasBlocked > 0, `the socket was full ${wasBlocked} times`);
    t.equal(receivedBytes, sentBytes);
    t.ok(Buffer.concat(received).equals(Buffer.concat(sent)), `seed ${seed}: the same bytes`);
    t.ok(Buffer.concat(otherReceived).equals(Buffer.concat(otherSent)), 'and on the other connection');
  }
});

t.test('the lists of a caller may be larger than their blocks, up to an allowance', async (t) => {
  let nowMs = 0;
  const expansion = new Expansion(() => nowMs, new Set(['kept']));
  const list = (fields: number, value: string) =>
    new HeaderList([
      ':path',
      '/a',
      ...Array.from({ length: fields }, () => ['x', value]).flat(),
      'kept',
      'k',
    ]);
  const honest = list(2, 'y'.repeat(4_000));
  for (let nth = 0; nth < 10_000; nth++) {
    if (expansion.admit(honest, 50) !== honest) return t.fail('what both tables hold is free');
  }
  const literal = list(1_000, 'z');
  for (let nth = 0; nth < 10_000; nth++) {
    if (expansion.admit(literal, 5_000) !== literal) return t.fail('and so are short fields that were sent');
  }
  const much = list(15, 'y'.repeat(4_000));
  const admitted = (shared?: ExpansionAllowance): number => {
    let count = 0;
    const held = { caller: shared && { expansion: shared } };
    while (count < 1_000 && expansion.admit(much, 100, held) === much) count++;
    return count;
  };
  const first = admitted();
  t.equal(first, 81, '4 MiB of 52 KB');
  const cut = expansion.admit(much, 100);
  t.equal(cut.oversize, true);
  t.equal(cut.listBytes, much.listBytes);
  t.strictSame([cut.get(':path'), cut.get('kept')], ['/a', 'k']);
  t.ok(cut.fields.length < 10);
  nowMs += 1_000;
  t.equal(admitted(), 20, 'and 1 MiB a second');
  const shared = new ExpansionAllowance();
  t.equal(admitted(shared), first);
  t.equal(admitted(shared), 0, 'a caller has one allowance for all its connections');
  return undefined;
});
