// Callers with certificates, clients of the webhook, and endpoints send what they have to say in TLS records of one byte each: on
// a few connections much of it, and on a thousand at once. The client: test/support/python/client_in_records_of_a_byte.py.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type Issued, SecretVolume, TestAuthority } from '../../scripts/harness/certificates.ts';
import { freePort } from '../../scripts/harness/free-port.ts';
import {
  flag,
  frame,
  frameType,
  grpcRequest,
  headerBlock,
  preface,
  settings,
} from '../../scripts/harness/h2-peer.ts';
import { startProcess } from '../../scripts/harness/process.ts';
import { RawClient } from '../../scripts/harness/raw-grpc.ts';
import { requireTool, skipWithout } from '../../scripts/harness/tool.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { PROCESS_TASK_PATH } from '../../sidecar/task/task-message.ts';
import { PEAK_BYTES, startScene } from './scene.ts';

t.setTimeout(240_000);

const checkout = process.env['ATTACKED_CHECKOUT'];
const MESSAGE_BYTES = 60_000;
const ENDPOINTS = 30;
const CALLS = 120;
const ANSWERS_MS = 5_000;
/** For what is on its way when the client has sent all. */
const AFTER_MS = 1_000;

/** What keeps nobody but the sidecar busy: a message without an end, behind a head. */
function endlessMessage(head: Buffer): Buffer {
  const prefix = Buffer.from([0, 0, 0x7f, 0xff, 0xff]);
  const data = frame(frameType.data, 0, 1, Buffer.concat([prefix, Buffer.alloc(15_000, 'a')]));
  const more = frame(frameType.data, 0, 1, Buffer.alloc(15_000, 'a'));
  return Buffer.concat([settings(), head, data, more, more, more]);
}

const headers = (fields: readonly (readonly [string, string])[]): Buffer =>
  frame(frameType.headers, flag.endHeaders, 1, headerBlock(fields));
const CALL = Buffer.concat([preface, endlessMessage(headers(grpcRequest(PROCESS_TASK_PATH)))]);
const ANSWER = endlessMessage(
  Buffer.concat([
    frame(frameType.settings, flag.ack, 0),
    headers([
      [':status', '200'],
      ['content-type', 'application/grpc'],
    ]),
  ]),
);

const peakBytes = (pid: number): number =>
  1024 * Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]);

interface Client {
  readonly files: { cert: string; key: string };
  readonly port: number;
  readonly protocol: 'h2' | 'http/1.1';
  readonly connections: number;
  readonly payload: Buffer;
}

/** @returns what has it send */
async function startClient(t: Test, client: Client): Promise<() => Promise<void>> {
  const { files, port, protocol, connections, payload } = client;
  const file = join(t.testdir({}), 'payload');
  writeFileSync(file, payload);
  const program = join(import.meta.dirname, '../support/python/client_in_records_of_a_byte.py');
  const args = [program, `${port}`, files.cert, files.key, protocol, `${connections}`, file];
  const started = startProcess(t, requireTool('python'), args, { stdin: true });
  await waitUntil('its records are made', () => started.logs().includes('ready'), { limitMs: 120_000 });
  return async () => {
    started.child.stdin!.write('\n');
    await waitUntil('it has sent them', () => started.logs().includes('sent'), { limitMs: 60_000 });
    await new Promise((resolve) => setTimeout(resolve, AFTER_MS));
  };
}

async function filesOf(t: Test): Promise<SecretVolume> {
  const authority = await TestAuthority.make();
  const issued: Issued = await authority.issue({ names: ['localhost', 'spiffe://example.org/ns/a/sa/b'] });
  return new SecretVolume(t, { ...issued, ca: authority.ca });
}

for (const { connections, bytes } of [
  { connections: 30, bytes: MESSAGE_BYTES },
  { connections: 880, bytes: 2_500 },
])
  t.test(
    `memory is bounded under ${bytes} one-byte records on ${connections} connections`,
    { skip: skipWithout('python') },
    async (t) => {
      const files = await filesOf(t);
      const { cert, key, ca } = files;
      // The bystander comes without TLS.
      const config = { inbound: { tls: { cert, key, client_ca: ca, required: false } } };
      const scene = await startScene(t, { config, checkout });
      const { inboundPort } = scene.sidecar;
      const payload = CALL.subarray(0, bytes);
      const send = await startClient(t, { files, port: inboundPort, protocol: 'h2', connections, payload });
      const { bystander } = await scene.during(send);
      scene.holds(t, bystander);
      t.comment(`peak ${scene.peakBytes() / 1e6} MB`);
      // One burst delays few of its calls.
      t.ok(
        bystander.slowestMs <= bystander.boundMs,
        `${bystander.slowestMs} ms, below ${bystander.boundMs} ms`,
      );
    },
  );

t.test(
  'memory is bounded under endpoints that answer in one-byte records',
  { skip: skipWithout('python') },
  async (t) => {
    const { cert, key, ca } = await filesOf(t);
    const file = join(t.testdir({}), 'answer');
    writeFileSync(file, ANSWER);
    const program = join(import.meta.dirname, '../support/python/records_of_a_byte.py');
    const server = startProcess(t, requireTool('python'), [program, cert, key, file]);
    const port = await waitUntil('the server printed its port', () => /^(\d+)$/m.exec(server.logs())?.[1]);
    const endpoints = Array.from({ length: ENDPOINTS }, (_, at) => `127.0.0.${at + 2}:${port}`);
    const clusters = { odd: { endpoints, tls: { ca, server_name: 'localhost' } } };
    const routes = [{ match: { path_prefix: '/' }, cluster: 'odd' }];
    const scene = await startScene(t, { config: { outbound: { routes, clusters } }, checkout });
    const agent = new RawClient(t, scene.sidecar.outboundPort);
    const { bystander } = await scene.during(async () => {
      const calls = Array.from({ length: CALLS }, () =>
        agent.unary(Buffer.from('hello'), { deadline: Date.now() + ANSWERS_MS }),
      );
      const codes = new Set((await Promise.all(calls)).map(({ code }) => code));
      t.ok(!codes.has(0), `no message comes to its end: ${[...codes]}`);
    });
    scene.holds(t, bystander);
    t.comment(`peak ${scene.peakBytes() / 1e6} MB`);
  },
);

t.test('memory is bounded under clients of the webhook that send one-byte records', async (t) => {
  const names = ['127.0.0.1'];
  const authority = await TestAuthority.make();
  const files = new SecretVolume(t, { ...(await authority.issue({ names })), ca: authority.ca });
  const [port, health, metrics] = [await freePort(), await freePort(), await freePort()];
  const root = checkout ?? join(import.meta.dirname, '../..');
  const webhook = startProcess(
    t,
    process.execPath,
    [
      join(root, 'sidecar/main.ts'),
      'webhook',
      `--listen=127.0.0.1:${port}`,
      `--health=127.0.0.1:${health}`,
      `--metrics=127.0.0.1:${metrics}`,
      `--tls-cert=${files.cert}`,
      `--tls-key=${files.key}`,
      '--image=registry.example/outrigger:1',
    ],
    { cwd: root },
  );
  const is = async (what: string): Promise<boolean> =>
    (await fetch(`http://127.0.0.1:${health}/healthz/${what}`)).ok;
  await waitUntil('it is ready', () => is('ready'));
  const head = `POST /mutate HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n`;
  const payload = Buffer.from(head.padEnd(MESSAGE_BYTES));
  const send = await startClient(t, { files, port, protocol: 'http/1.1', connections: 60, payload });
  let over = false;
  const sent = send().finally(() => {
    over = true;
  });
  let probes = 0;
  for (; !over; probes++) if (!(await is('live'))) t.fail('it is not live');
  await sent;
  t.ok(probes > 0, `${probes} probes were answered`);
  const peak = peakBytes(webhook.pid);
  t.ok(peak < PEAK_BYTES, `a peak of ${peak / 1e6} MB`);
});
