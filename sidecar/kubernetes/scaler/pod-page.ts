/** What the scaler reads of a sidecar's `/metrics`: a few series of the page, in Prometheus' text format. */

/** A cumulative histogram: the counts of calls up to each bound, the last one being infinity. */
export type Buckets = ReadonlyMap<number, number>;

/** The page of one pod. */
export interface PodPage {
  /** Counters begin at 0 when it changes; 0 when the page does not tell. */
  readonly startedAtSeconds: number;
  /** Calls in flight from callers of the pod, or of tasks. */
  readonly activeCalls: number;
  /** Durations of inbound calls, by the labels of their series but the bound. */
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
const WANTED: ReadonlySet<string> = new Set([
  'process_start_time_seconds',
  'outrigger_active_calls',
  BUCKET,
  'outrigger_llm_attempts_total',
  'outrigger_llm_active_requests',
  'outrigger_llm_waiting_requests',
  'outrigger_llm_cooldown_seconds',
]);
/** Of the agent's durations these are none: they say how long somebody looked. */
const NO_WORK = /^(grpc\.health\.v1\.Health|grpc\.reflection\.[\w.]+|outrigger\.v1\.Tasks)\/|\/HealthCheck$/;
/** Attempts that end by the caller's will say nothing about the provider. */
const NO_ATTEMPT = 'cancelled';
const THROTTLED = '429';
/** A page names methods that callers have invented; so many series are read. */
const MAX_SERIES = 4_096;

/** A histogram with more bounds than this is none of a sidecar. */
const MAX_BOUNDS = 256;
const MAX_BOUND_SECONDS = 7 * 86_400;

/**
 * Undefined when the page is not a sidecar's.
 *
 * @throws Error that names what no sidecar counts: one pod's wrong page must not decide for all of them
 */
export function readPage(text: string): PodPage | undefined {
  let startedAtSeconds = 0;
  let activeCalls: number | undefined;
  const durations = new Map<string, Map<number, number>>();
  let modelAttempts = 0;
  let throttledAttempts = 0;
  let modelRequests = 0;
  let waitingRequests = 0;
  let cooling = false;
  for (const { name, labels, value } of series(text)) {
    if (!(value >= 0 && value <= Number.MAX_SAFE_INTEGER))
      throw new Error(`/metrics has ${name} with the value ${value}, which is no count`);
    if (name === BUCKET) addBucket(durations, labels, value);
    else if (name === 'outrigger_active_calls') {
      if (labels.get('listener') === 'inbound') activeCalls = value;
    } else if (name === 'outrigger_llm_attempts_total') {
      const outcome = labels.get('outcome');
      if (outcome === NO_ATTEMPT) continue;
      modelAttempts += value;
      if (outcome === THROTTLED) throttledAttempts += value;
    } else if (name === 'outrigger_llm_active_requests') modelRequests = value;
    else if (name === 'outrigger_llm_waiting_requests') waitingRequests = value;
    else if (name === 'outrigger_llm_cooldown_seconds') cooling ||= value > 0;
    else startedAtSeconds = value;
  }
  if (activeCalls === undefined) return undefined;
  for (const buckets of durations.values()) checkHistogram(buckets);
  return {
    startedAtSeconds,
    activeCalls,
    durations,
    modelAttempts,
    throttledAttempts,
    modelRequests,
    waitingRequests,
    cooling,
  };
}

function addBucket(
  durations: Map<string, Map<number, number>>,
  labels: ReadonlyMap<string, string>,
  value: number,
): void {
  const method = labels.get('rpc_method') ?? '';
  if (NO_WORK.test(method)) return;
  const bound = numberOf(labels.get('le') ?? '');
  if (Number.isNaN(bound)) return;
  const key = `${method}\n${labels.get('rpc_status_code') ?? ''}`;
  let buckets = durations.get(key);
  if (buckets === undefined) {
    if (durations.size >= MAX_SERIES) return;
    durations.set(key, (buckets = new Map()));
  }
  // Series that differ in other labels only are one.
  buckets.set(bound, (buckets.get(bound) ?? 0) + value);
}

/** Throws Error unless it is a cumulative histogram of durations. */
function checkHistogram(buckets: Buckets): void {
  const bounds = [...buckets.keys()].sort((one, other) => one - other);
  const fault = isCumulative(buckets, bounds) ? faultOfBounds(bounds) : 'counts that fall';
  if (fault !== '') throw new Error(`/metrics has a histogram ${BUCKET} with ${fault}`);
}

function faultOfBounds(bounds: readonly number[]): string {
  if (bounds.length > MAX_BOUNDS) return `more than ${MAX_BOUNDS} bounds`;
  const last = bounds.findLast(Number.isFinite) ?? 0;
  if (bounds[0]! <= 0 || last > MAX_BOUND_SECONDS) return 'a bound that is no duration';
  if (bounds.at(-1) !== Number.POSITIVE_INFINITY) return 'no bound +Inf';
  return bounds.length === 1 ? 'no bound but +Inf' : '';
}

/** @param bounds its bounds in their order */
export function isCumulative(buckets: Buckets, bounds: readonly number[]): boolean {
  let below = 0;
  for (const bound of bounds) {
    const count = buckets.get(bound)!;
    if (!(count >= below)) return false;
    below = count;
  }
  return true;
}

interface Series {
  readonly name: string;
  readonly labels: ReadonlyMap<string, string>;
  readonly value: number;
}

/** What follows the number is a time, or an exemplar behind `#`. */
const LINE = /^(\w+)(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})? (\S+)/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;

/** The wanted lines, one `name{label="value",…} number` each. */
function* series(text: string): Generator<Series> {
  for (let start = 0; start < text.length; ) {
    let end = text.indexOf('\n', start);
    if (end < 0) end = text.length;
    const line = text.slice(start, end);
    start = end + 1;
    // A page has thousands of lines, of which few are wanted.
    if (!WANTED.has(line.slice(0, line.search(/\W/)))) continue;
    const [, name = '', written = '', number = ''] = LINE.exec(line) ?? [];
    const value = numberOf(number);
    if (name === '' || number === '') continue;
    const labels = new Map<string, string>();
    for (const [, key, quoted] of written.matchAll(LABEL)) labels.set(key!, quoted!);
    yield { name, labels, value };
  }
}

function numberOf(text: string): number {
  return text === '+Inf' ? Number.POSITIVE_INFINITY : text === '' ? Number.NaN : Number(text);
}
