/** The parts of a sidecar's admin JSON that the page of the local system shows. */
import type { SidecarPorts } from './system.ts';

/** The time limit of local requests to processes that may be stopped, so that none delays the page. */
const limitMs = 1000;

interface Traffic {
  readonly calls_per_s: number;
  readonly success: number | null;
  readonly last_minute: { readonly p95_ms: number | null };
}

interface EndpointView {
  readonly address: string;
}

export interface CallView {
  readonly id: number;
  readonly at: string;
  readonly task_id: string;
  readonly method: string;
  readonly cluster: string;
  readonly status: string;
  readonly reason: string;
  readonly elapsed_ms: number;
  readonly attempts: number;
  readonly way: readonly AttemptView[];
}

interface AttemptView {
  readonly endpoint: string;
  readonly status: string;
  readonly outcome: string;
}

export interface EventView {
  readonly id: number;
  readonly at: string;
  readonly type: string;
  readonly message: string;
  readonly details: Readonly<Record<string, string | number | boolean>>;
}

/** The parts of `/live` that the page needs. */
export interface LiveView {
  readonly instance: string;
  readonly state: string;
  readonly not_ready_because: string;
  readonly listeners: readonly {
    readonly name: string;
    readonly active_calls: number;
    readonly total_requests: number;
    readonly total_errors: number;
    readonly traffic: Traffic | null;
    readonly history: object;
  }[];
  readonly tasks: Readonly<Record<string, number>>;
  readonly llm: {
    readonly upstreams: readonly { readonly state: string; readonly traffic: Traffic | null }[];
  };
  readonly clusters: readonly {
    readonly name: string;
    readonly endpoints: readonly EndpointView[];
    readonly circuits: readonly {
      readonly method: string;
      readonly state: string;
      readonly because: string;
    }[];
  }[];
  readonly events: readonly EventView[];
  readonly calls: readonly CallView[];
}

/** Outcomes of calls by method and status, as in `/stats`. */
export interface StatsView {
  readonly clusters: Readonly<
    Record<string, Readonly<Record<string, Readonly<Record<string, { readonly count: number }>>>>>
  >;
}

/** A running call, as in `/calls`. */
export interface RunningView {
  readonly method: string;
  readonly task_id: string;
  readonly cluster: string;
  readonly age_ms: number;
  readonly attempts: number;
  readonly state: string;
  readonly way: readonly { readonly endpoint: string; readonly state: string }[];
}

/** Undefined if the sidecar does not answer in time. */
export async function askSidecar<T>(
  sidecar: Pick<SidecarPorts, 'admin'> | undefined,
  path: string,
): Promise<T | undefined> {
  if (sidecar === undefined) return undefined;
  try {
    const url = `http://127.0.0.1:${sidecar.admin}${path}`;
    const answer = await fetch(url, { signal: AbortSignal.timeout(limitMs) });
    return answer.ok ? ((await answer.json()) as T) : undefined;
  } catch {
    return undefined;
  }
}
