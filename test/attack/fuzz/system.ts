// The processes that the fuzzer attacks: a sidecar before a grpcio agent, the gateway, and the admission webhook; and the
// hostile ends that the sidecar itself calls.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { freePort } from '../../../scripts/harness/free-port.ts';
import { startProcess, type TestProcess } from '../../../scripts/harness/process.ts';
import { waitUntil } from '../../../scripts/harness/wait-until.ts';
import { type Scene, startGrpcioAgent, startScene } from '../scene.ts';
import { startHostileEndpoint } from './endpoint.ts';
import { podMemory } from './pod-memory.ts';
import { startHostileProvider } from './provider.ts';

const root = join(import.meta.dirname, '..', '..', '..');

/** A process with what the driver holds it to. */
export interface Watched {
  readonly name: 'sidecar' | 'gateway' | 'webhook';
  readonly pid: number;
  readonly alive: () => boolean;
  /** Answers 200 while the process lives. */
  readonly liveUrl: string;
  readonly logs: () => string;
  /** Lines of its log that say that something of ours has failed. */
  readonly defects: readonly string[];
}

export interface FuzzedSystem {
  /** How the sidecar's memory is limited. */
  readonly memory: string;
  readonly scene: Scene;
  readonly watched: readonly Watched[];
  readonly gatewayPort: number;
  readonly webhookPort: number;
}

/** Policies that would keep calls from a hostile endpoint are off for one cluster, and the defaults for the other. */
export const AUTHORITIES = ['hostile', 'hostile-by-default'] as const;
const WITHOUT_POLICIES = {
  circuit_breaker: { consecutive_failures: 0, failure_percent: 0 },
  outlier_detection: { max_ejection_percent: 0 },
};

/** Starts everything; it ends with `t`. */
export async function startFuzzedSystem(t: Pick<Test, 'teardown'>, seed: number): Promise<FuzzedSystem> {
  const endpoint = await startHostileEndpoint(seed);
  t.teardown(() => endpoint.close());
  const provider = await startHostileProvider();
  t.teardown(() => provider.close());
  const agent = `127.0.0.1:${await startGrpcioAgent(t)}`;
  const [strict, byDefault] = AUTHORITIES;
  const { env, launcher, how } = podMemory(t);
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-fuzz-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const scene = await startScene(t, {
    app: agent,
    env,
    launcher,
    config: {
      outbound: {
        routes: [
          ...AUTHORITIES.map((authority) => ({ match: { authority }, cluster: authority })),
          ALL_OTHERS,
        ],
        clusters: {
          [strict]: { endpoints: [endpoint.address], ...WITHOUT_POLICIES },
          [byDefault]: { endpoints: [endpoint.address] },
          agent: { endpoints: [agent] },
        },
      },
      bus: { url: `file:${folder}/tasks.db`, consume: { agent_types: ['echo'] } },
      // A provider whose every other answer is none would be left alone.
      llm: {
        upstreams: [{ name: 'hostile', url: provider.baseUrl }],
        circuit_breaker: { failure_percent: 0 },
      },
    },
  });
  const { sidecar } = scene;
  const gateway = await startGateway(t, sidecar.outboundPort);
  const webhook = await startWebhook(t);
  return {
    memory: how,
    scene,
    watched: [
      watch('sidecar', sidecar, `http://127.0.0.1:${sidecar.healthPort}/healthz/live`),
      watch('gateway', gateway.process, `http://127.0.0.1:${gateway.port}/`),
      watch('webhook', webhook.process, `http://127.0.0.1:${webhook.healthPort}/healthz/live`),
    ],
    gatewayPort: gateway.port,
    webhookPort: webhook.port,
  };
}

const ALL_OTHERS = { match: {}, cluster: 'agent' };

interface Listening {
  readonly process: TestProcess;
  readonly port: number;
}

async function startGateway(t: Pick<Test, 'teardown'>, outboundPort: number): Promise<Listening> {
  const port = await freePort();
  const address = `127.0.0.1:${outboundPort}`;
  const started = startProcess(t, process.execPath, [join(root, 'agents/gateway/main.ts')], {
    env: {
      NODE_OPTIONS: '',
      HOST: '127.0.0.1',
      PORT: `${port}`,
      LOG_LEVEL: 'error',
      RESEARCH_AGENT_ADDR: address,
      WRITING_AGENT_ADDR: address,
      CODE_AGENT_ADDR: address,
    },
  });
  await waitUntil('the gateway answers', async () => (await fetch(`http://127.0.0.1:${port}/`)).ok);
  return { process: started, port };
}

/** With a certificate of its own. */
async function startWebhook(t: Pick<Test, 'teardown'>): Promise<Listening & { healthPort: number }> {
  const [port, healthPort, metricsPort] = [await freePort(), await freePort(), await freePort()];
  const started = startProcess(
    t,
    process.execPath,
    [
      join(root, 'sidecar/main.ts'),
      'webhook',
      `--listen=127.0.0.1:${port}`,
      `--health=127.0.0.1:${healthPort}`,
      `--metrics=127.0.0.1:${metricsPort}`,
      '--name=127.0.0.1',
      '--image=registry.example/outrigger:1',
      '--drain-delay=0s',
      '--log-level=error',
    ],
    { env: { NODE_OPTIONS: '' } },
  );
  const url = `http://127.0.0.1:${healthPort}/healthz/ready`;
  await waitUntil('the webhook is ready', async () => (await fetch(url)).ok);
  return { process: started, port, healthPort };
}

/** Of the sidecar and the webhook by name, of the gateway by pino's number. */
const DEFECT = /"level":(?:"error"|"fatal"|50|60)|MaxListenersExceededWarning|UnhandledPromiseRejection/;
const MAX_DEFECTS = 20;

function watch(name: Watched['name'], started: TestProcess, liveUrl: string): Watched {
  const defects: string[] = [];
  let ended = false;
  void started.ended.then(() => {
    ended = true;
  });
  for (const stream of [started.child.stdout!, started.child.stderr!]) {
    let rest = '';
    stream.on('data', (chunk: string) => {
      const lines = (rest + chunk).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines)
        if (DEFECT.test(line) && defects.length < MAX_DEFECTS) defects.push(line.slice(0, 2_000));
    });
  }
  return { name, pid: started.pid, alive: () => !ended, liveUrl, logs: started.logs, defects };
}
