// Runs tasks whose orchestrator is killed with -9 at chosen points, and notes what its agents and its model did for them.
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import { agentService } from '../../agents/protocol/definitions.ts';
import type { TaskResponse } from '../../agents/protocol/messages.ts';
import { startProvider } from '../../agents/provider/server.ts';
import { testAgent } from '../../agents/test-support.ts';
import { freePort } from '../../scripts/harness/free-port.ts';
import { startLlmProvider } from '../../scripts/harness/llm/provider.ts';
import { startProcess, type TestProcess } from '../../scripts/harness/process.ts';
import { type Sidecar, startSidecar } from '../../scripts/harness/sidecar.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { seededRandom } from './seeded-random.ts';
import { logFile, Submitter, startConsumer } from './task-consumer.ts';

/** A task, and where its orchestrator is killed. */
interface Kill {
  /** The number of the event after which it is killed, from 1; 0 for never. */
  readonly point: number;
  /** A random time after the event, at most this. */
  readonly afterMs: number;
  /** Whether its sidecar is killed with it, as when a node is lost. */
  readonly withSidecar: boolean;
  /** Whether each answer of the model, and each plan, differs from every other. */
  readonly varies: boolean;
}

export interface KilledTask extends Kill {
  /** The event after which it was killed; '' when the task had ended before. */
  readonly event: string;
  readonly answer: TaskResponse;
  readonly runs: number;
  /** Requests of the orchestrator that the model has answered, those of killed runs too. */
  readonly planned: number;
  /** Runs of each step by its id, and the results that they gave. */
  readonly steps: ReadonlyMap<string, readonly string[]>;
}

const AGENT = join(import.meta.dirname, '..', '..', 'agents', 'orchestrator', 'agent.ts');
const THINKS_MS = 15;

export interface KillScene {
  run(kill: Kill): Promise<KilledTask>;
}

/** An orchestrator in a process beside its sidecar, and agents that take its steps from the bus. */
export async function startKillScene(
  t: Test,
  { journal = true, seed = 1 }: { journal?: boolean; seed?: number } = {},
): Promise<KillScene> {
  const random = seededRandom(seed);
  const offline = await startProvider('127.0.0.1', 0);
  t.teardown(() => offline.close());
  offline.faults.add({ scope: { input: 'differently' }, behaviour: { vary: true } });
  const model = await startLlmProvider();
  t.teardown(() => model.close());

  let onEvent: (event: string) => void = () => {};
  let planned = 0;
  const url = model.script('plans', async (request, response) => {
    onEvent('the model is asked');
    const answered = await fetch(`${offline.baseUrl}/chat/completions`, {
      method: 'POST',
      body: request.body.toString(),
    });
    const text = await answered.text();
    await sleep(THINKS_MS);
    planned++;
    response.writeHead(answered.status, { 'content-type': 'application/json' });
    response.end(text);
    onEvent('the model has answered');
  });

  const file = logFile(t);
  const steps = new Map<string, string[]>();
  let made = 0;
  const leaf = await testAgent(t, {
    async processTask({ task_id: id, input, agent_type: type }) {
      onEvent(`${type} begins`);
      await sleep(THINKS_MS + random() * THINKS_MS);
      const output = `${type} on ${input}${input.includes('differently') ? ` (${++made})` : ''}`;
      steps.set(id, [...(steps.get(id) ?? []), output]);
      setImmediate(() => onEvent(`${type} is done`));
      return { output, tokens_used: 5 };
    },
  });
  const agentTypes = ['research', 'writing', 'code'];
  await startConsumer(t, file, {
    name: 'leaf',
    inbound: { app: leaf.server.address },
    bus: { consume: { agent_types: agentTypes } },
  });

  const consume = { lease: '3s', places: 1, max_runs: 10, retry_delay: { base: '10ms', max: '50ms' } };
  const ports = {
    app: await freePort(),
    outbound: await freePort(),
    llm: await freePort(),
    inbound: await freePort(),
  };
  const at = (port: number) => `127.0.0.1:${port}`;
  const config = {
    name: 'orchestrator',
    inbound: { listen: at(ports.inbound), app: at(ports.app) },
    outbound: {
      listen: at(ports.outbound),
      clusters: Object.fromEntries(agentTypes.map((type) => [`${type}-agent`, { bus: type }])),
    },
    llm: { listen: at(ports.llm), upstreams: [{ name: 'one', url }] },
    bus: { url: `file:${file}`, consume: { agent_types: ['orchestrator'], ...consume } },
    ...(journal ? { journal: { store: 'bus' } } : {}),
  };
  const env = {
    AGENT_LISTEN: at(ports.app),
    AGENT_OUTBOUND: at(ports.outbound),
    OPENAI_BASE_URL: `http://${at(ports.llm)}/v1`,
  };
  const startAgent = (): TestProcess => startProcess(t, process.execPath, [AGENT], { env });
  let agent = startAgent();
  let sidecar: Sidecar = await startSidecar(t, config, { until: 'ready' });
  const submitter = await Submitter.open(t, `file:${file}`, consume);
  let tasks = 0;

  return {
    async run(kill) {
      const id = `task-${++tasks}`;
      steps.clear();
      planned = 0;
      let [events, event] = [0, ''];
      const killed = new Promise<void>((resolve, reject) => {
        onEvent = (what) => {
          if (++events !== kill.point) return;
          event = `${events}: ${what}`;
          sleep(random() * kill.afterMs)
            .then(async () => {
              const victims = kill.withSidecar ? [agent, sidecar] : [agent];
              for (const victim of victims) victim.kill('SIGKILL');
              await Promise.all(victims.map(({ ended }) => ended));
              agent = startAgent();
              if (kill.withSidecar) sidecar = await startSidecar(t, config, { until: 'ready' });
            })
            .then(resolve, reject);
        };
      });
      const input = `Compare retries and hedging${kill.varies ? ' differently' : ''}`;
      const { key } = await submitter.submit({ id, input, type: 'orchestrator' });
      const record = await submitter.watched(key);
      if (event !== '') await killed;
      onEvent = () => {};
      if (record.state !== 'done' || record.result?.status !== 0)
        throw new Error(`${id} ended ${record.state}: ${JSON.stringify(record.result)}`);
      const { responseDeserialize } = agentService['ProcessTask']!;
      const answer = responseDeserialize(submitter.resultOf(record).answer!) as TaskResponse;
      await waitUntil('the orchestrator is there again', async () => sidecar.logs() !== '');
      return { ...kill, event, answer, runs: record.run, planned, steps: new Map(steps) };
    },
  };
}

/** What does not hold for a task whose sidecar has a journal. */
export function complaintsAbout(
  { answer, steps, planned, varies, event }: KilledTask,
  whole: string,
): string[] {
  const complaints: string[] = [];
  if (answer.status !== 'SUCCESS') complaints.push(`it ended ${answer.status}: ${answer.output}`);
  for (const [id, results] of steps)
    if (results.length > 1) complaints.push(`step ${id} ran ${results.length} times`);
  const first = [...steps.values()].map(([result]) => result).sort();
  const used = answer.tool_calls.map(({ result }) => result).sort();
  if (JSON.stringify(first) !== JSON.stringify(used))
    complaints.push(`the answer has other results than the steps gave: ${JSON.stringify({ first, used })}`);
  if (!varies && answer.output !== whole)
    complaints.push(`another answer than that of an undisturbed run: ${answer.output}`);
  // Rounds of calls, the answer, and the one request that was under way.
  const rounds = new Set(answer.tool_calls.map(({ tool_name: name }) => name === 'ask_writing')).size;
  if (planned > rounds + 2) complaints.push(`the model answered ${planned} times`);
  return complaints.map((complaint) => `killed after event ${event}: ${complaint}`);
}
