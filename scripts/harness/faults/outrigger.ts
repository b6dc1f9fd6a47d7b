// The sidecar as the proxy under test.
import { startSidecar } from '../sidecar.ts';
import { NEXT_AUTHORITY } from './behaviour.ts';
import type { ProxyKind, ProxySettings, RunningProxy } from './proxy.ts';
import { withHosts } from './with-hosts.ts';

const ms = (value: number): string => `${value}ms`;
const CLUSTER = NEXT_AUTHORITY;

/** The part of `/clusters` that this file reads. */
type Clusters = Record<
  string,
  { endpoints: { address: string; active_calls: number; attempts: Record<string, number> }[] }
>;

function configOf(settings: ProxySettings): Record<string, unknown> {
  const { app, inbound, endpoints, ejection, timeoutMs } = settings;
  const limit = settings.maxConcurrentCalls > 0 ? { max_concurrent_calls: settings.maxConcurrentCalls } : {};
  const where = typeof endpoints === 'string' ? { dns: endpoints, dns_refresh: '500ms' } : { endpoints };
  const cluster = {
    ...where,
    balancer: settings.balancer === 'adaptive' ? 'peak_ewma' : 'round_robin',
    timeout: ms(timeoutMs),
    // Envoy's routes end calls of any method by then, whatever the caller's deadline.
    max_timeout: ms(timeoutMs),
    connect_timeout: ms(settings.connectTimeoutMs),
    circuit_breaker: { recovery_timeout: '1s' },
    outlier_detection: {
      consecutive_failures: ejection.consecutiveFailures,
      interval: ms(ejection.intervalMs),
      base_ejection_time: ms(ejection.baseMs),
      max_ejection_percent: ejection.maxPercent,
    },
    retry: { max_attempts: settings.maxAttempts },
  };
  return {
    name: settings.name,
    inbound: {
      ...(app === undefined ? {} : { app }),
      ...(inbound === undefined ? {} : { listen: inbound }),
      ...limit,
      timeout: ms(settings.inboundTimeoutMs),
      max_timeout: ms(settings.inboundTimeoutMs),
    },
    outbound: {
      routes: [{ match: { path_prefix: '/' }, cluster: CLUSTER }],
      clusters: endpoints.length === 0 ? {} : { [CLUSTER]: cluster },
      ...(endpoints.length === 0 ? { routes: [] } : {}),
    },
    drain: { timeout: '5s' },
    log: { level: 'info' },
  };
}

export const outrigger: ProxyKind = {
  name: 'Outrigger',
  async start(owner, settings): Promise<RunningProxy> {
    const sidecar = await startSidecar(owner, configOf(settings), {
      until: settings.app === undefined ? 'live' : 'ready',
      launcher: settings.hostsFile === undefined ? [] : withHosts(settings.hostsFile),
    });
    const admin = `http://127.0.0.1:${sidecar.adminPort}`;
    let counted = new Map<string, number>();
    return {
      process: sidecar,
      inbound: settings.inbound ?? `127.0.0.1:${sidecar.inboundPort}`,
      outboundPort: sidecar.outboundPort,
      async sentTo(endpoint) {
        const clusters = (await (await fetch(`${admin}/clusters`)).json()) as Clusters;
        const found = clusters[CLUSTER]?.endpoints ?? [];
        const now = found.map(({ address, attempts, active_calls: active }): [string, number] => [
          address,
          active + Object.values(attempts).reduce((sum, count) => sum + count, 0),
        ]);
        // The counts of a removed endpoint stay valid.
        counted = new Map([...counted, ...now]);
        return counted.get(endpoint) ?? 0;
      },
      async leave() {
        await sidecar.stop();
      },
      async drain() {
        await fetch(`${admin}/drain`, { method: 'POST' });
      },
    };
  },
};
