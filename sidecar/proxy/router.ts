import type { Cluster } from '../cluster/cluster.ts';
import type { MessageHead } from '../http2/head.ts';
import type { HeaderList } from '../http2/hpack/header-list.ts';
import { AGENT_SERVICE_PREFIX } from '../task/task-message.ts';

/** Where a call goes, as far as its head tells. */
export class Route {
  /** The answer, unless `byAgentType` has to be asked first. */
  readonly cluster: Cluster | undefined;
  /** Rules that the first message decides, in order; behind them comes `cluster`. */
  readonly byAgentType: readonly { readonly agentType: string; readonly cluster: Cluster }[];
  /** Whether the first message must be read before an endpoint can be picked. */
  readonly needsMessage: boolean;

  constructor(cluster: Cluster | undefined, byAgentType: Route['byAgentType'], task: boolean) {
    this.cluster = cluster;
    this.byAgentType = byAgentType;
    const hashes =
      cluster?.settings.balancer === 'ring_hash' ||
      byAgentType.some((rule) => rule.cluster.settings.balancer === 'ring_hash');
    this.needsMessage = task && (byAgentType.length > 0 || hashes);
  }

  resolve(agentType: string): Cluster | undefined {
    for (const rule of this.byAgentType) if (rule.agentType === agentType) return rule.cluster;
    return this.cluster;
  }
}

export interface Router {
  route(list: HeaderList, head: MessageHead): Route;
  /** For the answer to a call that no route takes. */
  readonly hint: string;
}

/** Everything to one cluster: the inbound side and its app. */
export class SingleRouter implements Router {
  private readonly target: Route;
  private readonly taskTarget: Route;
  readonly hint = '';

  constructor(cluster: Cluster) {
    this.target = new Route(cluster, [], false);
    this.taskTarget = new Route(cluster, [], true);
  }

  route(_list: HeaderList, head: MessageHead): Route {
    return head.path.startsWith(AGENT_SERVICE_PREFIX) ? this.taskTarget : this.target;
  }
}

export interface RouteRule {
  readonly match: {
    readonly authority: string | undefined;
    readonly pathPrefix: string | undefined;
    readonly headers: Readonly<Record<string, string>>;
    readonly agentType: string | undefined;
  };
  readonly cluster: string;
}

/** The outbound side: the first rule that matches; without rules the authority names the cluster. */
export class RuleRouter implements Router {
  private readonly rules: readonly RouteRule[];
  private readonly clusters: ReadonlyMap<string, Cluster>;
  /** By lower-case name: an authority has no case (RFC 9110 §4.2.3). */
  private readonly byAuthority = new Map<string, Cluster>();
  readonly hint: string;

  constructor(rules: readonly RouteRule[], clusters: ReadonlyMap<string, Cluster>) {
    this.rules = rules;
    this.clusters = clusters;
    for (const [name, cluster] of clusters) this.byAuthority.set(name.toLowerCase(), cluster);
    this.hint =
      rules.length > 0
        ? 'no outbound.routes entry matches its authority, path, headers and agent_type; add one'
        : `its authority names no cluster; use one of: ${[...clusters.keys()].join(', ') || '(none configured)'}`;
  }

  route(list: HeaderList, head: MessageHead): Route {
    const authority = hostOf(head.authority);
    const task = head.path.startsWith(AGENT_SERVICE_PREFIX);
    if (this.rules.length === 0) {
      // A name with a colon in it is the whole authority.
      const whole = this.byAuthority.get(head.authority.toLowerCase());
      return new Route(whole ?? this.byAuthority.get(authority), [], task);
    }
    const byAgentType: { agentType: string; cluster: Cluster }[] = [];
    for (const { match, cluster: name } of this.rules) {
      const cluster = this.clusters.get(name);
      if (cluster === undefined) continue;
      if (
        match.authority !== undefined &&
        match.authority !== authority &&
        match.authority !== head.authority.toLowerCase()
      )
        continue;
      if (match.pathPrefix !== undefined && !head.path.startsWith(match.pathPrefix)) continue;
      if (!headersMatch(match.headers, list)) continue;
      if (match.agentType === undefined) return new Route(cluster, byAgentType, task);
      if (task) byAgentType.push({ agentType: match.agentType, cluster });
    }
    return new Route(undefined, byAgentType, task);
  }
}

function headersMatch(wanted: Readonly<Record<string, string>>, list: HeaderList): boolean {
  for (const name in wanted) if (list.get(name) !== wanted[name]) return false;
  return true;
}

/** The authority without its port, in lower case. */
function hostOf(authority: string): string {
  const colon = authority.lastIndexOf(':');
  const host = colon > authority.lastIndexOf(']') ? authority.slice(0, colon) : authority;
  return host.toLowerCase();
}
