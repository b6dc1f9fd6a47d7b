// Two sidecars with a wire between them that breaks at any byte of a task's stream, and what its caller must get.
import { createHash } from 'node:crypto';
import type { ServerHttp2Stream } from 'node:http2';
import type { Test } from 'tap';
import { type DataPlane, oneCluster, startDataPlane } from '../../scripts/harness/data-plane.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { STREAM_PROCESS_PATH } from '../../sidecar/task/task-message.ts';
import { startReplica } from '../support/answers.ts';
import { type Cut, type Cutter, startCutter } from '../support/cutter.ts';
import { type CallerStream, TaskCaller, type TaskOptions } from '../support/task-caller.ts';
import { grpcFrame, type SeenCall } from '../support/upstream.ts';

/** A stream of this many chunks, each of another length. */
const CHUNKS = 200;

function chunks(count = CHUNKS): Buffer[] {
  return Array.from({ length: count }, (_, nth) =>
    grpcFrame(
      createHash('sha256')
        .update(`${nth}`)
        .digest('hex')
        .slice(0, 4 + (nth % 21)),
    ),
  );
}

export interface Scene {
  readonly cutter: Cutter;
  readonly ours: DataPlane;
  readonly theirs: DataPlane;
  readonly caller: TaskCaller;
  /** How often the app has run a task. */
  readonly runs: () => number;
  readonly appAddress: string;
  /** The app's side of its calls. */
  readonly appCalls: readonly SeenCall[];
  /** What became of cut streams, as `outrigger_streams_resumed_total` has it. */
  readonly resumed: (outcome: string) => number;
  /** The whole of a stream, as it arrives without a cut. */
  readonly body: Buffer;
  /** Sends a task over the open connection, which is cut there. */
  ask(cut: Cut | undefined, options?: TaskOptions): Promise<CallerStream>;
}

type Section = Record<string, unknown>;

/** @param write sends the answer's body, and ends the stream */
export async function startScene(
  t: Pick<Test, 'teardown'>,
  {
    body = chunks(),
    write = writeChunks,
    cluster = {},
    tasks = {},
    inbound = {},
    tls = undefined,
    head = {},
    endpoints = [],
  }: {
    body?: readonly Buffer[];
    write?: (stream: ServerHttp2Stream, body: readonly Buffer[]) => void;
    cluster?: Section;
    tasks?: Section;
    inbound?: Section;
    tls?: Section | undefined;
    /** Of the answer, beside the usual fields. */
    head?: Readonly<Record<string, string>>;
    /** Before the one that is cut. */
    endpoints?: readonly string[];
  } = {},
): Promise<Scene> {
  const app = await startReplica(t, (stream) => {
    const usual = { ':status': 200, 'content-type': 'application/grpc', 'x-head': 'h', date: 'today' };
    stream.respond({ ...usual, ...head }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0', 'x-cost': '7' }));
    write(stream, body);
  });
  const theirs = await startDataPlane(t, {
    name: 'agent',
    inbound: { app: app.address, tasks, ...inbound, ...(tls && { tls }) },
  });
  const cutter = await startCutter(t, theirs.inboundPort);
  const retry = { max_attempts: 5, backoff: { base: '1ms', max: '2ms' }, budget: { min_concurrent: 100 } };
  const ours = await startDataPlane(t, {
    name: 'caller',
    ...oneCluster([...endpoints, cutter.address], { retry, ...cluster }),
  });
  const caller = await TaskCaller.connect(t, ours.outboundPort);
  const { clusters } = ours.sidecar.outbound.clusters;
  return {
    cutter,
    ours,
    theirs,
    caller,
    runs: () => app.calls.length,
    appAddress: app.address,
    appCalls: app.calls,
    resumed: (outcome) =>
      [...clusters.values()].reduce((sum, { streamsResumed }) => sum + (streamsResumed.get(outcome) ?? 0), 0),
    body: Buffer.concat(body),
    ask: async (cut, options = {}) => {
      // A cut behind the end of a stream leaves no call that would open another one.
      for (const { endpoints } of clusters.values()) for (const { pool } of endpoints) pool.warm();
      await waitUntil('there is a connection', () => cutter.open > 0 || cutter.cuts === 0);
      if (cut !== undefined) cutter.arm(cut);
      const call = await caller.send({ path: STREAM_PROCESS_PATH, ...options });
      return call.ended();
    },
  };
}

/** Each chunk in a frame of its own, two in each turn of the event loop. */
function writeChunks(stream: ServerHttp2Stream, body: readonly Buffer[]): void {
  let at = 0;
  const go = (): void => {
    for (let n = 0; n < 2 && at < body.length; n++) stream.write(body[at++]!);
    if (at < body.length) setImmediate(go);
    else stream.end();
  };
  go();
}

/** As fast as the other side reads, and no faster. */
export function writeSlowly(stream: ServerHttp2Stream, body: readonly Buffer[]): void {
  let at = 0;
  const go = (): void => {
    while (at < body.length) if (!stream.write(body[at++]!)) return void stream.once('drain', go);
    stream.end();
  };
  go();
}

/** What is wrong with a stream that was cut; undefined if it is as one that was not. */
export function faultOf(
  scene: Scene,
  whole: CallerStream,
  call: CallerStream,
  runs: number,
): string | undefined {
  if (call.status !== 0) return `status ${call.status} ${call.reason}: ${call.field('grpc-message')}`;
  if (!call.body.equals(scene.body)) return `${call.body.length} bytes, not those ${scene.body.length}`;
  if (JSON.stringify(call.answer.heads) !== JSON.stringify(whole.answer.heads))
    return `other fields: ${JSON.stringify(call.heads)}`;
  return runs === 1 ? undefined : `the app ran ${runs} times`;
}
