/**
 * The access log: one line a call, when `log.access` is on, with the called service and how the call ended. It never
 * holds content: no messages, and no header values except those that `log.access_headers` names.
 */
import { Status, statusName } from '../grpc/status.ts';
import type { CallObserver, ObservedAttempt, ObservedCall } from '../proxy/observed-call.ts';
import type { Logger } from '../telemetry/log.ts';

/** One attempt, in the line of a call that had several. */
interface TriedEndpoint {
  readonly endpoint: string;
  readonly status: string;
  /** Since the call began. */
  readonly after_ms: number;
  readonly duration_ms: number;
  readonly peer_reason: string | undefined;
}

/** Callers choose the path and the headers; longer values are cut. */
const MAX_CHARS = 256;
/** The log shows only the first attempts of a call with many. */
const MAX_TRIED = 10;

/** Observes a listener's calls and logs each. */
export class AccessLog implements CallObserver {
  /** The request headers to log, in lower case. */
  headers: readonly string[] = [];
  private readonly logger: Logger;
  /** The attempts of unfinished calls that needed more than one. */
  private readonly tried = new WeakMap<ObservedCall, TriedEndpoint[]>();

  /** The log writes its lines at every `log.level`: an operator who turned it on wants them. */
  constructor(logger: Logger) {
    this.logger = logger.child({ log: 'access' }, { level: 'info' });
  }

  /** Runs at the end of each attempt, before the end of the call. */
  onAttemptEnd(call: ObservedCall, attempt: ObservedAttempt): void {
    if (call.attempts === 1 && attempt.status === Status.OK) return;
    const { startedAtMs } = call;
    const record: TriedEndpoint = {
      endpoint: attempt.endpoint.address,
      status: statusName(attempt.status),
      after_ms: rounded(attempt.startedAtMs - startedAtMs),
      duration_ms: rounded(attempt.elapsedMs),
      peer_reason: attempt.peerReason || undefined,
    };
    const tried = this.tried.get(call);
    if (tried === undefined) this.tried.set(call, [record]);
    else if (tried.length < MAX_TRIED) tried.push(record);
  }

  onCallEnd(call: ObservedCall): void {
    const { attempt, attempts, startedAtMs, task } = call;
    // JSON omits undefined fields.
    this.logger.info({
      listener: call.context.listener,
      caller: call.callerIdentity,
      method: methodOf(call.head.path),
      status: call.statusName,
      reason: call.reason,
      peer_reason: attempt?.peerReason || undefined,
      duration_ms: rounded((call.callerGoneAtMs || call.context.clock()) - startedAtMs),
      first_message_ms: attempt?.firstMessageAtMs
        ? rounded(attempt.firstMessageAtMs - startedAtMs)
        : undefined,
      attempts,
      cluster: call.cluster?.name,
      endpoint: attempt?.endpoint.address,
      tried: attempts > 1 ? this.tried.get(call) : undefined,
      deduplicated: call.follower === undefined ? undefined : true,
      request_bytes: call.request.framing?.bytes,
      response_bytes: call.response.sentBytes,
      task_id: task?.taskId || undefined,
      trace_id: call.trace?.traceId ?? traceIdOf(call.info.traceparent),
      request_headers: this.headers.length === 0 ? undefined : this.valuesOf(call.list),
    });
  }

  private valuesOf(list: ObservedCall['list']): Record<string, string> | undefined {
    let values: Record<string, string> | undefined;
    for (const name of this.headers) {
      const value = list.get(name);
      if (value !== undefined) (values ??= {})[name] = value.slice(0, MAX_CHARS);
    }
    return values;
  }
}

/** W3C trace context, "traceparent"; set also for calls that are not recorded. */
function traceIdOf(traceparent: string): string | undefined {
  return /^[0-9a-f]{2}-([0-9a-f]{32})-/.exec(traceparent)?.[1];
}

/** `package.Service/Method`, as in metrics. The query, which plain HTTP requests may carry, is content and is left out. */
function methodOf(path: string): string {
  const query = path.indexOf('?');
  const method = path.slice(path.startsWith('/') ? 1 : 0, query < 0 ? undefined : query);
  return method.slice(0, MAX_CHARS);
}

function rounded(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}
