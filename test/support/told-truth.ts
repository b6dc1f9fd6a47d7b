// What is true of a page of metrics, and counts of what a test's driver has seen.

/** Methods that nobody has answered share a name, so that invented ones make no series. */
export function labelOf(method: string, code: string): string {
  return code === 'UNIMPLEMENTED' ? '_OTHER' : method.slice(1);
}

/** Counts by a key of several parts. */
export class Counts {
  private readonly counts = new Map<string, number>();

  add(...parts: string[]): void {
    const key = parts.join(' ');
    this.counts.set(key, (this.counts.get(key) ?? 0) + 1);
  }

  of(...parts: (string | undefined)[]): number {
    return this.counts.get(parts.join(' ')) ?? 0;
  }

  /** Of all keys that have each of these parts. */
  sum(...parts: (string | undefined)[]): number {
    let sum = 0;
    for (const [key, count] of this.counts) {
      const own = key.split(' ');
      if (parts.every((part) => own.includes(part ?? ''))) sum += count;
    }
    return sum;
  }

  entries(): string[] {
    return [...this.counts].map(([key, count]) => `${key} ${count}`).sort();
  }
}

/** What is true of one series: a number, from and to, or why nobody can know. */
export type Truth = number | readonly [from: number, to: number] | { readonly unknown: string };

export function complaint(truth: Truth, value: number): string | undefined {
  if (typeof truth === 'number') return value === truth ? undefined : `${value}, and ${truth} is true`;
  if ('unknown' in truth) return Number.isFinite(value) && value >= 0 ? undefined : `${value} is none`;
  const [from, to] = truth;
  return value >= from && value <= to ? undefined : `${value} is not from ${from} to ${to}`;
}

/** 0 when nothing goes on, and nothing is wrong. */
export const AT_REST = new Set([
  'outrigger_config_refused',
  'outrigger_log_lines_dropped_total',
  'outrigger_active_calls',
  'outrigger_queued_calls',
  'outrigger_connect_failures_total',
  'outrigger_circuit_state',
  'outrigger_circuit_rejections_total',
  'outrigger_ejections_total',
  'outrigger_endpoints_ejected',
  'outrigger_llm_retries_total',
  'outrigger_llm_active_requests',
  'outrigger_llm_waiting_requests',
  'outrigger_llm_web_sockets',
  'outrigger_llm_body_bytes',
  'outrigger_llm_circuit_state',
  'outrigger_llm_cooldown_seconds',
  'outrigger_llm_out_of_credit',
  'outrigger_spans_waiting',
]);

/** With the method as metrics name it. */
export function byLabel(counts: Counts): Counts {
  const labelled = new Counts();
  for (const entry of counts.entries()) {
    const [cluster, method, code, count] = entry.split(' ') as [string, string, string, string];
    for (let i = 0; i < Number(count); i++) labelled.add(cluster, labelOf(method, code), code);
  }
  return labelled;
}

/** Statuses that say that the system failed, and not that a caller did, or left. */
export const ERRORS = ['UNKNOWN', 'DEADLINE_EXCEEDED', 'INTERNAL', 'UNAVAILABLE', 'DATA_LOSS'];

export type Service = 'caller' | 'research';
export type Labels = Readonly<Record<string, string | undefined>>;

export interface Stats {
  readonly listeners: Readonly<Record<string, object>>;
}

export interface Live {
  readonly listeners: readonly { readonly name: string }[];
}
