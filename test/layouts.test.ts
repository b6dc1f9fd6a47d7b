// The layouts of the local system: each answers a task in one trace, from the gateway to the last model and tool; its API, page and
// dashboard show it, with controls that work; and a replica of any service that is killed under load loses no task.
import t, { type Test } from 'tap';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { killUnderLoad, type LayoutSystem, startLayout } from './support/layouts.ts';
import { type OtlpReceiver, startOtlpReceiver } from './support/otlp-receiver.ts';

// The test starts processes, which takes long while other tests run on the machine.
t.setTimeout(290_000);
// Most of it is waiting for processes.
t.jobs = 3;

interface Expected {
  readonly question: string;
  readonly output: RegExp;
  /** The services with a span in the trace. */
  readonly services: readonly string[];
  /** Requests to models that agents make for it. */
  readonly models: number;
}

const expected: Readonly<Record<string, Expected>> = {
  agents: {
    question: 'Why do circuit breakers matter?',
    output: /circuit breaker/i,
    services: ['gateway', 'research-agent'],
    models: 1,
  },
  capabilities: {
    question: 'Compare retries and hedging, and what is 6 * 7?',
    output: /played the planner/,
    services: ['gateway', 'orchestrator-agent', 'research-agent', 'writing-agent'],
    models: 6,
  },
  domains: {
    question: 'I want my money back',
    output: /refunds instructions/,
    services: ['gateway', 'support-agent'],
    models: 2,
  },
};

for (const [name, one] of Object.entries(expected))
  t.test(`${name}: one trace, a page that works, and no task lost with a replica`, async (t) => {
    const receiver = await startOtlpReceiver(t);
    const system = await startLayout(t, name, { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url });
    await t.test('a task is one trace', (t) => inOneTrace(t, system, receiver, one));
    await t.test('API, page and dashboard show it', (t) => shown(t, system));
    await t.test('the controls of the page work', (t) => controls(t, system));
    await t.test('killed replicas lose no task', async (t) => {
      const { replicas, llm } = await system.state();
      const victims = [...replicas, ...llm]
        .map((replica) => replica.name)
        .filter((victim) => victim.endsWith('-1'));
      const { complaints, tasks } = await killUnderLoad(system, victims, 2);
      t.same(complaints, []);
      t.equal(tasks, 3 * victims.length);
    });
  });

/** Whether the tool runner is there: it is left out on a machine that can't build its sandbox. */
const hasTools = ({ layout, run }: LayoutSystem): boolean =>
  layout.members.some(({ needsSandbox }) => needsSandbox === true) &&
  !/tool runner is left out/.test(run.output());

async function inOneTrace(
  t: Test,
  system: LayoutSystem,
  receiver: OtlpReceiver,
  one: Expected,
): Promise<void> {
  const { question, output, models } = one;
  const answered = await system.post('/api/v1/tasks', { input: question });
  const answer = (await answered.json()) as { output: string; status: string };
  t.match(answer, { status: 'SUCCESS', output });
  const isChat = ({ name }: { name: string }) => name.startsWith('chat ');
  const isRoot = ({ name }: { name: string }) => name === 'POST /api/v1/tasks';
  await receiver.until(
    'the spans of the task have come',
    (spans) =>
      spans.some(isRoot) &&
      spans.filter((span) => isChat(span) && !/^llm/.test(String(span.resource['service.name']))).length >=
        models,
  );
  await waitUntil('no span is missing', () => {
    const ids = new Set(receiver.spans.map(({ spanId }) => spanId));
    return receiver.spans.every(({ parentSpanId }) => parentSpanId === '' || ids.has(parentSpanId));
  });
  const root = receiver.spans.find(isRoot)!;
  const trace = receiver.spans.filter(({ traceId }) => traceId === root.traceId);
  const calls = ({ name }: { name: string }) => isChat({ name }) || name.startsWith('execute_tool ');
  t.same(
    receiver.spans.filter((span) => calls(span) && span.traceId !== root.traceId).map((span) => span.name),
    [],
    'no request to a model and no call of a tool is in another trace',
  );
  const usesTools = system.layout.name === 'capabilities' && hasTools(system);
  const named = new Set(trace.map(({ resource }) => resource['service.name']));
  for (const service of [...one.services, ...(usesTools ? ['tools-agent'] : [])])
    t.ok(named.has(service), `${service} has a span in it`);
  if (usesTools)
    t.ok(
      trace.some((span) => span.name.startsWith('execute_tool ')),
      'so has the call of the tool',
    );
}

async function shown(t: Test, system: LayoutSystem): Promise<void> {
  const { types, layout } = system;
  const health = (await (await system.get('/api/v1/health')).json()) as Record<string, { healthy: boolean }>;
  t.same(Object.keys(health).sort(), [...types].sort());
  t.ok(Object.values(health).every(({ healthy }) => healthy));
  const api = await (await system.get('/docs/json')).text();
  const docs = await (await system.get('/docs')).text();
  const kinds = `Which agent: ${[layout.usualAgent, ...types.filter((type) => type !== layout.usualAgent)].join(', ')}.`;
  t.ok(api.includes(kinds) && docs.includes(kinds), 'OpenAPI and its page name the agents');
  const { replicas, llm, gateway } = await system.state();
  const members = layout.members.filter(({ needsSandbox }) => needsSandbox !== true || hasTools(system));
  t.same(
    replicas.map((replica) => replica.name),
    members.map((member) => member.name),
  );
  t.equal(llm.length, layout.llmReplicas ?? 0);
  // The gateway's dashboard leads to those of all services.
  const live = await (await fetch(`${gateway.dashboard}live?format=json`)).text();
  const clusters = await (await fetch(`${gateway.dashboard}clusters?format=json`)).text();
  for (const { name, service, types: own } of members) {
    if (own.length === 0) continue;
    t.ok(live.includes(`"${name}"`) || clusters.includes(`"${service}"`), `the dashboard shows ${name}`);
  }
  for (const { dashboard, name } of [...replicas, ...llm])
    t.equal((await fetch(dashboard)).status, 200, `${name} has a dashboard`);
}

async function controls(t: Test, system: LayoutSystem): Promise<void> {
  const { act, state } = system;
  const stateOf = async (name: string) => {
    const { replicas, llm } = await state();
    return [...replicas, ...llm].find((one) => one.name === name)?.state;
  };
  await system.post('/local/sending/on');
  const { sent } = await waitUntil('tasks of each kind are sent and succeed', async () => {
    const now = await state();
    const kinds = new Set(now.sent.recent.filter((one) => one.state === 'succeeded').map((one) => one.agent));
    return system.layout.questions.every(([type]) => kinds.has(type)) && now;
  });
  await system.post('/local/sending/off');
  const { taskId } = sent.recent.find((one) => one.taskId !== '')!;
  const found = (await (await system.get(`/local/tasks/${taskId}`)).json()) as { tasks: unknown[] };
  t.equal(found.tasks.length, 1, 'a task is found by its id');
  const { replicas, llm } = await state();
  // The last one of each service is stopped and slowed; the first ones are killed later.
  for (const { name, canBeSlow } of [...replicas, ...llm]) {
    await act(name, 'stop');
    t.equal(await stateOf(name), 'stopped');
    if (canBeSlow) {
      await act(name, 'slow');
      t.equal(await stateOf(name), 'slow');
    } else t.notOk((await system.post(`/local/replicas/${name}/slow`)).ok, `${name} can't be slowed down`);
    await act(name, 'restore');
    t.equal(await stateOf(name), 'running', `${name} runs`);
  }
  t.equal((await system.post('/local/replicas/nobody/kill')).status, 404);
}
