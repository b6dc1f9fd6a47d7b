/** Finds agents in the configuration of the gateway's sidecar: what it routes, users may call. */
import type { FastifyBaseLogger } from 'fastify';
import type { Registry } from './registry.ts';
import type { GatewaySettings } from './settings.ts';

const everyMs = 10_000;
const limitMs = 2_000;
const mostFound = 1000;
const mostBytes = 4 * 1024 * 1024;

/** The parts of a sidecar's `/config` that name agents. */
interface SidecarConfig {
  readonly outbound?: {
    readonly routes?: readonly {
      readonly match?: { readonly authority?: string | null; readonly agent_type?: string | null };
      readonly cluster?: string;
    }[];
    readonly clusters?: Readonly<
      Record<string, { readonly bus?: string | null; readonly agent_types?: readonly string[] }>
    >;
  };
}

/** Keeps the registry equal to what the sidecar routes, beside the agents that the settings name. */
export class Discovery {
  private readonly settings: GatewaySettings;
  private readonly registry: Registry;
  private readonly log: FastifyBaseLogger;
  /** The found types with their names at the sidecar. */
  private found = new Map<string, string>();
  private timer: NodeJS.Timeout | undefined = undefined;
  private isAway = false;

  constructor(settings: GatewaySettings, registry: Registry, log: FastifyBaseLogger) {
    this.settings = settings;
    this.registry = registry;
    this.log = log;
  }

  /** Looks once before it returns, so that the API begins with what is there. A sidecar that is away is asked again. */
  async begin(): Promise<void> {
    await this.look();
    this.timer = setInterval(() => void this.look(), everyMs).unref();
  }

  end(): void {
    clearInterval(this.timer);
  }

  private async look(): Promise<void> {
    try {
      this.adopt(agentsIn(await readConfig(`${this.settings.discover}/config`)));
      this.isAway = false;
    } catch (err) {
      // Nothing is known to be gone.
      if (!this.isAway)
        this.log.warn({ err, url: this.settings.discover }, 'the sidecar does not tell its agents');
      this.isAway = true;
    }
  }

  private adopt(found: Map<string, string>): void {
    const { agents, tasks } = this.settings;
    for (const [type, authority] of this.found)
      if (found.get(type) !== authority && !agents.has(type)) this.registry.remove(type);
    for (const [type, authority] of found) this.registry.add(type, { address: tasks, authority });
    this.found = found;
  }
}

async function readConfig(url: string): Promise<SidecarConfig> {
  const answer = await fetch(url, { signal: AbortSignal.timeout(limitMs) });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${url} answers ${answer.status}`);
  if (text.length > mostBytes) throw new Error(`${url} answers more than ${mostBytes} characters`);
  return JSON.parse(text) as SidecarConfig;
}

/**
 * The agent types that a sidecar routes, each with the name to call it by: of a cluster on the bus its type, of one with several
 * agents each of them, of routes by type that type, and of clusters and authorities `NAME-agent` the name.
 */
export function agentsIn({ outbound = {} }: SidecarConfig): Map<string, string> {
  const { routes = [], clusters = {} } = outbound;
  const found = new Map<string, string>();
  const add = (type: string, authority: string) => {
    if (found.size < mostFound && /^[\x21-\x7e]{1,128}$/.test(type) && !found.has(type))
      found.set(type, authority);
  };
  for (const { match = {} } of routes)
    if (match.agent_type) add(match.agent_type, match.authority || `${match.agent_type}-agent`);
  for (const [cluster, { bus, agent_types: types = [] }] of Object.entries(clusters)) {
    const authorities = routes
      .filter((one) => one.cluster === cluster && one.match?.authority)
      .map(({ match }) => match!.authority!);
    // Without routes the authority names the cluster.
    const authority = authorities[0] ?? cluster;
    if (bus) add(bus, authority);
    else if (types.length > 0) for (const type of types) add(type, authority);
    else {
      const named = [...authorities, cluster].find((name) => name.endsWith('-agent'));
      if (named !== undefined && named !== '-agent') add(named.slice(0, -'-agent'.length), authority);
    }
  }
  return found;
}
