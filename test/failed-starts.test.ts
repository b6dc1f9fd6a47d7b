// A process that can't have a port, or its files, ends with its exit code, and leaves nothing behind.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { stringify } from 'yaml';
import { freePort } from '../scripts/harness/free-port.ts';
import { runProcess, startProcess } from '../scripts/harness/process.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { FakeKubernetesApi } from './support/kubernetes-api.ts';

const root = join(import.meta.dirname, '..');
const program = process.env['OUTRIGGER_TEST_SIDECAR'] ?? join(root, 'sidecar', 'main.ts');
const listeners = ['inbound', 'outbound', 'llm', 'admin', 'metrics', 'health'] as const;
/** A process that does not end by itself is killed then; what is tested is that this is not needed. */
const limitMs = 60_000;
const timeout = 2 * limitMs;

t.setTimeout(4 * limitMs);

type Section = Record<string, unknown>;

/** With a name short enough for the sockets in it, wherever the checkout is: a path has 107 bytes at the most. */
function socketFolder(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-test-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Takes connections, reads what comes, and neither answers nor ends one that its client has ended. */
async function startSilence(t: Test): Promise<string> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {}).resume();
    t.teardown(() => socket.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  return `127.0.0.1:${(server.address() as { port: number }).port}`;
}

/** A port that somebody has. */
async function takePort(t: Test): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  return (server.address() as { port: number }).port;
}

/** Runs a sidecar that has begun all that a start begins, with one listener's address given. */
async function startWith(t: Test, at: (typeof listeners)[number], listen: string) {
  const folder = socketFolder(t);
  mkdirSync(join(folder, 'listening'));
  const silence = await startSilence(t);
  const config: Record<string, Section> = {};
  for (const name of listeners) config[name] = { listen: `unix:${join(folder, 'listening', name)}` };
  config['inbound']!['app'] = silence;
  config['outbound']!['clusters'] = {
    silent: { endpoints: [silence], health_check: { interval: '100ms' } },
    named: { dns: 'no-such-name.invalid:50051' },
  };
  config[at]!['listen'] = listen;
  const configFile = join(folder, 'outrigger.yaml');
  writeFileSync(configFile, stringify(config));
  const ended = await runProcess(t, process.execPath, [program, 'run', '--config', configFile], {
    limitMs,
    env: { OTEL_EXPORTER_OTLP_ENDPOINT: `http://${silence}` },
  });
  return { ...ended, left: readdirSync(join(folder, 'listening')) };
}

for (const name of listeners) {
  t.test(`run fails clearly if ${name}.listen is not available`, { timeout }, async (t) => {
    const address = `127.0.0.1:${await takePort(t)}`;
    const { code, output, left } = await startWith(t, name, address);
    t.equal(code, 69);
    t.match(output, `${name}.listen: can not listen on ${address}: the address is in use`);
    t.same(left, [], 'no socket is left behind');
  });
}

t.test('run fails clearly if another process listens on the socket', { timeout }, async (t) => {
  const path = join(socketFolder(t), 'taken.sock');
  const taken = createServer();
  await new Promise<void>((resolve) => taken.listen(path, resolve));
  t.teardown(() => taken.close());
  const { code, output, left } = await startWith(t, 'metrics', `unix:${path}`);
  t.equal(code, 69);
  t.match(output, `metrics.listen: can not listen on unix:${path}: the address is in use`);
  t.same(left, []);
  t.ok(existsSync(path), 'it is still there');
});

t.test('run survives an unresponsive Kubernetes API', { timeout }, async (t) => {
  const api = await FakeKubernetesApi.start(t);
  api.failWith = -1;
  const config = stringify({
    inbound: { listen: `127.0.0.1:${await freePort()}` },
    outbound: {
      listen: `127.0.0.1:${await takePort(t)}`,
      clusters: { pods: { kubernetes: { service: 'writing-agent', port: 'grpc' } } },
    },
  });
  const configFile = join(t.testdir({ 'outrigger.yaml': config }), 'outrigger.yaml');
  const env = { KUBECONFIG: api.kubeconfig };
  const args = [program, 'run', '--config', configFile];
  t.equal((await runProcess(t, process.execPath, args, { limitMs, env })).code, 69);
});

t.test('run fails clearly with unusable TLS files', { timeout }, async (t) => {
  const folder = t.testdir({ 'tls.crt': 'broken', 'tls.key': 'broken' });
  const files = { cert: join(folder, 'tls.crt'), key: join(folder, 'tls.key') };
  for (const config of [
    { inbound: { tls: files } },
    { outbound: { clusters: { one: { endpoints: ['127.0.0.1:1'], tls: files } } } },
  ]) {
    const configFile = join(folder, 'outrigger.yaml');
    writeFileSync(configFile, stringify(config));
    const { code, output } = await runProcess(t, process.execPath, [program, 'run', '--config', configFile], {
      limitMs,
    });
    t.equal(code, 64);
    t.match(output, /tls\.cert.*PEM/s);
  }
});

for (const flag of ['listen', 'health', 'metrics'] as const) {
  t.test(`webhook fails clearly if --${flag} is not available`, { timeout }, async (t) => {
    const port = await takePort(t);
    const free = { listen: await freePort(), health: await freePort(), metrics: await freePort() };
    const flags = Object.entries({ ...free, [flag]: port }).map(
      ([name, value]) => `--${name}=127.0.0.1:${value}`,
    );
    // Long, to see that a start that has failed waits for no drain.
    const args = [program, 'webhook', ...flags, '--drain-delay=10m'];
    const { code, output } = await runProcess(t, process.execPath, args, { limitMs });
    t.equal(code, 69);
    t.match(output, `--${flag}: can not listen on 127.0.0.1:${port}: the address is in use`);
  });
}

t.test('webhook: an unresponsive API server delays neither start nor end', { timeout }, async (t) => {
  const api = await FakeKubernetesApi.start(t);
  api.failWith = -1;
  const pages = [`--health=127.0.0.1:${await freePort()}`, `--listen=127.0.0.1:${await freePort()}`];
  const args = [program, 'webhook', '--secret=outrigger-system/certificate', '--drain-delay=0s', ...pages];
  const env = { KUBECONFIG: api.kubeconfig };
  const metrics = `127.0.0.1:${await takePort(t)}`;
  const failed = await runProcess(t, process.execPath, [...args, `--metrics=${metrics}`], { limitMs, env });
  t.equal(failed.code, 69);

  const webhook = startProcess(t, process.execPath, [...args, `--metrics=127.0.0.1:${await freePort()}`], {
    env,
  });
  await waitUntil('it asks', () => api.unanswered > 0, { limitMs });
  t.equal(await webhook.stop(limitMs), 0);
});

for (const variable of ['PORT', 'GATEWAY_HEALTH_LISTEN']) {
  t.test(`the gateway fails clearly if ${variable} is not available`, { timeout }, async (t) => {
    const port = await takePort(t);
    const env: Record<string, string> = {
      HOST: '127.0.0.1',
      PORT: `${await freePort()}`,
      GATEWAY_HEALTH_LISTEN: `127.0.0.1:${await freePort()}`,
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://${await startSilence(t)}`,
    };
    env[variable] = variable === 'PORT' ? `${port}` : `127.0.0.1:${port}`;
    const main = join(root, 'agents', 'gateway', 'main.ts');
    const { code, output } = await runProcess(t, process.execPath, [main], { limitMs, env });
    t.equal(code, 1);
    t.match(output, /cannot start/);
    t.match(output, new RegExp(`${port}`));
  });
}
