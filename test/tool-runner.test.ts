// The tool runner behind a real sidecar: what its tools do, what ends a run, and what is left of it.
import { once } from 'node:events';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { type ServiceError, status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { startProvider } from '../agents/provider/server.ts';
import { callAgent, streamAgent } from '../agents/runtime/serve.ts';
import { freePort } from '../scripts/harness/free-port.ts';
import { startProcess } from '../scripts/harness/process.ts';
import { startSidecar } from '../scripts/harness/sidecar.ts';
import { skipWithout } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { processesWith, startToolRunner, ToolRunnerClient } from './support/tool-runner.ts';

t.setTimeout(180_000);
const skip =
  skipWithout('bwrap', 'confine') || (process.getuid?.() !== 0 && 'needs root to become another user');

async function scene(t: Test, tools: object = {}) {
  const runner = await startToolRunner(t, tools);
  const sidecar = await startSidecar(t, { inbound: { app: runner.address } });
  const address = `127.0.0.1:${sidecar.inboundPort}`;
  return { runner, sidecar, address, client: new ToolRunnerClient(t, address) };
}

t.test('tools run behind a sidecar, in the workspace of their task', { skip }, async (t) => {
  const site = createServer((request, response) =>
    response.end(`the page for ${request.headers['user-agent']}`),
  );
  site.listen(0, '127.0.0.1');
  await once(site, 'listening');
  t.teardown(() => site.close());
  const { port } = site.address() as { port: number };
  const { address, client, runner } = await scene(t, {
    network: { allow: [`127.0.0.1:${port}`] },
    defined: [
      {
        name: 'count_words',
        description: 'Counts words',
        command: ['/usr/bin/wc', '-w'],
        stdin: 'arguments',
        schema: { type: 'object', properties: { text: { type: 'string' } }, required: ['text'] },
        idempotent: true,
      },
      { name: 'greet', description: 'Greets', command: ['/bin/echo', 'hello {name}', '$(id)'], schema: {} },
      { name: 'absent', description: 'Is not there', command: ['/usr/bin/not-there'] },
    ],
  });
  const list = await client.list();
  t.same(list.sandbox, { tier: 'namespaces', minimum: 'namespaces', problems: [] });
  t.match(
    list.tools.map(({ name }) => name),
    ['python', 'javascript', 'shell', 'http_fetch', 'read_file'],
  );
  t.equal(JSON.parse(list.tools[0]!.input_schema).required[0], 'code');

  const python = await client.run({ tool: 'python', args: { code: 'print(6 * 7)' } });
  t.match(python, { call: { tool_name: 'python', result: '42\n' }, failed: false, exit_code: 0 });
  const whoami = await client.run({
    tool: 'shell',
    args: { code: 'id -u; pwd; env | cut -d= -f1 | sort | tr "\\n" " "' },
  });
  t.equal(whoami.stdout.toString(), '15000\n/work\nHOME LANG PATH PWD TMPDIR ');
  const script = await client.run({
    tool: 'javascript',
    args: { code: 'process.stdin.pipe(process.stdout)', stdin: 'in and out' },
  });
  t.equal(script.call!.result, 'in and out');
  const failed = await client.run({ tool: 'python', args: { code: 'print(1)\nraise SystemExit("no")' } });
  t.match(failed, {
    failed: true,
    exit_code: 1,
    call: { result: '1\n[standard error]\nno\n[ended with code 1]' },
  });

  // It reads the value alone: `os.nice(0)` also writes what it has read, which is refused once somebody has lowered it in between.
  // Where the kernel groups processes by session, a priority counts within its group only, and the group has one, too.
  const nice = [
    'import os, time',
    'nice = lambda: os.getpriority(os.PRIO_PROCESS, 0)',
    'def low():',
    '  group = open("/proc/self/autogroup").read() if os.path.exists("/proc/self/autogroup") else "nice 15"',
    '  return nice() >= 15 and group.strip().endswith("nice 15")',
    'while not low() and time.process_time() < LEAST: pass',
    'print(nice(), time.process_time() < LEAST)',
  ].join('\n');
  const niceness = async (least: string) =>
    (await client.run({ tool: 'python', args: { code: nice.replaceAll('LEAST', least) } })).call!.result;
  t.equal(await niceness('0'), '5 False\n');
  t.equal(await niceness('8'), '15 True\n', 'a run that uses much steps back behind the others');

  const taskId = 'task-1';
  await client.run({ tool: 'write_file', args: { path: 'notes/one.txt', content: 'kept' }, taskId });
  t.equal(
    (await client.run({ tool: 'python', args: { code: 'print(open("notes/one.txt").read())' }, taskId }))
      .call!.result,
    'kept\n',
  );
  t.match((await client.run({ tool: 'list_files', taskId })).call!.result, /4\tf\tnotes\/one\.txt/);
  const other = await client.run({ tool: 'read_file', args: { path: 'notes/one.txt' }, taskId: 'task-2' });
  t.match(other, { failed: true }, 'another task has another workspace');
  const another = {
    tool: 'read_file',
    args: { path: 'notes/one.txt' },
    taskId,
    metadata: { 'x-api-key': 'other' },
  };
  t.match(await client.run(another), { failed: true }, 'and so has another caller');
  await client.run({
    tool: 'shell',
    args: { code: 'ln -s /etc/passwd link; ln -s /proc/1/environ link2' },
    taskId,
  });
  t.match(
    (await client.run({ tool: 'read_file', args: { path: 'link' }, taskId })).failed,
    true,
    'a link leads nowhere',
  );

  t.match((await client.run({ tool: 'count_words', args: { text: 'one two three' } })).call!.result, /^3/);
  t.equal((await client.run({ tool: 'greet', args: { name: '"; id' } })).call!.result, 'hello "; id $(id)\n');
  t.match(await client.failure({ tool: 'absent' }), {
    code: status.FAILED_PRECONDITION,
    details: /not-there: No such file/,
  });
  t.match(await client.failure({ tool: 'other' }), { code: status.NOT_FOUND, details: /there are python/ });
  t.match(await client.failure({ tool: 'python', args: { kode: 'x' } }), {
    code: status.INVALID_ARGUMENT,
    details: /code/,
  });

  for (const [tool, args] of [
    ['read_file', { path: 'a.txt\0' }],
    ['python', { code: 'print(1)\0' }],
    ['greet', { name: '\0' }],
    ['shell', { code: `: ${'ä'.repeat(100_000)}` }],
  ] as const)
    t.match(await client.failure({ tool, args }), {
      code: status.INVALID_ARGUMENT,
      details: /the arguments of .* have/,
    });

  const url = `http://127.0.0.1:${port}/`;
  const page = await client.run({ tool: 'http_fetch', args: { url } });
  t.match(page.call!.result, /^HTTP 200 [\s\S]*the page for outrigger-tools/);
  t.match(await client.failure({ tool: 'http_fetch', args: { url: `http://127.0.0.1:${port + 1}/` } }), {
    code: status.PERMISSION_DENIED,
    details: /not in tools.network.allow/,
  });
  const code = [
    'import http.client, socket',
    'proxy = http.client.HTTPConnection("proxy")',
    'proxy.sock = socket.socket(fileno=3)',
    `for target in ("${url}", "http://169.254.169.254/"):`,
    '  proxy.request("GET", target, headers={"user-agent": "a run"})',
    '  answer = proxy.getresponse()',
    '  print(answer.status, answer.read().decode())',
  ].join('\n');
  const fetched = (await client.run({ tool: 'python', args: { code } })).call!.result;
  t.match(
    fetched,
    /^200 the page for a run\n403 .*169\.254\.169\.254/,
    'a run reaches allowed hosts by its connection',
  );

  const events = await client.stream({
    tool: 'shell',
    args: { code: 'echo one; sleep 0.2; echo two >&2; exit 4' },
  });
  t.equal(events[0]!.stdout!.toString(), 'one\n');
  t.match(events.at(-1), { result: { exit_code: 4, failed: true } });

  const input = JSON.stringify({
    tool: 'python',
    arguments: { code: 'open("n", "a").write("x"); print(len(open("n").read()))' },
  });
  const task = { task_id: 'run-once', agent_type: 'tools', correlation_id: 'shared', input };
  const [first, again] = [await callAgent(address, task), await callAgent(address, task)];
  t.match(first, { output: '1\n', status: 'SUCCESS', tool_calls: [{ tool_name: 'python', result: '1\n' }] });
  t.equal(again.output, '1\n', 'a repeated task runs once');
  t.equal((await callAgent(address, { ...task, task_id: 'another' })).output, '2\n');
  t.rejects(callAgent(address, { ...task, task_id: 'bad', input: 'print(1)' }), {
    code: status.INVALID_ARGUMENT,
  });

  const metrics = await (await fetch(`http://${runner.status}/metrics`)).text();
  t.match(metrics, /outrigger_tool_runs_total\{tool="python",outcome="failed"\} 1$/m);
  t.match(metrics, /outrigger_tool_sandbox_tier\{tier="namespaces"\} 1/);
});

t.test('each limit ends its own run and is named, and a neighbour goes on', { skip }, async (t) => {
  const { client } = await scene(t, {
    run: { cpu: '1s', wall: '4s', memory: '64MiB', processes: 16, output: '1MiB', files: '4MiB' },
    // On a busy machine a second of CPU time takes long.
    defined: [
      {
        name: 'loop',
        description: 'Loops',
        command: ['/bin/sh', '-c', 'while :; do :; done'],
        schema: {},
        limits: { wall: '2m' },
      },
    ],
  });
  const bombs: Record<string, [string, string]> = {
    memory: ['python', 'a = []\nwhile True: a.append(b"x" * 1_000_000 + bytes(len(a)))'],
    processes: ['shell', 'f() { f | f & }; f; sleep 30'],
    cpu: ['loop', ''],
    wall: ['shell', 'sleep 60'],
    output: ['shell', 'head -c 1000000000 /dev/zero'],
    files: ['python', 'i = 0\nwhile True:\n  open(f"f{i}", "wb").write(b"x" * 100_000); i += 1'],
  };
  let isOver = false;
  const neighbour = (async () => {
    let runs = 0;
    for (; !isOver; runs++) {
      const { call } = await client.run({ tool: 'shell', args: { code: 'echo here' } });
      if (call!.result !== 'here\n') throw new Error(`the neighbour got ${call!.result}`);
    }
    return runs;
  })();
  // All at once: each has to end itself alone.
  const ends = Object.entries(bombs).map(async ([limit, [tool, code]]) => {
    const error = await client.failure({ tool, args: code === '' ? {} : { code } });
    const name = { wall: 'time', cpu: 'CPU' }[limit] ?? limit;
    t.match(error, { code: status.RESOURCE_EXHAUSTED, details: new RegExp(`limit of ${name}`) });
    t.same(error.metadata.get('agent-error-limit'), [limit]);
  });
  await Promise.all(ends);
  // Threads, shared memory, disks in memory and memory of children count, too.
  const sly = [
    // What the kernel keeps for it in sockets.
    [
      'import os, socket, time',
      'os.fork(), os.fork()',
      'kept = [end for _ in range(50) for end in socket.socketpair()]',
      'for end in kept: end.setblocking(False)',
      'for end in kept: end.send(b"x" * 100_000)',
      'time.sleep(30)',
    ].join('\n'),
    'import mmap, time\nm = mmap.mmap(-1, 200_000_000)\nfor i in range(0, len(m), 4096): m[i] = 1\ntime.sleep(9)',
    'import os, time\nfor _ in range(4):\n  if os.fork() == 0:\n    x = bytearray(b"x") * 30_000_000; time.sleep(9)\ntime.sleep(9)',
  ];
  for (const code of sly)
    t.match((await client.failure({ tool: 'python', args: { code } })).metadata.get('agent-error-limit'), [
      'memory',
    ]);
  isOver = true;
  t.ok((await neighbour) > 0);
});

t.test('nothing is left of a run that is cancelled, expires, or loses its runner', { skip }, async (t) => {
  const { client, runner } = await scene(t);
  const sleeping = (mark: string) => ({
    tool: 'shell',
    args: {
      code: `(setsid sh -c ': ${mark}; trap "" TERM INT HUP; sleep 300; :' &) ; : ${mark}; sleep 300; :`,
    },
  });
  const begun = (mark: string) => waitUntil(`${mark} runs`, () => processesWith(mark).length >= 3);
  const gone = (mark: string) => waitUntil(`${mark} is gone`, () => processesWith(mark).length === 0);

  const cancelled = client.failure(sleeping('mark-cancel'), begun('mark-cancel'));
  t.equal((await cancelled).code, status.CANCELLED);
  await gone('mark-cancel');

  const expired = client.failure({ ...sleeping('mark-late'), timeoutMs: 1_500 });
  await begun('mark-late');
  t.equal((await expired).code, status.DEADLINE_EXCEEDED);
  await gone('mark-late');

  const left = client.run({
    tool: 'shell',
    args: { code: `(setsid sh -c ': mark-left; sleep 300; :' &) ; exit 0` },
  });
  t.equal((await left).exit_code, 0);
  t.same(processesWith('mark-left'), [], 'a run ends with its first process');

  const lost = client.failure(sleeping('mark-kill'));
  await begun('mark-kill');
  runner.kill('SIGKILL');
  t.equal((await lost).code, status.UNAVAILABLE);
  await gone('mark-kill');
});

t.test('a call with an id runs once, and an unknown outcome is said to be unknown', { skip }, async (t) => {
  const { client, runner } = await scene(t, {
    defined: [
      {
        name: 'append',
        description: 'Appends',
        command: ['/bin/sh', '-c', 'echo x >> log; wc -l < log'],
        idempotent: false,
      },
    ],
  });
  const call = { tool: 'append', callId: 'c1', taskId: 't1' };
  const both = await Promise.all([client.run(call), client.run(call)]);
  t.same(
    both.map(({ call }) => call!.result.trim()),
    ['1', '1'],
    'joined',
  );
  t.match(await client.run(call), { replayed: true, call: { result: '1\n' } });
  t.equal((await client.run({ ...call, callId: 'c2' })).call!.result, '2\n');
  t.match(await client.failure({ ...call, args: { other: 1 }, tool: 'shell' }), {
    code: status.INVALID_ARGUMENT,
  });

  const slow = { tool: 'shell', args: { code: ': mark-unknown; sleep 300; :' }, callId: 'c3', taskId: 't1' };
  const cut = await client.failure(
    slow,
    waitUntil('it runs', () => processesWith('mark-unknown', '/bin/sh').length > 0),
  );
  t.equal(cut.code, status.CANCELLED);
  // Until the cancel arrives, a repeated call joins the run.
  await waitUntil('the run has ended', () => processesWith('mark-unknown').length === 0);
  const repeated = await client.failure(slow);
  t.match(repeated, { code: status.UNKNOWN, details: /nobody knows whether shell has done its work/ });
  t.same(repeated.metadata.get('agent-error-reason'), ['outcome_unknown']);

  const killed = { tool: 'shell', args: { code: ': mark-lost; sleep 300; :' }, callId: 'c4', taskId: 't1' };
  const own = new ToolRunnerClient(t, runner.address);
  const lost = own.failure(killed);
  await waitUntil('it runs', () => processesWith('mark-lost', '/bin/sh').length > 0);
  runner.kill('SIGKILL');
  await Promise.all([lost, runner.ended]);
  const next = await startToolRunner(t, { workspaces: { path: join(runner.folder, 'runs') } });
  const after = new ToolRunnerClient(t, next.address);
  t.match(await after.failure(killed), { code: status.UNKNOWN, details: /the runner ended while it ran/ });
  t.match(await after.failure(slow), { code: status.UNKNOWN }, 'and what was unknown before');
  t.match(await after.run({ ...killed, args: { code: 'echo new' }, callId: 'c5' }), { failed: false });
});

t.test(
  'a run whose runner is killed happens once behind sidecars, or is said to be unknown',
  { skip },
  async (t) => {
    const visits = new Map<string, number>();
    const site = createServer((request, response) => {
      visits.set(request.url!, (visits.get(request.url!) ?? 0) + 1);
      response.end('counted');
    });
    site.listen(0, '127.0.0.1');
    await once(site, 'listening');
    t.teardown(() => {
      site.closeAllConnections();
      site.close();
    });
    const { port } = site.address() as { port: number };
    const visit = (name: string) => `http://127.0.0.1:${port}/${name}`;
    const code = [
      'import http.client, socket, sys, time',
      'proxy = http.client.HTTPConnection("proxy")',
      'proxy.sock = socket.socket(fileno=3)',
      'proxy.request("POST", sys.argv[1], "1")',
      'proxy.getresponse().read()',
      'time.sleep(300 if sys.argv[2] == "first" else 0)',
      'print("done")',
    ].join('\n');
    const settings = (which: string) => {
      const tool = (name: string, idempotent: boolean) => ({
        ...{ name, description: 'Visits a page', network: true, idempotent, limits: { wall: '5m' } },
        command: ['/usr/bin/python3', '-I', '-c', code, '{url}', which],
        schema: { type: 'object', properties: { url: { type: 'string' } }, required: ['url'] },
      });
      return {
        network: { allow: [`127.0.0.1:${port}`] },
        defined: [tool('pay', false), tool('look', true)],
      };
    };
    const first = await startToolRunner(t, settings('first'));
    const inbound = await startSidecar(t, { inbound: { app: first.address } });
    // The sidecar's defaults but for what docs/tools.md asks for.
    const endpoints = [`127.0.0.1:${inbound.inboundPort}`];
    const clusters = { 'tools-agent': { endpoints, task: { deduplicate: false } } };
    const caller = await startSidecar(t, { outbound: { clusters } }, { until: 'live' });
    const address = `127.0.0.1:${caller.outboundPort}`;
    const client = new ToolRunnerClient(t, address, 'tools-agent');
    const calls = ['pay', 'look'].map((tool) => ({
      tool,
      args: { url: visit(tool) },
      callId: tool,
      timeoutMs: 290_000,
    }));
    const input = (tool: string, name: string) => JSON.stringify({ tool, arguments: { url: visit(name) } });
    const task = { task_id: 'task-pay', agent_type: 'tools', input: input('pay', 'task') };
    const failed = (made: Promise<unknown>) =>
      made.then(
        () => undefined,
        (error: ServiceError) => error,
      );
    const running = [
      ...calls.map((call) => client.failure(call)),
      failed(callAgent(address, task, { authority: 'tools-agent' })),
    ];
    await waitUntil('all three have had their effect', () => visits.size === 3);
    first.kill('SIGKILL');
    const [pay, look, paid] = await Promise.all([...running, first.ended]);
    t.match(
      [pay, look, paid],
      [{ code: status.UNAVAILABLE }, { code: status.UNAVAILABLE }, { code: status.UNAVAILABLE }],
    );

    const folder = join(first.folder, 'runs');
    const again = { ...settings('second'), workspaces: { path: folder } };
    await startToolRunner(t, again, { AGENT_LISTEN: first.address });
    const unknown = { code: status.UNKNOWN, details: /nobody knows whether pay has done its work/ };
    const settled = async (ask: () => Promise<ServiceError | undefined>) => {
      let answer: ServiceError | undefined;
      await waitUntil('the new runner answers through both sidecars', async () => {
        answer = await ask();
        return answer?.code !== status.UNAVAILABLE;
      });
      return answer;
    };
    const repeated = await settled(() => client.failure(calls[0]!));
    t.match(repeated, unknown);
    t.same(repeated!.metadata.get('agent-error-reason'), ['outcome_unknown']);
    const repeatedTask = await settled(() => failed(callAgent(address, task, { authority: 'tools-agent' })));
    t.match(repeatedTask, unknown);
    t.same(repeatedTask!.metadata.get('agent-error-reason'), ['outcome_unknown']);
    t.equal((await client.run(calls[1]!)).call!.result, 'done\n', 'what is idempotent runs again');
    t.same(Object.fromEntries(visits), { '/pay': 1, '/task': 1, '/look': 2 });
  },
);

t.test('a runner whose sandbox is below the minimum is not ready, and says why', { skip }, async (t) => {
  const runner = await startToolRunner(t, { bubblewrap: '/usr/bin/not-there' });
  const ready = await fetch(`http://${runner.status}/healthz/ready`);
  t.equal(ready.status, 503);
  t.match(
    await ready.text(),
    /reached the tier "landlock", and tools.minimum is "namespaces": namespaces: .*not-there/,
  );
  const client = new ToolRunnerClient(t, runner.address);
  const refused = await client.failure({ tool: 'shell', args: { code: 'id' } });
  t.match(refused, { code: status.UNAVAILABLE, details: /tools.minimum/ });
  t.same(refused.metadata.get('agent-error-reason'), ['sandbox']);
  t.match(runner.logs(), /listening, but not ready/);
  const sidecar = await startSidecar(t, { inbound: { app: runner.address } }, { until: 'live' });
  await waitUntil('the sidecar knows that it is not ready', async () => {
    const answer = await fetch(`http://127.0.0.1:${sidecar.healthPort}/healthz/ready`);
    return answer.status === 503;
  });

  const weaker = await startToolRunner(t, { bubblewrap: '/usr/bin/not-there', minimum: 'landlock' });
  const other = new ToolRunnerClient(t, weaker.address);
  const taskId = 'task';
  await other.run({ tool: 'write_file', args: { path: 'a', content: 'kept' }, taskId });
  t.equal(
    (
      await other.run({
        tool: 'javascript',
        args: { code: 'console.log(fs.readFileSync("a", "utf8"))' },
        taskId,
      })
    ).call!.result,
    'kept\n',
  );
  t.match(
    (await other.failure({ tool: 'python', args: { code: 'x = b"x"\nwhile True: x += x' } })).details,
    /memory/,
  );
  t.match(
    (await other.failure({ tool: 'shell', args: { code: 'f() { f | f & }; f; sleep 30' } })).details,
    /processes/,
  );
});

t.test('an agent gives its model the tools, and tells which it has run', { skip }, async (t) => {
  const provider = await startProvider('127.0.0.1', 0);
  t.teardown(() => provider.close());
  const { runner, address } = await scene(t);
  const clusters = { 'tools-agent': { endpoints: [address], task: { deduplicate: false } } };
  const own = await startSidecar(t, { outbound: { clusters } }, { until: 'live' });
  const listen = `127.0.0.1:${await freePort()}`;
  const agent = startProcess(
    t,
    process.execPath,
    [join(import.meta.dirname, '../agents/research/agent.ts')],
    {
      env: {
        AGENT_LISTEN: listen,
        AGENT_OUTBOUND: `127.0.0.1:${own.outboundPort}`,
        AGENT_TOOLS: 'tools-agent',
        OPENAI_BASE_URL: provider.baseUrl,
        OPENAI_API_KEY: 'offline',
      },
    },
  );
  await waitUntil('the agent listens', () => agent.logs().includes('listening'));
  const answer = await callAgent(listen, { input: 'What is 6 * (3 + 4)?' });
  t.match(answer, { status: 'SUCCESS', output: /^The tool says: 42\n/ });
  t.match(answer.tool_calls, [
    { tool_name: 'python', arguments: '{"code":"print(6 * (3 + 4))"}', result: '42\n' },
  ]);
  const pieces: string[] = [];
  for await (const piece of streamAgent(listen, { input: 'Calculate 2 ** 10' })) pieces.push(piece);
  t.match(pieces.join(''), /^The tool says: 1024\n/);
  const without = await callAgent(listen, { input: 'What is a circuit breaker?' });
  t.same(without.tool_calls, [], 'no tool is run where the model asks for none');

  runner.kill('SIGKILL');
  await runner.ended;
  const alone = await callAgent(listen, { input: 'What is 1 + 1?' });
  t.match(alone.tool_calls[0]?.result, /^(The tool did not succeed|The outcome is unknown)/);
  t.equal(alone.status, 'SUCCESS');
});
