// A caller of tasks whose every frame is the test's own: what it gets is kept byte for byte.
import type { Test } from 'tap';
import {
  errorCode,
  frameType,
  grpcRequest,
  H2Peer,
  settings as h2Settings,
  preface,
} from '../../scripts/harness/h2-peer.ts';
import { PROCESS_TASK_PATH } from '../../sidecar/task/task-message.ts';
import { grpcFrame, taskRequest } from './upstream.ts';

const INITIAL_WINDOW_SIZE = 4;
const LARGE_WINDOW_BYTES = 100_000_000;

export interface TaskOptions {
  id?: string;
  input?: string;
  path?: string;
  /** All of the request, with gRPC's prefix, in place of a task made of `id` and `input`. */
  body?: Buffer;
  /** Whom it is for. */
  to?: string;
  fields?: readonly (readonly [string, string])[];
  /** END_STREAM in a frame of its own, as many libraries send it. */
  endApart?: boolean;
}

/** One call, as its caller sees it. */
export class CallerStream {
  readonly caller: TaskCaller;
  readonly id: number;
  readonly parts: Buffer[] = [];
  /** When each of them arrived, by `performance.now()`. */
  readonly arrivedAtMs: number[] = [];

  constructor(caller: TaskCaller, id: number) {
    this.caller = caller;
    this.id = id;
  }

  get body(): Buffer {
    return Buffer.concat(this.parts);
  }

  /** What was said in HEADERS frames: the head and the trailers, or the only one. */
  get heads(): [string, string][][] {
    return this.caller.peer.heads.get(this.id) ?? [];
  }

  /** Of the last HEADERS frame. */
  field(name: string): string | undefined {
    return this.caller.peer.field(this.id, name);
  }

  get status(): number {
    return Number(this.field('grpc-status') ?? -1);
  }

  /** `joined`, `replayed`, or undefined. */
  get deduplicated(): string | undefined {
    return this.field('outrigger-deduplicated');
  }

  get reason(): string | undefined {
    return this.field('outrigger-reason');
  }

  get over(): boolean {
    const { peer } = this.caller;
    return peer.ended.has(this.id) || peer.resets.has(this.id) || peer.closed;
  }

  async ended(): Promise<this> {
    await this.caller.peer.until(`call ${this.id} ended`, () => this.over);
    return this;
  }

  async hasBytes(count: number): Promise<this> {
    await this.caller.peer.until(`${count} bytes came`, () => this.body.length >= count);
    return this;
  }

  cancel(): Promise<void> {
    return this.caller.peer.reset(this.id, errorCode.cancel);
  }

  /** All but what says that it is an answer to another call. */
  get answer(): { heads: [string, string][][]; body: string } {
    const own = ([name]: [string, string]): boolean => name !== 'outrigger-deduplicated';
    return { heads: this.heads.map((fields) => fields.filter(own)), body: this.body.toString('base64') };
  }
}

/** A connection of its own. */
export class TaskCaller {
  readonly peer: H2Peer;
  private readonly calls = new Map<number, CallerStream>();
  private nextId = 1;

  private constructor(peer: H2Peer, reads: boolean) {
    this.peer = peer;
    peer.behave({ reads });
    const behaved = peer.onFrame!;
    peer.onFrame = (received) => {
      behaved(received);
      if (received.type !== frameType.data) return;
      const call = this.calls.get(received.streamId);
      call?.parts.push(Buffer.from(received.payload));
      call?.arrivedAtMs.push(performance.now());
    };
  }

  /** `reads`: it takes all that comes; otherwise no more than the 65,535 bytes of HTTP/2's first window. */
  static async connect(t: Pick<Test, 'teardown'>, port: number, { reads = true } = {}): Promise<TaskCaller> {
    const first = reads ? h2Settings([INITIAL_WINDOW_SIZE, LARGE_WINDOW_BYTES]) : h2Settings();
    const caller = new TaskCaller(await H2Peer.connect(t, port, Buffer.concat([preface, first])), reads);
    if (reads) await caller.peer.windowUpdate(0, LARGE_WINDOW_BYTES);
    return caller;
  }

  async send({
    id = 'task',
    input = 'question',
    path = PROCESS_TASK_PATH,
    body = grpcFrame(taskRequest({ id, input })),
    to = 'upstream',
    fields = [],
    endApart = false,
  }: TaskOptions = {}): Promise<CallerStream> {
    const call = new CallerStream(this, this.nextId);
    this.nextId += 2;
    this.calls.set(call.id, call);
    const head = grpcRequest(path, ...fields).map(([name, value]): [string, string] =>
      name === ':authority' ? [name, to] : [name, value],
    );
    await this.peer.headers(call.id, head);
    // A frame holds 16,384 bytes.
    for (let at = 0; at < body.length; at += 16_384)
      await this.peer.data(call.id, body.subarray(at, at + 16_384), !endApart && at + 16_384 >= body.length);
    if (endApart || body.length === 0) await this.peer.data(call.id, Buffer.alloc(0), true);
    return call;
  }

  /** Sends a task and waits for its end. */
  async ask(options?: TaskOptions): Promise<CallerStream> {
    return (await this.send(options)).ended();
  }

  /** Its connection is lost. */
  vanish(): void {
    this.peer.socket.destroy();
  }

  /** Reads on a call, of one that did not. */
  async read(call: CallerStream, bytes: number): Promise<void> {
    await this.peer.windowUpdate(0, bytes);
    await this.peer.windowUpdate(call.id, bytes);
  }
}
