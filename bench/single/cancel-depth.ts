// `node bench/single/cancel-depth.ts [ROUNDS]`: how long a cancel takes from a caller to the last model request below it, at depth three: two
// orchestrators and an agent that asks its model, each beside a sidecar of its own process, called directly and on the bus (a file).
// It prints when each hop hears of it, and what the worst hop of each round took. The bar: all has ended within 200 ms.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Metadata } from '@grpc/grpc-js';
import { pino } from 'pino';
import { orchestrator } from '../../agents/orchestrator/orchestrator.ts';
import { readOrchestratorSettings } from '../../agents/orchestrator/settings.ts';
import { connectAgent } from '../../agents/protocol/agent-client.ts';
import { answerWithTools } from '../../agents/runtime/answer-with-tools.ts';
import { startAgentServer } from '../../agents/runtime/server.ts';
import { readSettings } from '../../agents/runtime/settings.ts';
import { freePort } from '../../scripts/harness/free-port.ts';
import { startLlmProvider } from '../../scripts/harness/llm/provider.ts';
import { startSidecar } from '../../scripts/harness/sidecar.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';

const ROUNDS = Number(process.argv[2] ?? 20);
const BAR_MS = 200;
const NAMES = ['lead', 'team', 'worker'] as const;
const HOPS = [...NAMES, 'model'] as const;

const ends: (() => unknown)[] = [];
const owner = { teardown: (end: () => unknown) => void ends.unshift(end) };
const at = (port: number): string => `127.0.0.1:${port}`;

/** When each hop heard of the cancel of the round, in milliseconds of `performance.now()`. */
const heardMs = new Map<string, number>();
let [asked, canceledMs] = [false, 0];

/** A planner that asks the one agent it has; the last model thinks for ever. */
async function startModel(): Promise<string> {
  const provider = await startLlmProvider();
  owner.teardown(() => provider.close());
  return provider.script('plans', ({ json }, response) => {
    const { tools } = json as { tools?: { function: { name: string } }[] };
    if (tools === undefined) {
      asked = true;
      response.on('close', () => heardMs.set('model', performance.now()));
      return;
    }
    const call = { name: tools[0]!.function.name, arguments: '{"input":"Work."}' };
    const message = { content: null, tool_calls: [{ id: 'a', type: 'function', function: call }] };
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ choices: [{ index: 0, message, finish_reason: 'tool_calls' }] }));
  });
}

async function startChain(url: string, bus: string | undefined): Promise<ReturnType<typeof connectAgent>> {
  const ports = new Map<string, Record<'app' | 'inbound' | 'outbound' | 'llm', number>>();
  for (const name of NAMES)
    ports.set(name, {
      app: await freePort(),
      inbound: await freePort(),
      outbound: await freePort(),
      llm: await freePort(),
    });
  const clusterOf = (name: string) =>
    bus === undefined ? { endpoints: [at(ports.get(name)!.inbound)] } : { bus: name };
  const onBus = (agentTypes: readonly string[]) =>
    bus === undefined ? {} : { bus: { url: `file:${bus}`, consume: { agent_types: agentTypes } } };
  for (const [index, name] of NAMES.entries()) {
    const { app, inbound, outbound, llm } = ports.get(name)!;
    const below = NAMES[index + 1];
    const planner = orchestrator(readOrchestratorSettings({ ORCHESTRATOR_AGENTS: `${below}: Works.` }));
    const server = await startAgentServer(
      {
        ...planner,
        name,
        processTask(task, context) {
          context.signal.addEventListener('abort', () => heardMs.set(name, performance.now()), {
            once: true,
          });
          if (below !== undefined) return planner.processTask(task, context);
          return answerWithTools(context, { messages: [{ role: 'user', content: task.input }] });
        },
      },
      {
        ...readSettings({ AGENT_LISTEN: at(app), AGENT_OUTBOUND: at(outbound) }),
        model: { baseUrl: `http://${at(llm)}/v1`, apiKey: 'none', name: 'bench', maxRetries: 0 },
      },
      pino({ level: 'silent' }),
    );
    owner.teardown(() => server.stop(0));
    await startSidecar(owner, {
      name,
      inbound: { listen: at(inbound), app: at(app) },
      outbound: {
        listen: at(outbound),
        clusters: below === undefined ? {} : { [`${below}-agent`]: clusterOf(below) },
      },
      llm: { listen: at(llm), upstreams: [{ name: 'one', url }] },
      ...onBus([name]),
      ...(bus === undefined ? {} : { journal: { store: 'bus' } }),
    });
  }
  const { outboundPort } = await startSidecar(owner, {
    name: 'gateway',
    inbound: { app: 'none' },
    outbound: { clusters: { 'lead-agent': clusterOf('lead') } },
    ...onBus([]),
  });
  const client = connectAgent(at(outboundPort), 'lead-agent');
  owner.teardown(() => client.close());
  return client;
}

async function round(client: ReturnType<typeof connectAgent>, id: string): Promise<void> {
  heardMs.clear();
  asked = false;
  const call = client.ProcessTask({ task_id: id, input: 'Work.' }, new Metadata(), {}, () => {});
  await waitUntil('the last model is asked', () => asked);
  canceledMs = performance.now();
  call.cancel();
  await waitUntil('all have ended', () => HOPS.every((hop) => heardMs.has(hop)));
}

const median = (values: readonly number[]): number =>
  values.toSorted((one, other) => one - other)[values.length >> 1]!;

try {
  const url = await startModel();
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-cancel-'));
  owner.teardown(() => rmSync(folder, { recursive: true, force: true }));
  console.log(
    `${ROUNDS} cancels                 ${HOPS.map((hop) => `${hop} hears`.padStart(14)).join('')}         worst`,
  );
  for (const bus of [undefined, join(folder, 'tasks.db')]) {
    const client = await startChain(url, bus);
    const took = new Map<string, number[]>(HOPS.map((hop) => [hop, []]));
    const worst: number[] = [];
    for (let count = 0; count <= ROUNDS; count++) {
      await round(client, `task-${bus === undefined ? 'direct' : 'bus'}-${count}`);
      // The first one opens connections.
      if (count === 0) continue;
      for (const hop of HOPS) took.get(hop)!.push(heardMs.get(hop)! - canceledMs);
      worst.push(Math.max(...heardMs.values()) - canceledMs);
    }
    const cells = HOPS.map((hop) => `${median(took.get(hop)!).toFixed(1)} ms`.padStart(14));
    const most = Math.max(...worst);
    const verdict = most <= BAR_MS ? 'within the bar' : 'MISSED';
    console.log(
      `${(bus === undefined ? 'called directly' : 'on the bus').padEnd(27)}${cells.join('')}   ${most.toFixed(1)} ms (bar ${BAR_MS} ms: ${verdict})`,
    );
  }
} finally {
  for (const end of ends) await end();
}
process.exit();
