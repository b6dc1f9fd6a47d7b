// What a process does about an error that nobody expected: it ends with a line that says so, or it goes on serving; it is
// never one whose probes say that it lives while it serves nobody. docs/process-failures.md is the rule.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import * as grpc from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { freePort } from '../scripts/harness/free-port.ts';
import { startProcess, type TestProcess } from '../scripts/harness/process.ts';
import { RawClient, startRawServer } from '../scripts/harness/raw-grpc.ts';
import { type Sidecar, startSidecar } from '../scripts/harness/sidecar.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';

t.setTimeout(280_000);

const root = join(import.meta.dirname, '..');
const preload = pathToFileURL(join(import.meta.dirname, 'support/faults-on-signal.mjs')).href;
const EXIT_SOFTWARE = 70;

/** Environment of a process in which SIGUSR2 makes this fault happen. */
const faulty = (fault: string, port = 0, nodeOptions = ''): Record<string, string> => ({
  NODE_OPTIONS: `--import=${preload} ${nodeOptions}`,
  FAULT: fault,
  FAULT_PORT: `${port}`,
});

interface Started {
  readonly process: TestProcess;
  readonly liveUrl: string;
}

const health = (sidecar: { healthPort: number }, page: 'live' | 'ready'): Promise<Response> =>
  fetch(`http://127.0.0.1:${sidecar.healthPort}/healthz/${page}`);

async function startOurs(t: Test, env: Record<string, string>, more: object = {}): Promise<Sidecar> {
  const { address } = await startRawServer(t, {
    // A call of this method is never answered.
    unary: () => {},
  });
  return startSidecar(t, { inbound: { app: address }, ...more }, { env, until: 'live' });
}

async function startWebhook(t: Test, env: Record<string, string>): Promise<Started> {
  const [port, healthPort, metrics] = [await freePort(), await freePort(), await freePort()];
  const args = [
    join(root, 'sidecar/main.ts'),
    'webhook',
    `--listen=127.0.0.1:${port}`,
    `--health=127.0.0.1:${healthPort}`,
    `--metrics=127.0.0.1:${metrics}`,
    '--name=127.0.0.1',
    '--image=registry.example/outrigger:1',
    '--drain-delay=0s',
  ];
  const started = startProcess(t, process.execPath, args, { env: { ...env, FAULT_PORT: `${port}` } });
  const ready = `http://127.0.0.1:${healthPort}/healthz/ready`;
  await waitUntil('the webhook is ready', async () => (await fetch(ready)).ok);
  return { process: started, liveUrl: `http://127.0.0.1:${healthPort}/healthz/live` };
}

async function startGateway(t: Test, env: Record<string, string>): Promise<Started> {
  const port = await freePort();
  const started = startProcess(t, process.execPath, [join(root, 'agents/gateway/main.ts')], {
    env: { ...env, PORT: `${port}`, FAULT_PORT: `${port}` },
  });
  const liveUrl = `http://127.0.0.1:${port}/`;
  await waitUntil('the gateway answers', async () => (await fetch(liveUrl)).ok);
  return { process: started, liveUrl };
}

/** The last line of the log at level fatal, as JSON. */
function lastWords(logs: string): {
  msg: string;
  origin: string;
  err: { message: string; stack: string } | string;
} {
  const line = logs.split('\n').findLast((one) => /"level":(?:"fatal"|60)/.test(one));
  if (line === undefined) throw new Error(`no fatal line in:\n${logs.slice(-2_000)}`);
  return JSON.parse(line);
}

t.test('an uncaught error ends the sidecar, with one line and exit code 70', async (t) => {
  for (const [fault, expected, origin] of [
    ['throw', /a fault that was thrown/, 'uncaughtException'],
    ['reject', /a fault that was rejected/, 'unhandledRejection'],
    ['allocate', /allocation failed/, 'uncaughtException'],
    ['throw nothing', /undefined was thrown/, 'uncaughtException'],
  ] as const) {
    await t.test(fault, async (t) => {
      const sidecar = await startOurs(t, faulty(fault));
      const call = new RawClient(t, sidecar.inboundPort).unary(Buffer.from('x'));
      await waitUntil('the call is under way', async () => {
        const stats = await (await fetch(`http://127.0.0.1:${sidecar.adminPort}/stats`)).json();
        return (
          (stats as { listeners: { inbound: { active_calls: number } } }).listeners.inbound.active_calls === 1
        );
      });
      sidecar.kill('SIGUSR2');
      t.equal(await sidecar.ended, EXIT_SOFTWARE, 'the process ended');
      const { err, msg, origin: said } = lastWords(sidecar.logs());
      t.match(JSON.stringify(err), expected);
      t.match(msg, /exit code 70/);
      t.equal(said, origin);
      t.equal((await call).code, grpc.status.UNAVAILABLE, 'its call ended, too');
    });
  }
});

t.test('it also does so when Node ignores rejections, and when the log is silent', async (t) => {
  const sidecar = await startOurs(t, faulty('reject', 0, '--unhandled-rejections=none'), {
    log: { level: 'silent' },
  });
  sidecar.kill('SIGUSR2');
  t.equal(await sidecar.ended, EXIT_SOFTWARE);
  t.match(sidecar.logs(), /Error: a fault that was rejected\n\s+at /, 'the standard error has the cause');
});

t.test('the webhook and the gateway end, too', async (t) => {
  for (const start of [startWebhook, startGateway]) {
    for (const fault of ['throw', 'reject']) {
      const { process } = await start(t, faulty(fault));
      process.kill('SIGUSR2');
      t.equal(await process.ended, EXIT_SOFTWARE, `${start.name}, ${fault}`);
      t.match(JSON.stringify(lastWords(process.logs())), /a fault that was/);
    }
  }
});

t.test('an error at the end of a process keeps its exit code', async (t) => {
  const sidecar = await startOurs(t, faulty('throw at the end'));
  sidecar.kill('SIGUSR2');
  sidecar.kill('SIGTERM');
  t.equal(await sidecar.ended, 0);
});

t.test('a full heap ends the process by a signal', async (t) => {
  const sidecar = await startOurs(t, faulty('heap', 0, '--max-old-space-size=60'));
  sidecar.kill('SIGUSR2');
  const ended = await sidecar.ended;
  t.ok(ended === 'SIGABRT' || ended === 134, `it ended with ${ended}`);
});

t.test('a process whose listener closed by itself reports that it is not live', async (t) => {
  for (const name of ['inbound', 'outbound', 'llm'] as const) {
    const port = await freePort();
    const sidecar = await startOurs(t, faulty('close', port), { [name]: { listen: `127.0.0.1:${port}` } });
    t.equal((await health(sidecar, 'live')).status, 200);
    sidecar.kill('SIGUSR2');
    await waitUntil('the probe fails', async () => !(await health(sidecar, 'live')).ok);
    for (const page of ['live', 'ready'] as const) {
      const response = await health(sidecar, page);
      t.equal(response.status, 503);
      t.match(await response.text(), new RegExp(`${name}.listen accepts no more connections`));
    }
  }
  const webhook = await startWebhook(t, faulty('close'));
  t.equal((await fetch(webhook.liveUrl)).status, 200);
  webhook.process.kill('SIGUSR2');
  await waitUntil(
    'the probe of the webhook fails',
    async () => (await fetch(webhook.liveUrl)).status === 503,
  );
});

t.test('a failed accept costs no other connection', async (t) => {
  for (const name of ['inbound', 'outbound', 'llm', 'health'] as const) {
    const port = await freePort();
    const sidecar = await startOurs(t, faulty('accept', port), { [name]: { listen: `127.0.0.1:${port}` } });
    sidecar.kill('SIGUSR2');
    await waitUntil('it is logged', () => /can not be accepted \(ENOBUFS/.test(sidecar.logs()));
    t.equal((await health(sidecar, 'live')).status, 200, `${name}: it lives`);
  }
  for (const start of [startWebhook, startGateway]) {
    const { process, liveUrl } = await start(t, faulty('accept'));
    process.kill('SIGUSR2');
    await waitUntil('it is logged', () =>
      /can not be accepted|could not accept a connection/.test(process.logs()),
    );
    t.equal((await fetch(liveUrl)).status, 200, `${start.name}: it lives`);
  }
});

const prlimit = ((): string | false => {
  try {
    return execFileSync('prlimit', ['--version'], { encoding: 'utf8' });
  } catch {
    return false;
  }
})();

t.test(
  'a process without more memory continues to serve, or ends',
  { skip: prlimit === false ? 'without prlimit (util-linux)' : false },
  async (t) => {
    const { address } = await startRawServer(t);
    const sidecar = await startSidecar(t, { inbound: { app: address } }, { until: 'live' });
    const client = new RawClient(t, sidecar.inboundPort);
    t.equal((await client.unary(Buffer.from('x'))).code, grpc.status.OK);
    const sizeKib = Number(
      /^VmSize:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${sidecar.pid}/status`, 'utf8'))?.[1],
    );
    execFileSync('prlimit', ['--pid', `${sidecar.pid}`, `--as=${sizeKib * 1024 + 40_000_000}`]);
    let ended: number | NodeJS.Signals | undefined;
    void sidecar.ended.then((code) => {
      ended = code;
    });
    // More than there is: requests of the egress are held until they are answered, and nobody answers.
    const bodies = Array.from({ length: 12 }, () =>
      fetch(`http://127.0.0.1:${sidecar.llmPort}/v1/chat/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: Buffer.alloc(20_000_000, 0x20),
        signal: AbortSignal.timeout(5_000),
      }).then(
        (response) => response.status,
        () => 0,
      ),
    );
    const statuses = await Promise.all(bodies);
    // It may be about to end.
    const serves = await waitUntil('it has ended, or serves', async () => {
      if (ended !== undefined) return 'ended';
      const outcome = await new RawClient(t, sidecar.inboundPort).unary(Buffer.from('x'));
      const { status } = await health(sidecar, 'live');
      return outcome.code === grpc.status.OK && status === 200 ? 'serves' : undefined;
    });
    t.comment(`requests ended with ${statuses.join(', ')}; the process ${serves}: ${ended}`);
    t.not(ended, 0, 'it has not ended as if all were well');
  },
);
