// One connection of the generator: makes calls and holds each answer to its status and its length.
import type { Socket } from 'node:net';
import { Flag } from '../../sidecar/http2/frame.ts';
import { HpackDecoder } from '../../sidecar/http2/hpack/decoder.ts';
import type { HeaderList } from '../../sidecar/http2/hpack/header-list.ts';
import { BodyQueue } from './body-queue.ts';
import { type FrameHandler, FrameSocket } from './frame-socket.ts';
import { type BlockOptions, RequestBlocks } from './request-blocks.ts';
import { nextId } from './task-message.ts';

interface Call {
  /** When it was sent, in milliseconds. */
  startedMs: number;
  bytes: number;
}

export interface CallerEvents {
  onReady(caller: Caller): void;
  /** A call has ended; `failure` describes the fault of its answer. */
  onEnd(caller: Caller, startedMs: number, failure: string | undefined): void;
  /** A call's first bytes have come. */
  onFirstBytes(): void;
  onBytes(bytes: number): void;
  /** The connection is of no use any more. */
  onBroken(why: string): void;
}

export class Caller implements FrameHandler {
  private readonly frames: FrameSocket;
  private readonly blocks: RequestBlocks;
  private readonly message: Buffer;
  private readonly hasId: boolean;
  private readonly answerBytes: number;
  private readonly events: CallerEvents;
  private readonly decoder = new HpackDecoder({ maxTableBytes: 4096, maxListBytes: 65_536 });
  private readonly calls = new Map<number, Call>();
  private readonly bodies: BodyQueue;
  /** Used again, so that a call costs no garbage. */
  private readonly spare: Call[] = [];
  private nextStream = 1;
  private ready = false;
  /** Trailers that said OK: a list that repeats is the same object. */
  private goodTrailers: HeaderList | undefined;

  constructor(
    socket: Socket,
    message: Buffer,
    answerBytes: number,
    blocks: BlockOptions & { withoutIds?: boolean },
    events: CallerEvents,
  ) {
    this.message = message;
    this.hasId = blocks.withoutIds !== true;
    this.answerBytes = answerBytes;
    this.events = events;
    this.blocks = new RequestBlocks(blocks);
    this.frames = new FrameSocket(socket, this, 'client', 100);
    this.bodies = new BodyQueue(this.frames);
    socket.on('drain', () => {
      this.bodies.continue();
      this.flush();
    });
  }

  get open(): number {
    return this.calls.size;
  }

  get maxStreams(): number {
    return this.frames.maxStreams;
  }

  read(chunk: Buffer): void {
    this.frames.read(chunk);
  }

  flush(): void {
    this.frames.flush();
  }

  /** Makes a call; `flush` sends it. */
  call(nowMs: number): void {
    const stream = this.nextStream;
    this.nextStream += 2;
    const call = this.spare.pop() ?? { startedMs: 0, bytes: 0 };
    call.startedMs = nowMs;
    call.bytes = 0;
    this.calls.set(stream, call);
    const length = this.blocks.next();
    this.frames.headers(stream, 0, this.blocks.block, length);
    if (this.hasId) nextId(this.message);
    this.bodies.send(stream, this.message, Flag.END_STREAM);
  }

  onSettings(): void {
    if (this.ready) return;
    this.ready = true;
    if (!this.frames.hasTable)
      this.events.onBroken('the peer has no HPACK dynamic table, which these calls use');
    this.events.onReady(this);
  }

  onHeaders(stream: number, flags: number, buffer: Buffer, start: number, end: number): void {
    const list = this.decoder.decode(buffer, start, end);
    if (list === undefined) {
      this.events.onBroken(`invalid header block: ${this.decoder.error}`);
      return;
    }
    if ((flags & Flag.END_STREAM) === 0) {
      if (list.get(':status') !== '200') this.end(stream, `:status ${list.get(':status')}`);
      return;
    }
    if (list === this.goodTrailers || list.get('grpc-status') === '0') {
      if (list.shared) this.goodTrailers = list;
      this.end(stream, undefined);
      return;
    }
    const reason = list.get('outrigger-reason');
    this.end(
      stream,
      `grpc-status ${list.get('grpc-status')} ${list.get('grpc-message')}${reason === undefined ? '' : ` (${reason})`}`,
    );
  }

  onData(stream: number, flags: number, _buffer: Buffer, start: number, end: number): void {
    const call = this.calls.get(stream);
    if (call === undefined) return;
    if (call.bytes === 0) this.events.onFirstBytes();
    call.bytes += end - start;
    this.events.onBytes(end - start);
    if ((flags & Flag.END_STREAM) !== 0) this.end(stream, 'ended without trailers');
  }

  onWindow(stream: number, bytes: number): void {
    this.bodies.onWindow(stream, bytes);
  }

  onReset(stream: number, errorCode: number): void {
    this.end(stream, `reset with ${errorCode}`);
  }

  onGoAway(errorCode: number): void {
    this.events.onBroken(`GOAWAY with ${errorCode}`);
  }

  private end(stream: number, failure: string | undefined): void {
    const call = this.calls.get(stream);
    if (call === undefined) return;
    this.calls.delete(stream);
    const short =
      failure === undefined && call.bytes !== this.answerBytes
        ? `${call.bytes} bytes instead of ${this.answerBytes}`
        : failure;
    const { startedMs } = call;
    this.spare.push(call);
    this.events.onEnd(this, startedMs, short);
  }
}
