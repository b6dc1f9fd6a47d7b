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
export const OTHER_METHOD = '_OTHER';

/** One histogram: counts per bucket, the last for everything above; not cumulative. */
export class Durations {
  readonly buckets = new Float64Array(DURATION_BUCKETS.length + 1);
  sumSeconds = 0;
  count = 0;

  record(seconds: number): void {
    let at = 0;
    while (at < DURATION_BUCKETS.length && seconds > DURATION_BUCKETS[at]!) at++;
    this.buckets[at]!++;
    this.sumSeconds += seconds;
    this.count++;
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

  record(status: number, seconds: number): void {
    this.byStatus[status] ??= new Durations();
    this.byStatus[status].record(seconds);
  }
}

/** The calls of one listener or one cluster, by method. */
export class CallStats {
  readonly methods = new Map<string, MethodStats>();

  /** @param path the request's `:path` */
  of(path: string): MethodStats {
    const known = this.methods.get(path);
    if (known !== undefined) return known;
    const key = this.methods.size < MAX_METHODS && path.length <= 256 ? path : OTHER_METHOD;
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
  /** Calls and connections turned away, by reason. */
  readonly rejected = new Map<string, number>();
  readonly calls = new CallStats();
  totalCalls = 0;
  totalErrors = 0;

  constructor(name: string) {
    this.name = name;
  }

  reject(reason: string): void {
    this.rejected.set(reason, (this.rejected.get(reason) ?? 0) + 1);
  }
}
