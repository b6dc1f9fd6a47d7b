/** Finds the cluster of a call by its authority, path, header fields or agent type. */
import type { MessageHead } from '../http2/head.ts';
import type { HeaderList } from '../http2/hpack/header-list.ts';
import {
  type Authority,
  isSameAuthority,
  type NameScope,
  NO_SCOPE,
  parseAuthority,
} from '../net/authority.ts';
import { AGENT_SERVICE_PREFIX } from '../task/task-message.ts';
import type { AgentTypeClusters, ClusterWithPolicies } from './cluster-policies.ts';
import type { RouteRule } from './route-settings.ts';

const NO_AGENT_TYPES: AgentTypeClusters = new Map();

/** The cluster of a call, as far as the head decides it. */
export class Route {
  /** The result, unless a rule of `byAgentType` matches. */
  readonly cluster: ClusterWithPolicies | undefined;
  /** Rules that need the first message, in order; `cluster` applies when none matches. */
  readonly byAgentType: readonly { readonly agentType: string; readonly cluster: ClusterWithPolicies }[];
  /** Whether the first message must be read before an endpoint can be picked. */
  readonly needsMessage: boolean;
  private readonly agentTypes: AgentTypeClusters;

  constructor(
    cluster: ClusterWithPolicies | undefined,
    byAgentType: Route['byAgentType'],
    task: boolean,
    agentTypes: AgentTypeClusters,
  ) {
    this.cluster = cluster;
    this.byAgentType = byAgentType;
    this.agentTypes = agentTypes;
    const asksMessage =
      cluster !== undefined && (cluster.settings.balancer === 'ring_hash' || agentTypes.has(cluster.name));
    const hashes = byAgentType.some((rule) => rule.cluster.settings.balancer === 'ring_hash');
    this.needsMessage = task && (byAgentType.length > 0 || asksMessage || hashes);
  }

  /** @param agentType '' for calls without one */
  resolve(agentType: string): ClusterWithPolicies | undefined {
    const cluster = this.byRule(agentType);
    if (cluster === undefined || agentType === '' || this.agentTypes.size === 0) return cluster;
    return this.agentTypes.get(cluster.name)?.get(agentType) ?? cluster;
  }

  private byRule(agentType: string): ClusterWithPolicies | undefined {
    for (const rule of this.byAgentType) if (rule.agentType === agentType) return rule.cluster;
    return this.cluster;
  }
}

export interface Router {
  route(list: HeaderList, head: MessageHead): Route;
  /** Part of the answer to a call without a route. */
  readonly hint: string;
}

/** Routes every call to one cluster: the app, on the inbound side. */
export class SingleRouter implements Router {
  private readonly target: Route;
  private readonly taskTarget: Route;
  readonly hint = '';

  /** @param byAgentType whether the agent type of a task decides something: then its message is read first */
  constructor(cluster: ClusterWithPolicies, byAgentType = false) {
    const agentTypes = byAgentType ? new Map([[cluster.name, new Map()]]) : NO_AGENT_TYPES;
    this.target = new Route(cluster, [], false, NO_AGENT_TYPES);
    this.taskTarget = new Route(cluster, [], true, agentTypes);
  }

  route(_list: HeaderList, head: MessageHead): Route {
    return head.path.startsWith(AGENT_SERVICE_PREFIX) ? this.taskTarget : this.target;
  }
}

/** The most authorities in the cache: an agent calls few, and each new header list looks its authority up. */
const KNOWN_MAX = 256;

/** A call's authority with the cluster that it names. */
interface KnownAuthority extends Authority {
  /** The cluster with that name. */
  readonly cluster: ClusterWithPolicies | undefined;
}

/** A rule with its parsed authority. */
interface ReadRule extends RouteRule {
  readonly authority: Authority | undefined;
}

/** Routes the outbound side by the first rule that matches; without rules the authority names the cluster. */
export class RuleRouter implements Router {
  private readonly rules: readonly ReadRule[];
  private readonly clusters: ReadonlyMap<string, ClusterWithPolicies>;
  private readonly scope: NameScope;
  private readonly clusterNames: readonly {
    readonly name: Authority;
    readonly cluster: ClusterWithPolicies;
  }[];
  private readonly known = new Map<string, KnownAuthority>();
  private readonly targets: ReadonlySet<string>;
  private readonly agentTypes: AgentTypeClusters;
  readonly hint: string;

  /**
   * @param targets the addresses of `outbound.targets`: calls with one as their authority need no rule
   * @param agentTypes the parts of clusters that serve several agents; no authority names them
   */
  constructor(
    rules: readonly RouteRule[],
    clusters: ReadonlyMap<string, ClusterWithPolicies>,
    scope = NO_SCOPE,
    targets: readonly string[] = [],
    agentTypes = NO_AGENT_TYPES,
  ) {
    this.agentTypes = agentTypes;
    this.targets = new Set(targets);
    this.rules = rules.map((rule) => {
      const { authority } = rule.match;
      return { ...rule, authority: authority === undefined ? undefined : parseAuthority(authority, scope) };
    });
    this.clusters = clusters;
    this.scope = scope;
    this.clusterNames = [...clusters].map(([name, cluster]) => ({
      name: parseAuthority(name, scope),
      cluster,
    }));
    this.hint = rules.length > 0 ? hintOfRules(rules) : hintOfClusters([...clusters.keys()]);
  }

  route(list: HeaderList, head: MessageHead): Route {
    const asked = this.known.get(head.authority) ?? this.read(head.authority);
    const task = head.path.startsWith(AGENT_SERVICE_PREFIX);
    const { agentTypes } = this;
    if (this.rules.length === 0) return new Route(asked.cluster, [], task, agentTypes);
    const byAgentType: { agentType: string; cluster: ClusterWithPolicies }[] = [];
    for (const { match, cluster: name, authority } of this.rules) {
      const cluster = this.clusters.get(name);
      if (cluster === undefined) continue;
      if (authority !== undefined && !isSameAuthority(asked, authority)) continue;
      if (match.pathPrefix !== undefined && !head.path.startsWith(match.pathPrefix)) continue;
      if (!headersMatch(match.headers, list)) continue;
      if (match.agentType === undefined) return new Route(cluster, byAgentType, task, agentTypes);
      if (task) byAgentType.push({ agentType: match.agentType, cluster });
    }
    return new Route(
      this.targets.has(head.authority) ? asked.cluster : undefined,
      byAgentType,
      task,
      agentTypes,
    );
  }

  private read(authority: string): KnownAuthority {
    const { host, port } = parseAuthority(authority, this.scope);
    const known = { host, port, cluster: this.clusterOf(authority, { host, port }) };
    if (this.known.size >= KNOWN_MAX) this.known.clear();
    this.known.set(authority, known);
    return known;
  }

  /** Prefers the cluster of exactly that name, then one whose name has the same port, then one whose name has none. */
  private clusterOf(text: string, asked: Authority): ClusterWithPolicies | undefined {
    const exact = this.clusters.get(text);
    if (exact !== undefined) return exact;
    const same = this.clusterNames.filter(({ name }) => isSameAuthority(asked, name));
    return (same.find(({ name }) => name.port === asked.port) ?? same[0])?.cluster;
  }
}

/** The most names in a hint, which is sent in the trailers of each call without a route. */
const HINT_NAMES_MAX = 20;

/** Lists the names that the rules match, so that a person who misspelt one finds the right one. */
function hintOfRules(rules: readonly RouteRule[]): string {
  const asked = (what: string, of: (rule: RouteRule) => string | undefined): string[] => {
    const names = [...new Set(rules.map(of))].filter((name) => name !== undefined);
    return names.length === 0 ? [] : [`${what} ${list(names)}`];
  };
  const known = [
    ...asked('authority', ({ match }) => match.authority),
    ...asked('agent_type', ({ match }) => match.agentType),
  ].join(', and for ');
  const there = known === '' ? 'add one' : `there are entries for ${known}`;
  return `no outbound.routes entry matches its authority, path, headers and agent_type; ${there}`;
}

function hintOfClusters(names: readonly string[]): string {
  return `its authority names no cluster; use one of: ${list(names) || '(none configured)'}`;
}

function list(names: readonly string[]): string {
  const more = names.length - HINT_NAMES_MAX;
  return names.slice(0, HINT_NAMES_MAX).join(', ') + (more > 0 ? ` and ${more} more` : '');
}

function headersMatch(wanted: Readonly<Record<string, string>>, list: HeaderList): boolean {
  for (const name in wanted) if (list.get(name) !== wanted[name]) return false;
  return true;
}
