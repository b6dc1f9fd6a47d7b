// The running calls with their attempts, as the admin page and `outrigger calls` show them, of a real sidecar.
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { runProcess, startProcess } from '../scripts/harness/process.ts';
import { RawClient } from '../scripts/harness/raw-grpc.ts';
import { type Sidecar, startSidecar } from '../scripts/harness/sidecar.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { PROCESS_TASK_PATH, STREAM_PROCESS_PATH } from '../sidecar/task/task-message.ts';
import { answerWith, grpcFrame, type SeenCall, startUpstream, taskRequest } from './support/upstream.ts';

t.setTimeout(290_000);

interface Way {
  readonly number: number;
  readonly endpoint: string;
  readonly state: string;
  readonly verdict: string;
  readonly status: string;
  readonly elapsed_ms: number;
}
interface LiveCall {
  readonly listener: string;
  readonly method: string;
  readonly task_id: string;
  readonly cluster: string;
  readonly caller: string;
  readonly age_ms: number;
  readonly deadline_in_ms: number | null;
  readonly state: string;
  readonly attempts: number;
  readonly way: readonly Way[];
}
interface Page {
  readonly running: number;
  readonly matching: number;
  readonly left_out: number;
  readonly calls: readonly LiveCall[];
}

const main = join(import.meta.dirname, '..', 'sidecar', 'main.ts');
const outrigger = (t: Test, ...args: string[]) => runProcess(t, process.execPath, [main, 'calls', ...args]);

const SECRET = 'a-word-that-no-page-shows';

async function page(sidecar: Sidecar, query = ''): Promise<Page> {
  const response = await fetch(`http://127.0.0.1:${sidecar.adminPort}/calls${query}`);
  const text = await response.text();
  // Not an assertion of each page: a wait asks for many.
  if (!response.ok || text.includes(SECRET))
    throw new Error(`a page without a content was expected: ${text}`);
  return JSON.parse(text) as Page;
}

t.test('/calls lists the running calls with their attempts, oldest first', async (t) => {
  const app = await startUpstream(t, { onCall: () => {} });
  // One endpoint fails its calls, the other keeps them: a call shows both attempts.
  const failing = await startUpstream(t, {
    onCall: ({ stream }) =>
      stream.respond(
        { ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '14' },
        { endStream: true },
      ),
  });
  const silent: SeenCall[] = [];
  const keeping = await startUpstream(t, { onCall: (call) => void silent.push(call) });
  const sidecar = await startSidecar(
    t,
    {
      inbound: {
        app: app.address,
        max_concurrent_calls: 2,
        queue: { max_calls: 4, max_wait: '5m' },
      },
      outbound: {
        routes: [{ match: { path_prefix: '/' }, cluster: 'upstream' }],
        clusters: {
          upstream: {
            endpoints: [failing.address, keeping.address],
            balancer: 'round_robin',
            retry: { idempotent_methods: ['/test.Raw/Unary'] },
            outlier_detection: { consecutive_failures: 0 },
          },
        },
      },
    },
    { until: 'live' },
  );
  t.strictSame(
    await page(sidecar).then(({ running, calls }) => ({ running, calls })),
    { running: 0, calls: [] },
    'nothing runs',
  );

  const caller = new RawClient(t, sidecar.inboundPort);
  const task = (id: string) => taskRequest({ id, type: 'research', input: SECRET });
  void caller.unary(task('task-1'), { path: PROCESS_TASK_PATH, deadline: Date.now() + 120_000 });
  await waitUntil('the app has the first task', () => app.calls.length === 1);
  void caller.unary(task('task-1'), { path: PROCESS_TASK_PATH });
  await waitUntil('the second call joins the first', async () => (await page(sidecar)).running === 2);
  caller.serverStream(task('task-2'), { path: STREAM_PROCESS_PATH }).on('error', () => {});
  const stream = await waitUntil('the app has the stream', () => app.calls[1]);
  stream.stream.respond({ ':status': 200, 'content-type': 'application/grpc' });
  stream.stream.write(grpcFrame('a part'));
  const own = new RawClient(t, sidecar.outboundPort);
  for (let call = 0; call < 2; call++) void own.unary(Buffer.from(SECRET));
  await waitUntil('the endpoint keeps both', () => silent.length === 2);

  const all = await waitUntil('every call is shown', async () => {
    const now = await page(sidecar);
    return now.running === 5 && now.calls.some(({ state }) => state === 'answering') && now;
  });
  t.equal(all.matching, 5);
  t.strictSame(
    all.calls.map(({ age_ms }) => age_ms),
    all.calls.map(({ age_ms }) => age_ms).sort((a, b) => b - a),
    'the oldest call is the first',
  );
  const [first, joined, answering, ...outbound] = all.calls;
  t.match(first, {
    listener: 'inbound',
    method: 'agent.AgentService/ProcessTask',
    task_id: 'task-1',
    cluster: 'app',
    caller: '127.0.0.1',
    state: 'attempting',
    attempts: 1,
    way: [{ number: 1, endpoint: app.address, state: 'waiting' }],
  });
  t.ok(first!.deadline_in_ms! > 0 && first!.deadline_in_ms! <= 120_000);
  t.match(joined, { task_id: 'task-1', state: 'joined', attempts: 0, way: [] });
  t.match(answering, {
    method: 'agent.AgentService/StreamProcess',
    task_id: 'task-2',
    state: 'answering',
    way: [{ state: 'answering' }],
  });
  t.match(outbound, [{ listener: 'outbound', cluster: 'upstream' }, { listener: 'outbound' }]);
  const retried = outbound.find(({ attempts }) => attempts === 2)!;
  t.match(retried.way, [
    { number: 1, endpoint: failing.address, state: 'ended', verdict: 'unavailable', status: 'UNAVAILABLE' },
    { number: 2, endpoint: keeping.address, state: 'waiting' },
  ]);

  void caller.unary(task('task-3'), { path: PROCESS_TASK_PATH });
  const queued = await waitUntil('a third run waits for its turn', async () => {
    const { calls } = await page(sidecar, '?task=task-3');
    return calls[0];
  });
  t.match(queued, { state: 'queued', attempts: 0, way: [] });

  t.match(await page(sidecar, '?cluster=upstream&limit=1'), { running: 6, matching: 2, left_out: 1 });
  t.match(await page(sidecar, '?task=task-2'), { matching: 1, calls: [{ task_id: 'task-2' }] });
  t.match(await page(sidecar, '?method=StreamProcess'), { matching: 1 });
  t.match(await page(sidecar, '?older_than=1h'), { running: 6, matching: 0, calls: [] });
  for (const query of ['?older_than=10', '?limit=0', '?limit=100000', `?${SECRET}=1`]) {
    const refused = await fetch(`http://127.0.0.1:${sidecar.adminPort}/calls${query}`);
    t.equal(refused.status, 400, query);
    t.notMatch(await refused.text(), SECRET);
  }

  await t.test('outrigger calls shows them as a table', async (t) => {
    const at = `127.0.0.1:${sidecar.adminPort}`;
    const shown = await outrigger(t, '--config', sidecar.configFile);
    t.equal(shown.code, 0, shown.output);
    const [header = '', ...rows] = shown.output.trimEnd().split('\n');
    t.match(header, /^AGE +STATE +METHOD +TASK +CLUSTER +CALLER +LEFT +TRIES +ATTEMPTS$/);
    t.equal(rows.length, 6);
    t.match(rows[0], /^\d\S*.* attempting +AgentService\/ProcessTask +task-1 +app +127\.0\.0\.1 /);
    t.match(
      shown.output,
      new RegExp(` attempting .* 2 +${failing.address} UNAVAILABLE .*, ${keeping.address} waiting `),
    );
    t.notMatch(shown.output, SECRET);
    const one = await outrigger(t, '--at', at, '--task', 'task-2', '--output', 'json');
    t.match(JSON.parse(one.output), { matching: 1, calls: [{ task_id: 'task-2' }] });
    t.match(await outrigger(t, '--at', at, '--older-than', '1h'), {
      code: 0,
      output: 'none of 6 running calls matches\n',
    });
    t.match(await outrigger(t, '--at', at, '--limit', '0'), {
      code: 64,
      output: /limit takes a whole number/,
    });
    t.match(await outrigger(t, '--at', `127.0.0.1:${sidecar.healthPort}`), {
      code: 69,
      output: /no \/calls/,
    });
    const strangers = createServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', (bytes) => {
        const name = /older_than=(\d)/.exec(bytes.toString())?.[1];
        const call = { ...listed, age_ms: '12' };
        const body = ['{}', '{"calls":[null]}', 'null', JSON.stringify({ ...empty, calls: [call] })][
          Number(name)
        ];
        socket.end(
          body === undefined ? 'SSH-2.0-x\r\n' : `HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n${body}`,
        );
      });
    });
    const empty = { running: 1, matching: 1, left_out: 0 };
    const text = { state: '', method: '', task_id: '', cluster: '', caller: '' };
    const listed = { ...text, attempts: 0, deadline_in_ms: null, way: [] };
    await new Promise<void>((resolve) => strangers.listen(0, '127.0.0.1', resolve));
    t.teardown(() => strangers.close());
    const stranger = `127.0.0.1:${(strangers.address() as AddressInfo).port}`;
    for (const which of ['0s', '1s', '2s', '3s'])
      t.match(
        await outrigger(t, '--at', stranger, '--older-than', which),
        { code: 69, output: /another server answers there; check the port/ },
        which,
      );
    t.match(await outrigger(t, '--at', stranger, '--older-than', '9s'), {
      code: 69,
      output: /it does not answer in HTTP \(HPE_\w+\); check/,
    });
    t.match(await outrigger(t, '--at', '127.0.0.1:1'), { code: 69, output: /nothing listens there/ });

    const watching = startProcess(t, process.execPath, [main, 'calls', '--at', at, '-w', '-o', 'json']);
    await waitUntil('it has looked twice', () => watching.logs().trim().split('\n').length >= 2);
    watching.kill('SIGINT');
    t.equal(await watching.ended, 0, 'Ctrl-C ends it in order');
  });

  for (const { stream: open } of [...silent, app.calls[0]!]) answerWith(open, 'done');
  await waitUntil('ended calls are gone', async () => (await page(sidecar)).running === 2);
});
