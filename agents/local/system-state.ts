/** Gathers the state of the local system for the page. */
import type { ReplicaState, Replicas } from './replicas.ts';
import type { LocalSystem, SidecarPorts } from './system.ts';

/** The page's data of an agent. */
interface ReplicaReport {
  readonly name: string;
  readonly type: string;
  readonly address: string;
  readonly state: ReplicaState;
  readonly pid: number | undefined;
  /** The URL of its sidecar's dashboard; '' without a sidecar. */
  readonly dashboard: string;
  /** Why its own sidecar is not ready; '' when it is. */
  readonly notReadyBecause: string;
  /** Its state at the gateway's sidecar, as in that sidecar's `/clusters`; null when unknown. */
  readonly seen: unknown;
}

export interface SystemReport {
  readonly local: true;
  readonly replicas: readonly ReplicaReport[];
  readonly gatewayDashboard: string;
  /** Circuits of the gateway's sidecar that are not closed. */
  readonly circuits: readonly {
    readonly cluster: string;
    readonly method: string;
    readonly state: string;
    readonly because: string;
  }[];
  readonly model: { readonly offline: boolean; readonly url: string };
}

/** The time limit of local requests to processes that may be stopped, so that none delays the page. */
const limitMs = 1000;

interface ClusterView {
  readonly endpoints: readonly { readonly address: string }[];
  readonly circuits: Readonly<Record<string, { readonly state: string; readonly because: string }>>;
}

/** Reads the state of every sidecar. */
export async function readSystem(system: LocalSystem, replicas: Replicas): Promise<SystemReport> {
  const { gateway, agents, model } = system;
  const [clusters, ...reasons] = await Promise.all([
    clustersOf(gateway.sidecar),
    ...agents.map(({ sidecar }) => notReadyBecause(sidecar)),
  ]);
  const seen = new Map(
    Object.values(clusters).flatMap(({ endpoints }) => endpoints.map((one) => [one.address, one] as const)),
  );
  return {
    local: true,
    replicas: agents.map(({ name, type, port, sidecar }, at) => ({
      name,
      type,
      address: `127.0.0.1:${port}`,
      state: replicas.stateOf(name),
      pid: replicas.pidOf(name),
      dashboard: dashboardOf(sidecar),
      notReadyBecause: reasons[at] ?? '',
      seen: seen.get(`127.0.0.1:${sidecar?.inbound}`) ?? null,
    })),
    gatewayDashboard: dashboardOf(gateway.sidecar),
    circuits: Object.entries(clusters).flatMap(([cluster, { circuits }]) =>
      Object.entries(circuits)
        .filter(([, { state }]) => state !== 'closed')
        .map(([method, { state, because }]) => ({ cluster, method, state, because })),
    ),
    model:
      model.kind === 'offline'
        ? { offline: true, url: `http://127.0.0.1:${model.port}/v1` }
        : { offline: false, url: model.baseUrl },
  };
}

function dashboardOf(sidecar: SidecarPorts | undefined): string {
  return sidecar === undefined ? '' : `http://127.0.0.1:${sidecar.admin}/`;
}

async function clustersOf(sidecar: SidecarPorts | undefined): Promise<Record<string, ClusterView>> {
  if (sidecar === undefined) return {};
  try {
    return (await ask(sidecar, '/clusters')) as Record<string, ClusterView>;
  } catch {
    return {};
  }
}

async function notReadyBecause(sidecar: SidecarPorts | undefined): Promise<string> {
  if (sidecar === undefined) return '';
  try {
    const { ok, reason } = (await ask(sidecar, '/ready')) as { ok: boolean; reason?: string };
    return ok ? '' : (reason ?? 'not ready');
  } catch {
    return 'its sidecar does not answer';
  }
}

async function ask(sidecar: SidecarPorts, path: string): Promise<unknown> {
  const url = `http://127.0.0.1:${sidecar.admin}${path}`;
  return (await fetch(url, { signal: AbortSignal.timeout(limitMs) })).json();
}
