/** An answer whose caller may lose its connection and come back for the rest. */
import { ListNode } from '../collections/linked-list.ts';
import { type Arrows, move, type StateOf, statesOf } from '../errors/illegal-step.ts';
import { RUN_HEADER } from '../grpc/hop-fields.ts';
import type { StreamFailure } from '../http2/errors.ts';
import { ErrorCode } from '../http2/frame.ts';
import type { HeaderList } from '../http2/hpack/header-list.ts';
import { parkStream } from '../http2/parked-stream.ts';
import type { SendQueue } from '../http2/send-queue.ts';
import type { Stream, StreamHandler, StreamTap } from '../http2/streams.ts';
import type { CarriedStream, Carrier, ConnectionNames } from './carrier.ts';
import type { Keeper, ReturningCall } from './returning-call.ts';
import { SentBytes } from './sent-bytes.ts';
import { StreamMove } from './stream-move.ts';
import { runName, type StreamName } from './stream-names.ts';
import type { LinePlace } from './waiting-line.ts';

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
 *        └──no room, cancelled, its end was received, or kept for long enough──▶ over
 *
 * While it is carried, its connection keeps what it has sent (`carrier.ts`). When it is cut, it has the last bytes itself, and
 * all that waits (`parked-stream.ts`). The call, and the app behind it, see a caller that does not read for a moment.
 */
export class ResumableStream
  extends ListNode<ResumableStream>
  implements CarriedStream<ResumableStream>, StreamTap, StreamHandler
{
  readonly path: string;
  readonly callerScope: string;
  /** Undefined when it is over. */
  call: ReturningCall | undefined;
  /** In the line of those whose end is kept, or who are cut; only its keeper writes both. */
  place: LinePlace<ResumableStream> | undefined = undefined;
  wasClosed = false;
  endAtBytes = -1;
  /** The connection and the stream that carried it first: they name it. */
  private readonly names: ConnectionNames;
  private readonly firstId: number;
  /** What it has sent. Its carrier tells it more. */
  readonly sent: SentBytes;
  private readonly keeper: Keeper<ResumableStream>;
  private state: StateOf<Carriage> = STATE.carried;
  private stream: Stream;
  /** Of the stream; the connection of one that is cut is no carrier any more. */
  private carrier: Carrier<ResumableStream>;
  private head: HeaderList | undefined = undefined;
  private endList: HeaderList | undefined = undefined;
  private endExtra: readonly string[] | undefined = undefined;
  /** What its last connection had not sent. */
  private unsent: SendQueue<Stream> | undefined = undefined;

  constructor(call: ReturningCall, carrier: Carrier<ResumableStream>, keeper: Keeper<ResumableStream>) {
    super();
    const { stream } = call;
    this.names = carrier.names;
    this.firstId = stream.id;
    this.path = call.head.path;
    this.callerScope = call.callerScope;
    this.call = call;
    this.stream = stream;
    this.carrier = carrier;
    this.keeper = keeper;
    this.sent = new SentBytes(stream, keeper.room);
    stream.tap = this;
    carrier.add(this);
  }

  get isCut(): boolean {
    return this.state === STATE.cut;
  }

  get isOver(): boolean {
    return this.state === STATE.over;
  }

  /** The stream that carries it has closed. */
  get isClosed(): boolean {
    return this.stream.closed;
  }

  /** The name of the run, and that of the stream on which the caller has sent its task. */
  get allNames(): readonly StreamName[] {
    const { names, firstId: id } = this;
    return [
      { connection: names.ours, id },
      { connection: names.callers, id },
    ];
  }

  /** Whether the run has this name. */
  isNamed({ connection, id }: StreamName): boolean {
    return id === this.firstId && connection === this.names.ours;
  }

  /** Whether the caller has sent its task on this stream. */
  cameOn({ connection, id }: StreamName): boolean {
    return id === this.firstId && connection === this.names.callers;
  }

  /** The head of the answer goes out. @returns it with the name of the run */
  begin(list: HeaderList): HeaderList {
    this.head = list;
    return this.carrier.named(list);
  }

  // --- What its stream tells -------------------------------------------------------------------------------

  onEnd(list: HeaderList, extra: readonly string[] | undefined): void {
    this.endList = list;
    this.endExtra = extra;
  }

  onUnsent(queue: SendQueue<Stream>): void {
    this.unsent = queue;
  }

  /** The number of its stream on its present connection. */
  get streamId(): number {
    return this.stream.id;
  }

  // --- Its call --------------------------------------------------------------------------------------------

  /** The call is over. */
  onCallEnd(): void {
    if (this.call === undefined) return;
    this.call = undefined;
    // Otherwise the end that is kept would keep all of the call.
    if (this.stream.closed) this.stream.handler = this;
    if (this.isOver) return;
    if (this.endList === undefined) this.giveUp();
    else if (!this.isCut) this.keeper.keepEnd(this);
  }

  /** Its stream has closed in order. */
  endWritten(): void {
    this.carrier.end(this);
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
    if (wasCut) stream.connection.reset(stream, ErrorCode.CANCEL);
    else this.carrier.remove(this);
    this.sent.drop();
  }

  // --- A lost connection, and a caller that comes back -----------------------------------------------------

  /** The stream has closed: what follows waits. */
  park(): void {
    const { call, carrier, stream, unsent } = this;
    carrier.settle();
    // There may be no room for what it has sent.
    if (this.isOver) return;
    carrier.remove(this);
    const parked = parkStream(stream, unsent, this.sent.againBytes);
    stream.tap = undefined;
    parked.tap = this;
    this.unsent = undefined;
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
    if (this.state === STATE.carried) this.carrier.settle();
    return !this.isOver && this.sent.has(byte);
  }

  /** The caller asks for the rest over this stream. */
  resumeOn(stream: Stream, carrier: Carrier<ResumableStream>, byte: number): void {
    const { call, endList, head, stream: parked } = this;
    const { connection } = stream;
    this.state = move(this.state, STATE.carried);
    this.stream = stream;
    this.carrier = carrier;
    const moved = new StreamMove(stream);
    this.sent.moveTo(stream, byte);
    carrier.add(this);
    stream.tap = this;
    if (head !== undefined)
      connection.sendHeaders(stream, head, [RUN_HEADER, runName(this.names.ours, this.firstId)], false);
    let againBytes = 0;
    for (const bytes of this.sent.from(byte)) {
      againBytes += bytes.length;
      moved.send(bytes, 0, bytes.length);
    }
    for (const { buffer, start, end } of parked.queue?.pieces ?? []) moved.send(buffer, start, end);
    parked.tap = undefined;
    parked.connection.reset(parked, ErrorCode.CANCEL);
    if (endList !== undefined) connection.sendHeaders(stream, endList, this.endExtra, true);
    const { failure, sentBytes } = moved;
    stream.handler = this;
    if (call !== undefined) {
      call.moveTo(stream);
      if (failure === undefined)
        call.onMoved(stream, Math.max(0, sentBytes - againBytes), Math.max(0, againBytes - sentBytes));
    }
    if (failure !== undefined) stream.handler.onFailed(stream, failure);
  }

  // --- The handler of a stream that carries it when its call is over, or of a parked one --------------------

  onHeaders(): void {}

  onData(_stream: Stream, _buffer: Buffer, start: number, end: number): number {
    return end - start;
  }

  onDataSent(): void {}

  onFailed(_stream: Stream, failure: StreamFailure): void {
    if (this.call !== undefined) return;
    if (failure.kind === 'connection' && !this.isOver) this.keeper.await(this);
    else this.giveUp();
  }
}
