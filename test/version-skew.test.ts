// Sidecars of this version and of the release before work together, in either role, and read each other's files: what
// docs/upgrade.md promises.
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as grpc from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { parse, parseAllDocuments } from 'yaml';
import { SecretVolume, TestAuthority } from '../scripts/harness/certificates.ts';
import { freePort } from '../scripts/harness/free-port.ts';
import { runProcess, startProcess } from '../scripts/harness/process.ts';
import { RawClient, rawPaths, startRawServer, type UnaryOutcome } from '../scripts/harness/raw-grpc.ts';
import { startSidecar } from '../scripts/harness/sidecar.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { PROCESS_TASK_PATH, STREAM_PROCESS_PATH } from '../sidecar/task/task-message.ts';
import { startCutter } from './support/cutter.ts';
import { EARLIER, earlierRelease, skipWithoutEarlier } from './support/earlier-release.ts';
import { taskRequest } from './support/upstream.ts';

t.setTimeout(290_000);

const root = join(import.meta.dirname, '..');
const skip = skipWithoutEarlier();
const earlier = skip === false ? earlierRelease(t) : root;
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
const checkouts = { [EARLIER]: earlier, [version]: root };
const pairs = [
  [EARLIER, version],
  [version, EARLIER],
] as const;

const authority = await TestAuthority.make('ours');
const CALLER = 'spiffe://cluster.local/ns/agents/sa/caller';

type Answer = grpc.sendUnaryData<Buffer>;

/** An agent that counts its runs, and does what the input of a task says. */
async function startAgent(t: Test, name: string) {
  const runs: string[] = [];
  const held: Answer[] = [];
  const streams: grpc.ServerWritableStream<Buffer, Buffer>[] = [];
  const app = await startRawServer(
    t,
    {
      unary: ({ request, metadata }, callback) => {
        runs.push(String(request));
        if (request.includes('hold')) held.push(callback);
        else if (request.includes('refuse') && metadata.get('grpc-previous-rpc-attempts').length === 0)
          callback({ code: grpc.status.UNAVAILABLE, details: 'not now' });
        else callback(null, Buffer.from(name), new grpc.Metadata());
      },
      serverStream: (call) => {
        streams.push(call);
        call.write(Buffer.from('begun'));
      },
    },
    { unaryPath: PROCESS_TASK_PATH, serverStreamPath: STREAM_PROCESS_PATH },
  );
  return { app, runs, held, streams };
}

/** A caller's sidecar of one version, and two agents with sidecars of the other. */
async function startMesh(t: Test, callers: string, agents: string) {
  const serverFiles = new SecretVolume(t, {
    ...(await authority.issue({ names: ['localhost', '127.0.0.1'] })),
    ca: authority.ca,
  });
  const callerFiles = new SecretVolume(t, {
    ...(await authority.issue({ names: [CALLER] })),
    ca: authority.ca,
  });
  const beside = async (name: string) => {
    const agent = await startAgent(t, name);
    const sidecar = await startSidecar(
      t,
      {
        name,
        inbound: {
          app: agent.app.address,
          tls: {
            cert: serverFiles.cert,
            key: serverFiles.key,
            client_ca: serverFiles.ca,
            allow_identities: [CALLER],
          },
        },
        drain: { delay: '0s', timeout: '30s' },
      },
      { checkout: checkouts[agents], until: 'live' },
    );
    return { ...agent, sidecar, cutter: await startCutter(t, sidecar.inboundPort) };
  };
  const [a, b] = await Promise.all([beside('a'), beside('b')]);
  const { ca, cert, key } = callerFiles;
  const cluster = {
    tls: { ca, cert, key },
    retry: { max_attempts: 3, on: ['UNAVAILABLE'], backoff: { base: '1ms', max: '5ms' } },
  };
  const caller = await startSidecar(
    t,
    {
      name: 'caller',
      inbound: { app: 'none' },
      outbound: {
        routes: [
          { match: { authority: 'one' }, cluster: 'one' },
          { match: { path_prefix: '/' }, cluster: 'both' },
        ],
        clusters: {
          one: { ...cluster, endpoints: [a.cutter.address] },
          both: { ...cluster, endpoints: [a.cutter.address, b.cutter.address] },
        },
      },
    },
    { checkout: checkouts[callers], until: 'live' },
  );
  const to = (name: string) =>
    new RawClient(t, caller.outboundPort, { 'grpc.default_authority': name, 'grpc.enable_retries': 0 });
  const [one, both] = [to('one'), to('both')];
  const ask = (client: RawClient, id: string, input: string): Promise<UnaryOutcome> =>
    client.unary(taskRequest({ id, input }), { path: PROCESS_TASK_PATH });
  return { a, b, one, both, ask };
}

for (const [callers, agents] of pairs) {
  t.test(`a sidecar of ${callers} calls agents whose sidecars are of ${agents}`, { skip }, async (t) => {
    const { a, b, one, both, ask } = await startMesh(t, callers, agents);

    t.test('calls and streams pass over mutual TLS', async (t) => {
      for (let call = 0; call < 20; call++) t.match(await ask(both, `first-${call}`, 'x'), { code: 0 });
      const metadata = new grpc.Metadata();
      metadata.set('x-some-bin', Buffer.from([0, 1, 255]));
      const echo = both.bidi({ path: rawPaths.bidi, metadata });
      const got: string[] = [];
      echo.on('data', (message: Buffer) => got.push(String(message)));
      const status = new Promise<grpc.StatusObject>((resolve) => echo.on('status', resolve));
      for (const message of ['1', '2', '3']) echo.write(Buffer.from(message));
      await waitUntil('three messages are back', () => got.length === 3);
      echo.end();
      t.match(await status, { code: 0 });
      t.strictSame(got, ['1', '2', '3']);
    });

    t.test("a failed task is sent again, and the agent's sidecar knows that it is", async (t) => {
      const before = a.runs.length;
      t.match(await ask(one, 'again', 'refuse'), { code: 0 });
      t.equal(a.runs.length, before + 2);
    });

    t.test('a task that is sent twice, or whose connection is cut, runs once', async (t) => {
      const before = a.runs.length;
      const twice = [ask(one, 'twice', 'hold'), ask(one, 'twice', 'hold')];
      await waitUntil('it runs', () => a.held.length === 1);
      a.cutter.drop();
      // The second connection of the caller's sidecar is there once the calls have come back.
      await waitUntil('the caller is connected again', () => a.cutter.open > 0);
      a.held.splice(0)[0]!(null, Buffer.from('once'));
      for (const { code, response, details } of await Promise.all(twice)) {
        t.equal(code, 0, details);
        t.equal(String(response), 'once');
      }
      t.match(await ask(one, 'twice', 'hold'), { code: 0, response: Buffer.from('once') }, 'and is kept');
      t.equal(a.runs.length, before + 1);
    });

    t.test('a stream that is cut ends with stream_cut, and has run once', async (t) => {
      const before = a.streams.length;
      for (const id of ['', 'cut']) {
        const stream = one.serverStream(taskRequest({ id, input: 'x' }), { path: STREAM_PROCESS_PATH });
        const got: string[] = [];
        stream.on('data', (message: Buffer) => got.push(String(message)));
        stream.on('error', () => {});
        const status = new Promise<grpc.StatusObject>((resolve) => stream.on('status', resolve));
        await waitUntil('it has begun', () => got.length === 1);
        a.cutter.drop();
        const { code, metadata } = await status;
        t.equal(code, grpc.status.UNAVAILABLE);
        t.strictSame(metadata.get('outrigger-reason'), ['stream_cut']);
        t.match(await ask(one, `behind ${id}`, 'x'), { code: 0 }, 'and the endpoint serves on');
      }
      t.equal(a.streams.length, before + 2);
      a.streams.length = 0;
    });

    t.test('a drain loses no call, and ends a stream in order', async (t) => {
      const stream = one.serverStream(taskRequest({ id: 'long', input: 'x' }), { path: STREAM_PROCESS_PATH });
      const got: string[] = [];
      stream.on('data', (message: Buffer) => got.push(String(message)));
      const status = new Promise<grpc.StatusObject>((resolve) => stream.on('status', resolve));
      await waitUntil('it has begun', () => got.length === 1);
      const outcomes: Promise<UnaryOutcome>[] = [];
      const load = setInterval(() => outcomes.push(ask(both, `load-${outcomes.length}`, 'x')), 5);
      t.teardown(() => clearInterval(load));
      await waitUntil('the load is on', () => outcomes.length > 20);
      a.sidecar.kill('SIGTERM');
      const [served, sent] = [b.runs.length, outcomes.length];
      await waitUntil(
        'the other one serves',
        () => outcomes.length > sent + 50 && b.runs.length > served + 40,
      );
      const [call] = a.streams;
      call!.write(Buffer.from('end'));
      call!.end();
      t.match(await status, { code: 0 });
      t.strictSame(got, ['begun', 'end']);
      clearInterval(load);
      const failed = (await Promise.all(outcomes)).filter(({ code }) => code !== 0);
      t.strictSame(failed, [], `of ${outcomes.length}`);
      t.equal(await a.sidecar.ended, 0);
    });
  });
}

const outrigger = (t: Test, checkout: string, args: readonly string[], env: Record<string, string> = {}) =>
  runProcess(t, process.execPath, [join(checkout, 'sidecar/main.ts'), ...args], { env });

/** Configurations that the earlier release documents and installs, and between them every section. */
function earlierConfigurations(): Map<string, string> {
  const found = new Map<string, string>();
  for (const path of ['README.md', 'docs/llm-egress.md']) {
    const text = readFileSync(join(earlier, path), 'utf8');
    const [, sample = ''] = /^```yaml\n(# outrigger\.yaml.*?)^```/ms.exec(text) ?? [];
    found.set(path, sample);
  }
  for (const path of ['components/endpoint-slices', 'components/mutual-tls'])
    found.set(path, readFileSync(join(earlier, 'k8s', path, 'outrigger.yaml'), 'utf8'));
  return found;
}

/** What `check` prints, without its warnings. */
const effective = (output: string): unknown => parse(output.replaceAll(/^warning: .*$/gm, ''));

/** What of `old` has another value in `now`, by paths. Settings that are new are no difference. */
function differences(old: unknown, now: unknown, path = ''): string[] {
  if (Array.isArray(old) && Array.isArray(now) && old.length === now.length)
    return old.flatMap((item, at) => differences(item, now[at], `${path}[${at}]`));
  if (typeof old !== 'object' || old === null || Array.isArray(old))
    return JSON.stringify(old) === JSON.stringify(now) ? [] : [`${path}: ${JSON.stringify(now)}`];
  return Object.entries(old).flatMap(([key, value]) =>
    differences(value, (now as Record<string, unknown> | undefined)?.[key], `${path}.${key}`),
  );
}

t.test(`a configuration of ${EARLIER} means the same`, { skip }, async (t) => {
  const files = new SecretVolume(t, { ...(await authority.issue({ names: ['x'] })), ca: authority.ca });
  const folder = t.testdir();
  const configurations = earlierConfigurations();
  for (const [name, text] of configurations) t.match(text, /^\w+:/m, `${name} has one`);
  const all = [...configurations.values()].map((text) =>
    text.replaceAll(/\/run\/outrigger\/tls\/(tls|ca)\.(crt|key)/g, (path) =>
      path.endsWith('ca.crt') ? files.ca : path.endsWith('key') ? files.key : files.cert,
    ),
  );
  await Promise.all(
    all.map(async (text, index) => {
      const file = join(folder, `${index}.yaml`);
      writeFileSync(file, text);
      const [old, now] = await Promise.all([
        outrigger(t, earlier, ['check', '--config', file]),
        outrigger(t, root, ['check', '--config', file]),
      ]);
      const name = [...configurations.keys()][index]!;
      t.equal(old.code, 0, old.code === 0 ? name : `${name}: ${old.output}`);
      t.equal(now.code, 0, now.code === 0 ? name : `${name}: ${now.output}`);
      t.strictSame(differences(effective(old.output), effective(now.output)), [], name);
    }),
  );
});

const metricsOf = (text: string): string[] => [...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name!);

t.test('the saved last good file of one version serves the other', { skip }, async (t) => {
  const folder = t.testdir();
  for (const [first, second] of pairs) {
    const kept = join(folder, `kept-${first}`);
    const file = join(folder, `${first}.yaml`);
    const listen: Record<string, string> = {};
    for (const name of ['admin', 'health', 'metrics', 'inbound', 'outbound', 'llm'])
      listen[name] = `127.0.0.1:${await freePort()}`;
    const sections = Object.entries(listen).map(([name, address]) => [name, { listen: address }]);
    const config = { name: `kept-by-${first}`, ...Object.fromEntries(sections) };
    const page = async (of: string, path: string) => (await fetch(`http://${listen[of]}${path}`)).text();
    const run = (checkout: string) =>
      startProcess(t, process.execPath, [
        join(checkout, 'sidecar/main.ts'),
        'run',
        '--config',
        file,
        '--last-good',
        kept,
      ]);
    const isLive = async () => (await fetch(`http://${listen['health']}/healthz/live`)).ok;
    writeFileSync(file, JSON.stringify(config));
    const before = run(checkouts[first]!);
    await waitUntil(`${first} has kept it`, async () => existsSync(join(kept, 'last-good.yaml')) && isLive());
    const metrics = new Map([[first as string, metricsOf(await page('metrics', '/metrics'))]]);
    t.equal(await before.stop(20_000), 0);
    writeFileSync(file, 'inbound: [broken\n');
    const after = run(checkouts[second]!);
    await waitUntil(`${second} lives on it`, isLive);
    t.match(await page('admin', '/config'), `kept-by-${first}`);
    t.match(after.logs(), /last good/);
    metrics.set(second, metricsOf(await page('metrics', '/metrics')));
    const lost = metrics.get(EARLIER)!.filter((name) => !metrics.get(version)!.includes(name));
    t.strictSame(lost, [], `${version} has every metric of ${EARLIER}`);
    t.ok(metrics.get(EARLIER)!.length > 30);
    t.equal(await after.stop(20_000), 0);
  }
});

t.test(`agents of ${EARLIER} and ${version} speak one protocol`, { skip }, async (t) => {
  const names = readdirSync(join(earlier, 'proto')).filter((name) => name.endsWith('.proto'));
  t.ok(names.length >= 2, names.join(' '));
  const lines = (checkout: string, name: string) =>
    readFileSync(join(checkout, 'proto', name), 'utf8')
      .split('\n')
      .map((line) => line.replace(/\/\/.*/, '').trim())
      .filter((line) => line !== '');
  for (const name of names) {
    const now = lines(root, name);
    t.strictSame(
      lines(earlier, name).filter((line) => !now.includes(line)),
      [],
      `${name} has lost nothing`,
    );
  }
});

t.test(`pods that ${EARLIER} has injected`, { skip }, async (t) => {
  const file = join(root, 'test/inject/deployment.in.yaml');
  const injected = await runProcess(t, 'sh', [
    '-c',
    'exec "$@" 2>/dev/null',
    'sh',
    process.execPath,
    join(earlier, 'sidecar/main.ts'),
    'inject',
    '-f',
    file,
  ]);
  t.equal(injected.code, 0);
  t.match(injected.output, `outrigger.dev/injected: ${EARLIER}`);
  const again = join(t.testdir({ 'injected.yaml': injected.output }), 'injected.yaml');
  const twice = await runProcess(t, 'sh', [
    '-c',
    'exec "$@" 2>/dev/null',
    'sh',
    process.execPath,
    join(root, 'sidecar/main.ts'),
    'inject',
    '-f',
    again,
  ]);
  t.equal(twice.output, injected.output, `stay as they are when ${version} sees them`);

  // biome-ignore lint/suspicious/noExplicitAny: a pod, read by paths
  const pods = parseAllDocuments(injected.output).map((each) => each.toJS() as any);
  const template = pods.find(({ kind }) => kind === 'Deployment').spec.template.spec;
  const [sidecar] = template.initContainers.filter(({ name }: { name: string }) => name === 'outrigger');
  const env = Object.fromEntries(
    sidecar.env
      .filter((entry: { value?: string }) => entry.value !== undefined)
      .map(({ name, value }: { name: string; value: string }) => [name, value]),
  );
  t.ok(Object.keys(env).length >= 4);
  const now = await outrigger(t, root, ['check'], env);
  t.equal(now.code, 0, `${version} accepts their variables: ${now.output.slice(0, 500)}`);
  const old = await outrigger(t, earlier, ['check'], env);
  t.strictSame(differences(effective(old.output), effective(now.output)), []);
  t.strictSame(sidecar.args, ['run']);
  const hook: string[] = sidecar.lifecycle?.preStop?.exec?.command ?? [];
  const help = await outrigger(t, root, [...hook.slice(1), '--help']);
  t.equal(help.code, 0, `${version} has the command of their preStop hook: ${hook.join(' ')}`);
});
