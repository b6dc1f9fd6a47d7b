// `outrigger status`: the fleet, one line a sidecar, from real sidecars by address, by DNS, and by a Service of an API server.
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { openBlackHole } from '../scripts/harness/faults/black-hole.ts';
import { freePort } from '../scripts/harness/free-port.ts';
import { runProcess } from '../scripts/harness/process.ts';
import { RawClient, startRawServer } from '../scripts/harness/raw-grpc.ts';
import { outboundTo, startSidecar } from '../scripts/harness/sidecar.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { FakeKubernetesApi } from './support/kubernetes-api.ts';

t.setTimeout(290_000);

const main = join(import.meta.dirname, '..', 'sidecar', 'main.ts');

interface Row {
  readonly address: string;
  readonly pod: string;
  readonly state: string;
  readonly wrong: boolean;
  readonly problem: string;
  readonly status: { readonly name: string; readonly inbound: { readonly success: number | null } } | null;
}

function outrigger(t: Test, args: readonly string[], env: Record<string, string> = {}) {
  return runProcess(t, process.execPath, [main, 'status', ...args], { env });
}

async function rows(t: Test, args: readonly string[], env: Record<string, string> = {}) {
  const { code, output } = await outrigger(t, [...args, '--output', 'json'], env);
  return { code, sidecars: (JSON.parse(output) as { sidecars: Row[] }).sidecars };
}

t.test('status shows one line a sidecar, also of those that do not answer', async (t) => {
  const app = await startRawServer(t);
  const well = await startSidecar(t, { name: 'research', version: '1.2.3', inbound: { app: app.address } });
  const nobody = await freePort();
  const lonely = await startSidecar(
    t,
    { name: 'writing', inbound: { app: `127.0.0.1:${nobody}` }, ...outboundTo(app.address) },
    { until: 'live' },
  );
  const client = new RawClient(t, well.inboundPort);
  for (let call = 0; call < 3; call++) t.equal((await client.unary(Buffer.from('x'))).code, 0);
  const one = `127.0.0.1:${well.metricsPort}`;
  const page = async (port: number) => {
    const response = await fetch(`http://127.0.0.1:${port}/status`);
    return (await response.json()) as { inbound: { success: number | null }; problems: number };
  };
  await waitUntil(
    'the calls are in the history',
    async () => (await page(well.metricsPort)).inbound.success === 1,
  );
  await waitUntil(
    'the missing app is a problem',
    async () => (await page(lonely.metricsPort)).problems === 1,
  );

  const alone = await outrigger(t, ['--at', one]);
  t.equal(alone.code, 0, alone.output);
  t.match(alone.output, /^NAME +ADDRESS +VERSION +STATE +CALLS\/S +SUCCESS +P95 +OPEN +EJECTED +PROBLEMS\n/);
  t.match(
    alone.output,
    /\nresearch +127\.0\.0\.1:\d+ +1\.2\.3 \(\S+\) +ready +\d\S* +100\.0% +\d+ms +0 +0 +0\n$/,
  );
  t.equal(alone.output.trim().split('\n').length, 2, 'nothing else where all is well');

  // One that accepts and never answers, one port where nobody listens, one other server.
  const silent = `127.0.0.1:${await freePort()}`;
  await openBlackHole(t, silent);
  const dead = `127.0.0.1:${await freePort()}`;
  const stranger = `127.0.0.1:${well.healthPort}`;
  const fleet = [one, `127.0.0.1:${lonely.metricsPort}`, silent, dead, stranger].join(',');
  const [all, shown, dns, none, local] = await Promise.all([
    rows(t, ['--at', fleet, '--timeout', '5s']),
    outrigger(t, ['--at', fleet, '--timeout', '5s']),
    rows(t, ['--dns', `localhost:${well.metricsPort}`]),
    outrigger(t, ['--dns', 'no-such-name.invalid:15020']),
    outrigger(t, ['--config', well.configFile]),
  ]);
  t.equal(all.code, 1, 'something is wrong');
  t.match(all.sidecars, [
    { address: one, state: 'ready', wrong: false, status: { name: 'research', inbound: { success: 1 } } },
    { state: 'not ready', wrong: true, status: { name: 'writing' } },
    { state: 'unreachable', problem: 'no answer within 5 s', status: null },
    { state: 'unreachable', problem: /nothing listens there/ },
    { state: 'unreachable', problem: /it has no \/status/ },
  ]);
  t.match(shown.output, /\nwriting +\S+ +- \(\d\S+\) +not ready +.*\n/);
  t.match(shown.output, new RegExp(`\\n${silent}: no answer within 5 s\\n`));
  t.match(shown.output, /\nwriting \S+: Not ready: the app at \S+ is unreachable/);

  t.match(
    dns.sidecars.find(({ address }) => address === one),
    { state: 'ready' },
  );
  t.equal(none.code, 69);
  t.match(none.output, /no-such-name\.invalid can not be resolved/);

  t.equal(local.code, 0, 'without an address it asks the sidecar of this machine');
  t.match(local.output, /\nresearch /);

  const coloured = await outrigger(t, ['--at', 'x\u001b[31my:1', '--timeout', '1s']);
  t.notMatch(coloured.output, '\u001b', 'an address can not command the terminal');

  for (const [args, message] of [
    [['--att', one], /"--att" is not expected here; did you mean --at\?/],
    [
      ['--at', one, '--timeout', '3', '--output', 'xml', '--service', 'a/b/c'],
      /--timeout takes.*--output takes table or json.*--service takes NAMESPACE\/NAME/s,
    ],
  ] as const)
    t.match(await outrigger(t, args), { code: 64, output: message }, args.join(' '));
});

t.test('refused calls are no success of the caller, on no page', async (t) => {
  let answer: (() => void) | undefined;
  const app = await startRawServer(t, {
    unary: (call, callback) => {
      if (call.request.toString() === 'wrong') callback({ code: status.INVALID_ARGUMENT });
      else answer = () => callback(null, call.request);
    },
  });
  const callee = await startSidecar(t, {
    inbound: { app: app.address, max_concurrent_calls: 1, queue: { max_calls: 0 } },
  });
  const caller = await startSidecar(t, {
    name: 'asking',
    inbound: { app: 'none' },
    ...outboundTo(`127.0.0.1:${callee.inboundPort}`),
  });
  const client = new RawClient(t, caller.outboundPort);
  t.equal((await client.unary(Buffer.from('wrong'))).code, status.INVALID_ARGUMENT);
  const served = client.unary(Buffer.from('x'));
  await waitUntil('the app has the call', async () => answer !== undefined);
  for (let call = 0; call < 4; call++)
    t.equal((await client.unary(Buffer.from('x'))).code, status.RESOURCE_EXHAUSTED);
  answer!();
  t.equal((await served).code, status.OK);

  const get = async (port: number, path: string) => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`);
    return (await response.json()) as Record<string, never>;
  };
  const totals = { total_requests: 6, total_ok: 1, total_errors: 0, total_refused: 4 };
  t.match(await get(caller.adminPort, '/stats'), { listeners: { outbound: totals } });
  // The caller's sidecar has tried some of them again.
  t.match(await get(callee.adminPort, '/stats'), {
    listeners: { inbound: { total_ok: 1, total_errors: 0 } },
  });
  const outbound = await waitUntil('the calls are in the history', async () => {
    const { listeners } = (await get(caller.adminPort, '/live?format=json')) as unknown as {
      listeners: { name: string; traffic: { last_minute: { calls: number } } | null }[];
    };
    const found = listeners.find(({ name }) => name === 'outbound');
    return found?.traffic?.last_minute.calls === 6 && found;
  });
  t.match(outbound, { ...totals, traffic: { last_minute: { errors: 0, refused: 4, success: 0.2 } } });
  const { output } = await outrigger(t, ['--at', `127.0.0.1:${caller.metricsPort}`]);
  t.match(output, / 20\.0% /, 'one of the five that did not end by a fault of their caller');
});

t.test('status finds the pods of a Service, and asks them through the API server', async (t) => {
  const app = await startRawServer(t);
  const sidecar = await startSidecar(t, { name: 'research', inbound: { app: app.address } });
  const api = await FakeKubernetesApi.start(t, 'research');
  const pods = [
    { pod: 'research-0', ip: '10.1.2.3' },
    { pod: 'research-0', ip: 'fd00::1' },
  ];
  api.set('a', 50_051, pods);
  const env = { KUBECONFIG: api.kubeconfig };
  const port = String(sidecar.metricsPort);
  const found = await rows(t, ['--service', 'agents/research', '--port', port], env);
  t.equal(found.code, 0);
  t.match(found.sidecars, [
    { pod: 'research-0', address: `10.1.2.3:${port}`, state: 'ready', status: { name: 'research' } },
  ]);
  t.equal(found.sidecars.length, 1, 'a pod with two addresses is one line');

  api.remove('a');
  t.match(await outrigger(t, ['--service', 'research'], env), { code: 69, output: /no sidecar was found/ });
  api.failWith = 403;
  t.match(await outrigger(t, ['--service', 'research'], env), {
    code: 69,
    output: /the Service agents\/research: the permission to list endpointslices is missing \(403\)/,
  });
  t.match(await outrigger(t, ['--service', 'research'], { KUBECONFIG: '/nowhere', HOME: t.testdir() }), {
    code: 69,
    output: /set KUBECONFIG, or use --dns or --at/,
  });
});
