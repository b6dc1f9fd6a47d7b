// A sidecar's data plane inside the test's own process: with real sockets, and with access to its clock, wheel and
// counters.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import type { Endpoint } from '../../sidecar/cluster/endpoint.ts';
import { refreshAdmits } from '../../sidecar/cluster/outlier/watched-endpoint.ts';
import type { Config } from '../../sidecar/config/config.ts';
import { openConfigSource } from '../../sidecar/config/source.ts';
import { Sidecar, type SidecarObserver } from '../../sidecar/data-plane/sidecar.ts';
import type { TestClock } from './test-clock.ts';

type Section = Record<string, unknown>;

/** The configuration of a file with this content; listeners without an address get a port from the kernel. */
export async function readConfig(content: Section): Promise<Config> {
  const listen = '127.0.0.1:0';
  const complete: Section = { ...content };
  for (const name of ['inbound', 'outbound', 'llm'])
    complete[name] = { listen, ...(content[name] as Section) };
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-test-'));
  try {
    const path = join(folder, 'outrigger.yaml');
    writeFileSync(path, JSON.stringify(complete));
    const opened = await openConfigSource({ path, env: {}, flags: [] });
    if ('problems' in opened) throw new Error(JSON.stringify(opened.problems));
    return opened.source.current;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const silent: SidecarObserver = {
  onEndpoints() {},
  onDiscoveryError() {},
  onConnectFailed() {},
  onEndpointUsable() {},
  onConnectionError() {},
  onDrainState() {},
  onOutlier() {},
  onCircuit() {},
  onBreaker() {},
  onCooldown() {},
  onOutOfCredit() {},
};

export interface DataPlane {
  readonly sidecar: Sidecar;
  readonly inboundPort: number;
  readonly outboundPort: number;
  /** Applies another configuration, like a reload. */
  apply(content: Section): Promise<void>;
}

const portOf = (address: string): number => Number(address.slice(address.lastIndexOf(':') + 1));

/**
 * Starts both listeners; they end with the test. With a `clock`, the data plane's time passes only when the test
 * advances it.
 */
export async function startDataPlane(
  t: Pick<Test, 'teardown'>,
  content: Section,
  observer: Partial<SidecarObserver> = {},
  clock?: TestClock,
): Promise<DataPlane> {
  const sidecar = new Sidecar(await readConfig(content), { ...silent, ...observer }, clock?.now);
  clock?.drive(sidecar.wheel);
  t.teardown(() => sidecar.close());
  await sidecar.start();
  return {
    sidecar,
    inboundPort: portOf(sidecar.inboundAddress),
    outboundPort: portOf(sidecar.outboundAddress),
    apply: async (next) => sidecar.apply(await readConfig(next)),
  };
}

/** Settings of a cluster without ejection, circuit breaking and retries, for tests of the layers below. */
export const policiesOff: Section = {
  circuit_breaker: { consecutive_failures: 0, failure_percent: 0 },
  outlier_detection: { max_ejection_percent: 0 },
  retry: { max_attempts: 1 },
};

/** Ends the cooldown of an endpoint that has refused a call, so that the balancer can pick it again. */
export function endCooldown({ watched }: Endpoint): void {
  watched.cooling = false;
  watched.coolUntilMs = Number.NEGATIVE_INFINITY;
  refreshAdmits(watched);
}

/**
 * The configuration of a data plane whose outbound listener sends every call to one cluster of these endpoints, without
 * policies.
 */
export function oneCluster(endpoints: readonly string[], settings: Section = {}): Section {
  return {
    outbound: {
      routes: [{ match: { path_prefix: '/' }, cluster: 'upstream' }],
      clusters: { upstream: { endpoints, ...policiesOff, ...settings } },
    },
  };
}
