/**
 * `/status`: one sidecar in a few lines, for `outrigger status`. The metrics listener serves it, which other pods can reach, so
 * there it says no more than the metrics do: names, rates, circuits, and the findings in words of our own. On the admin
 * listener the findings have their texts, which may quote a peer.
 */
import type { Sidecar } from '../data-plane/sidecar.ts';
import type { Finding } from '../policy/now/finding.ts';
import type { TrafficReport } from '../telemetry/traffic-history.ts';
import { outriggerVersion } from '../telemetry/version.ts';
import { publicFinding } from './public-finding.ts';

const MAX_FINDINGS = 20;
const MAX_CIRCUITS = 20;

interface StatusSources {
  readonly findings: readonly Finding[];
  readonly inbound: TrafficReport | undefined;
  readonly outbound: TrafficReport | undefined;
}

/** Who reads the page: everybody who reaches the metrics listener, or the operator at the admin listener. */
export type StatusReader = 'everybody' | 'operator';

export function statusPage(
  sidecar: Sidecar,
  { findings, inbound, outbound }: StatusSources,
  reader: StatusReader,
) {
  const { config, state, notReadyBecause } = sidecar;
  const circuits = Array.from(openCircuits(sidecar));
  return {
    name: config.name,
    version: config.version,
    outrigger_version: outriggerVersion(),
    state,
    draining: state !== 'starting' && state !== 'running',
    ready: notReadyBecause === undefined,
    not_ready_because: notReadyBecause ?? '',
    has_app: sidecar.inbound.appHealth.state !== 'none',
    uptime_s: Math.round(process.uptime()),
    inbound: lastMinute(sidecar.inbound.stats.activeCalls, inbound),
    outbound: lastMinute(sidecar.outbound.stats.activeCalls, outbound),
    bus: busStatus(sidecar, reader),
    open_circuits: circuits.length,
    circuits: circuits.slice(0, MAX_CIRCUITS),
    ejected_endpoints: ejectedEndpoints(sidecar),
    problems: findings.length,
    findings: findings.slice(0, MAX_FINDINGS).map((finding) => {
      const known = publicFinding(finding, notReadyBecause ?? '');
      return reader === 'everybody' ? known : { ...known, text: finding.text };
    }),
  };
}

/** Null without a bus. The reason of a problem may quote an address: it is for the operator. */
function busStatus({ busSide: { bus } }: Sidecar, reader: StatusReader) {
  const { view } = bus;
  if (view === undefined) return null;
  const { engine, connected, problem, queues, takes } = view;
  return {
    engine,
    connected,
    ...(reader === 'operator' ? { problem } : {}),
    takes,
    queues: queues.map(({ agentType, queued, running, dead, oldestMs }) => ({
      agent_type: agentType,
      queued,
      running,
      dead,
      oldest_s: Math.round(oldestMs / 1_000),
    })),
  };
}

/** The calls of the last minute, or of the time since the start; null where no call ended. */
function lastMinute(activeCalls: number, report: TrafficReport | undefined) {
  const { calls = 0, success = null, p95_ms: p95Ms = null } = report?.last_minute ?? {};
  const seconds = Math.max(report?.calls.length ?? 0, 1);
  return {
    active_calls: activeCalls,
    calls_per_s: Math.round((calls / seconds) * 100) / 100,
    success,
    p95_ms: p95Ms,
  };
}

function* openCircuits({ inbound, outbound }: Sidecar) {
  for (const [cluster, { policies }] of [
    [inbound.app.name, inbound.app] as const,
    ...outbound.clusters.serving(),
  ])
    for (const [method, { state }] of policies.breakers.entries())
      if (state !== 'closed')
        yield { cluster, method: method || '(other methods)', state: state.replace('_', '-') };
}

function ejectedEndpoints({ inbound, outbound }: Sidecar): number {
  let ejected = 0;
  for (const cluster of [inbound.app, ...outbound.clusters.clusters.values()])
    for (const { watched } of cluster.servingEndpoints()) if (watched.ejected) ejected++;
  return ejected;
}
