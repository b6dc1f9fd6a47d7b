/** Gathers the state of the local system for the page. */
import type { Happenings } from './happenings.ts';
import type { ReplicaState, Replicas } from './replicas.ts';
import { askSidecar, type LiveView, type RunningView, type StatsView } from './sidecar-view.ts';
import type { LocalSystem, SidecarPorts } from './system.ts';

/** Calls a second, errors a second and p95 at one listener or provider; null when unknown. */
interface Flow {
  readonly per_s: number;
  readonly success: number | null;
  readonly p95_ms: number | null;
}

/** The page's data of an agent. */
interface ReplicaReport {
  readonly name: string;
  readonly type: string;
  readonly address: string;
  readonly sidecarAddress: string;
  readonly state: ReplicaState;
  /** Whether its process knows how to be slow. */
  readonly canBeSlow: boolean;
  readonly pid: number | undefined;
  /** The URL of its sidecar's dashboard; '' without a sidecar. */
  readonly dashboard: string;
  /** Why its own sidecar is not ready; '' when it is. */
  readonly notReadyBecause: string;
  /** Its state at the gateway's sidecar, as in that sidecar's `/clusters`; null when unknown. */
  readonly seen: unknown;
  /** Whether calls come to it as tasks of the bus, so that the gateway's sidecar knows no endpoint. */
  readonly onBus: boolean;
  /** Whether the gateway sends it tasks. */
  readonly takesTasks: boolean;
  /** The calls from its sidecar to it. */
  readonly served: Flow | null;
  /** Its requests to the model. */
  readonly model: (Flow & { readonly state: string }) | null;
}

/** A replica of the egress as a service. */
interface LlmReport {
  readonly name: string;
  readonly address: string;
  readonly dashboard: string;
  readonly state: ReplicaState;
  /** Whether its process knows how to be slow. */
  readonly canBeSlow: boolean;
  readonly pid: number | undefined;
  /** Its requests to the provider. */
  readonly model: (Flow & { readonly state: string }) | null;
}

interface Numbers {
  /** Tasks that the gateway's sidecar has sent, by their end. */
  readonly succeeded: number;
  readonly failed: number;
  readonly saved: number;
  readonly notRunTwice: number;
  readonly usefulTokens: number;
  readonly wastedTokens: number;
  readonly p95_ms: number | null;
}

export interface SystemReport {
  readonly local: true;
  readonly replicas: readonly ReplicaReport[];
  readonly llm: readonly LlmReport[];
  readonly gateway: { readonly address: string; readonly sidecarAddress: string; readonly dashboard: string };
  /** Circuits of the gateway's sidecar that are not closed. */
  readonly circuits: readonly {
    readonly cluster: string;
    readonly method: string;
    readonly state: string;
    readonly because: string;
  }[];
  readonly model: { readonly offline: boolean; readonly url: string };
  /** Null without sidecars. */
  readonly numbers: Numbers | null;
  /** Ten minutes of the gateway's calls; null when unknown. */
  readonly history: object | null;
  readonly events: ReturnType<Happenings['latest']>;
  /** Running calls of the gateway, oldest first. */
  readonly running: { readonly count: number; readonly calls: readonly RunningView[] };
}

const maxRunning = 50;
const taskMethod = /\bAgentService\/(ProcessTask|StreamProcess)$/;

/** Reads the state of every sidecar. */
export async function readSystem(
  system: LocalSystem,
  replicas: Replicas,
  happenings: Happenings,
): Promise<SystemReport> {
  const { gateway, agents, llm, model } = system;
  const [own, stats, running, ...others] = await Promise.all([
    askSidecar<LiveView>(gateway.sidecar, '/live?format=json'),
    askSidecar<StatsView>(gateway.sidecar, '/stats'),
    askSidecar<{ running: number; calls: RunningView[] }>(gateway.sidecar, `/calls?limit=${maxRunning}`),
    ...agents.map(({ sidecar }) => askSidecar<LiveView>(sidecar, '/live?format=json')),
  ]);
  const shared = await Promise.all(
    llm.map(({ admin }) => askSidecar<LiveView>({ admin }, '/live?format=json')),
  );
  const clusters = own?.clusters ?? [];
  const seen = new Map(
    clusters.flatMap(({ endpoints }) => endpoints.map((one) => [one.address, one] as const)),
  );
  if (own !== undefined) happenings.read(own);
  return {
    local: true,
    replicas: agents.map(({ name, service, types, port, sidecar }, at) => ({
      name,
      type: service,
      address: `127.0.0.1:${port}`,
      sidecarAddress: inboundOf(sidecar),
      state: replicas.stateOf(name),
      canBeSlow: replicas.canBeSlow(name),
      pid: replicas.pidOf(name),
      dashboard: dashboardOf(sidecar),
      notReadyBecause: notReadyBecause(sidecar, others[at]),
      seen: seen.get(inboundOf(sidecar)) ?? null,
      onBus: system.layout.outlives === true && types.length === 1,
      takesTasks: types.length > 0,
      served: flowOf(others[at]?.listeners.find((one) => one.name === 'inbound')?.traffic),
      model: modelOf(others[at]),
    })),
    llm: llm.map(({ name, listen, admin }, at) => ({
      name,
      address: `127.0.0.1:${listen}`,
      dashboard: `http://127.0.0.1:${admin}/`,
      state: replicas.stateOf(name),
      canBeSlow: replicas.canBeSlow(name),
      pid: replicas.pidOf(name),
      model: modelOf(shared[at]),
    })),
    gateway: {
      address: `127.0.0.1:${gateway.port}`,
      sidecarAddress: gateway.sidecar === undefined ? '' : `127.0.0.1:${gateway.sidecar.outbound}`,
      dashboard: dashboardOf(gateway.sidecar),
    },
    circuits: clusters.flatMap(({ name: cluster, circuits }) =>
      circuits
        .filter(({ state }) => state !== 'closed')
        .map(({ method, state, because }) => ({ cluster, method, state, because })),
    ),
    model:
      model.kind === 'offline'
        ? { offline: true, url: `http://127.0.0.1:${model.port}/v1` }
        : { offline: false, url: model.baseUrl },
    numbers: own === undefined ? null : numbersOf(own, stats, others),
    history: own?.listeners.find(({ name }) => name === 'outbound')?.history ?? null,
    events: happenings.latest(),
    running: { count: running?.running ?? 0, calls: running?.calls ?? [] },
  };
}

function numbersOf(
  own: LiveView,
  stats: StatsView | undefined,
  others: readonly (LiveView | undefined)[],
): Numbers {
  let [succeeded, failed] = [0, 0];
  for (const methods of Object.values(stats?.clusters ?? {}))
    for (const [method, byStatus] of Object.entries(methods)) {
      if (!taskMethod.test(method)) continue;
      for (const [status, { count }] of Object.entries(byStatus))
        if (status === 'OK') succeeded += count;
        else failed += count;
    }
  const sum = (...names: string[]): number =>
    [own, ...others].reduce(
      (total, live) => total + names.reduce((part, name) => part + (live?.tasks[name] ?? 0), 0),
      0,
    );
  return {
    succeeded,
    failed,
    saved: sum('saved_by_retries'),
    notRunTwice: sum('joined', 'replayed'),
    usefulTokens: sum('useful_tokens'),
    wastedTokens: sum('wasted_tokens'),
    p95_ms: own.listeners.find(({ name }) => name === 'outbound')?.traffic?.last_minute.p95_ms ?? null,
  };
}

function flowOf(traffic: LiveView['listeners'][number]['traffic'] | undefined): Flow | null {
  if (traffic === null || traffic === undefined) return null;
  const { calls_per_s: perS, success, last_minute: minute } = traffic;
  return { per_s: perS, success, p95_ms: minute.p95_ms };
}

function modelOf(live: LiveView | undefined): (Flow & { state: string }) | null {
  const upstream = live?.llm.upstreams[0];
  const flow = flowOf(upstream?.traffic);
  return upstream === undefined || flow === null ? null : { ...flow, state: upstream.state };
}

function inboundOf(sidecar: SidecarPorts | undefined): string {
  return sidecar === undefined ? '' : `127.0.0.1:${sidecar.inbound}`;
}

function dashboardOf(sidecar: SidecarPorts | undefined): string {
  return sidecar === undefined ? '' : `http://127.0.0.1:${sidecar.admin}/`;
}

function notReadyBecause(sidecar: SidecarPorts | undefined, live: LiveView | undefined): string {
  if (sidecar === undefined) return '';
  return live === undefined ? 'its sidecar does not answer' : live.not_ready_because;
}
