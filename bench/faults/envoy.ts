// Envoy as the proxy under the same faults.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { temporaryFolder } from '../../scripts/harness/faults/mesh.ts';
import type { ProxyKind, RunningProxy } from '../../scripts/harness/faults/proxy.ts';
import { withHosts } from '../../scripts/harness/faults/with-hosts.ts';
import { freePort } from '../../scripts/harness/free-port.ts';
import { startProcess } from '../../scripts/harness/process.ts';
import { requireTool } from '../../scripts/harness/tool.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { envoyConfig } from './envoy-config.ts';

/** How long it asks its callers to go before its listener closes, and then waits for streams. */
const DRAIN_SECONDS = 1;
const DRAIN_LIMIT_MS = 5_000;

interface HostStatus {
  address: { socket_address: { address: string; port_value: number } };
  stats: { name: string; value?: string }[];
}

interface Clusters {
  cluster_statuses?: { name: string; host_statuses?: HostStatus[] }[];
}

export const envoy: ProxyKind = {
  name: 'Envoy',
  async start(owner, settings): Promise<RunningProxy> {
    const adminPort = await freePort();
    const outboundPort = await freePort();
    const inbound = settings.inbound ?? `127.0.0.1:${await freePort()}`;
    const ports = { inbound, outbound: `127.0.0.1:${outboundPort}`, admin: `127.0.0.1:${adminPort}` };
    const file = join(temporaryFolder(owner), 'envoy.json');
    writeFileSync(file, JSON.stringify(envoyConfig(settings, ports)));
    const [program, ...args] = [
      ...(settings.hostsFile === undefined ? [] : withHosts(settings.hostsFile)),
      requireTool('envoy'),
      ...['-c', file, '--concurrency', '1', '-l', 'error', '--use-dynamic-base-id'],
      ...['--drain-time-s', `${DRAIN_SECONDS}`, '--drain-strategy', 'immediate'],
    ] as [string, ...string[]];
    const started = startProcess(owner, program, args);
    const admin = `http://127.0.0.1:${adminPort}`;
    await waitUntil('Envoy is ready', async () => (await fetch(`${admin}/ready`)).ok).catch((error) => {
      throw new Error(`${error.message}; its log: ${started.logs().slice(-2_000)}`, { cause: error });
    });
    const drain = async (): Promise<void> => {
      await fetch(`${admin}/drain_listeners?graceful&inboundonly`, { method: 'POST' });
    };
    let counted = new Map<string, number>();
    return {
      process: started,
      inbound,
      outboundPort,
      async sentTo(endpoint) {
        const response = await fetch(`${admin}/clusters?format=json`);
        const { cluster_statuses: clusters = [] } = (await response.json()) as Clusters;
        const hosts = clusters.find(({ name }) => name === 'agents')?.host_statuses ?? [];
        counted = new Map([...counted, ...hosts.map((host) => [addressOf(host), attemptsAt(host)] as const)]);
        return counted.get(endpoint) ?? 0;
      },
      drain,
      // As a mesh's agent does for it, for its own SIGTERM cuts everything off.
      async leave() {
        await drain();
        await sleep(DRAIN_SECONDS * 1_000);
        const active = async (): Promise<boolean> => {
          const text = await (await fetch(`${admin}/stats?filter=inbound.downstream_rq_active`)).text();
          return /rq_active: 0/.test(text);
        };
        await waitUntil('its calls have ended', active, { limitMs: DRAIN_LIMIT_MS }).catch(() => {});
        await started.stop(2_000);
      },
    };
  },
};

function addressOf({ address }: HostStatus): string {
  return `${address.socket_address.address}:${address.socket_address.port_value}`;
}

/** A call to a connection that fails is none to Envoy's `rq_total`. */
function attemptsAt({ stats }: HostStatus): number {
  const value = (name: string): number => Number(stats.find((stat) => stat.name === name)?.value ?? 0);
  return value('rq_total') + value('cx_connect_fail');
}
