// The orchestrator with a bus and a journal: killed at any point it gives the same answer, and a cancel ends everything below it.
// The long form of the kills is `npm run test:orchestrator`.
import { Metadata, status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { orchestrator } from '../agents/orchestrator/orchestrator.ts';
import { readOrchestratorSettings } from '../agents/orchestrator/settings.ts';
import { connectAgent } from '../agents/protocol/agent-client.ts';
import type { Provider } from '../agents/provider/server.ts';
import { answerWithTools } from '../agents/runtime/answer-with-tools.ts';
import { testAgent, testProvider } from '../agents/test-support.ts';
import { freePort } from '../scripts/harness/free-port.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { complaintsAbout, startKillScene } from './support/orchestrator-kills.ts';
import { logFile, startConsumer } from './support/task-consumer.ts';

t.setTimeout(290_000);
// Most of it is waiting for processes that start again.
t.jobs = 4;

t.test('killed at any point, it gives the same answer and runs no finished step again', async (t) => {
  const scene = await startKillScene(t);
  const undisturbed = await scene.run({ point: 0, afterMs: 0, withSidecar: false, varies: false });
  t.match(undisturbed.answer, { status: 'SUCCESS', tool_calls: { length: 3 } });
  const kills = [
    { point: 2, varies: true },
    { point: 5, varies: false },
    { point: 7, varies: true },
    { point: 6, varies: true, withSidecar: true },
  ];
  for (const kill of kills) {
    const task = await scene.run({ afterMs: 5, withSidecar: false, ...kill });
    t.same(complaintsAbout(task, undisturbed.answer.output), [], `killed after event ${task.event}`);
  }
});

t.test('without a journal another plan gets no result of the first one', async (t) => {
  const scene = await startKillScene(t, { journal: false });
  const { answer, runs } = await scene.run({ point: 5, afterMs: 0, withSidecar: false, varies: true });
  t.equal(answer.status, 'SUCCESS');
  t.equal(runs, 2);
  for (const { arguments: json, result } of answer.tool_calls) {
    const { input } = JSON.parse(json) as { input: string };
    t.ok(result.includes(input), 'a result is that of its own request');
  }
});

interface Chain {
  readonly provider: Provider;
  /** Calls the first of three agents, of which two orchestrate. */
  call(): { ended: Promise<number>; cancel(): void };
  /** Tasks that each agent works on. */
  readonly working: Readonly<Record<string, number>>;
}

/** lead, an orchestrator ─▶ team, an orchestrator ─▶ worker, an agent that asks its model; each beside its sidecar. */
async function startDepth(t: Test, bus: boolean): Promise<Chain> {
  const provider = await testProvider(t);
  const file = logFile(t);
  const working: Record<string, number> = { lead: 0, team: 0, worker: 0 };
  const names = ['lead', 'team', 'worker'];
  const ports = new Map<string, Record<'inbound' | 'outbound' | 'llm', number>>();
  for (const name of names)
    ports.set(name, { inbound: await freePort(), outbound: await freePort(), llm: await freePort() });
  for (const [at, name] of names.entries()) {
    const { inbound, outbound, llm } = ports.get(name)!;
    const below = names[at + 1];
    const settings = readOrchestratorSettings({
      ORCHESTRATOR_AGENTS: `${below}: Works.`,
      ORCHESTRATOR_MAX_DEPTH: '5',
    });
    const agent =
      below === undefined
        ? {
            processTask: (task: { input: string }, context: Parameters<typeof answerWithTools>[0]) =>
              answerWithTools(context, {
                messages: [
                  { role: 'system', content: 'You are a research agent.' },
                  { role: 'user', content: task.input },
                ],
              }),
          }
        : orchestrator(settings);
    const counted = await testAgent(
      t,
      {
        async processTask(task, context) {
          working[name]!++;
          context.signal.addEventListener('abort', () => working[name]!--, { once: true });
          return agent.processTask(task as never, context);
        },
      },
      { outbound: `127.0.0.1:${outbound}`, baseUrl: `http://127.0.0.1:${llm}/v1` },
    );
    const cluster = bus ? { bus: below } : { endpoints: [`127.0.0.1:${ports.get(below ?? name)!.inbound}`] };
    await startConsumer(t, file, {
      name,
      inbound: { listen: `127.0.0.1:${inbound}`, app: counted.server.address },
      outbound: {
        listen: `127.0.0.1:${outbound}`,
        clusters: below === undefined ? {} : { [`${below}-agent`]: cluster },
      },
      llm: { listen: `127.0.0.1:${llm}`, upstreams: [{ name: 'one', url: provider.baseUrl }] },
      bus: { consume: { agent_types: [name] } },
      ...(bus ? { journal: { store: 'bus' } } : {}),
    });
  }
  const outboundPort = await freePort();
  const first = bus ? { bus: 'lead' } : { endpoints: [`127.0.0.1:${ports.get('lead')!.inbound}`] };
  await startConsumer(t, file, {
    name: 'gateway',
    inbound: { app: 'none' },
    outbound: { listen: `127.0.0.1:${outboundPort}`, clusters: { 'lead-agent': first } },
    bus: { consume: { agent_types: [] } },
  });
  const client = connectAgent(`127.0.0.1:${outboundPort}`, 'lead-agent');
  t.teardown(() => client.close());
  return {
    provider,
    working,
    call() {
      let cancel = () => {};
      const ended = new Promise<number>((resolve) => {
        const call = client.ProcessTask(
          { task_id: 'deep', input: 'Why do drains matter?' },
          new Metadata(),
          {},
          (error) => resolve(error?.code ?? status.OK),
        );
        cancel = () => call.cancel();
      });
      return { ended, cancel };
    },
  };
}

for (const bus of [false, true])
  t.test(
    `a cancel ends children and model calls at depth three, ${bus ? 'on the bus' : 'called directly'}`,
    async (t) => {
      const { provider, working, call } = await startDepth(t, bus);
      // The model of the worker thinks for ever.
      provider.faults.add({
        scope: { header: { name: 'x-task-id', value: 'deep/1/1' } },
        behaviour: { latency_ms: 3_600_000 },
      });
      const { ended, cancel } = call();
      await waitUntil(
        'the worker waits for its model',
        () => provider.stats.read().by_task['deep/1/1'] === 1,
      );
      t.same(working, { lead: 1, team: 1, worker: 1 });
      const sinceMs = performance.now();
      cancel();
      t.equal(await ended, status.CANCELLED);
      await waitUntil('all have ended', () => Object.values(working).every((count) => count === 0));
      await waitUntil('the request to the model has ended', () => provider.stats.read().active === 0);
      t.comment(`all had ended after ${(performance.now() - sinceMs).toFixed(0)} ms`);
      t.equal(provider.stats.read().aborted, 1);
    },
  );
