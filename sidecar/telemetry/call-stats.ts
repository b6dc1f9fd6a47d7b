/** Counts of calls by method and status. `admin/metrics/` reads them at each scrape. */
import { Durations } from './durations.ts';

/** The methods beyond this number share one count: a caller that invents paths must not grow our memory. */
const MAX_METHODS = 200;
/** The places for methods that no endpoint has answered yet: invented paths must not take the places of real ones. */
const MAX_UNANSWERED_METHODS = 50;
const MAX_METHOD_CHARS = 256;
/** Reasons come from a fixed set, except the error codes of HTTP/2, which a peer may invent. */
const MAX_REASONS = 64;
export const OTHER_METHOD = '_OTHER';
const OTHER_REASON = '_OTHER';

/** The calls of one method, by gRPC status. */
export class MethodStats {
  /** `package.Service/Method`, as OpenTelemetry's conventions write it. */
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
   * @param path the request's `:path`, without its query
   * @param answered whether the called service answered. Paths that no service answered get few names.
   */
  of(path: string, answered = true): MethodStats {
    const known = this.methods.get(path);
    if (known !== undefined) return known;
    if (!this.hasRoom(path, answered)) return this.add(OTHER_METHOD);
    if (!answered) this.unanswered++;
    return this.add(path);
  }

  /** Whether `of` gives this path a name of its own. */
  hasName(path: string, answered: boolean): boolean {
    return this.methods.has(path) || this.hasRoom(path, answered);
  }

  private hasRoom(path: string, answered: boolean): boolean {
    const room = this.methods.size < MAX_METHODS && (answered || this.unanswered < MAX_UNANSWERED_METHODS);
    return room && path.length <= MAX_METHOD_CHARS;
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

/** The calls that wait for a place, and how many places there are. */
export interface PlaceStats {
  /** The active calls that wait for a place. */
  queuedCalls: number;
  /** Calls that may be in flight at once; Infinity for no limit. */
  concurrencyLimit: number;
}

/** The counts of one listener. */
export class ListenerStats implements PlaceStats {
  readonly name: string;
  activeCalls = 0;
  activeConnections = 0;
  queuedCalls = 0;
  concurrencyLimit = Number.POSITIVE_INFINITY;
  /** Refused calls and connections, by reason. */
  readonly rejected = new Map<string, number>();
  /** Inbound: all calls. Outbound: the calls that reached no cluster; each cluster counts its own. */
  readonly calls = new CallStats();
  totalCalls = 0;
  /** Calls that ended with OK, failed, or were refused; those that their caller spoiled or left are in none of them. */
  totalOk = 0;
  totalErrors = 0;
  totalRefused = 0;

  constructor(name: string) {
    this.name = name;
  }

  reject(reason: string): void {
    const room = this.rejected.size < MAX_REASONS || this.rejected.has(reason);
    const key = room ? reason : OTHER_REASON;
    this.rejected.set(key, (this.rejected.get(key) ?? 0) + 1);
  }
}
