// `node bench/single/journal.ts [REQUESTS]`: what the journal adds to a model request that has no record: the same requests through
// three sidecars, in turns: without a journal, with one in a file, and with one on NATS; and how long a replay takes.
import { mkdtempSync, rmSync } from 'node:fs';
import { Agent, request as httpRequest } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as grpc from '@grpc/grpc-js';
import { sendJson, startLlmProvider } from '../../scripts/harness/llm/provider.ts';
import { RawClient, startRawServer } from '../../scripts/harness/raw-grpc.ts';
import { type Sidecar, startSidecar } from '../../scripts/harness/sidecar.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { startNats } from '../../sidecar/bus/nats/test-support/nats-server.ts';
import { stringField } from '../../sidecar/task/protobuf.ts';
import { PROCESS_TASK_PATH } from '../../sidecar/task/task-message.ts';

const REQUESTS = Number(process.argv[2] ?? 1_500);
const WARM_UP = 100;
const PROMPT = 'word '.repeat(400);
const ANSWER = 'word '.repeat(200);

const ends: (() => unknown)[] = [];
const owner = { teardown: (end: () => unknown) => void ends.unshift(end) };

/** A sidecar whose agent works on one task, for which the requests are. */
class Subject {
  readonly name: string;
  readonly asked: number[] = [];
  readonly replayed: number[] = [];
  private readonly sidecar: Sidecar;
  private readonly caller: RawClient;
  private readonly agent = new Agent({ keepAlive: true, maxSockets: 1 });
  private held: grpc.sendUnaryData<Buffer>[] = [];

  private constructor(name: string, sidecar: Sidecar, held: grpc.sendUnaryData<Buffer>[]) {
    this.name = name;
    this.sidecar = sidecar;
    this.held = held;
    this.caller = new RawClient(owner, sidecar.inboundPort);
  }

  static async start(name: string, url: string, more: Record<string, unknown>): Promise<Subject> {
    const held: grpc.sendUnaryData<Buffer>[] = [];
    const app = await startRawServer(
      owner,
      { unary: (_call, callback) => void held.push(callback) },
      { unaryPath: PROCESS_TASK_PATH },
    );
    const config = { inbound: { app: app.address }, llm: { upstreams: [{ name: 'one', url }] }, ...more };
    return new Subject(name, await startSidecar(owner, config, { until: 'live' }), held);
  }

  /** Begins a run of the task. */
  async begin(): Promise<void> {
    const before = this.held.length;
    void this.caller.unary(stringField(1, 'bench'), { path: PROCESS_TASK_PATH });
    await waitUntil('the task has begun', () => this.held.length > before);
  }

  /** The agent gives up, and the task may run again. */
  async lose(): Promise<void> {
    this.held.at(-1)!({ code: grpc.status.UNAVAILABLE, details: 'lost' });
    await new Promise((resolve) => setTimeout(resolve, 200));
  }

  ask(number: number): Promise<{ readonly ms: number; readonly isReplayed: boolean }> {
    const body = JSON.stringify({ model: 'm', messages: [{ role: 'user', content: `${number} ${PROMPT}` }] });
    const startedMs = performance.now();
    return new Promise((resolve, reject) => {
      const request = httpRequest(
        {
          port: this.sidecar.llmPort,
          host: '127.0.0.1',
          path: '/v1/chat/completions',
          method: 'POST',
          agent: this.agent,
          headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
        },
        (response) => {
          response.resume();
          response.on('end', () =>
            resolve({
              ms: performance.now() - startedMs,
              isReplayed: response.headers['outrigger-journal'] === 'replayed',
            }),
          );
        },
      );
      request.on('error', reject);
      request.end(body);
    });
  }
}

const at = (times: readonly number[], part: number): number =>
  [...times].sort((one, other) => one - other)[Math.floor(times.length * part)] ?? Number.NaN;
const shown = (times: readonly number[]): string =>
  `p50 ${at(times, 0.5).toFixed(3)} ms, p95 ${at(times, 0.95).toFixed(3)} ms, p99 ${at(times, 0.99).toFixed(3)} ms`;

try {
  const provider = await startLlmProvider();
  owner.teardown(() => provider.close());
  const url = provider.script('bench', (_request, response) =>
    sendJson(response, 200, { choices: [{ index: 0, message: { content: ANSWER }, finish_reason: 'stop' }] }),
  );
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-journal-'));
  owner.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const nats = await startNats(owner);
  const subjects = [
    await Subject.start('without', url, {}),
    await Subject.start('file', url, { journal: { store: `file:${join(folder, 'journal.db')}` } }),
    await Subject.start('NATS', url, { bus: { url: `nats://${nats.address}` }, journal: { store: 'bus' } }),
  ];
  for (const subject of subjects) await subject.begin();
  for (let number = 0; number < WARM_UP + REQUESTS; number++)
    for (const subject of subjects) {
      const { ms } = await subject.ask(number);
      if (number >= WARM_UP) subject.asked.push(ms);
    }
  for (const subject of subjects.slice(1)) {
    await subject.lose();
    await subject.begin();
    for (let number = WARM_UP; number < WARM_UP + REQUESTS; number++) {
      const { ms, isReplayed } = await subject.ask(number);
      if (isReplayed) subject.replayed.push(ms);
    }
  }
  const [without] = subjects;
  for (const { name, asked, replayed } of subjects) {
    const added = at(asked, 0.5) - at(without!.asked, 0.5);
    console.log(
      `${name}: ${shown(asked)}${name === 'without' ? '' : `; adds ${added.toFixed(3)} ms at the median`}`,
    );
    if (replayed.length > 0)
      console.log(`${name}: ${replayed.length} of ${REQUESTS} replayed: ${shown(replayed)}`);
  }
} finally {
  for (const end of ends) await end();
}
