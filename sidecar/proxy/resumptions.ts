/** The streams of tasks that their callers may resume: the inbound side. */
import type { TimerWheel } from '../clock/timer-wheel.ts';
import { LinkedList } from '../collections/linked-list.ts';
import { streamsResumeMs } from '../grpc/sidecar-settings.ts';
import type { Stream, StreamConnection } from '../http2/streams.ts';
import { Carrier, type CarrierOwner } from './carrier.ts';
import type { RequestInfo } from './request-info.ts';
import { ResumableStream } from './resumable-stream.ts';
import type { Keeper, ReturningCall } from './returning-call.ts';
import type { Room } from './spare-memory.ts';
import type { StreamName } from './stream-names.ts';
import { StreamsByName } from './streams-by-name.ts';
import { WaitingLine } from './waiting-line.ts';

/** The most ends at a time; older ones make room for younger ones. */
const ENDS_MAX = 1_024;

/** A call that may get such a stream. */
export interface StreamingCall extends ReturningCall {
  readonly info: RequestInfo;
  readonly progress: { readonly isDone: boolean };
  resumable: ResumableStream | undefined;
}

/** What a listener has for callers that come back. */
export interface ResumptionEnvironment {
  readonly wheel: TimerWheel;
  readonly clock: () => number;
  readonly stats: { reject(reason: string): void };
  /** The memory that they share with the answers of tasks. */
  readonly room: Room;
  /** How long a caller has to come back; 0: none may. */
  lingerMs(): number;
  /** The call that came on this stream, while its connection is open. */
  callOf(name: StreamName): StreamingCall | undefined;
}

/**
 * Keeps each stream in one place: its carrier, while a connection carries it, or the line of those that are cut. Ends are in a
 * line of their own besides. A cut run ends when its caller does not come back for `tasks.linger`; an end is kept as long, or
 * until its caller has received it.
 */
export class Resumptions implements Keeper<ResumableStream>, CarrierOwner<ResumableStream>, Room {
  readonly environment: ResumptionEnvironment;
  /** The connections that carry such streams. */
  private readonly carriers = new LinkedList<Carrier<ResumableStream>>();
  private readonly names = new StreamsByName(this.carriers);
  private readonly cut: WaitingLine<ResumableStream>;
  private readonly ended: WaitingLine<ResumableStream>;

  constructor(environment: ResumptionEnvironment) {
    const { wheel } = environment;
    this.environment = environment;
    this.cut = new WaitingLine(wheel, endCut);
    this.ended = new WaitingLine(wheel, (stream) => {
      // Its reader may not have read all of it: its time begins when its stream has closed.
      if (stream.wasClosed) stream.giveUp();
      else this.keepEnd(stream);
    });
  }

  // --- Memory ----------------------------------------------------------------------------------------------

  get room(): Room {
    return this;
  }

  /** Ends give way to streams that run. */
  take(bytes: number): boolean {
    while (!this.environment.room.take(bytes)) {
      const { first } = this.ended;
      if (first === undefined) return false;
      first.giveUp();
    }
    return true;
  }

  give(bytes: number): void {
    this.environment.room.give(bytes);
  }

  // --- Carriers --------------------------------------------------------------------------------------------

  add(carrier: Carrier<ResumableStream>): void {
    this.carriers.add(carrier);
  }

  remove(carrier: Carrier<ResumableStream>): void {
    this.carriers.remove(carrier);
  }

  carrierOf(connection: StreamConnection): Carrier<ResumableStream> {
    const { tap } = connection.writer;
    return tap instanceof Carrier ? tap : new Carrier(connection, this);
  }

  // --- Streams ---------------------------------------------------------------------------------------------

  /** The calls whose callers are away. */
  *away(): Generator<ReturningCall> {
    for (const { call } of this.cut) if (call !== undefined) yield call;
  }

  /** All streams. */
  private *all(): Generator<ResumableStream> {
    yield* this.cut;
    for (let carrier = this.carriers.oldest; carrier !== undefined; carrier = carrier.newer)
      yield* carrier.carried();
  }

  /** The stream of this run. */
  named(name: StreamName): ResumableStream | undefined {
    return this.names.named(name);
  }

  /** The stream of the task that came on this one, whose connection we may still take for open. */
  cameOn(name: StreamName): ResumableStream | undefined {
    const found = this.names.cameOn(name);
    if (found !== undefined) return found;
    const call = this.environment.callOf(name);
    if (call === undefined || call.progress.isDone || !call.request.ended) return undefined;
    call.resumable ??= this.begin(call);
    return call.resumable;
  }

  /** The numbers of what is kept. */
  get sizes() {
    let streams = 0;
    for (const _ of this.all()) streams++;
    let endedBytes = 0;
    for (const { sent } of this.ended) endedBytes += sent.heldBytes;
    return { streams, cut: this.cut.size, ended: this.ended.size, endedBytes };
  }

  /** Names the run of a call whose caller resumes streams. */
  begin(call: StreamingCall): ResumableStream | undefined {
    const { info, stream } = call;
    if (info.kind !== 'task_stream' || streamsResumeMs(stream.connection.peer) === 0) return undefined;
    if (this.environment.lingerMs() <= 0) return undefined;
    return new ResumableStream(call, this.carrierOf(stream.connection), this);
  }

  /** The call's connection was lost. @returns whether its caller may come back for the rest */
  awaitCaller(call: StreamingCall): boolean {
    // A request that did not arrive completely can't be continued.
    if (!call.request.ended) return false;
    if (!call.progress.isDone) call.resumable ??= this.begin(call);
    const { resumable } = call;
    if (resumable === undefined || resumable.isOver) return false;
    this.await(resumable);
    return resumable.isCut;
  }

  await(stream: ResumableStream): void {
    stream.park();
    if (!stream.isCut) return;
    this.names.add(stream);
    this.waitIn(this.cut, stream, this.environment.lingerMs());
  }

  keepEnd(stream: ResumableStream): void {
    stream.wasClosed = stream.isClosed;
    if (stream.wasClosed) stream.endWritten();
    this.waitIn(this.ended, stream, Math.max(this.environment.lingerMs(), 1));
    if (this.ended.size > ENDS_MAX) this.ended.first!.giveUp();
  }

  private waitIn(line: WaitingLine<ResumableStream>, stream: ResumableStream, ms: number): void {
    stream.place?.leave();
    stream.place = line.add(stream, this.environment.clock() + ms);
  }

  forget(stream: ResumableStream): void {
    stream.place?.leave();
    this.names.remove(stream);
  }

  /** The caller asks for the rest over this stream. */
  goOn(found: ResumableStream, stream: Stream, byte: number): void {
    if (!found.isCut) {
      found.parkOpen();
      if (found.isCut) this.names.add(found);
    }
    found.place?.leave();
    found.resumeOn(stream, this.carrierOf(stream.connection), byte);
    if (found.call === undefined && !found.isOver && !found.isCut) this.keepEnd(found);
  }

  /** The listener closes: no caller can come back. */
  stop(): void {
    this.cut.stop();
    this.ended.stop();
    for (const stream of this.cut) endCut(stream);
    for (const stream of this.ended) stream.giveUp();
  }
}

/** The caller did not come back. */
function endCut(stream: ResumableStream): void {
  const { call } = stream;
  stream.giveUp();
  call?.endReturn();
}
