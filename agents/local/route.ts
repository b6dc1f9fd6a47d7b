/** Determines the route of a task from the sidecars' metrics. */
import { growth, parsePrometheus, type Sample } from './prometheus-text.ts';
import type { LocalSystem, SidecarPorts } from './system.ts';

/** The counters of every sidecar at one moment, by the name of its neighbour; unreachable sidecars are missing. */
export type Snapshot = ReadonlyMap<string, readonly Sample[]>;

const limitMs = 5000;

/** Reads the metrics of every sidecar. */
export async function takeSnapshot(system: LocalSystem): Promise<Snapshot> {
  const sidecars: [string, SidecarPorts | undefined][] = [
    ['gateway', system.gateway.sidecar],
    ...system.agents.map(({ name, sidecar }): [string, SidecarPorts | undefined] => [name, sidecar]),
  ];
  const snapshot = new Map<string, readonly Sample[]>();
  await Promise.all(
    sidecars.map(async ([name, sidecar]) => {
      const samples = sidecar && (await readMetrics(sidecar.metrics).catch(() => undefined));
      if (samples !== undefined) snapshot.set(name, samples);
    }),
  );
  return snapshot;
}

async function readMetrics(port: number): Promise<Sample[]> {
  const url = `http://127.0.0.1:${port}/metrics`;
  const answer = await fetch(url, { signal: AbortSignal.timeout(limitMs) });
  if (!answer.ok) throw new Error(`${url} answers ${answer.status}`);
  return parsePrometheus(await answer.text());
}

/**
 * The route of the one task that ran between two snapshots: the attempts of the gateway's sidecar, and the agents'
 * sidecars that served a call. It shows what the sidecars counted, not what was expected.
 */
export function routeOf(system: LocalSystem, before: Snapshot, after: Snapshot): string[] {
  const { gateway, agents } = system;
  if (gateway.sidecar === undefined) return ['gateway → agent, without sidecars'];
  if (!after.has('gateway'))
    return ["the gateway's sidecar did not answer a request for its counters: see its /metrics"];
  const grown = (name: string) => growth(before.get(name) ?? [], after.get(name) ?? []);
  const route: string[] = [];
  const told = new Set<string>();
  for (const { name, labels, value } of grown('gateway')) {
    if (name !== 'outrigger_attempts_total') continue;
    const { cluster = '?', endpoint = '?', code = '?' } = labels;
    const target = agents.find(({ sidecar }) => endpoint === `127.0.0.1:${sidecar?.inbound}`);
    const served = target === undefined ? 0 : servedCalls(grown(target.name));
    if (target !== undefined) told.add(target.name);
    const attempts = value === 1 ? 'one attempt' : `${value} attempts`;
    route.push(
      `gateway → its sidecar (127.0.0.1:${gateway.sidecar.outbound}) → cluster ${cluster}, ${attempts}: ${code}`,
      `  → ${target === undefined ? endpoint : `sidecar of ${target.name} (${endpoint}), ${served} served`}` +
        (target === undefined || served === 0 ? '' : ` → ${target.name} (127.0.0.1:${target.port})`),
    );
  }
  // Whoever was called for it by others, or took it from the bus.
  for (const { name, port } of agents) {
    const served = told.has(name) ? 0 : servedCalls(grown(name));
    if (served > 0) route.push(`  → sidecar of ${name}, ${served} served → ${name} (127.0.0.1:${port})`);
    const runs = callsOf(grown(name), /(^|\/)outrigger\.tools\.v1\.ToolRunner\/Run(Stream)?$/);
    if (runs > 0)
      route.push(`  → sidecar of ${name}, ${runs} ${runs === 1 ? 'tool' : 'tools'} run by ${name}`);
    const called = grown(name)
      .filter((sample) => sample.name === 'outrigger_tool_runs_total')
      .reduce((sum, { value }) => sum + value, 0);
    if (called > 0)
      route.push(
        `  → sidecar of ${name}, ${called} ${called === 1 ? 'call of a tool' : 'calls of tools'} by MCP`,
      );
  }
  return route;
}

/** The number of tasks that a sidecar served. */
function servedCalls(grown: readonly Sample[]): number {
  return callsOf(grown, /(^|\/)agent\.AgentService\/(ProcessTask|StreamProcess)$/);
}

function callsOf(grown: readonly Sample[], method: RegExp): number {
  return grown
    .filter(
      ({ name, labels }) =>
        name === 'rpc_server_call_duration_seconds_count' && method.test(labels['rpc_method'] ?? ''),
    )
    .reduce((sum, { value }) => sum + value, 0);
}
