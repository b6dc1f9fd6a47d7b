// The orchestrator: it calls agents as its model plans, in parallel, and tells what it did and what it could not do.
import { Metadata } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { startDataPlane } from '../../scripts/harness/data-plane.ts';
import type { TaskRequest } from '../protocol/messages.ts';
import type { Provider } from '../provider/server.ts';
import type { Agent } from '../runtime/agent.ts';
import { AgentError } from '../runtime/errors.ts';
import {
  processTask,
  streamProcess,
  type TestAgent,
  testAgent,
  testProvider,
  until,
} from '../test-support.ts';
import { orchestrator } from './orchestrator.ts';
import { readOrchestratorSettings } from './settings.ts';

interface Scene {
  readonly provider: Provider;
  readonly conductor: TestAgent;
  /** The tasks that the called agents got. */
  readonly asked: TaskRequest[];
}

/** An orchestrator that reaches three agents, and itself, through a sidecar. */
async function startScene(
  t: Test,
  agents: Readonly<Record<string, Partial<Agent>>> = {},
  environment: Readonly<Record<string, string>> = {},
): Promise<Scene> {
  const provider = await testProvider(t);
  const asked: TaskRequest[] = [];
  const clusters: Record<string, object> = {};
  const plane = await startDataPlane(t, { outbound: { clusters: { x: { endpoints: ['127.0.0.1:1'] } } } });
  for (const type of ['research', 'writing', 'code']) {
    const { processTask: process = async ({ input }: TaskRequest) => ({ output: `${type} of ${input}` }) } =
      agents[type] ?? {};
    const agent = await testAgent(t, {
      processTask(task, context) {
        asked.push(task);
        return process(task, context);
      },
    });
    clusters[`${type}-agent`] = { endpoints: [agent.server.address] };
  }
  const outbound = `127.0.0.1:${plane.outboundPort}`;
  const settings = readOrchestratorSettings(environment);
  const conductor = await testAgent(t, orchestrator(settings), { outbound, baseUrl: provider.baseUrl });
  clusters['orchestrator-agent'] = { endpoints: [conductor.server.address] };
  await plane.apply({ outbound: { clusters } });
  return { provider, conductor, asked };
}

const question = 'Compare retries and hedging';

t.test(
  'calls run in parallel, and the answer names each with its result, in the order of the plan',
  async (t) => {
    let running = 0;
    let most = 0;
    const together = async ({ input }: TaskRequest) => {
      most = Math.max(most, ++running);
      // The first one waits for the second.
      if (input.includes('retries')) await until(() => most === 2);
      running--;
      return { output: `found: ${input}`, tokens_used: 10 };
    };
    const { conductor, asked, provider } = await startScene(t, { research: { processTask: together } });
    const task = { task_id: 'T', correlation_id: 'C', input: question };
    const answer = await processTask(conductor.client, task);
    t.match(answer, { status: 'SUCCESS', tool_calls: { length: 3 } });
    t.same(
      answer.tool_calls.map(({ tool_name, result }) => [tool_name, result.split('\n', 1)[0]]),
      [
        ['ask_research', 'found: Why does retries matter?'],
        ['ask_research', 'found: Why does hedging matter?'],
        ['ask_writing', `writing of Write a text about: ${question}`],
      ],
    );
    t.match(answer.output, /^writing of .*played the planner/s);
    t.ok(answer.tokens_used > 20);
    t.equal(most, 2);
    t.same(asked.map(({ task_id }) => task_id).sort(), ['T/1', 'T/2', 'T/3']);
    for (const sub of asked)
      t.match(sub, { correlation_id: 'C', metadata: { parent_task_id: 'T', orchestrator_depth: '1' } });
    t.equal(provider.stats.read().by_task['T'], 3, 'the model was asked three times');

    const text = (await streamProcess(conductor.client, { ...task, task_id: 'S' }))
      .map(({ chunk }) => chunk)
      .join('');
    t.match(
      text,
      /\[step 1\] ask_research .*\[step 2\] .*\[step 3\] ask_writing is done\n.*played the planner/s,
    );
  },
);

t.test('a branch that fails leaves the others, and is named', async (t) => {
  const { conductor } = await startScene(t, {
    research: {
      async processTask({ input }) {
        if (input.includes('hedging')) throw new AgentError('INTERNAL', 'no data on this');
        return { output: 'found' };
      },
    },
    writing: { processTask: async () => ({ output: 'half', status: 'PARTIAL' }) },
  });
  const answer = await processTask(conductor.client, { input: question });
  t.equal(answer.status, 'PARTIAL');
  t.match(
    answer.output,
    /Not everything was done:\n- step 2, ask_research: INTERNAL: no data on this\n- step 3, ask_writing: it did a part$/,
  );
  t.match(answer.tool_calls[1]!.result, /^The step failed: INTERNAL/);
  t.equal(answer.tool_calls[0]!.result, 'found');
});

t.test('a branch waits for an agent that has no place now, and gives up where it is told to', async (t) => {
  let [running, refused] = [0, 0];
  const { conductor } = await startScene(t, {
    research: {
      async processTask({ input }) {
        if (running > 0) {
          refused++;
          throw new AgentError('RESOURCE_EXHAUSTED', 'one task at a time', { retryAfterMs: 20 });
        }
        running++;
        // The other one is refused often, by this agent and not by a sidecar's word.
        await until(() => refused >= 6);
        running--;
        return { output: `found: ${input}` };
      },
    },
    writing: {
      async processTask() {
        throw new AgentError('RESOURCE_EXHAUSTED', 'no paper left today', { retryAfterMs: -1 });
      },
    },
  });
  const answer = await processTask(conductor.client, { input: question });
  t.same(
    answer.tool_calls.map(({ result }) => result.split(':', 1)[0]),
    ['found', 'found', 'The step failed'],
  );
  t.match(answer, { status: 'PARTIAL' });
  t.match(answer.output, /- step 3, ask_writing: RESOURCE_EXHAUSTED: no paper left today$/);

  // The places of a sidecar in front of the agent.
  let most = 0;
  running = 0;
  const busy = await testAgent(t, {
    async processTask({ input }) {
      most = Math.max(most, ++running);
      await new Promise((resolve) => setTimeout(resolve, 300));
      running--;
      return { output: `found: ${input}` };
    },
  });
  const narrow = await startDataPlane(t, { inbound: { app: busy.server.address, max_concurrent_calls: 1 } });
  const provider = await testProvider(t);
  const near = await startDataPlane(t, {
    outbound: { clusters: { 'research-agent': { endpoints: [`127.0.0.1:${narrow.inboundPort}`] } } },
  });
  const settings = readOrchestratorSettings({ ORCHESTRATOR_AGENTS: 'research: Answers.' });
  const outbound = `127.0.0.1:${near.outboundPort}`;
  const { client } = await testAgent(t, orchestrator(settings), { outbound, baseUrl: provider.baseUrl });
  const waited = await processTask(client, { input: question });
  t.match(waited, { status: 'SUCCESS', tool_calls: [{ result: /^found/ }, { result: /^found/ }] });
  t.equal(most, 1);
});

t.test('steps, time and depth have limits, and what they cut off is named', async (t) => {
  const few = await startScene(t, {}, { ORCHESTRATOR_MAX_STEPS: '1' });
  const short = await processTask(few.conductor.client, { input: question });
  t.equal(short.status, 'PARTIAL');
  t.match(short.output, /- step 2, ask_research: a task may have 1 steps/);
  t.equal(few.asked.length, 1);

  const never = { processTask: () => new Promise<never>(() => {}) };
  const slow = await startScene(t, { research: never }, { ORCHESTRATOR_WALL_TIME: '300ms' });
  const late = await processTask(slow.conductor.client, { input: question });
  t.equal(late.status, 'PARTIAL');
  t.match(late.output, /- step 1, ask_research: DEADLINE_EXCEEDED/);
  t.equal(slow.asked.length, 2, 'no step began after that');

  const deep = await startScene(t);
  const answer = await processTask(deep.conductor.client, {
    input: question,
    metadata: { orchestrator_depth: '3' },
  });
  t.match(answer, { status: 'SUCCESS', tool_calls: [] }, 'the deepest one answers by itself');
  t.equal(deep.asked.length, 0);
});

t.test('a step gets a part of the budget that the task brings', async (t) => {
  const budgets: string[] = [];
  const research: Partial<Agent> = {
    async processTask(_task, { metadata }) {
      budgets.push(String(metadata.get('outrigger-token-budget')[0]));
      return { output: 'found' };
    },
  };
  const { conductor } = await startScene(t, { research }, { ORCHESTRATOR_STEP_PERCENT: '10' });
  const metadata = new Metadata();
  metadata.set('outrigger-token-budget', '90000');
  await processTask(conductor.client, { input: question }, {}, metadata);
  t.same(budgets, ['9000', '9000']);
  budgets.length = 0;
  await processTask(conductor.client, { input: question });
  t.same(budgets, ['undefined', 'undefined'], 'without one it has none');
});

t.test('an orchestrator that calls itself ends at its depth', async (t) => {
  const agents = 'orchestrator: Splits a task further.';
  const { conductor, provider } = await startScene(
    t,
    {},
    { ORCHESTRATOR_AGENTS: agents, ORCHESTRATOR_MAX_DEPTH: '3' },
  );
  const answer = await processTask(conductor.client, { task_id: 'loop', input: 'Why do drains matter?' });
  t.equal(answer.status, 'SUCCESS');
  const { by_task: byTask } = provider.stats.read();
  t.same(Object.keys(byTask).sort(), ['loop', 'loop/1', 'loop/1/1', 'loop/1/1/1']);
});

t.test('invalid settings are named', async (t) => {
  const wrong: [string, RegExp][] = [
    ['[a]', /must map/],
    ['a: [', /no YAML/],
    ['"a b": x', /the name "a b"/],
    ['a: ""', /a description of a/],
    ['a: { description: x, address: y }', /has "address" at a/],
    ['a: { description: x, authority: "" }', /a word as authority/],
  ];
  for (const [text, message] of wrong)
    t.throws(() => readOrchestratorSettings({ ORCHESTRATOR_AGENTS: text }), {
      name: 'SettingError',
      message,
    });
});
