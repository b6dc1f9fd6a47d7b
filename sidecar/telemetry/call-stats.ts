/**
 * Call durations as plain numbers, so that recording one costs a few additions. `metrics.ts` turns them into the
 * histograms `rpc_server_call_duration_seconds` and `rpc_client_call_duration_seconds` when someone scrapes.
 */

/** Upper bounds in seconds, as OpenTelemetry's RPC conventions advise for `rpc.*.call.duration`. */
export const DURATION_BUCKETS: readonly number[] = [
  0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10,
];

/** Methods beyond this are counted together: a caller that invents paths must not grow our memory. */
const MAX_METHODS = 200;
/** Of these, the ones that nobody has ever answered: invented paths must not take the places of real ones. */
const MAX_UNANSWERED_METHODS = 50;
const MAX_METHOD_CHARS = 256;
/** Reasons come from a fixed set, but for the error codes of HTTP/2, which a peer may invent. */
const MAX_REASONS = 64;
export const OTHER_METHOD = '_OTHER';
export const OTHER_REASON = '_OTHER';

/** The last call of a bucket that was traced. */
export interface Exemplar {
  traceId: string;
  seconds: number;
  /** Since 1970. */
  atSeconds: number;
}

/** One histogram: counts per bucket, the last for everything above; not cumulative. */
export class Durations {
  readonly buckets = new Float64Array(DURATION_BUCKETS.length + 1);
  sumSeconds = 0;
  count = 0;
  /** At the index of their bucket. Undefined until a traced call comes. */
  exemplars: (Exemplar | undefined)[] | undefined = undefined;

  /** @param traceId of a call whose spans are exported: 32 hexadecimal digits. '' for all others. */
  record(seconds: number, traceId = ''): void {
    let at = 0;
    while (at < DURATION_BUCKETS.length && seconds > DURATION_BUCKETS[at]!) at++;
    this.buckets[at]!++;
    this.sumSeconds += seconds;
    this.count++;
    if (traceId !== '') this.keepExemplar(at, seconds, traceId);
  }

  private keepExemplar(at: number, seconds: number, traceId: string): void {
    this.exemplars ??= new Array(this.buckets.length).fill(undefined);
    const exemplar = (this.exemplars[at] ??= { traceId, seconds, atSeconds: 0 });
    exemplar.traceId = traceId;
    exemplar.seconds = seconds;
    exemplar.atSeconds = Date.now() / 1000;
  }
}

/** The calls of one method, by gRPC status. */
export class MethodStats {
  /** `package.Service/Method`, as the conventions write it. */
  readonly method: string;
  readonly byStatus: (Durations | undefined)[] = new Array(17).fill(undefined);

  constructor(method: string) {
    this.method = method;
  }

  /** @param traceId see {@link Durations.record} */
  record(status: number, seconds: number, traceId = ''): void {
    this.byStatus[status] ??= new Durations();
    this.byStatus[status].record(seconds, traceId);
  }
}

/** The calls of one listener or one cluster, by method. */
export class CallStats {
  readonly methods = new Map<string, MethodStats>();
  private unanswered = 0;

  /**
   * @param path the request's `:path`
   * @param answered whether this call was answered by whom it was for. Paths that never were get few names.
   */
  of(path: string, answered = true): MethodStats {
    const known = this.methods.get(path);
    if (known !== undefined) return known;
    const room = this.methods.size < MAX_METHODS && (answered || this.unanswered < MAX_UNANSWERED_METHODS);
    if (!room || path.length > MAX_METHOD_CHARS) return this.add(OTHER_METHOD);
    if (!answered) this.unanswered++;
    return this.add(path);
  }

  private add(key: string): MethodStats {
    let stats = this.methods.get(key);
    if (stats === undefined) {
      stats = new MethodStats(key.startsWith('/') ? key.slice(1) : key);
      this.methods.set(key, stats);
    }
    return stats;
  }
}

/** What one listener counts. */
export class ListenerStats {
  readonly name: string;
  activeCalls = 0;
  activeConnections = 0;
  /** Of the active calls, those that wait for a place. */
  queuedCalls = 0;
  /** Calls that may be in flight at once; Infinity for any number. */
  concurrencyLimit = Number.POSITIVE_INFINITY;
  /** Calls and connections turned away, by reason. */
  readonly rejected = new Map<string, number>();
  /** Inbound all; outbound those that have come to no cluster: clusters count their own. */
  readonly calls = new CallStats();
  totalCalls = 0;
  totalErrors = 0;

  constructor(name: string) {
    this.name = name;
  }

  reject(reason: string): void {
    const room = this.rejected.size < MAX_REASONS || this.rejected.has(reason);
    const key = room ? reason : OTHER_REASON;
    this.rejected.set(key, (this.rejected.get(key) ?? 0) + 1);
  }
}
