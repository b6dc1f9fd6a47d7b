import { connect as netConnect, type Socket } from 'node:net';
import type { TimerWheel } from '../clock/timer-wheel.ts';
import { DEFAULT_LIMITS } from '../http2/limits.ts';
import { parseAddress } from './address.ts';
import { Cluster, type ClusterListener, type ClusterSettings } from './cluster.ts';
import type { PoolEnvironment } from './connection-pool.ts';
import type { Discovery } from './discovery.ts';
import { DnsDiscovery } from './dns-discovery.ts';
import { StaticDiscovery } from './static-discovery.ts';

/** A cluster's settings, and where its endpoints come from. */
export interface DiscoveredClusterSettings extends ClusterSettings {
  readonly endpoints: readonly string[];
  readonly dns: string | undefined;
  readonly dnsRefreshMs: number;
}

export interface ClusterEnvironment {
  readonly wheel: TimerWheel;
  readonly clock: () => number;
  readonly random: () => number;
}

/** Opens a cleartext socket to an endpoint; throws AddressError. */
export function openSocket(address: string): Socket {
  const where = parseAddress(address);
  return where.kind === 'unix'
    ? netConnect({ path: where.path })
    : netConnect({ host: where.host, port: where.port, noDelay: true });
}

/** The clusters of the outbound side, kept in step with the configuration. */
export class ClusterSet {
  readonly clusters = new Map<string, Cluster>();
  private readonly environment: ClusterEnvironment;
  private readonly listener: ClusterListener;
  private readonly sources = new Map<string, string>();

  constructor(environment: ClusterEnvironment, listener: ClusterListener) {
    this.environment = environment;
    this.listener = listener;
  }

  /** Makes, changes and closes clusters until they are as wanted. Calls in flight are not touched. */
  apply(wanted: ReadonlyMap<string, DiscoveredClusterSettings>): void {
    for (const [name, cluster] of this.clusters) {
      if (wanted.has(name)) continue;
      this.clusters.delete(name);
      this.sources.delete(name);
      cluster.close();
    }
    for (const [name, settings] of wanted) this.applyOne(name, settings);
  }

  private applyOne(name: string, settings: DiscoveredClusterSettings): void {
    let cluster = this.clusters.get(name);
    if (cluster === undefined) {
      cluster = createCluster(settings, this.environment, this.listener);
      this.clusters.set(name, cluster);
    } else {
      cluster.update(settings);
    }
    const source = JSON.stringify([settings.endpoints, settings.dns, settings.dnsRefreshMs]);
    if (this.sources.get(name) === source) return;
    this.sources.set(name, source);
    cluster.discover(this.discoveryOf(settings));
  }

  private discoveryOf(settings: DiscoveredClusterSettings): Discovery {
    const { wheel, clock, random } = this.environment;
    if (settings.dns === undefined) return new StaticDiscovery(settings.endpoints);
    return new DnsDiscovery({
      address: settings.dns,
      refreshMs: settings.dnsRefreshMs,
      wheel,
      now: clock,
      random,
    });
  }

  close(): void {
    this.apply(new Map());
  }
}

export function createCluster(
  settings: ClusterSettings,
  environment: ClusterEnvironment,
  listener: ClusterListener,
): Cluster {
  const pools: PoolEnvironment = { ...environment, limits: DEFAULT_LIMITS, connect: openSocket };
  return new Cluster(settings, pools, listener);
}
