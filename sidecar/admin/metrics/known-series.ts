/**
 * The series that metrics show as 0 before their first event. `rate()` and `increase()` miss a series that appears with
 * its first value, so the very first failures would fire no alert. We show every series that we can know from the first
 * scrape on, within bounds, because each series costs every scraper. None of this work runs for a call.
 */
import { Status, statusName } from '../../grpc/status.ts';
import { PROCESS_TASK_PATH, STREAM_PROCESS_PATH } from '../../task/task-message.ts';
import type { CallStats } from '../../telemetry/call-stats.ts';
import { OTHER_METHOD } from '../../telemetry/call-stats.ts';

/** OK, and the statuses that are failures of the system or shed load; errors of the caller are not among them. */
export const KNOWN_STATUSES: readonly number[] = [
  Status.OK,
  Status.UNKNOWN,
  Status.DEADLINE_EXCEEDED,
  Status.RESOURCE_EXHAUSTED,
  Status.INTERNAL,
  Status.UNAVAILABLE,
  Status.DATA_LOSS,
];

export const KNOWN_STATUS_NAMES: readonly string[] = KNOWN_STATUSES.map(statusName);

/** The methods of an agent, as metrics write them. */
export const TASK_METHODS: readonly string[] = [PROCESS_TASK_PATH, STREAM_PROCESS_PATH].map((path) =>
  path.slice(1),
);

/** Methods of a listener or a cluster with all {@link KNOWN_STATUSES}: a histogram has 27 lines for each status. */
const MAX_KNOWN_METHODS = 12;
/** Of these, methods of agents without a call yet. */
const MAX_METHODS_AHEAD = 8;
/** Endpoints with all {@link KNOWN_STATUSES}. */
export const MAX_KNOWN_ENDPOINTS = 100;
/** Clusters with their circuits of an agent's methods. */
export const MAX_KNOWN_CLUSTERS = 50;
/** Models of upstreams with all outcomes. */
export const MAX_KNOWN_MODELS = 20;

/** The usual reasons of failed connections; others appear after their first failure. */
export const CONNECT_FAILURES: readonly string[] = [
  'connection_lost',
  'connect_timeout',
  'no_socket',
  'http1',
  'tls_wanted',
  'not_http2',
];

/** The facts of the configuration that name series. */
export interface KnownSeries {
  /** Every `outrigger-reason`. */
  readonly reasons: readonly string[];
  /** The name of the agent whose tasks are counted. */
  readonly agent: () => string;
  /**
   * Models that the configuration names for upstreams of the LLM egress; models that callers choose are unknown in
   * advance.
   */
  readonly models: () => readonly { readonly upstream: string; readonly model: string }[];
}

/** The calls of a listener or a cluster, and whether they may be an agent's tasks. */
export interface KnownCalls {
  readonly calls: CallStats;
  /** Values of the identifying labels. */
  readonly labelValues: readonly string[];
  readonly servesTasks: boolean;
}

/** Chooses the methods to show with all statuses. A chosen method stays chosen while its calls exist. */
export class KnownMethods {
  private chosen = new Set<string>();

  /** @returns the methods of each source */
  choose(sources: readonly KnownCalls[]): readonly (readonly string[])[] {
    const called = sources.map(({ calls }) => methodsThatAnswered(calls));
    const ahead = sources.map(({ servesTasks }, i) =>
      servesTasks ? TASK_METHODS.filter((method) => !called[i]!.includes(method)) : [],
    );
    const next = new Set<string>();
    const take = (methods: readonly (readonly string[])[], most: number, mayBeNew: boolean): void => {
      methods.forEach((names, i) => {
        for (const name of names) {
          const key = keyOf(sources[i]!, name);
          if (next.size < most && (mayBeNew || this.chosen.has(key))) next.add(key);
        }
      });
    };
    take(called, MAX_KNOWN_METHODS, false);
    take(ahead, MAX_KNOWN_METHODS, false);
    take(called, MAX_KNOWN_METHODS, true);
    take(ahead, MAX_METHODS_AHEAD, true);
    this.chosen = next;
    return sources.map((source, i) =>
      [...called[i]!, ...ahead[i]!].filter((name) => next.has(keyOf(source, name))),
    );
  }
}

/** No service answers an invented path with OK. */
function methodsThatAnswered({ methods }: CallStats): string[] {
  const names: string[] = [];
  for (const { method, byStatus } of methods.values())
    if (byStatus[Status.OK] !== undefined && method !== '' && method !== OTHER_METHOD) names.push(method);
  return names;
}

function keyOf({ labelValues }: KnownCalls, method: string): string {
  return `${labelValues.join('\n')}\n${method}`;
}
