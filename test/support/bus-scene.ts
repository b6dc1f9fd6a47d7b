// Callers of a cluster whose calls become tasks, and a consumer that answers by hand.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type * as grpc from '@grpc/grpc-js';
import type { Test } from 'tap';
import { type DataPlane, startDataPlane } from '../../scripts/harness/data-plane.ts';
import { RawClient } from '../../scripts/harness/raw-grpc.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { STREAM_PROCESS_PATH } from '../../sidecar/task/task-message.ts';
import { HandConsumer, type TakenTask } from './hand-consumer.ts';

export interface Scene {
  readonly url: string;
  readonly plane: DataPlane;
  readonly client: RawClient;
  readonly consumer: HandConsumer;
}

/** On a file of its own, unless `bus` has a `url`. */
export async function startScene(
  t: Test,
  bus: { readonly url?: string; readonly [key: string]: unknown } = {},
  more: Record<string, object | string> = {},
): Promise<Scene> {
  const { url = fileBus(t) } = bus;
  const plane = await startDataPlane(t, {
    bus: { ...bus, url },
    ...more,
    outbound: { clusters: { research: { bus: 'research' } }, ...(more['outbound'] as object | undefined) },
  });
  const client = new RawClient(t, plane.outboundPort, { 'grpc.default_authority': 'research' });
  return { url, plane, client, consumer: await HandConsumer.open(t, { ...bus, url }) };
}

function fileBus(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-bus-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return `file:${join(folder, 'tasks.db')}`;
}

/** One call of a stream. */
export class StreamCall {
  readonly chunks: string[] = [];
  readonly call: grpc.ClientReadableStream<Buffer>;
  readonly status: Promise<grpc.StatusObject>;

  constructor({ client }: Pick<Scene, 'client'>, request: Buffer, options: grpc.CallOptions = {}) {
    this.call = client.serverStream(request, { path: STREAM_PROCESS_PATH, ...options });
    this.call.on('data', (chunk: Buffer) => this.chunks.push(chunk.toString()));
    this.call.on('error', () => {});
    this.status = new Promise((resolve) => this.call.on('status', resolve));
  }

  async has(count: number): Promise<void> {
    await waitUntil(`${count} chunks`, () => this.chunks.length === count);
  }
}

export const reasonOf = ({ metadata }: grpc.StatusObject): unknown => metadata.get('outrigger-reason')[0];

export async function stateOf({ consumer }: Scene, { lease }: TakenTask): Promise<string | undefined> {
  return (await consumer.log.get(lease.record.key))?.state;
}

export async function queuedIn({ consumer }: Scene): Promise<number> {
  return (await consumer.log.status())[0]?.queued ?? 0;
}

export async function becomes(scene: Scene, task: TakenTask, state: string): Promise<void> {
  await waitUntil(`the task is ${state}`, async () => (await stateOf(scene, task)) === state);
}
