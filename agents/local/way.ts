import { growth, parsePrometheus, type Sample } from './prometheus-text.ts';
import type { LocalSystem, SidecarPorts } from './system.ts';

/** What every sidecar counted at one moment, by the name of its neighbour. */
export type Snapshot = ReadonlyMap<string, readonly Sample[]>;

/** Reads the metrics of every sidecar. */
export async function takeSnapshot(system: LocalSystem): Promise<Snapshot> {
  const sidecars: [string, SidecarPorts | undefined][] = [
    ['gateway', system.gateway.sidecar],
    ...system.agents.map(({ name, sidecar }): [string, SidecarPorts | undefined] => [name, sidecar]),
  ];
  const read = sidecars.map(async ([name, sidecar]): Promise<[string, Sample[]]> => {
    if (sidecar === undefined) return [name, []];
    const answer = await fetch(`http://127.0.0.1:${sidecar.metrics}/metrics`);
    return [name, parsePrometheus(await answer.text())];
  });
  return new Map(await Promise.all(read));
}

/**
 * The way of the one task that ran between two snapshots: which attempts the gateway's sidecar made, and which
 * agents' sidecars served a call. It is what they counted, not what was meant to happen.
 */
export function wayOf(system: LocalSystem, before: Snapshot, after: Snapshot): string[] {
  const { gateway, agents } = system;
  if (gateway.sidecar === undefined) return ['gateway → agent, without sidecars'];
  const grown = (name: string) => growth(before.get(name) ?? [], after.get(name) ?? []);
  const way: string[] = [];
  for (const { name, labels, value } of grown('gateway')) {
    if (name !== 'outrigger_attempts_total') continue;
    const { cluster = '?', endpoint = '?', code = '?' } = labels;
    const target = agents.find(({ sidecar }) => endpoint === `127.0.0.1:${sidecar?.inbound}`);
    const served = target === undefined ? 0 : servedCalls(grown(target.name));
    const attempts = value === 1 ? 'one attempt' : `${value} attempts`;
    way.push(
      `gateway → its sidecar (127.0.0.1:${gateway.sidecar.outbound}) → cluster ${cluster}, ${attempts}: ${code}`,
      `  → ${target === undefined ? endpoint : `sidecar of ${target.name} (${endpoint}), ${served} served`}` +
        (target === undefined || served === 0 ? '' : ` → ${target.name} (127.0.0.1:${target.port})`),
    );
  }
  return way;
}

/** How many tasks a sidecar served its callers. */
function servedCalls(grown: readonly Sample[]): number {
  return grown
    .filter(({ name, labels }) => {
      const task = /(^|\/)agent\.AgentService\/(ProcessTask|StreamProcess)$/.test(labels['rpc_method'] ?? '');
      return name === 'rpc_server_call_duration_seconds_count' && task;
    })
    .reduce((sum, { value }) => sum + value, 0);
}
