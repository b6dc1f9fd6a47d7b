// `npm run load` as its users run it, against a real sidecar beside an agent.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { agentService } from '../../agents/protocol/definitions.ts';
import type { TaskChunk, TaskRequest, TaskResponse } from '../../agents/protocol/messages.ts';
import { TestAuthority } from '../../scripts/harness/certificates.ts';
import { freePort } from '../../scripts/harness/free-port.ts';
import { runProcess, startProcess, type TestProcess } from '../../scripts/harness/process.ts';
import { startSidecar } from '../../scripts/harness/sidecar.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { Caller } from './caller.ts';
import { readOptions, UsageError } from './options.ts';
import type { LoadReport } from './report.ts';

t.setTimeout(290_000);

const program = join(import.meta.dirname, 'main.ts');
/** The machine may be busy, and these tests do not check the generator's lag. */
const anyLag = ['--max-lag', '1h'];
const chunkEveryMs = 40;

interface TestAgent {
  readonly port: number;
  readonly tasks: TaskRequest[];
  /** When each came, beside `tasks`. */
  readonly arrivedMs: number[];
  readonly authorizations: Set<string>;
  /** Answers wait for it. */
  gate: Promise<void>;
  onTask: (count: number) => void;
}

/** Does what a task's input asks for. */
async function startAgent(t: Test, credentials = ServerCredentials.createInsecure()): Promise<TestAgent> {
  const agent: TestAgent = {
    port: 0,
    tasks: [],
    arrivedMs: [],
    authorizations: new Set(),
    gate: Promise.resolve(),
    onTask: () => {},
  };
  type Seen = Pick<ServerUnaryCall<TaskRequest, TaskResponse>, 'request' | 'metadata'>;
  const arrive = ({ request, metadata }: Seen): void => {
    agent.tasks.push(request);
    agent.arrivedMs.push(performance.now());
    agent.authorizations.add(String(metadata.get('authorization')[0]));
    agent.onTask(agent.tasks.length);
  };
  const server = new Server();
  server.addService(agentService, {
    async ProcessTask(call: ServerUnaryCall<TaskRequest, TaskResponse>, answer: sendUnaryData<TaskResponse>) {
      arrive(call);
      await agent.gate;
      const { input, task_id } = call.request;
      if (input === 'refuse') {
        const details = `no right with ${call.metadata.get('authorization')[0]}`;
        answer({ code: status.PERMISSION_DENIED, details });
      } else if (input !== 'never')
        answer(null, { task_id, status: input === 'fail' ? 'FAILED' : 'SUCCESS' } as TaskResponse);
    },
    async StreamProcess(call: ServerWritableStream<TaskRequest, TaskChunk>) {
      arrive(call);
      await agent.gate;
      for (let i = 1; i <= 4; i++) {
        await new Promise((resolve) => setTimeout(resolve, chunkEveryMs));
        call.write({ chunk: 'words ', is_final: i === 4 && call.request.input !== 'no end' });
      }
      call.end();
    },
    HealthCheck: (_call: unknown, answer: sendUnaryData<object>) => answer(null, { healthy: true }),
  });
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', credentials, (error, port) =>
      error === null ? resolve(port) : reject(error),
    ),
  );
  t.teardown(() => server.forceShutdown());
  return Object.assign(agent, { port });
}

async function startBoth(t: Test, inbound: object = {}): Promise<{ agent: TestAgent; target: string }> {
  const agent = await startAgent(t);
  const sidecar = await startSidecar(t, { inbound: { app: `127.0.0.1:${agent.port}`, ...inbound } });
  return { agent, target: `127.0.0.1:${sidecar.inboundPort}` };
}

interface Ended {
  code: number | NodeJS.Signals;
  output: string;
  report: LoadReport;
  json: string;
  page: string;
}

function prepare(t: Test, args: string[]): { all: string[]; read: () => Omit<Ended, 'code' | 'output'> } {
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-load-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const read = () => {
    const json = readFileSync(join(folder, 'made', 'report.json'), 'utf8');
    const page = readFileSync(join(folder, 'made', 'report.html'), 'utf8');
    return { report: JSON.parse(json) as LoadReport, json, page };
  };
  return { all: [program, '--out', join(folder, 'made', 'report'), ...args], read };
}

async function load(t: Test, ...args: string[]): Promise<Ended> {
  const { all, read } = prepare(t, args);
  const { code, output } = await runProcess(t, process.execPath, all, { limitMs: 100_000 });
  try {
    return { code, output, ...read() };
  } catch (error) {
    throw new Error(`load exited with ${code}: ${output}`, { cause: error });
  }
}

t.test(
  'calls arrive at the configured rate, each with its own task, and the report excludes the warm-up',
  async (t) => {
    const { agent, target } = await startBoth(t);
    const { code, output, report, page } = await load(
      t,
      ...['--target', target, '--rate', '40', '--duration', '2s', '--warmup', '500ms'],
      ...[
        '--task-type',
        'writing',
        '--input-bytes',
        '333',
        '--metadata',
        'authorization=Bearer 42',
        ...anyLag,
      ],
      ...['--max-p99', '1m', '--max-errors', '0%'],
    );
    t.equal(code, 0, output);
    t.match(report.calls, { due: 80, sent: 80, ok: 80, failed: 0, unfinished: 0, errorShare: 0 });
    t.equal(report.verdict, 'passed');
    t.equal(agent.tasks.length, 100, 'with the warm-up');
    t.equal(new Set(agent.tasks.map(({ task_id }) => task_id)).size, 100);
    t.equal(report.errors.deduplicated, 0);
    t.ok(agent.tasks.every(({ agent_type, input }) => agent_type === 'writing' && input.length === 333));
    t.strictSame([...agent.authorizations], ['Bearer 42']);
    t.strictSame(report.settings.metadataKeys, ['authorization']);
    t.equal(report.latency.corrected.count, 80);
    t.ok(report.latency.corrected.p50! <= report.latency.corrected['p99.9']!);
    t.ok(report.latency.serviceTime.mean! <= report.latency.corrected.mean!);
    t.equal(
      report.overTime.reduce((sum, { ok }) => sum + ok, 0),
      80,
    );
    t.ok(report.generator.cpuMicrosecondsPerCall > 0);
    t.match(output, /latency, from due .* ms/);
    t.match(output, /held {5}--max-errors: 0 % ≤ 0 %/);
    t.match(page, /<svg role="img" aria-label="Latency by percentile"/);
    t.notMatch(page, /<script|NaN|undefined|Infinity/);
  },
);

t.test('calls continue while the target stalls, and the percentiles include the stall', async (t) => {
  const { agent, target } = await startBoth(t);
  const stall = { fromMs: 0, toMs: 0 };
  agent.onTask = (count) => {
    if (count !== 60) return;
    stall.fromMs = performance.now();
    agent.gate = new Promise((resolve) =>
      setTimeout(() => {
        stall.toMs = performance.now();
        resolve();
      }, 1000),
    );
  };
  const { code, report, output } = await load(
    t,
    ...['--target', target, '--rate', '50', '--duration', '4s', '--warmup', '0s', ...anyLag],
    ...['--max-p90', '200ms'],
  );
  t.match(report.calls, { due: 200, sent: 200, ok: 200 }, 'every call was sent');
  const meanwhile = agent.arrivedMs.filter((at) => at > stall.fromMs && at < stall.toMs).length;
  t.ok(meanwhile >= 20, `${meanwhile} calls of about 50 arrived during the stall`);
  // A quarter of all waited; one caller that waits for its answer would have seen one slow call of many.
  t.ok(report.latency.corrected.p90! > 300, `p90 is ${report.latency.corrected.p90} ms`);
  t.ok(report.latency.corrected.max! > 800);
  t.ok(report.overTime.some(({ max }) => max! > 800));
  t.equal(code, 1, 'a threshold was exceeded');
  t.match(output, /exceeded --max-p90: [\d.]+ m?s > 200 ms/);
});

t.test('a late generator reports its lag, and adds it to the latency', async (t) => {
  const { agent, target } = await startBoth(t);
  const { all, read } = prepare(t, [
    ...['--target', target, '--rate', '50', '--duration', '4s', '--warmup', '0s', '--max-errors', '100%'],
  ]);
  const running = startProcess(t, process.execPath, all);
  await waitUntil('calls arrived', () => agent.tasks.length >= 20);
  running.kill('SIGSTOP');
  setTimeout(() => running.kill('SIGCONT'), 1500);
  t.equal(await running.ended, 3, running.logs());
  const { report } = read();
  t.equal(report.verdict, 'generator late');
  t.match(running.logs(), /warning: the generator was late/);
  t.equal(report.calls.due, 200);
  t.ok(report.generator.scheduleLag.max! > 1000);
  t.ok(report.latency.corrected.max! > 1000, 'for calls that were due meanwhile');
  t.ok(report.latency.corrected.mean! > report.latency.serviceTime.mean!);
});

t.test(
  "the report counts failures by status, by the sidecar's reason, and with their pushback",
  async (t) => {
    const { agent, target } = await startBoth(t, { max_concurrent_calls: 2 });
    const { code, output, report, page } = await load(
      t,
      ...['--target', target, '--rate', '30', '--duration', '2s', '--warmup', '0s', ...anyLag],
      ...['--input', 'never', '--deadline', '700ms', '--max-errors', '1%'],
    );
    t.equal(code, 1);
    t.equal(report.calls.ok, 0);
    t.equal(report.calls.failed, 60);
    const count = (wanted: string): number =>
      report.errors.byOutcome.find(({ outcome }) => outcome === wanted)?.count ?? 0;
    t.ok(count('DEADLINE_EXCEEDED') >= 2, output);
    t.ok(count('RESOURCE_EXHAUSTED') > 10, output);
    t.equal(count('DEADLINE_EXCEEDED') + count('RESOURCE_EXHAUSTED'), 60);
    const overloaded = report.errors.byReason.find(({ reason }) => reason === 'overloaded')?.count;
    t.equal(overloaded, count('RESOURCE_EXHAUSTED'));
    t.equal(report.errors.pushbacks, count('RESOURCE_EXHAUSTED'));
    t.match(output, /outrigger-reason overloaded/);
    t.match(output, /no call succeeded/);
    t.match(page, /<td>overloaded<\/td>/);
    t.ok(agent.tasks.length < 60);
  },
);

t.test(
  'a failed task with status OK is a failure, and the report contains no values of metadata',
  async (t) => {
    const { agent, target } = await startBoth(t);
    const common = ['--target', target, '--rate', '20', '--duration', '1s', '--warmup', '0s', ...anyLag];
    const failed = await load(t, ...common, '--input', 'fail');
    t.equal(failed.code, 1, 'no call succeeded, and the run has no threshold');
    t.match(failed.report.errors.byOutcome, [{ outcome: 'task FAILED', count: 20 }]);

    const refused = await load(t, ...common, '--input', 'refuse', '--metadata', 'authorization=s3cret-<b>');
    t.match(refused.report.errors.byOutcome, [
      { outcome: 'PERMISSION_DENIED', count: 20, example: 'no right with ***' },
    ]);
    t.ok(agent.authorizations.has('s3cret-<b>'));
    for (const text of [refused.output, refused.json, refused.page]) t.notMatch(text, /s3cret/);
  },
);

t.test('the generator makes no calls above --max-in-flight, and counts them as not made', async (t) => {
  const { agent, target } = await startBoth(t);
  const { code, report, output } = await load(
    t,
    ...['--target', target, '--rate', '50', '--duration', '2s', '--warmup', '0s', ...anyLag],
    ...['--input', 'never', '--deadline', '8s', '--max-in-flight', '10', '--max-errors', '50%'],
  );
  t.equal(code, 1);
  t.match(report.calls, { due: 100, sent: 10, ok: 0, failed: 10, notSent: { inFlightBound: 90 } });
  t.equal(agent.tasks.length, 10);
  t.match(output, /warning: 90 calls were not made, because 10 were open/);
});

t.test('for streams, the report has the time to the first chunk, gaps, and missing ends', async (t) => {
  const { target } = await startBoth(t);
  const common = ['--target', target, '--stream', '--rate', '20', '--duration', '2s', '--warmup', '0s'];
  const good = await load(t, ...common, ...anyLag, '--max-first-chunk-p99', '1ms', '--max-errors', '0%');
  t.equal(good.code, 1, 'of its first chunk');
  t.match(good.report.calls, { ok: 40, failed: 0 });
  const { chunks, firstChunk, chunkGap } = good.report.stream!;
  t.equal(chunks, 160);
  t.equal(firstChunk.count, 40);
  t.equal(chunkGap.count, 120);
  t.ok(firstChunk.p50! >= chunkEveryMs - 5);
  t.ok(chunkGap.mean! > chunkEveryMs / 2);
  t.ok(good.report.latency.corrected.p50! >= 4 * (chunkEveryMs - 5));
  t.match(good.output, /exceeded --max-first-chunk-p99/);
  t.match(good.output, /between chunks/);

  const cut = await load(t, ...common, ...anyLag, '--input', 'no end');
  t.match(cut.report.errors.byOutcome, [{ outcome: 'no final chunk', count: 40 }]);
});

t.test('an interrupt ends the run early, with a report', async (t) => {
  const { agent, target } = await startBoth(t);
  const start = async (...args: string[]): Promise<[TestProcess, () => LoadReport]> => {
    const before = agent.tasks.length;
    const common = ['--target', target, '--rate', '50', '--duration', '10m', '--warmup', '0s', ...anyLag];
    const { all, read } = prepare(t, [...common, ...args]);
    const running = startProcess(t, process.execPath, all);
    await waitUntil('calls arrived', () => agent.tasks.length >= before + 30);
    return [running, () => read().report];
  };
  const [answered, report] = await start();
  // As from a terminal through npm: twice in a row.
  answered.kill('SIGINT');
  answered.kill('SIGINT');
  t.equal(await answered.ended, 0, answered.logs());
  t.match(report(), { endedEarly: true, verdict: 'passed' });
  t.ok(report().calls.ok >= 30);
  t.ok(report().measuredMs < 300_000);
  t.match(answered.logs(), /ended early/);

  agent.gate = new Promise(() => {});
  const [stuck, found] = await start();
  stuck.kill('SIGINT');
  t.equal(await stuck.ended, 1, stuck.logs());
  t.ok(found().calls.unfinished >= 30, 'open calls are not failures of the target');
  t.equal(found().calls.failed, 0);
});

t.test('the run counts the failures of a stopped target, and reconnects after its restart', async (t) => {
  const agent = await startAgent(t);
  const config = { inbound: { app: `127.0.0.1:${agent.port}`, listen: `127.0.0.1:${await freePort()}` } };
  const first = await startSidecar(t, config);
  const target = `127.0.0.1:${first.inboundPort}`;
  const { all, read } = prepare(t, [
    ...['--target', target, '--rate', '20', '--duration', '10m', '--warmup', '0s', ...anyLag],
  ]);
  const running = startProcess(t, process.execPath, all);
  await waitUntil('calls arrived', () => agent.tasks.length >= 20);
  first.kill('SIGKILL');
  await first.ended;
  await new Promise((resolve) => setTimeout(resolve, 500));
  const before = agent.tasks.length;
  await startSidecar(t, config);
  await waitUntil('calls arrived again', () => agent.tasks.length >= before + 20);
  running.kill('SIGINT');
  t.equal(await running.ended, 0, running.logs());
  const { report } = read();
  // Some of the arrived calls were open when the target was killed.
  t.ok(report.calls.ok >= 25, `${report.calls.ok} succeeded`);
  t.match(report.errors.byOutcome[0], { outcome: 'UNAVAILABLE' });
  t.ok(report.calls.failed >= 5, `${report.calls.failed} failed meanwhile`);
});

t.test('an invalid option fails with a remedy, before any call', async (t) => {
  const run = (...args: string[]) => runProcess(t, process.execPath, [program, ...args]);
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-load-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'file');
  writeFileSync(file, 'no certificate');
  const target = `127.0.0.1:${await freePort()}`;
  const both = ['--target', target, '--rate', '5'];
  const wrong: [string[], RegExp][] = [
    [[], /--target is missing: set the address/],
    [['--target', `http://${target}`, '--rate', '5'], /not HOST:PORT: write it without a scheme/],
    [[...both, '--rate', 'x'], /--rate x must be a number above 0/],
    [['--target', target], /--rate is missing: for example --rate 100/],
    [[...both, '--duration', '30'], /--duration 30 is not a duration: write a number and its unit/],
    [[...both, '--max-errors', '2'], /--max-errors 2 is not a share: write 0% to 100%/],
    [[...both, '--metadata', 's3cret'], /must be KEY=VALUE/],
    [[...both, '--max-chunk-gap-p99', '5ms'], /applies to streams only: add --stream/],
    [[...both, '--tls', '--cert', file], /--cert and --key go together/],
    [[...both, '--ca', join(folder, 'none')], /--ca .* can't be read \(ENOENT\): use a PEM file/],
    [[...both, '--cert', file, '--key', file], /not usable .*: use PEM files that belong together/],
    [[...both, '--speed', '5'], /Unknown option '--speed'; --help lists/],
  ];
  for (const [args, message] of wrong) {
    t.throws(
      () => new Caller(readOptions(args)!).close(),
      { constructor: UsageError, message },
      args.join(' '),
    );
  }
  const secret = await run(...both, '--metadata', 'authorization=Bearer', 's3cret');
  t.match(secret, { code: 64, output: /^load: an argument .* quote values that contain spaces\n$/ });
  const nowhere = await run(...both, '--out', join(file, 'x', 'report'));
  t.match(nowhere, { code: 64, output: /^load: .* can't be written .*: choose another path\n$/ });
  const down = await run(...both, '--out', join(folder, 'report'));
  t.equal(down.code, 69, 'no process listens there');
  t.match(down.output, /no connection to .*ECONNREFUSED.*: check that it runs/);
  t.match(await run('--help'), { code: 0, output: /--max-p99 50ms/ });
});

t.test('the load tool uses mutual TLS', async (t) => {
  const authority = await TestAuthority.make();
  const server = await authority.issue({ names: ['localhost', 'agent.test'] });
  const client = await authority.issue();
  const agent = await startAgent(
    t,
    ServerCredentials.createSsl(
      Buffer.from(authority.ca),
      [{ cert_chain: Buffer.from(server.cert), private_key: Buffer.from(server.key) }],
      true,
    ),
  );
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-load-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const path = (name: string, content: string): string => {
    writeFileSync(join(folder, name), content);
    return join(folder, name);
  };
  const ca = ['--ca', path('ca.pem', authority.ca), '--server-name', 'agent.test'];
  const own = ['--cert', path('cert.pem', client.cert), '--key', path('key.pem', client.key)];
  const common = [
    '--target',
    `127.0.0.1:${agent.port}`,
    '--rate',
    '20',
    '--duration',
    '1s',
    '--warmup',
    '0s',
  ];
  const { code, report, output } = await load(t, ...common, ...ca, ...own, ...anyLag);
  t.equal(code, 0, output);
  t.equal(report.calls.ok, 20);
  const strange = await TestAuthority.make();
  const { code: refused, output: said } = await runProcess(t, process.execPath, [
    program,
    ...common,
    ...[
      '--ca',
      path('other.pem', strange.ca),
      '--server-name',
      'agent.test',
      '--out',
      join(folder, 'report'),
    ],
  ]);
  t.equal(refused, 69);
  t.match(said, /certificate.*--ca, --server-name/);
});
