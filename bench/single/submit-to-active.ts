// `node bench/single/submit-to-active.ts [ROUNDS]`: the time from a task's submit to the message that starts a replica: a publisher's
// process of its own stores a task on JetStream, `outrigger scaler` hears of it, asks how many tasks there are, and tells KEDA's stream.
// Between the rounds the task is done, and the stream has said so.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as grpc from '@grpc/grpc-js';
import { freePort } from '../../scripts/harness/free-port.ts';
import { DEFAULT_LOG_SETTINGS } from '../../scripts/harness/task-log-settings.ts';
import { requireTool } from '../../scripts/harness/tool.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { openNatsLog } from '../../sidecar/bus/nats/nats-task-log.ts';
import { bytesField, stringField } from '../../sidecar/task/protobuf.ts';

const rounds = Number(process.argv[2] ?? 30);
const root = join(import.meta.dirname, '..', '..');
const folder = mkdtempSync(join(tmpdir(), 'outrigger-scaler-'));
const [natsPort, port, health, metrics] = [
  await freePort(),
  await freePort(),
  await freePort(),
  await freePort(),
];
const nats = spawn(
  requireTool('nats-server'),
  ['-js', '-sd', folder, '-a', '127.0.0.1', '-p', String(natsPort)],
  {
    stdio: 'ignore',
  },
);
const scaler = spawn(
  process.execPath,
  [
    join(root, 'sidecar', 'main.ts'),
    'scaler',
    ...['--bus.url', `nats://127.0.0.1:${natsPort}`, '--namespace', 'agents'],
    ...[
      '--listen',
      `127.0.0.1:${port}`,
      '--health',
      `127.0.0.1:${health}`,
      '--metrics',
      `127.0.0.1:${metrics}`,
    ],
  ],
  { stdio: 'ignore' },
);
const log = await waitUntil('NATS is there', () =>
  openNatsLog({ servers: [`127.0.0.1:${natsPort}`], settings: DEFAULT_LOG_SETTINGS }),
);
const pair = (key: string, value: string): Buffer =>
  bytesField(3, Buffer.concat([stringField(1, key), stringField(2, value)]));
const ref = Buffer.concat([stringField(2, 'agents'), pair('metric', 'queue'), pair('agentType', 'research')]);
const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
const asIs = (message: Buffer): Buffer => message;
await waitUntil(
  'the scaler is there',
  async () => (await fetch(`http://127.0.0.1:${health}/healthz/ready`)).ok,
);
const stream = client.makeServerStreamRequest(
  '/externalscaler.ExternalScaler/StreamIsActive',
  asIs,
  asIs,
  ref,
);
stream.on('error', () => {});
const said = async (active: boolean): Promise<void> => {
  const [message] = (await once(stream, 'data')) as [Buffer];
  if (message.length > 0 !== active) throw new Error(`the stream said ${message.length > 0}`);
};
await said(false);
const delays: number[] = [];
for (let round = 0; round < rounds; round++) {
  // The scaler looks at the bus no more than twenty times a second: the first task of a while finds it at rest.
  await sleep(100);
  const active = said(true);
  const startedMs = performance.now();
  const key = `task-${round}`;
  const task = { key, digest: key, agentType: 'research', publisher: 'p', caller: '', timeLeftMs: 60_000 };
  await log.submit({ ...task, payload: Buffer.alloc(400) }, { joinEndedForMs: 0 });
  await active;
  delays.push(performance.now() - startedMs);
  const idle = said(false);
  const lease = await log.take(['research'], 'bench', AbortSignal.timeout(10_000));
  await lease!.begin();
  await lease!.settle({ status: 0, payload: Buffer.alloc(0) });
  await idle;
}
delays.sort((one, other) => one - other);
const at = (share: number): string =>
  delays[Math.min(delays.length - 1, Math.floor(share * delays.length))]!.toFixed(1);
console.log(`submit to active, ${rounds} rounds: p50 ${at(0.5)} ms, p90 ${at(0.9)} ms, most ${at(1)} ms`);
stream.cancel();
client.close();
await log.close();
scaler.kill('SIGTERM');
await once(scaler, 'exit');
nats.kill('SIGKILL');
await once(nats, 'exit');
rmSync(folder, { recursive: true, force: true });
