// The Python package: built, installed from its wheel, and run beside a sidecar with callers and models that know nothing of it.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Metadata, status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { type AgentClient, connectAgent } from '../agents/protocol/agent-client.ts';
import type { TaskResponse } from '../agents/protocol/messages.ts';
import { freePort } from '../scripts/harness/free-port.ts';
import { beginStream, chatAnswer, chatChunk, sendJson } from '../scripts/harness/llm/provider.ts';
import { PATIENCE_MS } from '../scripts/harness/patience.ts';
import { runProcess, startProcess, type TestProcess } from '../scripts/harness/process.ts';
import { type Sidecar, startSidecar } from '../scripts/harness/sidecar.ts';
import { requireTool, skipWithout } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { stringField } from '../sidecar/task/protobuf.ts';
import { providerFor } from './llm/set-up.ts';
import { installWheel } from './support/python-wheel.ts';
import { answerWith, startUpstream, type Upstream } from './support/upstream.ts';

t.setTimeout(290_000);

const root = join(import.meta.dirname, '..');
const agents = join(import.meta.dirname, 'support', 'python');
const skip = skipWithout('python-package');
const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const provider = await providerFor(t);

/** Where the wheel is installed. */
let site = '';

t.before(async () => {
  if (skip !== false) return;
  site = await installWheel(t);
});

t.test(
  'the package has the version of Outrigger, and code generated from proto/',
  { skip: skipWithout('python-package', 'python-generator') },
  async (t) => {
    const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
    t.match(readFileSync(join(root, 'python/pyproject.toml'), 'utf8'), `version = "${version}"`);
    const generated = join(site, 'generated');
    execFileSync(requireTool('python-generator'), [join(root, 'python/generate.py'), generated]);
    for (const name of ['agent_service_pb2.py', 'agent_service_pb2.pyi', 'agent_service_pb2_grpc.py'])
      t.equal(
        readFileSync(join(generated, name), 'utf8'),
        readFileSync(join(root, 'python/src/outrigger_agent', name), 'utf8'),
        name,
      );
  },
);

interface Scene {
  client: AgentClient;
  leaf: Upstream;
  agent: TestProcess;
  sidecar: Sidecar;
}

/** An agent in Python beside its sidecar, which routes the authority `leaf` to a server of the test. */
async function scene(t: Test, program: string, ownPort = false): Promise<Scene> {
  const leaf = await startUpstream(t, {
    onCall: ({ stream }) => stream.on('end', () => answerWith(stream, stringField(2, 'from the leaf'))),
  });
  const url = provider.script('python', (_request, response) =>
    sendJson(response, 200, chatAnswer('an answer')),
  );
  const [outbound, llm, listen] = await Promise.all([freePort(), freePort(), freePort()]);
  const agent = startProcess(t, requireTool('python-package'), [join(agents, program)], {
    env: {
      PYTHONPATH: site,
      AGENT_LISTEN: `127.0.0.1:${listen}`,
      AGENT_OUTBOUND: `127.0.0.1:${outbound}`,
      OPENAI_BASE_URL: `http://127.0.0.1:${llm}/v1`,
    },
  });
  const pattern = ownPort ? /^(\d+)$/m : /"address": "127.0.0.1:(\d+)"/;
  const port = await waitUntil('the agent listens', () => pattern.exec(agent.logs())?.[1]);
  const sidecar = await startSidecar(t, {
    name: 'python',
    inbound: { app: `127.0.0.1:${port}` },
    outbound: {
      listen: `127.0.0.1:${outbound}`,
      routes: [{ match: { authority: 'leaf' }, cluster: 'leaf' }],
      clusters: { leaf: { endpoints: [leaf.address] } },
    },
    llm: { listen: `127.0.0.1:${llm}`, upstreams: [{ name: 'one', url }] },
  });
  const client = connectAgent(`127.0.0.1:${sidecar.inboundPort}`);
  t.teardown(() => client.close());
  return { client, leaf, agent, sidecar };
}

let tasks = 0;

function run(
  client: AgentClient,
  input: string,
  headers: Record<string, string> = {},
  limitMs = PATIENCE_MS,
): Promise<TaskResponse> {
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
  return new Promise((resolve, reject) => {
    const task = { task_id: `task-${++tasks}`, correlation_id: 'conversation', input };
    client.ProcessTask(task, metadata, { deadline: Date.now() + limitMs }, (error, answer) =>
      error === null ? resolve(answer!) : reject(error),
    );
  });
}

const TRACED = { traceparent: `00-${TRACE}-00f067aa0ba902b7-01`, 'outrigger-token-budget': '5000' };

/** The call that reached the leaf is the caller's work: its trace, its budget, and its deadline. */
function continues(t: Test, leaf: Upstream): void {
  const { headers } = leaf.calls.at(-1)!;
  t.match(headers['traceparent'], TRACE);
  // The sidecar gives a call a part of what the task has left.
  const budget = Number(headers['outrigger-token-budget']);
  t.ok(budget > 0 && budget <= 5000, `${budget} tokens`);
  t.match(headers['grpc-timeout'], /^\d+[num]?/);
  t.equal(headers['outrigger-path'], 'python');
}

t.test(
  'serve() answers tasks, whole and as a stream, and says whose fault a failure is',
  { skip },
  async (t) => {
    const { client, agent, sidecar } = await scene(t, 'packaged_agent.py');
    t.match(await run(client, 'hello'), { output: 'said hello', status: 'SUCCESS' });
    t.equal((await run(client, 'whoami', { 'x-user': 'ada' })).output, 'ada');
    await t.rejects(run(client, 'refuse'), {
      code: status.FAILED_PRECONDITION,
      details: 'the agent refuses',
    });
    await t.rejects(run(client, 'break'), { code: status.INTERNAL, details: 'the agent failed' });
    t.notMatch(sidecar.logs(), 'a secret of the agent');
    const words: string[] = [];
    for await (const { chunk } of client.StreamProcess(
      { task_id: 's-1', input: 'one two' },
      new Metadata(),
      {},
    ))
      words.push(chunk);
    t.same(words, ['one', 'two', '']);
    const cut = client.StreamProcess({ task_id: 's-2', input: 'one break' }, new Metadata(), {});
    await t.rejects(
      async () => {
        for await (const _ of cut);
      },
      { code: status.UNAVAILABLE, details: 'the agent breaks off' },
    );
    await t.rejects(run(client, 'wait', {}, 500), { code: status.DEADLINE_EXCEEDED });
    t.equal(await agent.stop(), 0, agent.logs());
  },
);

/** A stream of a model, read without a sidecar; prints what the caller of the agent would receive. */
const READ_STREAM = `import asyncio
from outrigger_agent import model_client
from outrigger_agent.errors import classify

async def main():
    chunks = await model_client().chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], stream=True)
    try:
        async for chunk in chunks:
            pass
    except Exception as error:
        print(classify(error).code)

asyncio.run(main())
`;

t.test('a model that breaks off in the middle of a stream is UNAVAILABLE', { skip }, async (t) => {
  const url = provider.script('cut', (_request, response) => {
    beginStream(response);
    response.write(chatChunk('half an'), () => response.destroy());
  });
  const env = { PYTHONPATH: site, OPENAI_BASE_URL: url };
  const ran = await runProcess(t, requireTool('python-package'), ['-c', READ_STREAM], { env });
  t.same(ran, { code: 0, output: 'UNAVAILABLE\n' });
});

t.test(
  "a task's model request carries its ids, and the sidecar counts it to the task",
  { skip },
  async (t) => {
    const { client, sidecar } = await scene(t, 'packaged_agent.py');
    const answer = await run(client, 'ask', TRACED);
    t.equal(answer.output, 'an answer');
    t.ok(answer.tokens_used > 0);
    const [request] = provider.requests('python');
    t.match(request?.headers['traceparent'], TRACE);
    const stats = (await (await fetch(`http://127.0.0.1:${sidecar.adminPort}/stats`)).json()) as object;
    t.match(JSON.stringify(stats), /"tokens/);
  },
);

for (const [what, program, ownPort] of [
  ['serve() and call_agent()', 'packaged_agent.py', false],
  ['a grpcio server of its own', 'intercepted_agent.py', true],
] as const) {
  t.test(`trace, budget and deadline pass on to other agents with ${what}`, { skip }, async (t) => {
    const { client, leaf } = await scene(t, program, ownPort);
    t.equal((await run(client, 'relay', TRACED)).output, 'from the leaf');
    continues(t, leaf);
    // Calls that run side by side keep apart.
    const traces = Array.from({ length: 8 }, (_, index) =>
      `${index}`.repeat(32).replace(/^0+$/, '9'.repeat(32)),
    );
    await Promise.all(
      traces.map((trace) => run(client, 'relay', { traceparent: `00-${trace}-00f067aa0ba902b7-01` })),
    );
    const seen = leaf.calls
      .slice(-traces.length)
      .map(({ headers }) => String(headers['traceparent']).slice(3, 35));
    t.same(seen.toSorted(), traces.toSorted());
  });
}
