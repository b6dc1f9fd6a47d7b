// The parts of the local system: command line, ports, processes, configuration and routes of tasks.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { until } from '../test-support.ts';
import { parseArguments, UsageError } from './arguments.ts';
import { agents } from './layouts/agents.ts';
import { Ports } from './ports.ts';
import { ManagedProcess } from './process.ts';
import { describeProcesses } from './processes.ts';
import { growth, parsePrometheus } from './prometheus-text.ts';
import { routeOf } from './route.ts';
import { Sender } from './sender.ts';
import { planSystem } from './system.ts';
import { childrenOf, isAlive, runStart, start } from './test-support.ts';

// The test starts processes, which takes long while other tests run on the machine.
t.setTimeout(290_000);

t.test('the command line takes tasks and agents, and rejects unknown arguments', async (t) => {
  t.match(parseArguments([]), { task: undefined, agent: 'research', withoutSidecars: false });
  t.match(parseArguments(['--task', 'x', '--agent', 'code']), { task: 'x', agent: 'code' });
  const wrong: [string[], RegExp][] = [
    [['--task', 'x', '--agent', 'bogus'], /unknown agent "bogus"; --agent takes research, writing, code/],
    [['--task', 'x', '--layout', 'domains', '--agent', 'code'], /takes triage, billing, refunds/],
    [['--layout', 'round'], /unknown layout "round"; --layout takes agents, capabilities, domains/],
    [['--task', ' '], /--task needs a text/],
    [['--task'], /--task/],
    [['--agent', 'code'], /add --task/],
    [['--tusk', 'x'], /--tusk.*see npm start -- --help/],
    [['stray'], /stray/],
  ];
  for (const [args, message] of wrong) t.throws(() => parseArguments(args), { name: 'UsageError', message });
  t.ok(new UsageError('') instanceof Error);
  const run = runStart(t, ['--task', 'x', '--agent', 'bogus']);
  t.same(await run.ended, [64, null]);
  t.match(run.output(), /^unknown agent "bogus"/);
});

t.test('another port replaces a taken one, with a notice', async (t) => {
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  t.teardown(() => taken.close());
  const { port } = taken.address() as { port: number };
  // Only one local system at a time may have the usual ports, and another test's may have them now.
  const [one, two] = [await Ports.open(1), await Ports.open(2)];
  const other = await one.preferably(port, 'the gateway', false);
  t.not(other, port);
  t.match(one.notices, [new RegExp(`^Port ${port} is taken: the gateway uses port ${other} instead\\.$`)]);
  const usual = await two.preferably(15001, 'the sidecar', true);
  t.not(usual, 15001);
  t.match(two.notices, [
    /^Port 15001 belongs to another local system on this machine: the sidecar uses port /,
  ]);
  const given = await Promise.all(Array.from({ length: 50 }, (_, at) => (at % 2 ? one : two).any()));
  t.equal(new Set([other, usual, ...given]).size, 52, 'each only once');
});

t.test('a process becomes ready, fails, or ignores SIGTERM', async (t) => {
  const folder = t.testdir({
    'works.js':
      "process.on('SIGTERM', () => process.exit(0)); console.log('hello'); setInterval(() => {}, 1000);",
    'fails.js': "console.log('first'); console.error('no port'); process.exitCode = 3;",
    'stubborn.js': "process.on('SIGTERM', () => {}); console.log('up'); setInterval(() => {}, 1000);",
  });
  const run = (file: string, givenReady?: () => Promise<boolean>) => {
    const lines: string[] = [];
    const isReady = givenReady ?? (async () => lines.length > 0);
    const description = { name: file, file: join(folder, file), args: [], env: {}, isReady };
    const started = new ManagedProcess(description, (_, line) => lines.push(line));
    t.teardown(() => started.kill());
    return started;
  };
  const works = run('works.js');
  await works.ready(AbortSignal.timeout(20_000));
  t.equal(await works.stop(20_000), true);
  t.equal(await works.ended, 'ended with exit code 0');

  const never = async () => false;
  await t.rejects(run('fails.js', never).ready(AbortSignal.timeout(20_000)), {
    message: /^fails\.js ended with exit code 3 before it was ready\. Its last lines:\n.*(first|no port)/s,
  });
  const slow = run('works.js', never);
  await t.rejects(slow.ready(AbortSignal.timeout(50)), { message: /^works\.js was not ready in time/ });

  const stubborn = run('stubborn.js');
  await stubborn.ready(AbortSignal.timeout(20_000));
  t.equal(await stubborn.stop(100), false);
  t.equal(await stubborn.ended, 'ended with SIGKILL');
});

t.test("the sidecars' counters show the route of a task", async (t) => {
  const system = await planSystem({}, await Ports.open(), true, agents);
  const [one, two] = system.agents;
  const endpoint = `127.0.0.1:${two!.sidecar!.inbound}`;
  const attempts = (count: number, code: string) =>
    `outrigger_attempts_total{cluster="research",endpoint="${endpoint}",code="${code}"} ${count}\n`;
  const served = (count: number) =>
    `# HELP x y\nrpc_server_call_duration_seconds_count{rpc_method="agent.AgentService/ProcessTask"} ${count}\n`;
  const snapshot = (gateway: string, agent: string) =>
    new Map([
      ['gateway', parsePrometheus(gateway)],
      [one!.name, parsePrometheus(served(5))],
      [two!.name, parsePrometheus(agent)],
    ]);
  const before = snapshot(attempts(3, 'OK'), served(2));
  const route = routeOf(system, before, snapshot(attempts(4, 'OK') + attempts(1, 'UNAVAILABLE'), served(3)));
  t.match(route, [
    /cluster research, one attempt: OK$/,
    new RegExp(`sidecar of research-2 \\(${endpoint}\\), 1 served → research-2`),
    /cluster research, one attempt: UNAVAILABLE$/,
    /research-2/,
  ]);
  t.same(routeOf(system, before, before), [], 'no route without an increase');
  t.same(growth(parsePrometheus('a{b="c\\"d\\\\"} 1'), parsePrometheus('a{b="c\\"d\\\\"} 3')), [
    { name: 'a', labels: { b: 'c"d\\' }, value: 2 },
  ]);
});

t.test('tasks start by themselves only where they cost nothing and nobody paused them', async (t) => {
  const free = new Sender('http://127.0.0.1:1', false, agents.questions);
  const costly = new Sender('http://127.0.0.1:1', true, agents.questions);
  t.teardown(() => [free, costly].forEach((sender) => void sender.pause()));
  for (const sender of [free, costly]) sender.startByItself();
  t.match(free.report(), { sending: true, costs: false });
  t.match(costly.report(), { sending: false, costs: true });
  free.pause();
  free.startByItself();
  t.match(free.report(), { sending: false, paused: true });
  for (const sender of [free, costly]) sender.start();
  t.equal(free.report().sending, true);
  t.equal(costly.report().sending, true, 'its user has agreed');
  await until(() => costly.report().failed > 0);
  const { recent, succeeded } = costly.report();
  t.equal(succeeded, 0);
  t.match(recent[0], { state: 'failed', agent: 'writing' });
});

t.test('keys and settings of the shell reach only the processes that need them', async (t) => {
  const environment = {
    OPENAI_API_KEY: 'k-1',
    OUTRIGGER_INBOUND_APP: 'x',
    PORT: '8080',
    HOME: 'h',
    CODE_AGENT_ADDR: 'y',
  };
  const folder = t.testdir();
  const system = await planSystem(environment, await Ports.open(), true, agents);
  const { agents: described, sidecars, gateway } = describeProcesses(system, environment, folder);
  t.equal(described.length, 5, 'the offline provider does not start with a real one');
  const runner = described.pop()!;
  t.notMatch(Object.keys(runner.env).join(' '), /OPENAI|AGENT_TOOLS/, 'a tool runner asks no model');
  const llmPorts = system.agents.slice(0, -1).map(({ sidecar }) => sidecar!.llm);
  t.strictSame(
    described.map(({ env }) => env['OPENAI_BASE_URL']),
    llmPorts.map((port) => `http://127.0.0.1:${port}/v1`),
    "agents ask their model through their sidecar's egress",
  );
  for (const { env } of described) {
    t.match(env, {
      OPENAI_API_KEY: 'held-by-the-sidecar',
      OPENAI_MAX_RETRIES: '0',
      AGENT_TOOLS: 'tools-agent',
    });
    t.notMatch(Object.values(env).join(' '), /k-1/);
  }
  t.equal(sidecars.length, 6);
  const keys = sidecars.map(({ env }) => env['OPENAI_API_KEY']);
  const four = ['k-1', 'k-1', 'k-1', 'k-1'];
  t.strictSame(keys, [...four, undefined, undefined], 'only the sidecars of agents with a model get the key');
  const files = readdirSync(folder).map((name) => readFileSync(join(folder, name), 'utf8'));
  t.match(files.join(''), /https:\/\/api\.openai\.com\/v1/);
  t.notMatch(files.join(''), /k-1/, 'no file has the key');
  for (const { env } of [...sidecars, gateway]) {
    t.match(env, { HOME: 'h' });
    t.notOk('OUTRIGGER_INBOUND_APP' in env);
  }
  t.notOk('OPENAI_API_KEY' in gateway.env);
  t.notOk('CODE_AGENT_ADDR' in gateway.env);

  const direct = await planSystem(environment, await Ports.open(), false, agents);
  for (const { env } of describeProcesses(direct, environment, folder).agents.slice(0, -1))
    t.match(env, { OPENAI_API_KEY: 'k-1', OPENAI_BASE_URL: 'https://api.openai.com/v1' });
});

t.test('without sidecars: a task from end to end', async (t) => {
  const run = runStart(t, ['--no-sidecar', '--task', 'Sort a list of canoes', '--agent', 'code']);
  const [code] = await run.ended;
  t.equal(code, 0, run.output());
  t.match(run.output(), /OPENAI_API_KEY is not set: the offline provider composes the answers/);
  t.match(run.output(), /```ts/);
  t.match(run.output(), /SUCCESS after \d+ ms, task [0-9a-f-]{36}/);
  t.match(run.output(), /received 1 request/);
});

t.test('a task fails with a reason if the provider fails', async (t) => {
  const run = runStart(t, ['--no-sidecar', '--task', 'x'], {
    OPENAI_API_KEY: 'k-123',
    OPENAI_BASE_URL: 'http://127.0.0.1:1/v1',
  });
  const [code] = await run.ended;
  t.equal(code, 1);
  t.match(run.output(), /the task failed: .*HTTP 503, UNAVAILABLE/);
  t.notMatch(run.output(), /k-123/);
});

t.test('the system runs until an interrupt, and leaves no process behind', async (t) => {
  const run = runStart(t, ['--no-sidecar']);
  await until(() => /Ctrl-C stops it/.test(run.output()) || run.child.exitCode !== null);
  const url = /page +(http:\S+)/.exec(run.output())?.[1];
  t.equal((await fetch(url!)).status, 200);
  const children = childrenOf(run.child.pid!);
  t.equal(children.length, 6);
  process.kill(children[1]!, 'SIGKILL');
  await until(() => /(research|writing|code)-\d ended with SIGKILL/.test(run.output()));
  run.child.kill('SIGINT');
  t.same(await run.ended, [0, null]);
  t.same(children.filter(isAlive), []);
});

t.test('the system stops when npm ends', async (t) => {
  // A shell in the place of npm: it starts the system, waits for it, and is killed.
  const folder = t.testdir();
  const output = join(folder, 'output');
  const command = `"${process.execPath}" "${start}" --no-sidecar > "${output}" 2>&1; true`;
  const env = { ...process.env, npm_lifecycle_event: 'start' };
  const shell = spawn('sh', ['-c', command], { env, stdio: 'ignore' });
  t.teardown(() => shell.kill('SIGKILL'));
  await until(() => existsSync(output) && /Ctrl-C stops it/.test(readFileSync(output, 'utf8')));
  const [starter] = childrenOf(shell.pid!);
  const processes = [starter!, ...childrenOf(starter!)];
  t.equal(processes.length, 7);
  shell.kill('SIGKILL');
  await until(() => !processes.some(isAlive));
  t.match(readFileSync(output, 'utf8'), /Stopping\./, 'the starter ends them in order');
});

t.test('the processes end when the starter is killed', async (t) => {
  const run = runStart(t, ['--no-sidecar']);
  await until(() => /Ctrl-C stops it/.test(run.output()) || run.child.exitCode !== null);
  const children = childrenOf(run.child.pid!);
  t.equal(children.length, 6);
  run.child.kill('SIGKILL');
  await until(() => !children.some(isAlive));
  t.pass('every process has ended');
});
