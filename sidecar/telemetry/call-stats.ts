/** What calls came to, by method and status: `metrics.ts` shows it when someone scrapes. */
import { Durations } from './durations.ts';

/** Methods beyond this are counted together: a caller that invents paths must not grow our memory. */
const MAX_METHODS = 200;
/** Of these, the ones that nobody has ever answered: invented paths must not take the places of real ones. */
const MAX_UNANSWERED_METHODS = 50;
const MAX_METHOD_CHARS = 256;
/** Reasons come from a fixed set, but for the error codes of HTTP/2, which a peer may invent. */
const MAX_REASONS = 64;
export const OTHER_METHOD = '_OTHER';
const OTHER_REASON = '_OTHER';

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
   * @param path the request's `:path`, without its query
   * @param answered whether this call was answered by whom it was for. Paths that never were get few names.
   */
  of(path: string, answered = true): MethodStats {
    const known = this.methods.get(path);
    if (known !== undefined) return known;
    if (!this.hasRoom(path, answered)) return this.add(OTHER_METHOD);
    if (!answered) this.unanswered++;
    return this.add(path);
  }

  /** Whether `of` gives it a name of its own. */
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
