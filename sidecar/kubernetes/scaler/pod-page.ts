/**
 * What the scaler reads of a sidecar's `/metrics`: a few series of the page, in Prometheus' text format. A page with a value
 * that no sidecar counts is wrong as a whole, because what else it says is no better.
 */
import { type Buckets, PageDurations } from './page-durations.ts';
import { PageError } from './page-error.ts';
import { numberOf, readSeries } from './page-series.ts';

/** The page of one pod. */
export interface PodPage {
  /** Counters begin at 0 when it changes; 0 when the page does not tell. */
  readonly startedAtSeconds: number;
  /** Calls in flight from callers of the pod, or of tasks. */
  readonly activeCalls: number;
  /** Durations of inbound calls, by the labels of their series but the bound; all have the same bounds. */
  readonly durations: ReadonlyMap<string, Buckets>;
  /** Attempts at providers of models: in all, and those that were throttled (429). */
  readonly modelAttempts: number;
  readonly throttledAttempts: number;
  /** Requests to models under way, and those of them that wait. */
  readonly modelRequests: number;
  readonly waitingRequests: number;
  /** Whether a provider has said to send nothing for a while. */
  readonly cooling: boolean;
}

const BUCKET = 'rpc_server_call_duration_seconds_bucket';
const COOLDOWN = 'outrigger_llm_cooldown_seconds';
const WANTED: ReadonlySet<string> = new Set([
  'process_start_time_seconds',
  'outrigger_active_calls',
  BUCKET,
  'outrigger_llm_attempts_total',
  'outrigger_llm_active_requests',
  'outrigger_llm_waiting_requests',
  COOLDOWN,
]);
/** Attempts that end by the caller's will say nothing about the provider. */
const NO_ATTEMPT = 'cancelled';
const THROTTLED = '429';
/** Above it, whole numbers have gaps: nobody has counted so far. */
const MAX_VALUE = Number.MAX_SAFE_INTEGER;

/**
 * Undefined when the page is not a sidecar's.
 *
 * @throws PageError when it says what can't be so
 */
export function readPage(text: string): PodPage | undefined {
  let startedAtSeconds = 0;
  let activeCalls: number | undefined;
  const durations = new PageDurations();
  let modelAttempts = 0;
  let throttledAttempts = 0;
  let modelRequests = 0;
  let waitingRequests = 0;
  let cooling = false;
  const seen = new Set<string>();
  for (const { name, labels, value } of readSeries(text, WANTED)) {
    if (name === COOLDOWN) {
      cooling ||= value > 0;
      continue;
    }
    if (!(value >= 0 && value <= MAX_VALUE)) throw new PageError(`a value of ${name} is no count`);
    const series = keyOf(name, labels);
    if (seen.has(series))
      throw new PageError(`it has a series of ${name} twice, as if it were of two sidecars`);
    seen.add(series);
    if (name === BUCKET) durations.add(labels, value);
    else if (name === 'outrigger_active_calls') {
      if (labels.get('listener') !== 'inbound') continue;
      if (activeCalls !== undefined) throw new PageError(`it counts the calls of two sidecars (${name})`);
      activeCalls = value;
    } else if (name === 'outrigger_llm_attempts_total') {
      const outcome = labels.get('outcome');
      if (outcome === NO_ATTEMPT) continue;
      modelAttempts += value;
      if (outcome === THROTTLED) throttledAttempts += value;
    } else if (name === 'outrigger_llm_active_requests') modelRequests = value;
    else if (name === 'outrigger_llm_waiting_requests') waitingRequests = value;
    else startedAtSeconds = value;
  }
  if (activeCalls === undefined) return undefined;
  return {
    startedAtSeconds,
    activeCalls,
    durations: durations.checked(),
    modelAttempts,
    throttledAttempts,
    modelRequests,
    // More requests than there are can't wait.
    waitingRequests: Math.min(waitingRequests, modelRequests),
    cooling,
  };
}

/** The same for lines that name the same series: the order of labels is no matter, nor is how a bound is written. */
function keyOf(name: string, labels: ReadonlyMap<string, string>): string {
  const pairs: string[] = [];
  for (const [label, value] of labels) pairs.push(`${label}=${label === 'le' ? numberOf(value) : value}`);
  return [name, ...pairs.sort()].join('\n');
}
