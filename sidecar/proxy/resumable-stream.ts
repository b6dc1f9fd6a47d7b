/** An answer whose caller may lose its connection and come back for the rest. */

import { type Arrows, move, type StateOf, statesOf } from '../errors/illegal-step.ts';
import { RUN_HEADER } from '../grpc/hop-fields.ts';
import type { StreamFailure } from '../http2/errors.ts';
import { ErrorCode } from '../http2/frame.ts';
import type { HeaderList } from '../http2/hpack/header-list.ts';
import { parkStream } from '../http2/parked-stream.ts';
import type { SendQueue } from '../http2/send-queue.ts';
import type { Stream, StreamHandler, StreamTap } from '../http2/streams.ts';
import { type Room, SentTail } from './sent-tail.ts';

/** The call whose answer it is. */
export interface ReturningCall {
  readonly stream: Stream;
  readonly head: { readonly path: string };
  readonly callerScope: string;
  readonly request: { readonly ended: boolean };
  /** Its answer goes on over another stream. */
  moveTo(stream: Stream): void;
  /**
   * Bytes that had waited were sent over the new stream.
   *
   * @param againBytes wait there still, and had been sent before
   */
  onMoved(stream: Stream, bytes: number, againBytes: number): void;
  /** Its caller did not come back in time. */
  endReturn(): void;
}

/** Who keeps such streams (`resumptions.ts`). */
export interface Keeper {
  readonly room: Room;
  /** Nothing is left to come back for. */
  forget(stream: ResumableStream): void;
  /** Its call is over, and its caller may not have received the end. */
  keepEnd(stream: ResumableStream): void;
  /** It lost its connection. */
  await(stream: ResumableStream): void;
}

/** `carried`: by a stream of its caller's. `cut`: the caller may come back. `over`: nobody can resume it. */
type Carriage = 'carried' | 'cut' | 'over';

/** The arrows of the drawing at {@link ResumableStream}. */
export const CARRIAGE_ARROWS: Arrows<Carriage> = {
  carried: ['cut', 'over'],
  cut: ['carried', 'over'],
  over: [],
};

const STATE = statesOf(CARRIAGE_ARROWS);

/**
 * What is sent to a caller, over one stream after another:
 *
 *     carried ──its connection is lost──▶ cut ──the caller asks for the rest──▶ carried
 *        │                                 └──tasks.linger──▶ over
 *        └──no room, cancelled, its end was kept for long enough──▶ over
 *
 * It keeps the bytes that the caller's window has not given back, and while it is cut all that waits (`parked-stream.ts`). The
 * call, and the app behind it, see a caller that does not read for a moment.
 */
export class ResumableStream implements StreamTap, StreamHandler {
  /** The name of the run. */
  readonly name: string;
  /** The name of the stream on which the task came; '' before anybody needs it. */
  firstStream = '';
  readonly path: string;
  readonly callerScope: string;
  /** Undefined when it is over. */
  call: ReturningCall | undefined;
  /** Until when it is kept; only its keeper writes these three. */
  untilMs = Number.POSITIVE_INFINITY;
  wasClosed = false;
  endBytes = 0;
  private stream: Stream;
  private readonly keeper: Keeper;
  private readonly tail: SentTail;
  private state: StateOf<Carriage> = STATE.carried;
  private head: HeaderList | undefined = undefined;
  private end: { readonly list: HeaderList; readonly extra: readonly string[] | undefined } | undefined =
    undefined;
  /** What its last connection had not sent. */
  private unsent: SendQueue<Stream> | undefined = undefined;
  /** Of the bytes that wait, those that the tail has already. */
  private againBytes = 0;
  private movedBytes = 0;
  private failure: StreamFailure | undefined = undefined;

  constructor(name: string, call: ReturningCall, keeper: Keeper) {
    this.name = name;
    this.path = call.head.path;
    this.callerScope = call.callerScope;
    this.call = call;
    this.stream = call.stream;
    this.keeper = keeper;
    this.tail = new SentTail(keeper.room);
    this.stream.tap = this;
  }

  get isCut(): boolean {
    return this.state === STATE.cut;
  }

  get isOver(): boolean {
    return this.state === STATE.over;
  }

  /** The stream that carries it, open or not. */
  get carrier(): Stream {
    return this.stream;
  }

  get heldBytes(): number {
    return this.tail.heldBytes;
  }

  /** The head of the answer goes out. @returns the field that names the run */
  begin(list: HeaderList): readonly string[] {
    this.head = list;
    return [RUN_HEADER, this.name];
  }

  // --- What its stream tells -------------------------------------------------------------------------------

  onWritten(stream: Stream, buffer: Buffer, start: number, end: number): void {
    let from = start;
    if (this.againBytes > 0) {
      const again = Math.min(this.againBytes, end - start);
      this.againBytes -= again;
      from += again;
      if (from === end) return;
    }
    const onTheWay = stream.connection.peer.initialWindowBytes - stream.sendWindow;
    if (!this.tail.add(buffer, from, end, onTheWay)) this.giveUp();
  }

  onEnd(list: HeaderList, extra: readonly string[] | undefined): void {
    this.end = { list, extra };
  }

  onUnsent(queue: SendQueue<Stream>): void {
    this.unsent = queue;
  }

  // --- Its call --------------------------------------------------------------------------------------------

  /** The call is over. */
  onCallEnd(): void {
    this.call = undefined;
    if (this.isOver) return;
    if (this.end === undefined) this.giveUp();
    else if (!this.isCut) this.keeper.keepEnd(this);
  }

  /** Nobody can come back for it any more. */
  giveUp(): void {
    if (this.isOver) return;
    const { stream } = this;
    const wasCut = this.isCut;
    this.state = move(this.state, STATE.over);
    stream.tap = undefined;
    this.unsent = undefined;
    this.keeper.forget(this);
    this.tail.drop();
    if (wasCut) stream.connection.reset(stream, ErrorCode.CANCEL);
  }

  // --- A lost connection, and a caller that comes back -----------------------------------------------------

  /** The stream has closed: what follows waits. */
  park(): void {
    const { call, stream, unsent } = this;
    const parked = parkStream(stream, unsent, this.againBytes);
    stream.tap = undefined;
    parked.tap = this;
    this.unsent = undefined;
    this.againBytes = 0;
    this.state = move(this.state, STATE.cut);
    this.stream = parked;
    parked.handler = this;
    call?.moveTo(parked);
  }

  /** We have not noticed that its connection was lost, but its caller asks over another one. */
  parkOpen(): void {
    const { stream } = this;
    stream.connection.reset(stream, ErrorCode.CANCEL);
    this.park();
  }

  /** Whether it has all bytes from this one on, and this one was sent before or is the next one. */
  mayResumeAt(byte: number): boolean {
    return !this.isOver && byte >= this.tail.start && byte <= this.tail.length;
  }

  /** The caller asks for the rest over this stream. */
  resumeOn(stream: Stream, byte: number): void {
    const { call, end, head, stream: parked, tail } = this;
    const { connection } = stream;
    this.state = move(this.state, STATE.carried);
    this.stream = stream;
    this.movedBytes = 0;
    this.failure = undefined;
    // It is the handler while bytes move, because a call that hears of them could send others in between.
    stream.handler = this;
    stream.tap = this;
    if (head !== undefined) connection.sendHeaders(stream, head, [RUN_HEADER, this.name], false);
    const again = tail.length - byte;
    this.againBytes = again;
    let at = byte;
    for (let bytes = tail.read(at); bytes !== undefined; bytes = tail.read(at)) {
      at += bytes.length;
      this.move(stream, bytes, 0, bytes.length);
    }
    for (const piece of parked.queue?.pieces ?? []) this.move(stream, piece.buffer, piece.start, piece.end);
    parked.tap = undefined;
    parked.connection.reset(parked, ErrorCode.CANCEL);
    if (end !== undefined) connection.sendHeaders(stream, end.list, end.extra, true);
    const { failure, movedBytes } = this;
    if (call !== undefined) {
      call.moveTo(stream);
      if (failure === undefined)
        call.onMoved(stream, Math.max(0, movedBytes - again), Math.max(0, again - movedBytes));
    }
    if (failure !== undefined) stream.handler.onFailed(stream, failure);
  }

  private move(stream: Stream, buffer: Buffer, start: number, end: number): void {
    // Don't add in the same statement: bytes that leave the queue are reported within the call.
    const sent = stream.connection.sendData(stream, buffer, start, end, false);
    this.movedBytes += sent;
  }

  // --- The handler of a stream that carries it when its call is over, or while bytes move -------------------

  onHeaders(): void {}

  onData(_stream: Stream, _buffer: Buffer, start: number, end: number): number {
    return end - start;
  }

  onDataSent(_stream: Stream, bytes: number): void {
    this.movedBytes += bytes;
  }

  onFailed(_stream: Stream, failure: StreamFailure): void {
    this.failure = failure;
    if (this.call !== undefined) return;
    if (failure.kind === 'connection' && !this.isOver) this.keeper.await(this);
    else this.giveUp();
  }
}
