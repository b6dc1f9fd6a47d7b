/**
 * Translates the sidecar's configuration to Istio's resources: one set for each agent. Pure.
 *
 *     cluster ─▶ destination ─┬─▶ at the caller:  DestinationRule, VirtualService (and ServiceEntry)
 *                             └─▶ at its pods:    PeerAuthentication, AuthorizationPolicy, Sidecar, Telemetry
 *
 * A setting that Istio can't express becomes a comment beside the field where a reader would look for it.
 */
import type { ClusterConfig, Config, RouteConfig } from '../../config/config.ts';
import {
  DEFAULT_CLUSTER_DOMAIN,
  type NameScope,
  parseAuthority,
  splitAuthority,
} from '../../net/authority.ts';
import { type Destination, destinationOf, isCalled } from './destination.ts';
import { destinationRule } from './destination-rule.ts';
import { objectName, type Resource, type ResourceSet, spoken } from './resource.ts';
import { serviceEntry } from './service-entry.ts';
import { matchesAll, type Rule, virtualService } from './virtual-service.ts';
import {
  type Caller,
  callersAllowed,
  inboundLimits,
  permissiveTls,
  strictTls,
  telemetry,
} from './workload.ts';

export interface IstioSettings {
  /** The namespace of agents whose names have none. */
  readonly namespace: string;
  /** Workloads that call agents but are none, by service account: `gateway`, `NAMESPACE/NAME`. */
  readonly callers: readonly string[];
  /** The trust domain, the first part of every identity in the mesh. */
  readonly trustDomain: string;
}

interface Target {
  readonly cluster: ClusterConfig;
  readonly destination: Destination;
}

const HOST_NAME = /^(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/;
/** The gRPC services of every agent. */
const AGENT_SERVICES = ['/agent.AgentService/', '/grpc.health.v1.Health/'];
/** The default name of a configuration. */
const NO_NAME = 'agent';

export function istioSets(config: Config, settings: IstioSettings): ResourceSet[] {
  const scope = scopeOf(config, settings);
  const targets = targetsOf(config, scope);
  const others = settings.callers.map((text) => callerOf(text, settings.namespace));
  const callers = callersOf(config, settings, targets, others);
  const sets = uniqueNames([
    ...busSets(config),
    ...targets.map((target) => {
      const first = targets.find(({ destination }) => destination.host === target.destination.host)!;
      return first === target
        ? agentSet(config, settings, scope, targets, target, callers)
        : sameSet(target.cluster, first.cluster);
    }),
    ...routeSets(config, scope, targets),
    ...others.filter((caller) => !isAgent(caller, targets)).map((caller) => callerSet(config, caller)),
  ]);
  return sets.length > 0 ? sets : [nothing()];
}

/** Short names belong to the namespace of the agents. */
function scopeOf({ outbound }: Config, { namespace }: IstioSettings): NameScope {
  return { namespace, clusterDomain: outbound.clusterDomain || DEFAULT_CLUSTER_DOMAIN };
}

/** Those whose calls go to endpoints. */
function directClusters({ clusters }: Config['outbound']): ClusterConfig[] {
  return [...clusters.values()].filter(({ bus }) => bus === undefined);
}

function targetsOf({ outbound }: Config, scope: NameScope): Target[] {
  const targets = directClusters(outbound).map((cluster) => ({
    cluster,
    destination: destinationOf(cluster, scope),
  }));
  // The name of a Service is fixed; a host outside the mesh can have another.
  const taken = new Set(
    targets.flatMap(({ destination: { kind, name } }) => (kind === 'service' ? [name] : [])),
  );
  return targets.map(({ cluster, destination }) => {
    if (destination.kind === 'service') return { cluster, destination };
    let name = destination.name;
    for (let count = 2; taken.has(name); count++) name = `${destination.name}-${count}`;
    taken.add(name);
    return { cluster, destination: { ...destination, name } };
  });
}

function agentSet(
  config: Config,
  settings: IstioSettings,
  scope: NameScope,
  targets: readonly Target[],
  { cluster, destination }: Target,
  callers: readonly Caller[],
): ResourceSet {
  const rules = rulesOf(
    config,
    targets,
    (authority) => isCalled(destination, cluster.name, authority, scope),
    cluster,
  );
  const resources: Resource[] = [destinationRule(config, cluster, destination)];
  if (rules.rules.length > 0)
    resources.push(virtualService(destination, destination.host, rules.rules, rules.leftOut));
  if (destination.kind === 'external') {
    resources.unshift(serviceEntry(destination));
  } else {
    const paths = pathsOf(config, cluster);
    resources.push(
      strictTls(destination, config),
      callersAllowed(destination, config, { callers, trustDomain: settings.trustDomain, paths }),
      inboundLimits(destination, config),
      telemetry(destination, config),
    );
  }
  const unruled =
    rules.rules.length === 0
      ? [`No rule of outbound.routes routes calls for ${cluster.name}; Istio sends them to its pods anyway.`]
      : [];
  return {
    name: destination.name,
    head: [...headOf(cluster.name), ...rules.missing, ...unruled, ...sidecarOnly(config)],
    resources,
  };
}

/** Hosts in rules that are no cluster. */
function routeSets(config: Config, scope: NameScope, targets: readonly Target[]): ResourceSet[] {
  const hostOf = (authority: string) => parseAuthority(authority, scope).host;
  /** By meaning, spelled as in the first rule. */
  const hosts = new Map<string, string>();
  for (const { match } of config.outbound.routes) {
    if (match.authority === undefined) continue;
    const meant = hostOf(match.authority);
    if (targets.some(({ cluster, destination }) => isCalled(destination, cluster.name, meant, scope)))
      continue;
    if (!hosts.has(meant)) hosts.set(meant, splitAuthority(match.authority).host);
  }
  return [...hosts].flatMap(([meant, host]) => {
    const { rules, leftOut } = rulesOf(
      config,
      targets,
      (authority) => hostOf(authority) === meant,
      undefined,
    );
    if (rules.length === 0) return [];
    if (!HOST_NAME.test(host)) {
      const head = `Calls to ${host}: a VirtualService needs a host name, and this is none. Omitted.`;
      return [{ name: objectName(`route-${host}`), head: [head], resources: [] }];
    }
    // A dash is doubled, because a dot becomes a single dash.
    const at = { name: objectName(`route-${host.replaceAll('-', '--')}`), namespace: scope.namespace };
    const head = `Calls to ${host}, which is no cluster's name: callers can only connect to it if you add a Service or a ServiceEntry.`;
    return [{ name: at.name, head: [head], resources: [virtualService(at, host, rules, leftOut)] }];
  });
}

/** The rules for one host. Without outbound.routes, its own cluster is the only one. */
function rulesOf(
  config: Config,
  targets: readonly Target[],
  isHost: (authority: string) => boolean,
  own: ClusterConfig | undefined,
): { rules: Rule[]; leftOut: string[]; missing: string[] } {
  const { routes } = config.outbound;
  const targetOf = (name: string) => targets.find(({ cluster }) => cluster.name === name);
  const rules: Rule[] = [];
  const leftOut: string[] = [];
  const missing: string[] = [];
  const add = (match: RouteConfig['match'], name: string) => {
    const target = targetOf(name);
    if (target !== undefined) rules.push({ match, ...target });
  };
  if (routes.length === 0 && own !== undefined) add(ANY, own.name);
  for (const { match, cluster } of routes) {
    if (match.authority !== undefined && !isHost(match.authority)) continue;
    if (match.agentType === undefined) {
      add(match, cluster);
      if (matchesAll(match)) break;
    } else {
      leftOut.push(
        `outbound.routes, agent_type ${match.agentType} to ${cluster}: the agent type is in the message, which Istio does not read. Omitted; such calls reach the next rule.`,
      );
    }
  }
  const last = rules.at(-1);
  if (last !== undefined && !matchesAll(last.match))
    leftOut.push(
      'Istio answers calls that match no rule with 404, which is UNIMPLEMENTED in gRPC, as the sidecar does.',
    );
  if (rules.length === 0) missing.push(...leftOut);
  return { rules, leftOut, missing };
}

const ANY: RouteConfig['match'] = {
  authority: undefined,
  pathPrefix: undefined,
  headers: {},
  agentType: undefined,
};

/** Istio has no tasks: the sidecars of callers and agents stay for them. */
function busSets({ outbound }: Config): ResourceSet[] {
  return [...outbound.clusters.values()].flatMap(({ name, bus }) => {
    if (bus === undefined) return [];
    const head = `${name}: its calls become tasks for ${bus} on the bus. Istio has no bus: keep Outrigger's sidecars beside its callers and agents.`;
    return [{ name: objectName(name), head: [head], resources: [] }];
  });
}

/** The set of a cluster whose endpoints another cluster already has. */
function sameSet({ name }: ClusterConfig, first: ClusterConfig): ResourceSet {
  const head = `${name}: the same endpoints as ${first.name}. Istio has one set of settings for a host, and this file uses those of ${first.name}; the different settings of ${name} are omitted.`;
  return { name: objectName(name), head: [head], resources: [] };
}

function isAgent({ name, namespace }: Caller, targets: readonly Target[]): boolean {
  return targets.some(
    ({ destination }) =>
      destination.kind === 'service' && destination.name === name && destination.namespace === namespace,
  );
}

function callerSet(config: Config, caller: Caller): ResourceSet {
  return {
    name: caller.name,
    head: [`${caller.name}: it calls agents. The agents' files have the settings for these calls.`],
    resources: [permissiveTls(caller), telemetry(caller, config)],
  };
}

/** The callers: the agents, the owner of this configuration, and the named workloads. */
function callersOf(
  config: Config,
  { namespace }: IstioSettings,
  targets: readonly Target[],
  others: readonly Caller[],
): Caller[] {
  const agents = targets.flatMap(({ destination }) => (destination.kind === 'service' ? [destination] : []));
  const self = config.name === NO_NAME ? [] : [{ name: objectName(config.name), namespace }];
  const all = [...others, ...self, ...agents].map(({ name, namespace }) => ({ name, namespace }));
  return all.filter(
    (one, index) =>
      index === all.findIndex((each) => each.name === one.name && each.namespace === one.namespace),
  );
}

function callerOf(text: string, namespace: string): Caller {
  const slash = text.indexOf('/');
  return slash < 0
    ? { name: text, namespace }
    : { name: text.slice(slash + 1), namespace: text.slice(0, slash) };
}

/** The services of agents, and those in the configuration. */
function pathsOf({ outbound }: Config, cluster: ClusterConfig): string[] {
  const routed = outbound.routes
    .filter((route) => route.cluster === cluster.name)
    .map(({ match }) => match.pathPrefix ?? '');
  const services = [...AGENT_SERVICES, ...cluster.retry.idempotentMethods, ...routed].flatMap(
    (path) => /^\/[A-Za-z0-9_.]+\//.exec(path)?.[0] ?? [],
  );
  return [...new Set(services)].map((service) => `${service}*`);
}

function headOf(name: string): string[] {
  return [
    `${name}: written by "outrigger istio" from the sidecar's configuration. Comments say what Istio can't express.`,
    'We assume that the pods have the label app.kubernetes.io/name with the name of the Service, and a service account of that name.',
  ];
}

/** Settings that no resource can express. */
function sidecarOnly({ drain, llm }: Config): string[] {
  const providers = llm.upstreams.map(({ name }) => name).join(', ');
  return [
    'inbound.listen, outbound.listen: no sidecar listens there. Agents call each other by the names of their Services, and Istio redirects the connections of their pods.',
    "admin, metrics, health, log.level: the proxies have their own, on 15000, 15020 and 15021, and sidecar.istio.io/logLevel. outbound.limits: Istio does not limit the agent's own calls.",
    `drain (delay ${spoken(drain.delayMs)}, timeout ${spoken(drain.timeoutMs)}): Istio ends streams after terminationDrainDuration (5s), or with EXIT_ON_ZERO_ACTIVE_CONNECTIONS when none are left: proxy.istio.io/config, an annotation of the pod.`,
    `llm (${providers}): Istio has no fallback between providers, no limits, retries or circuit breaker for them, and does not hide the key from the agent.`,
  ];
}

function nothing(): ResourceSet {
  const head = [
    'outbound.clusters is empty, so there are no agents to write resources for.',
    'Use the configuration of a sidecar that calls your agents.',
  ];
  return { name: 'nothing', head, resources: [] };
}

/** Resolves names that become equal in Kubernetes: the second file gets a number. */
function uniqueNames(sets: readonly ResourceSet[]): ResourceSet[] {
  // The folder has a file of this name, too.
  const seen = new Map([['kustomization', 1]]);
  return sets.map((set) => {
    const count = (seen.get(set.name) ?? 0) + 1;
    seen.set(set.name, count);
    return count === 1 ? set : { ...set, name: `${set.name}-${count}` };
  });
}
