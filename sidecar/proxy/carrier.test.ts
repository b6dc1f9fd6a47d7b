// Whatever streams a connection carries, and whenever it is lost, each of them has what its caller has not received.
import { Duplex } from 'node:stream';
import t from 'tap';
import { frame, frameType, headerBlock, preface, settings, uint32 } from '../../scripts/harness/h2-peer.ts';
import fc from '../../scripts/harness/properties.ts';
import { TimerWheel } from '../clock/timer-wheel.ts';
import { refuseForeignClient, refuseForeignServer } from '../grpc/foreign-peers.ts';
import { Connection } from '../http2/connection.ts';
import type { ConnectionOwner } from '../http2/connection-owner.ts';
import { ConnectionError, type StreamFailure } from '../http2/errors.ts';
import { beginBatch, endBatch } from '../http2/flush-queue.ts';
import { ErrorCode, Flag, FrameType, readUint32 } from '../http2/frame.ts';
import { HeaderList } from '../http2/hpack/header-list.ts';
import { DEFAULT_LIMITS } from '../http2/limits.ts';
import type { Stream, StreamHandler } from '../http2/streams.ts';
import { ResumableStream } from './resumable-stream.ts';
import { Resumptions } from './resumptions.ts';
import type { ReturningCall } from './returning-call.ts';
import { SENT_TAIL_MAX_BYTES } from './sent-tail.ts';

const INITIAL_WINDOW = 4;
const HEAD = new HeaderList([':status', '200', 'content-type', 'application/grpc']);
const END = new HeaderList(['grpc-status', '0']);

/** A socket that takes all output at once. */
class Sink extends Duplex {
  readonly connecting = false;
  output: Buffer[] = [];

  setNoDelay(): this {
    return this;
  }
  override _read(): void {}
  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.output.push(Buffer.from(chunk));
    done();
  }
}

/** A connection, and what its caller makes of it. */
class Wire implements ConnectionOwner<Connection> {
  readonly onForeignClient = refuseForeignClient;
  readonly onForeignServer = refuseForeignServer;
  readonly streams: Stream[] = [];
  private readonly sink = new Sink();
  readonly connection: Connection;
  /** The DATA on the wire, in its order. */
  private readonly wire: { id: number; bytes: Buffer }[] = [];
  /** Of that, what the caller has received, by stream. */
  readonly received = new Map<number, Buffer>();
  private readonly consumed = new Map<number, number>();
  readonly ends = new Set<number>();
  private unreturned = 0;
  private nowMs = 0;

  constructor(windowBytes: number, streams: number) {
    this.connection = new Connection(this.sink as never, this, {
      role: 'server',
      limits: DEFAULT_LIMITS,
      // Time goes on, and with it what a turn of the event loop may do (`work-turns.ts`).
      clock: () => (this.nowMs += 100),
    });
    const request = headerBlock([
      [':method', 'POST'],
      [':scheme', 'http'],
      [':path', '/a'],
      [':authority', 'b'],
    ]);
    this.connection.work(
      Buffer.concat([
        preface,
        settings([INITIAL_WINDOW, windowBytes]),
        frame(frameType.windowUpdate, 0, 0, uint32(4_194_304 - 65_535)),
        ...Array.from({ length: streams }, (_, n) =>
          frame(frameType.headers, Flag.END_HEADERS | Flag.END_STREAM, 2 * n + 1, request),
        ),
      ]),
    );
  }

  onStream(stream: Stream): void {
    this.streams.push(stream);
  }
  onReady(): void {}
  onCapacity(): void {}
  onGoaway(): void {}
  onClosed(): void {}

  private look(): void {
    const bytes = Buffer.concat(this.sink.output);
    this.sink.output = [];
    for (let at = 0; at < bytes.length; ) {
      const next = at + 9 + bytes.readUIntBE(at, 3);
      const id = readUint32(bytes, at + 5);
      if (bytes[at + 3] === FrameType.DATA) this.wire.push({ id, bytes: bytes.subarray(at + 9, next) });
      if (bytes[at + 3] === FrameType.HEADERS && (bytes[at + 4]! & Flag.END_STREAM) !== 0) this.ends.add(id);
      at = next;
    }
  }

  /** The caller receives this part of what is on the wire, and gives back what it has received. */
  receive(part: number): void {
    this.look();
    for (const { id, bytes } of this.wire.splice(0, Math.ceil(this.wire.length * part))) {
      this.received.set(id, Buffer.concat([this.received.get(id) ?? Buffer.alloc(0), bytes]));
      this.unreturned += bytes.length;
    }
    if (this.unreturned < 131_072) return;
    const returned = this.unreturned;
    this.unreturned = 0;
    this.connection.work(frame(frameType.windowUpdate, 0, 0, uint32(returned)));
  }

  /** The caller's application takes this part of what the stream has received. */
  consume(id: number, part: number): void {
    const before = this.consumed.get(id) ?? 0;
    const bytes = Math.floor(((this.received.get(id)?.length ?? 0) - before) * part);
    if (bytes === 0) return;
    this.consumed.set(id, before + bytes);
    this.connection.work(frame(frameType.windowUpdate, 0, id, uint32(bytes)));
  }
}

class Call implements ReturningCall, StreamHandler {
  stream: Stream;
  readonly head = { path: '/a' };
  readonly callerScope = '';
  readonly request = { ended: true };
  resumable: ResumableStream | undefined = undefined;
  lost = false;

  constructor(stream: Stream) {
    this.stream = stream;
    stream.handler = this;
  }
  moveTo(stream: Stream): void {
    this.stream = stream;
    stream.handler = this;
  }
  onMoved(): void {}
  endReturn(): void {}
  onHeaders(): void {}
  onData(_stream: Stream, _buffer: Buffer, start: number, end: number): number {
    return end - start;
  }
  onDataSent(): void {}
  onFailed(_stream: Stream, failure: StreamFailure): void {
    this.lost = failure.kind === 'connection';
  }
}

const step = fc.record({
  stream: fc.nat(4),
  /** The chunks that come at once. */
  sizes: fc.array(fc.oneof(fc.integer({ min: 1, max: 50 }), fc.integer({ min: 1, max: 40_000 })), {
    maxLength: 30,
  }),
  receive: fc.oneof(fc.constant(0), fc.constant(1), fc.double({ min: 0, max: 1, noNaN: true })),
  consume: fc.oneof(fc.constant(0), fc.constant(1), fc.double({ min: 0, max: 1, noNaN: true })),
  ends: fc.nat(40),
});
const plan = fc.record({
  streams: fc.integer({ min: 1, max: 5 }),
  /** Between one loss of the connection and the next. */
  legs: fc.array(fc.array(step, { minLength: 1, maxLength: 25 }), { minLength: 1, maxLength: 3 }),
  windowBytes: fc.constantFrom(65_535, 262_144),
});

t.test('each stream of a lost connection goes on with what its caller has not received', async (t) => {
  let most = 0;
  let resumed = 0;
  let dropped = 0;
  fc.assert(
    fc.property(plan, ({ streams, legs, windowBytes }) => {
      let taken = 0;
      const resumptions = new Resumptions({
        wheel: new TimerWheel(),
        clock: () => 0,
        stats: { reject() {} },
        room: {
          take: (bytes) => {
            taken += bytes;
            return true;
          },
          give: (bytes) => void (taken -= bytes),
        },
        lingerMs: () => 5_000,
        callOf: () => undefined,
      });
      let wire = new Wire(windowBytes, streams);
      const calls = wire.streams.map((stream) => new Call(stream));
      const sent = calls.map(() => Buffer.alloc(0));
      const over = new Set<number>();
      /** Streams whose callers have all of them, as our side knows. */
      const done = new Set<number>();
      /** What the callers have, of all connections. */
      const got = calls.map(() => Buffer.alloc(0));
      for (const call of calls) {
        call.resumable = new ResumableStream(call, resumptions.carrierOf(wire.connection), resumptions);
        const { stream } = call;
        stream.connection.sendHeaders(stream, call.resumable.begin(HEAD), undefined, false);
      }
      for (const [nth, steps] of legs.entries()) {
        for (const { stream: any, sizes, receive, consume, ends } of steps) {
          const n = any % streams;
          const { stream } = calls[n]!;
          beginBatch();
          for (const [at, size] of over.has(n) ? [] : sizes.entries()) {
            const chunk = Buffer.alloc(size + 4, (nth * 31 + at * 7 + sent[n]!.length) % 251);
            // As an app that obeys its window.
            if ((stream.queue?.bytes ?? 0) + size > 262_144) break;
            sent[n] = Buffer.concat([sent[n]!, chunk.subarray(2, -2)]);
            stream.connection.sendData(stream, chunk, 2, size + 2, false);
          }
          if (ends === 0 && !over.has(n)) {
            over.add(n);
            stream.connection.sendHeaders(stream, END, undefined, true);
            calls[n]!.resumable!.onCallEnd();
            if (stream.closed && stream.handler === calls[n])
              throw new Error('an end that is kept keeps its call');
          }
          endBatch();
          wire.receive(receive);
          wire.consume(2 * n + 1, consume);
          most = Math.max(most, taken / streams);
          if (taken > streams * SENT_TAIL_MAX_BYTES) throw new Error(`${taken} bytes for ${streams} streams`);
        }
        const { connection } = wire;
        connection.close(new ConnectionError('network', ErrorCode.NO_ERROR, 'lost', 'connection_lost'));
        for (const [n, call] of calls.entries()) {
          got[n] = Buffer.concat([got[n]!, wire.received.get(2 * n + 1) ?? Buffer.alloc(0)]);
          if (call.resumable!.isOver && !done.has(n)) {
            if (!over.has(n) || !wire.ends.has(2 * n + 1) || !got[n]!.equals(sent[n]!))
              throw new Error(`stream ${n} was dropped, and its caller has not all of it`);
            done.add(n);
            dropped++;
          }
          if (!done.has(n) && !call.resumable!.isCut) resumptions.await(call.resumable!);
        }
        wire = new Wire(windowBytes, streams);
        beginBatch();
        for (const [n, call] of calls.entries()) {
          if (done.has(n)) continue;
          const byte = got[n]!.length;
          if (!call.resumable!.mayResumeAt(byte)) throw new Error(`stream ${n} has not byte ${byte}`);
          for (const [at, name] of call.resumable!.allNames.entries())
            if ((at === 0 ? resumptions.named(name) : resumptions.cameOn(name)) !== call.resumable)
              throw new Error(`stream ${n} is not found by its name`);
          resumptions.goOn(call.resumable!, wire.streams[n]!, byte);
          resumed++;
        }
        endBatch();
      }
      // The rest arrives.
      for (let turn = 0; turn < 200; turn++) {
        wire.receive(1);
        for (const n of calls.keys()) wire.consume(2 * n + 1, 1);
      }
      for (const n of calls.keys()) {
        const all = Buffer.concat([got[n]!, wire.received.get(2 * n + 1) ?? Buffer.alloc(0)]);
        if (!all.equals(sent[n]!))
          throw new Error(`stream ${n} has other bytes: ${all.length} of ${sent[n]!.length}`);
        if (!done.has(n) && wire.ends.has(2 * n + 1) !== over.has(n))
          throw new Error(`stream ${n} has another end`);
      }
      for (const call of calls) call.resumable!.giveUp();
      for (const call of calls)
        for (const name of call.resumable!.allNames)
          if (resumptions.named(name) !== undefined || resumptions.cameOn(name) !== undefined)
            throw new Error('a stream that is over is found');
      return taken === 0 && resumptions.sizes.streams === 0;
    }),
    { numRuns: 60 },
  );
  t.comment(
    `resumed ${resumed} times, dropped ${dropped} that were received, at most ${Math.round(most)} bytes for each stream`,
  );
  t.ok(resumed > 150);
  t.ok(dropped > 0);
  t.ok(most > 200_000, 'memory was used');
});
