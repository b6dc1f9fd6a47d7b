// A caller gives its task a token budget that is larger than the operator's, or gives it one anew with each call.
import { Metadata } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { chatAnswer, sendJson, startLlmProvider } from '../../scripts/harness/llm/provider.ts';
import { RawClient, startRawServer } from '../../scripts/harness/raw-grpc.ts';
import { PROCESS_TASK_PATH } from '../../sidecar/task/task-message.ts';
import { chat, send } from '../llm/send.ts';
import { taskRequest } from '../support/upstream.ts';
import { type Scene, startScene } from './scene.ts';

t.setTimeout(120_000);

const TOKENS_PER_TASK = 2_000;

interface Answered {
  /** What the agent got from its model, and the budget that it saw. */
  readonly said: string;
  /** `outrigger-tokens-used`, or '' without. */
  readonly used: string;
}

/** An agent that asks its model once for each call, for a thousand tokens of output. */
async function startAgency(t: Test, inbound: Record<string, unknown> = {}) {
  const provider = await startLlmProvider();
  t.teardown(() => provider.close());
  const url = provider.script('model', ({ body }, response) => {
    const usage = { prompt_tokens: body.length, completion_tokens: 1_000 };
    sendJson(response, 200, { ...chatAnswer(), usage });
  });
  let scene: Scene | undefined;
  const app = await startRawServer(
    t,
    {
      unary: async ({ request, metadata }, callback) => {
        const traceparent = String(metadata.get('traceparent')[0] ?? '');
        if (traceparent === '') {
          callback(null, request);
          return;
        }
        const baseUrl = `http://127.0.0.1:${scene!.sidecar.llmPort}/v1`;
        const body = chat({ max_tokens: 1_000 });
        const answer = await send(baseUrl, '/chat/completions', body, { traceparent }).answer;
        const reason = String(answer.headers['outrigger-reason'] ?? '');
        const budget = String(metadata.get('outrigger-token-budget')[0] ?? 'no budget');
        callback(null, Buffer.from(`${answer.status} ${reason}, ${budget}`));
      },
    },
    { unaryPath: PROCESS_TASK_PATH },
  );
  scene = await startScene(t, {
    app: app.address,
    config: {
      inbound,
      llm: { upstreams: [{ name: 'model', url }], limits: { tokens_per_task: TOKENS_PER_TASK } },
    },
  });
  const client = new RawClient(t, scene.sidecar.inboundPort);
  let calls = 0;
  const ask = async (id: string, ...budgets: string[]): Promise<Answered> => {
    const metadata = new Metadata();
    calls++;
    metadata.set('traceparent', `00-${String(calls).padStart(32, 'a')}-00000000000000ff-00`);
    for (const budget of budgets) metadata.add('outrigger-token-budget', budget);
    const task = taskRequest({ id, input: `call ${calls}` });
    const { response, trailers, details } = await client.unary(task, { path: PROCESS_TASK_PATH, metadata });
    return {
      said: response?.toString() ?? details,
      used: String(trailers.get('outrigger-tokens-used')[0] ?? ''),
    };
  };
  return { scene, ask };
}

t.test("a budget in a request lowers the operator's budget, and can't raise it", async (t) => {
  const { scene, ask } = await startAgency(t);
  const { bystander } = await scene.during(async () => {
    t.match((await ask('none')).said, /^200/);
    t.match((await ask('none')).said, /^429 budget_exhausted/, 'the next one does not fit any more');
    // Each call with a large budget of its own.
    const large = await ask('large', '999999999');
    t.match(large.said, /^200/);
    t.match(large.used, /^1\d{3}$/, 'its caller gets the used tokens');
    for (let i = 0; i < 3; i++) t.match((await ask('large', '999999999')).said, /^429 budget_exhausted/);
    t.match((await ask('small', '100')).said, /^429 budget_exhausted/, 'less than the request asks for');
    t.match((await ask('small', '1500')).said, /^200/);
    for (const budgets of [
      ['100', '999999999'],
      ['999999999', '100'],
    ])
      t.match(
        (await ask(`several: ${budgets}`, ...budgets)).said,
        /^429 budget_exhausted/,
        'the smaller one',
      );
  });
  scene.holds(t, bystander);
});

t.test('a setting decides who may set a budget', async (t) => {
  const { ask } = await startAgency(t, { token_budget: { from: 'nobody' } });
  const answered = await ask('small', '1');
  t.strictSame(answered, { said: '200 , no budget', used: '' }, 'as if it had not been sent');
  t.match((await ask('small', '999999999')).said, /^429 budget_exhausted/, "the operator's holds");
});
