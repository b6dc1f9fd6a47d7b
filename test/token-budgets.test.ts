// A task's token budget travels with its calls: what one agent gives another is reserved until it is told what was used.
import { Metadata } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { chatAnswer, sendError, sendJson } from '../scripts/harness/llm/provider.ts';
import { RawClient, startRawServer } from '../scripts/harness/raw-grpc.ts';
import { type Sidecar, startSidecar } from '../scripts/harness/sidecar.ts';
import { chat, send } from './llm/send.ts';
import { providerFor } from './llm/set-up.ts';
import { taskRequest } from './support/upstream.ts';

const provider = await providerFor(t);

const path = '/agent.AgentService/ProcessTask';
const ids = { next: 1 };

/** What the root is told to do, in its task's input. */
interface Order {
  /** Subtasks, all at once. */
  readonly times: number;
  /** It passes on the budget's header as it came. */
  readonly passesOn: boolean;
}

/** Two agents, each with its sidecar: the root has subtasks done by the leaf, which asks a model once for each. */
async function startChain(t: Pick<Test, 'teardown'>, url: string) {
  const body = chat({ max_tokens: 200 });
  const ask = async (sidecar: Sidecar, task: Buffer): Promise<string> => {
    const taskId = /task-\d+/.exec(task.toString())![0];
    const headers = { 'x-task-id': taskId };
    const answer = await send(`http://127.0.0.1:${sidecar.llmPort}/v1`, '/chat/completions', body, headers)
      .answer;
    return `${answer.status} ${answer.headers['outrigger-reason'] ?? ''}`.trim();
  };
  let leaf: Sidecar | undefined;
  let root: Sidecar | undefined;
  let outbound: RawClient | undefined;
  const leafApp = await startRawServer(
    t,
    { unary: async ({ request }, callback) => callback(null, Buffer.from(await ask(leaf!, request))) },
    { unaryPath: path },
  );
  leaf = await startSidecar(t, {
    inbound: { app: leafApp.address },
    llm: { upstreams: [{ name: 'one', url }], retry: { backoff: { base: '5ms', max: '5ms' } } },
  });
  const seen: Metadata[] = [];
  const rootApp = await startRawServer(
    t,
    {
      unary: async ({ request, metadata }, callback) => {
        const { times, passesOn } = JSON.parse(/\{.*\}/.exec(request.toString())![0]) as Order;
        const given = new Metadata();
        given.set('traceparent', metadata.get('traceparent')[0]!);
        const [budget] = metadata.get('outrigger-token-budget');
        if (passesOn && budget !== undefined) given.set('outrigger-token-budget', budget);
        const answers = await Promise.all(
          Array.from({ length: times }, async () => {
            const task = taskRequest({ id: `task-${ids.next++}`, input: 'x' });
            const { code, response, trailers } = await outbound!.unary(task, { path, metadata: given });
            seen.push(trailers);
            return code === 0 ? response!.toString() : `code ${code}`;
          }),
        );
        callback(null, Buffer.from(JSON.stringify([...answers, await ask(root!, request)])));
      },
    },
    { unaryPath: path },
  );
  root = await startSidecar(t, {
    inbound: { app: rootApp.address },
    llm: { upstreams: [{ name: 'one', url }] },
    outbound: {
      routes: [{ match: { path_prefix: '/' }, cluster: 'leaf' }],
      clusters: {
        leaf: { endpoints: [`127.0.0.1:${leaf.inboundPort}`], task: { status_is_verdict: false } },
      },
    },
  });
  outbound = new RawClient(t, root.outboundPort);
  const client = new RawClient(t, root.inboundPort);
  const run = async (order: Order, budget: number | undefined) => {
    const metadata = new Metadata();
    metadata.set('traceparent', `00-${String(ids.next).padStart(32, 'a')}-00f067aa0ba902b7-01`);
    if (budget !== undefined) metadata.set('outrigger-token-budget', String(budget));
    const task = taskRequest({ id: `task-${ids.next++}`, input: JSON.stringify(order) });
    const { response, trailers } = await client.unary(task, { path, metadata });
    const answers = JSON.parse(response!.toString()) as string[];
    return { answers, told: trailers.get('outrigger-tokens-used').map(Number) };
  };
  return { run, seen };
}

t.test("50 simultaneous subtasks, with retries, use no more than the task's budget", async (t) => {
  let used = 0;
  const url = provider.script('travel', (request, response) => {
    if (request.count % 7 === 0) {
      sendError(response, 500);
      return;
    }
    const usage = { prompt_tokens: request.body.length, completion_tokens: 200 };
    used += request.body.length + 200;
    sendJson(response, 200, { ...chatAnswer(), usage });
  });
  const { run, seen } = await startChain(t, url);
  for (const passesOn of [false, true]) {
    used = 0;
    const { answers, told } = await run({ times: 50, passesOn }, 4_000);
    t.ok(used <= 4_000, `${used} of 4000`);
    t.strictSame(told, [used], 'the caller is told what was used');
    t.ok(answers.filter((answer) => answer === '200').length >= 3, answers.join(', '));
    t.ok(answers.includes('429 budget_exhausted'), 'the rest is refused');
    t.equal(answers.at(-1), '200', 'what was given and not used came back');
  }
  t.ok(seen.every((trailers) => trailers.get('outrigger-tokens-used').length === 1));

  used = 0;
  const few = await run({ times: 3, passesOn: true }, 4_000);
  t.strictSame(few.answers, ['200', '200', '200', '200'], 'and what fits is done');
  t.strictSame(few.told, [used]);
});

t.test('without a budget calls get no extra header', async (t) => {
  const url = provider.script('none', (_request, response) => sendJson(response, 200, chatAnswer()));
  const { run, seen } = await startChain(t, url);
  const { answers, told } = await run({ times: 2, passesOn: true }, undefined);
  t.strictSame(answers, ['200', '200', '200']);
  t.strictSame(told, []);
  for (const trailers of seen) t.strictSame(trailers.get('outrigger-tokens-used'), []);
});
