// Two sidecars for the known mix, the caller's and the agent's, with an agent, a provider and a collector of spans.
import { mkdtempSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { type Exposition, parseExposition } from '../../scripts/harness/exposition.ts';
import { freePort } from '../../scripts/harness/free-port.ts';
import type { LlmProvider } from '../../scripts/harness/llm/provider.ts';
import { type Sidecar, startSidecar } from '../../scripts/harness/sidecar.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { ok, type Replica, startReplica } from '../support/answers.ts';
import { type OtlpReceiver, startOtlpReceiver } from '../support/otlp-receiver.ts';
import { type MixAgent, path, startMixAgent } from './agent.ts';
import { MixProvider } from './provider.ts';

/** Calls that the agent's sidecar lets in at a time. */
export const LIMIT = 8;

/** So many in a row open a circuit, or eject an endpoint. */
export const FAILURES = 3;

export interface ToldSystem {
  readonly agent: MixAgent;
  readonly provider: MixProvider;
  readonly collector: OtlpReceiver;
  readonly caller: Sidecar;
  readonly research: Sidecar;
  /** An agent without a sidecar that fails all calls once it is told to. */
  readonly bad: Replica;
  /** Connections that came to a port whose owner closes them at once. */
  readonly closed: { readonly count: number };
  /** By cluster; that of the agent's sidecar is `app`. */
  readonly endpoints: Readonly<Record<string, readonly string[]>>;
}

export async function startToldSystem(t: Pick<Test, 'teardown'>, llm: LlmProvider): Promise<ToldSystem> {
  const collector = await startOtlpReceiver(t);
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, OTEL_BSP_SCHEDULE_DELAY: '200' };
  const agent = await startMixAgent(t);
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-told-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const bus = `file:${join(folder, 'tasks.db')}`;
  const provider = new MixProvider(llm);
  const research = await startSidecar(
    t,
    {
      name: 'research',
      log: { access: true },
      bus: { url: bus, consume: { agent_types: ['research'] } },
      inbound: {
        listen: `0.0.0.0:${await freePort()}`,
        app: agent.upstream.address,
        max_concurrent_calls: LIMIT,
      },
      llm: {
        upstreams: [{ name: 'openai', url: provider.url }],
        retry: { max_attempts: 2, backoff: { base: '10ms', max: '20ms' } },
        circuit_breaker: { failure_percent: 0 },
      },
    },
    { env },
  );
  const endpoint = `127.0.0.1:${research.inboundPort}`;
  const bad = await startReplica(t, ok);
  const { address: closing, closed } = await startClosing(t);
  const endpoints = {
    broken: [bad.address],
    ejecting: [agent.upstream.address, bad.address],
    closing: [closing],
    plain: [endpoint],
    retried: [endpoint],
    // A hedge goes to another endpoint.
    hedged: [endpoint, `127.0.5.1:${research.inboundPort}`],
    // An agent without a sidecar.
    bare: [agent.upstream.address],
    app: [agent.upstream.address],
  };
  const calm = {
    circuit_breaker: { consecutive_failures: 0, failure_percent: 0 },
    outlier_detection: { max_ejection_percent: 0 },
  };
  const retry = { backoff: { base: '1ms', max: '2ms' }, budget: { percent: 100, min_concurrent: 50 } };
  const once = { ...calm, retry: { max_attempts: 1 } };
  const caller = await startSidecar(
    t,
    {
      name: 'caller',
      log: { access: true },
      bus: { url: bus },
      inbound: { app: 'none' },
      outbound: {
        clusters: {
          plain: { ...once, endpoints: endpoints.plain },
          bare: { ...once, endpoints: endpoints.bare },
          retried: {
            ...calm,
            endpoints: endpoints.retried,
            retry: { ...retry, idempotent_methods: [path('Retried')] },
          },
          closing: { ...once, endpoints: endpoints.closing },
          broken: {
            ...once,
            endpoints: endpoints.broken,
            circuit_breaker: { consecutive_failures: FAILURES, recovery_timeout: '1h' },
          },
          ejecting: {
            ...once,
            endpoints: endpoints.ejecting,
            balancer: 'round_robin',
            outlier_detection: {
              consecutive_failures: FAILURES,
              base_ejection_time: '1h',
              max_ejection_time: '2h',
              max_ejection_percent: 50,
            },
          },
          hedged: {
            ...calm,
            endpoints: endpoints.hedged,
            retry: { ...retry, idempotent_methods: [path('Hedged')] },
            hedge: { delay: '50ms' },
          },
        },
      },
    },
    { env },
  );
  return { agent, provider, collector, caller, research, bad, closed, endpoints };
}

/** It takes connections and closes them, so that nobody gets an HTTP/2 connection. */
async function startClosing(t: Pick<Test, 'teardown'>) {
  const closed = { count: 0 };
  const server = createServer((socket) => {
    closed.count++;
    socket.destroy();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  return { closed, address: `127.0.0.1:${(server.address() as AddressInfo).port}` };
}

export async function pageOf({ metricsPort }: Sidecar): Promise<Exposition> {
  return parseExposition(await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text());
}

/** A page of the admin port, as JSON. */
export async function adminPage({ adminPort }: Sidecar, page: string): Promise<unknown> {
  return await (await fetch(`http://127.0.0.1:${adminPort}${page}`)).json();
}

export async function untilAtRest({ caller, research }: ToldSystem): Promise<void> {
  for (const sidecar of [caller, research])
    await waitUntil('every call is over, and every span sent', async () => {
      const page = await pageOf(sidecar);
      const still = ['outrigger_active_calls', 'outrigger_llm_active_requests', 'outrigger_spans_waiting'];
      return still.flatMap((name) => page.all(name)).every(({ value }) => value === 0);
    });
}

/** That the collector has of a sidecar. */
export function spansOf({ collector }: ToldSystem, service: 'caller' | 'research') {
  return collector.spans.filter(({ resource }) => resource['service.name'] === service);
}

/**
 * Whoever has an answer may have it a moment before the sidecar notes when it ended. Behind this both have: what they are asked
 * after it they answer after it.
 */
export async function untilNoted({ caller, research }: ToldSystem): Promise<void> {
  const ask = async ({ healthPort }: Sidecar): Promise<unknown> =>
    (await fetch(`http://127.0.0.1:${healthPort}/healthz/live`)).arrayBuffer();
  await Promise.all([ask(caller), ask(research)]);
}
