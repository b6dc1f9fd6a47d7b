// `outrigger bus` as an operator meets it: real processes on the file that a sidecar uses, their output and exit codes.
import { spawn } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import t, { type Test } from 'tap';
import { DEFAULT_LOG_SETTINGS } from '../../../scripts/harness/task-log-settings.ts';
import { openLocalTaskLog } from '../../bus/local/local-task-log.ts';
import type { TaskLog } from '../../bus/log/task-log.ts';
import { newTask } from '../../bus/message/new-task.ts';
import { encodeResult } from '../../bus/message/payload.ts';
import { UNSEALED } from '../../bus/message/sealer.ts';
import { stringField } from '../../task/protobuf.ts';

t.setTimeout(240_000);

const main = join(import.meta.dirname, '../../main.ts');

interface Outcome {
  readonly code: number | null;
  readonly output: string;
  readonly errors: string;
}

async function run(args: readonly string[]): Promise<Outcome> {
  const env = { PATH: process.env['PATH'] ?? '' };
  const child = spawn(process.execPath, args, { env, timeout: 120_000 });
  const [output, errors] = await Promise.all([text(child.stdout), text(child.stderr)]);
  const code = child.exitCode ?? (await new Promise<number | null>((resolve) => child.once('exit', resolve)));
  return { code, output, errors };
}

const outrigger = (...args: string[]): Promise<Outcome> => run([main, 'bus', ...args]);

/** Runs several commands in one process, and gathers what each writes: a process of its own takes a second to start. */
const MANY = `
  import { bus } from ${JSON.stringify(new URL('bus.ts', import.meta.url))};
  const outcomes = [];
  const write = process.stdout.write.bind(process.stdout);
  for (const args of JSON.parse(process.argv[1])) {
    const said = { output: '', errors: '' };
    process.stdout.write = (part) => ((said.output += part), true);
    process.stderr.write = (part) => ((said.errors += part), true);
    outcomes.push({ code: await bus(args), ...said });
  }
  write(JSON.stringify(outcomes));`;

async function many(...lines: string[][]): Promise<Outcome[]> {
  const { output, errors } = await run(['--input-type=module', '-e', MANY, JSON.stringify(lines)]);
  if (output === '') throw new Error(errors);
  return JSON.parse(output) as Outcome[];
}

const settings = {
  ...DEFAULT_LOG_SETTINGS,
  leaseMs: 60_000,
  maxRuns: 2,
  retryDelay: { baseMs: 1, maxMs: 1 },
};

const SECRET = 'the launch code is 0000';

async function submit(log: TaskLog, agentType: string, input: string): Promise<string> {
  const task = newTask(
    {
      path: '/agent.AgentService/ProcessTask',
      agentType,
      publisher: 'gateway',
      scope: 'alice',
      fields: [],
      message: Buffer.concat([stringField(3, agentType), stringField(4, `${input} ${SECRET}`)]),
      timeLeftMs: Number.POSITIVE_INFINITY,
    },
    UNSEALED,
  );
  await log.submit(task, { joinEndedForMs: 0 });
  return task.key;
}

async function take(log: TaskLog, agentType: string, holder: string) {
  const lease = await log.take([agentType], holder, AbortSignal.timeout(60_000));
  if (lease === undefined) throw new Error('no task came');
  await lease.begin();
  return lease;
}

/** A bus with a done, a running, a queued, a cancelled and two dead tasks. */
async function usedBus(t: Test): Promise<{ log: TaskLog; at: string[]; ids: Record<string, string> }> {
  const file = join(t.testdir(), 'tasks.db');
  const at = ['--bus.url', `file:${file}`];
  t.match(await outrigger('setup', ...at), { code: 0, output: /is ready/ });
  t.equal(statSync(file).mode & 0o77, 0, 'for its owner alone');
  const log = await openLocalTaskLog(file, settings);
  t.teardown(() => log.close());
  const ids: Record<string, string> = {};
  ids['done'] = await submit(log, 'research', 'done');
  const payload = encodeResult({
    statusMessage: SECRET,
    head: [],
    trailers: [],
    answer: Buffer.from(SECRET),
  });
  await (await take(log, 'research', 'a')).settle({ status: 3, payload });
  for (const name of ['dead', 'deader']) {
    ids[name] = await submit(log, 'code', name);
    const lease = await take(log, 'code', 'b');
    await lease.bury(`its runs crash \u001b[31mbadly\u001b]0;title\u0007 (${name})`);
  }
  ids['cancelled'] = await submit(log, 'research', 'cancelled');
  await log.cancel(ids['cancelled'], 'unwanted');
  ids['running'] = await submit(log, 'research', 'running');
  await take(log, 'research', 'research-1\u001b[2J');
  ids['queued'] = await submit(log, 'research', 'queued');
  await log.announce({ instance: 'i1', name: 'research', version: '1', agentTypes: ['research'], places: 8 });
  await log.announce({ instance: 'i2', name: 'research', version: '1', agentTypes: ['research'], places: 4 });
  return { log, at, ids };
}

t.test('an operator sees queues, tasks and dead letters, and nothing of what they contain', async (t) => {
  const { at, ids } = await usedBus(t);
  const outcomes = await many(
    ['status', ...at],
    ['status', '-o', 'json', ...at],
    ['tasks', ...at],
    ['tasks', '--limit', '1', '--output', 'json', ...at],
    ['tasks', '--state', 'cancelled', '--agent', 'research', ...at],
    ['dead', 'list', ...at],
    ['tasks', '-o', 'json', ...at],
  );
  t.ok(outcomes.every(({ code }) => code === 0));
  const [status, asJson, tasks, first, some, dead] = outcomes.map(({ output }) => output) as [
    string,
    string,
    string,
    string,
    string,
    string,
  ];
  t.match(status, /^research +1 +1 +0 +\S+ +12 +research ×2$/m);
  t.match(status, /^code +0 +0 +2 +- +0 +nobody$/m);
  t.match(JSON.parse(asJson!), {
    queues: [
      { agent_type: 'code', dead: 2, consumers: [] },
      { agent_type: 'research', queued: 1, running: 1, consumers: [{ name: 'research' }, { places: 4 }] },
    ],
  });
  t.match(tasks, new RegExp(`^${ids['done']} +research +done INVALID_ARGUMENT `, 'm'));
  t.match(tasks, new RegExp(`^${ids['running']} +research +running +\\S+ +1 +0 +gateway +research-1`, 'm'));
  const one = JSON.parse(first!);
  t.match(one, {
    tasks: [{ id: ids['queued'], state: 'queued', deadline_at: null, publisher: 'gateway' }],
    more: true,
  });
  t.equal(one.tasks.length, 1);
  t.match(some, ids['cancelled']!);
  t.equal(some!.trim().split('\n').length, 2, 'a head and one task');
  t.match(dead, /its runs crash .*badly/);
  for (const { output } of outcomes) {
    t.notMatch(output, SECRET);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: a terminal would obey them
    t.notMatch(output, /[\u0007\u001b]/, 'a terminal obeys nothing');
  }
});

t.test('dead letters are tried again, or forgotten', async (t) => {
  const { log, at, ids } = await usedBus(t);
  const { dead, deader, queued } = ids as { dead: string; deader: string; queued: string };
  const [first, again, dropped, none, all] = await many(
    ['dead', 'retry', dead, ...at],
    ['dead', 'retry', dead, queued, ...at],
    ['dead', 'drop', '--all', '--agent', 'code', '-o', 'json', ...at],
    ['dead', 'list', ...at],
    ['dead', 'retry', '--all', ...at],
  );
  t.match(first, { code: 0, output: 'retried 1 of 1' });
  t.match(again, { code: 1, output: 'retried 0 of 2', errors: /no dead task has this id/ });
  t.match(await log.get(dead), { state: 'queued', generation: 2 });
  t.match(JSON.parse(dropped!.output), { dropped: [deader], missing: [] });
  t.equal(await log.get(deader), undefined);
  t.match(none, { code: 0, output: 'no task is dead' });
  t.match(all, { code: 0, output: 'retried 0 of 0' });
});

t.test('a wrong command line, or a bus that is not there, says what to do', async (t) => {
  const file = join(t.testdir(), 'none.db');
  const at = ['--bus.url', `file:${file}`];
  const expected: [string[], number, RegExp][] = [
    [[], 64, /name a command: setup, status/],
    [['stats'], 64, /did you mean status\?/],
    [['dead'], 64, /dead list/],
    [['status'], 64, /set bus\.url/],
    [['status', ...at], 69, /is not there; a sidecar or "outrigger bus setup" makes it/],
    [['tasks', '--state', 'lost', '--limit', '0', ...at], 64, /--state takes queued.*\n.*--limit/],
    [['tasks', '--sate', 'dead', ...at], 64, /did you mean --state\?/],
    [['dead', 'retry', ...at], 64, /name the ids of tasks, or give --all/],
    [['dead', 'drop', 'x', '--all', ...at], 64, /or give --all/],
    [['status', '-o', 'yaml', ...at], 64, /table or json/],
  ];
  const outcomes = await many(...expected.map(([args]) => args));
  for (const [index, [args, code, why]] of expected.entries()) {
    t.equal(outcomes[index]!.code, code, args.join(' '));
    t.match(outcomes[index]!.errors, why, args.join(' '));
  }
  t.notOk(existsSync(file), 'only setup makes a file');
  const pages = [['setup'], ['status'], ['tasks'], ['dead', 'list'], ['dead', 'retry'], ['dead', 'drop']];
  const helps = await many(...pages.map((words) => [...words, '--help']));
  for (const [index, words] of pages.entries()) {
    const { code, output } = helps[index]!;
    t.equal(code, 0);
    t.match(output, new RegExp(`^outrigger bus ${words.join(' ')}`));
    t.ok(output.split('\n').length < 24, 'the help fits on a screen');
  }
});
