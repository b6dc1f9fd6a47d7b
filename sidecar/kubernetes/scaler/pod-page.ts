/**
 * What the scaler reads of a sidecar's `/metrics`: a few series of the page, in Prometheus' text format. A page with a value
 * that no sidecar counts is wrong as a whole, because what else it says is no better.
 */
import { hash } from 'node:crypto';
import { type Buckets, PageDurations } from './page-durations.ts';
import { PageError } from './page-error.ts';
import { numberOf, readLine, type Series } from './page-series.ts';

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
/** So many series are known to be no repetition; a sidecar's page has fewer that are wanted. */
const MAX_SEEN = 12_288;

/** Takes the lines of one page, and keeps no more of them than numbers that are needed, and a bounded number of histograms. */
export class PageReader {
  private readonly durations = new PageDurations();
  /** Fingerprints, because names may be long. */
  private readonly seen = new Set<number>();
  private startedAtSeconds = 0;
  private activeCalls: number | undefined = undefined;
  private modelAttempts = 0;
  private throttledAttempts = 0;
  private modelRequests = 0;
  private waitingRequests = 0;
  private cooling = false;

  /** @throws PageError when the line says what can't be so */
  line(text: string): void {
    const series = readLine(text, WANTED);
    if (series === undefined) return;
    const { name, labels, value } = series;
    if (name === COOLDOWN) {
      this.cooling ||= value > 0;
      return;
    }
    if (!(value >= 0 && value <= MAX_VALUE)) throw new PageError(`a value of ${name} is no count`);
    if (name === BUCKET) {
      const buckets = this.durations.of(labels);
      if (buckets === undefined) return;
      this.note(series);
      this.durations.add(buckets, labels.get('le') ?? '', value);
      return;
    }
    this.note(series);
    if (name === 'outrigger_active_calls') {
      if (labels.get('listener') !== 'inbound') return;
      if (this.activeCalls !== undefined)
        throw new PageError(`it counts the calls of two sidecars (${name})`);
      this.activeCalls = value;
    } else if (name === 'outrigger_llm_attempts_total') {
      const outcome = labels.get('outcome');
      if (outcome === NO_ATTEMPT) return;
      this.modelAttempts += value;
      if (outcome === THROTTLED) this.throttledAttempts += value;
    } else if (name === 'outrigger_llm_active_requests') this.modelRequests = value;
    else if (name === 'outrigger_llm_waiting_requests') this.waitingRequests = value;
    else this.startedAtSeconds = value;
  }

  /**
   * The page whose lines these were. Undefined when it is not a sidecar's.
   *
   * @throws PageError when it says what can't be so
   */
  page(): PodPage | undefined {
    const { startedAtSeconds, activeCalls, modelAttempts, throttledAttempts, modelRequests, cooling } = this;
    if (activeCalls === undefined) return undefined;
    return {
      startedAtSeconds,
      activeCalls,
      durations: this.durations.checked(),
      modelAttempts,
      throttledAttempts,
      modelRequests,
      // More requests than there are can't wait.
      waitingRequests: Math.min(this.waitingRequests, modelRequests),
      cooling,
    };
  }

  private note({ name, labels }: Series): void {
    const print = fingerprintOf(name, labels);
    if (this.seen.has(print))
      throw new PageError(`it has a series of ${name} twice, as if it were of two sidecars`);
    if (this.seen.size < MAX_SEEN) this.seen.add(print);
  }
}

/** The same for lines that name the same series: the order of labels is no matter, nor is how a bound is written. */
function fingerprintOf(name: string, labels: ReadonlyMap<string, string>): number {
  const pairs: string[] = [];
  for (const [label, value] of labels) pairs.push(`${label}=${label === 'le' ? numberOf(value) : value}`);
  const text = [name, ...pairs.sort()].join('\n');
  return hash('sha256', text, 'buffer').readUIntBE(0, 6);
}
