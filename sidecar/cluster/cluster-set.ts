/** The outbound clusters: creates, changes and closes them as the configuration changes. */
import { connect as netConnect, type OnReadOpts, type Socket } from 'node:net';
import type { TimerWheel } from '../clock/timer-wheel.ts';
import { STATUS_FIELDS } from '../grpc/status.ts';
import { type ConnectionLimits, DEFAULT_LIMITS, headerLimits } from '../http2/limits.ts';
import { sharedRead } from '../http2/shared-read.ts';
import { parseAddress } from '../net/address.ts';
import { type Credentials, type CredentialsListener, NOBODY } from '../tls/credentials.ts';
import { Cluster, type ClusterListener, type EndpointPolicies } from './cluster.ts';
import type { ClusterSettings } from './cluster-settings.ts';
import type { PoolEnvironment } from './connection/pool-types.ts';
import { TlsConnector } from './connection/tls-connector.ts';
import type { ClusterTlsSettings } from './connection/tls-settings.ts';
import { BusDiscovery } from './discovery/bus.ts';
import type { Discovery } from './discovery/discovery.ts';
import type { DiscoverySettings } from './discovery/discovery-settings.ts';
import { DnsDiscovery } from './discovery/dns.ts';
import { KubernetesDiscovery } from './discovery/kubernetes.ts';
import { KubernetesApi } from './discovery/kubernetes-api.ts';
import type { KubernetesSettings } from './discovery/kubernetes-settings.ts';
import { StaticDiscovery } from './discovery/static.ts';
import { Leaving } from './leaving.ts';

/** A cluster's settings, and where its endpoints come from. */
export interface DiscoveredClusterSettings extends Omit<ClusterSettings, 'bus'>, DiscoverySettings {
  /** Cleartext when undefined. */
  readonly tls: ClusterTlsSettings | undefined;
}

export interface ClusterEnvironment {
  readonly wheel: TimerWheel;
  readonly clock: () => number;
  readonly random: () => number;
  /** Receives the changes of certificates that come from files. */
  readonly certificates?: CredentialsListener | undefined;
  /** Opens the connections of clusters whose calls become tasks (`bus/bus.ts`). */
  readonly bus?: BusConnector | undefined;
}

interface BusConnector {
  connect(agentType: string, onread: OnReadOpts): Socket;
}

/** The limits of connections to endpoints. A change applies to connections opened after it. */
export class UpstreamLimits {
  current!: ConnectionLimits;

  /** @param maxHeaderBytes the largest header list that we accept from an endpoint, as RFC 9113 §6.5.2 counts it */
  constructor(maxHeaderBytes: number) {
    this.update(maxHeaderBytes);
  }

  update(maxHeaderBytes: number): void {
    this.current = { ...DEFAULT_LIMITS, ...headerLimits(maxHeaderBytes), keptFields: STATUS_FIELDS };
  }
}

/** The name that certificates for Services have. */
export function serviceNameOf({ service, namespace }: KubernetesSettings): string {
  return namespace === '' ? service : `${service}.${namespace}.svc`;
}

/** How a cluster's connections are opened at present. */
interface Connector {
  settings: string;
  tls: TlsConnector | undefined;
  /** The agent type of a cluster whose calls become tasks. */
  bus: string | undefined;
}

/** Opens a cleartext socket to an endpoint; throws AddressError. */
export function openSocket(address: string): Socket {
  const where = parseAddress(address);
  const onread = sharedRead(() => socket);
  const socket =
    where.kind === 'unix'
      ? netConnect({ path: where.path, onread })
      : netConnect({ host: where.host, port: where.port, noDelay: true, onread });
  return socket;
}

function connectToBus(agentType: string, bus: BusConnector | undefined): Socket {
  if (bus === undefined) throw new Error('there is no bus in this process');
  const socket = bus.connect(
    agentType,
    sharedRead(() => socket),
  );
  return socket;
}

/** Policies whose settings come from their cluster's settings. */
interface ConfiguredPolicies<Settings> extends EndpointPolicies {
  update(settings: Settings, nowMs: number): void;
}

type CreatePolicies<Settings, Policies> = (cluster: Cluster, settings: Settings) => Policies;

/** The clusters of the outbound side. {@link ClusterSet.apply} makes them match the configuration. */
export class ClusterSet<
  Settings extends DiscoveredClusterSettings,
  Policies extends ConfiguredPolicies<Settings>,
> {
  readonly clusters = new Map<string, Cluster<Policies>>();
  /** Clusters that a reload removed while calls still ran in them. */
  readonly leaving = new Leaving<Cluster<Policies>>();
  private readonly environment: ClusterEnvironment;
  private readonly listener: ClusterListener;
  private readonly limits: UpstreamLimits;
  private readonly createPolicies: CreatePolicies<Settings, Policies>;
  private readonly sources = new Map<string, string>();
  private readonly connectors = new Map<string, Connector>();

  constructor(
    environment: ClusterEnvironment,
    listener: ClusterListener,
    limits: UpstreamLimits,
    createPolicies: CreatePolicies<Settings, Policies>,
  ) {
    this.environment = environment;
    this.listener = listener;
    this.limits = limits;
    this.createPolicies = createPolicies;
  }

  /** Creates, changes and closes clusters to match `wanted`. Calls in flight are not affected. */
  apply(wanted: ReadonlyMap<string, Settings>): void {
    for (const [name, cluster] of this.clusters) {
      if (wanted.has(name)) continue;
      this.clusters.delete(name);
      this.sources.delete(name);
      this.connectors.get(name)?.tls?.stop();
      this.connectors.delete(name);
      this.leaving.add(cluster, this.environment.clock());
      cluster.close();
    }
    for (const [name, settings] of wanted) this.applyOne(name, settings);
  }

  private applyOne(name: string, settings: Settings): void {
    let cluster = this.clusters.get(name);
    if (cluster === undefined) {
      const connector = { settings: '', tls: undefined, bus: undefined };
      this.connectors.set(name, connector);
      this.connectBy(connector, settings);
      const { environment, listener, limits, createPolicies } = this;
      cluster = createCluster(
        settings,
        environment,
        listener,
        limits,
        (cluster) => createPolicies(cluster, settings),
        connector,
      );
      this.clusters.set(name, cluster);
    } else {
      cluster.update(settings);
      cluster.policies.update(settings, this.environment.clock());
      if (this.connectBy(this.connectors.get(name)!, settings)) cluster.renewConnections();
    }
    const { endpoints, dns, dnsRefreshMs, kubernetes, bus } = settings;
    const source = JSON.stringify([endpoints, dns, dnsRefreshMs, kubernetes, bus]);
    if (this.sources.get(name) === source) return;
    this.sources.set(name, source);
    cluster.discover(this.discoveryOf(settings));
  }

  /** Updates how connections are opened. @returns whether it changed */
  private connectBy(connector: Connector, settings: DiscoveredClusterSettings): boolean {
    const { name, tls, dns, kubernetes, bus } = settings;
    const wanted = JSON.stringify([tls, dns, kubernetes, bus]);
    if (connector.settings === wanted) return false;
    const { certificates = NOBODY } = this.environment;
    const serviceName = kubernetes ? serviceNameOf(kubernetes) : dns?.slice(0, dns.lastIndexOf(':'));
    connector.settings = wanted;
    connector.bus = bus;
    connector.tls?.stop();
    connector.tls = tls && new TlsConnector(name, tls, serviceName, certificates);
    return true;
  }

  /** For metrics: the configured clusters, and removed ones with calls now or recently. A name may appear twice. */
  *reported(): Generator<Cluster<Policies>> {
    yield* this.clusters.values();
    yield* this.leaving.reported(this.environment.clock());
  }

  /** The configured clusters, and removed ones that still have calls, each under a unique name. */
  *serving(): Generator<readonly [name: string, cluster: Cluster<Policies>]> {
    yield* this.clusters;
    let number = 0;
    for (const cluster of this.leaving.busy())
      yield [`${cluster.name} (removed${++number === 1 ? '' : ` ${number}`})`, cluster];
  }

  /** The certificates in use, by cluster. */
  *credentials(): Generator<Credentials> {
    for (const { tls } of this.connectors.values()) if (tls !== undefined) yield tls.credentials;
  }

  private discoveryOf(settings: DiscoveredClusterSettings): Discovery {
    const { wheel, clock, random } = this.environment;
    if (settings.bus !== undefined) return new BusDiscovery(settings.bus);
    if (settings.kubernetes !== undefined) {
      const source = new KubernetesApi(settings.kubernetes);
      return new KubernetesDiscovery({ source, port: settings.kubernetes.port, wheel, now: clock, random });
    }
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

export function createCluster<Policies extends EndpointPolicies>(
  settings: ClusterSettings,
  environment: ClusterEnvironment,
  listener: ClusterListener,
  limits: UpstreamLimits,
  createPolicies: (cluster: Cluster) => Policies,
  connector?: Connector,
): Cluster<Policies> {
  const connect = (address: string): Socket => {
    if (connector?.bus !== undefined) return connectToBus(connector.bus, environment.bus);
    return connector?.tls?.connect(address) ?? openSocket(address);
  };
  const pools: PoolEnvironment = { ...environment, limits: () => limits.current, connect };
  return new Cluster(settings, pools, listener, createPolicies);
}
