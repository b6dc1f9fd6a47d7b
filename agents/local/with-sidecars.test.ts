// The whole local system, with real sidecars.
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import t from 'tap';
import { until } from '../test-support.ts';
import { childrenOf, commandOf, isAlive, runStart } from './test-support.ts';

const execute = promisify(execFile);

/** The shell commands of a section of a document. */
function commandsOf(document: string, section: string): string {
  const text = readFileSync(new URL(`../../docs/${document}`, import.meta.url), 'utf8');
  const [, part = ''] = new RegExp(`^## ${section}$(.*?)^## `, 'ms').exec(text) ?? [];
  return [...part.matchAll(/^```sh\n(.*?)^```/gms)].map(([, commands]) => commands).join('\n');
}

// The test starts processes, which takes long while other tests run on the machine.
t.setTimeout(290_000);

t.test('a task goes through both sidecars, and its route shows them', async (t) => {
  // No tool runner reaches this minimum here: the system starts, and its agents answer without tools.
  const env = { TOOLS_MINIMUM: 'runtime' };
  const run = runStart(t, ['--task', 'Why do circuit breakers matter, and what is 6 * 7?'], env);
  const [code] = await run.ended;
  const output = run.output();
  t.equal(code, 0, output);
  t.match(output, /tools-1 runs no tools: the sandbox reached the tier|The tool runner is left out/);
  t.match(output, /Finding: A circuit breaker stops sending calls/);
  t.match(output, /SUCCESS after \d+ ms, task [0-9a-f-]{36}/);
  const route =
    /gateway → its sidecar \(127\.0\.0\.1:\d+\) → cluster research, one attempt: OK\s+→ sidecar of (research-[12]) \(127\.0\.0\.1:\d+\), 1 served → \1 \(127\.0\.0\.1:\d+\)\s+→ the offline provider \(.*\) received 1 request/;
  t.match(output, route);
});

t.test('the running system streams, cancels, throttles, survives a dead agent, and stops', async (t) => {
  const run = runStart(t, []);
  await until(() => /Ctrl-C stops it/.test(run.output()) || run.child.exitCode !== null);
  const url = /page +(http:\S+)\//.exec(run.output())![1]!;
  const provider = /model +(http:\S+)\/v1/.exec(run.output())![1]!;
  const children = childrenOf(run.child.pid!);
  const hasTools = !/tool runner is left out|runs no tools/.test(run.output());
  if (hasTools) t.equal(children.length, 13, 'a provider, five agents, six sidecars, a gateway');

  const post = (body: object, headers: Record<string, string> = {}, signal?: AbortSignal) =>
    fetch(`${url}/api/v1/tasks`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify(body),
      ...(signal === undefined ? {} : { signal }),
    });
  const asStream = { accept: 'text/event-stream' };
  const control = (path: string, body?: object) =>
    fetch(`${provider}/control/${path}`, body ? { method: 'POST', body: JSON.stringify(body) } : {});
  const stats = async () => (await (await control('stats')).json()) as { aborted: number; active: number };

  const health = (await (await fetch(`${url}/api/v1/health`)).json()) as object;
  t.match(health, {
    research: { healthy: true, version: /^\d/, checks: { app: String }, agent_name: /^research/ },
    writing: { healthy: true },
    code: { healthy: true },
  });
  t.same(Object.keys(health), ['research', 'writing', 'code'], 'only agents at the top level');

  for (const agent_type of ['research', 'writing', 'code']) {
    const whole = (await (await post({ input: 'A list of canoes', agent_type })).json()) as {
      output: string;
    };
    t.match(whole.output, new RegExp(`to the ${agent_type} instructions`));
    const streamed = await (await post({ input: 'A list of canoes', agent_type }, asStream)).text();
    const chunks = [...streamed.matchAll(/^event: chunk\ndata: (.*)$/gm)].map(([, data]) =>
      JSON.parse(data!),
    );
    t.equal(chunks.map(({ chunk }) => chunk).join(''), whole.output);
    t.match(streamed, /event: done\ndata: .*\n\n$/);
  }
  const sum = await (await post({ input: 'What is 6 * (3 + 4)?', agent_type: 'writing' })).text();
  if (hasTools) t.match(sum, /The tool says: 42/, 'the tool runner has run what the model asked for');
  const long = 'é '.repeat(400_000);
  t.equal((await post({ input: long })).status, 200, 'a message of more than a megabyte');

  await control('behaviour', { scope: { input: 'stall' }, behaviour: { stall_after_chunks: 4 } });
  const leave = new AbortController();
  const stream = await post({ input: 'stall' }, asStream, leave.signal);
  await stream.body!.getReader().read();
  t.equal((await stats()).active, 1);
  leave.abort();
  while ((await stats()).active > 0) await new Promise((resolve) => setTimeout(resolve, 20));
  t.equal((await stats()).aborted, 1, 'leaving the gateway ends the model request behind two sidecars');

  const later = { prefer: 'respond-async' };
  const accepted = await post({ input: 'A list of canoes', agent_type: 'code', stream: false }, later);
  t.equal(accepted.status, 202, 'the bus is a file of the system');
  const where = `${url}${accepted.headers.get('location')}`;
  const task = async () => (await (await fetch(where)).json()) as { state: string; output: string };
  while ((await task()).state !== 'done') await new Promise((resolve) => setTimeout(resolve, 20));
  t.match(await task(), { output: /to the code instructions/, status: 'SUCCESS' });

  const script = commandsOf('tasks.md', 'Submit and follow').replaceAll('http://127.0.0.1:8080', url);
  const told = (await execute('bash', ['-euc', script])).stdout;
  t.match(told, /^HTTP\/1.1 202 Accepted\r$/m, "the document's commands work as they stand there");
  const ids = new Set([...told.matchAll(/"task_id":"([^"]+)"/g)].map(([, id]) => id));
  t.equal(ids.size, 1, 'all about one task');
  t.match(told, /^event: chunk\nid: 1\n/m);
  t.match(told, /^event: done\nid: \d+\ndata: .*"status":"SUCCESS"/m);

  await control('behaviour', { scope: { input: 'busy' }, behaviour: { throttle: { retry_after: 120 } } });
  const busy = await post({ input: 'busy', agent_type: 'code' });
  t.equal(busy.status, 429);
  t.equal(busy.headers.get('retry-after'), '120');

  const writing = children.find((pid) => commandOf(pid).includes('agents/writing/agent.ts'));
  process.kill(writing!, 'SIGKILL');
  await until(() => /writing-1 ended with SIGKILL/.test(run.output()));
  const gone = await post({ input: 'x', agent_type: 'writing' });
  t.equal(gone.status, 503);
  t.ok(Number(gone.headers.get('retry-after')) > 0);
  t.equal((await post({ input: 'x' })).status, 200, 'the other agents still answer');

  run.child.kill('SIGINT');
  t.same(await run.ended, [0, null]);
  t.same(children.filter(isAlive), []);
});
