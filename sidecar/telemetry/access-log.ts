/**
 * One line a call, when `log.access` asks for it: who was called and how it ended. Never what was said: no header
 * values, no message content.
 */
import type { Logger } from './log.ts';

/** What a line tells of a call that has ended; `Call` of proxy/ is one. */
export interface FinishedCall {
  readonly context: { readonly listener: string; readonly clock: () => number };
  /** `path` is the method. */
  readonly head: { readonly path: string };
  readonly startedAtMs: number;
  /** The gRPC status by name. */
  readonly statusName: string;
  /** Why the sidecar answered itself. */
  readonly reason: string | undefined;
  readonly attempts: number;
  /** The last one. */
  readonly attempt: { readonly endpoint: { readonly address: string } } | undefined;
  readonly cluster: { readonly name: string } | undefined;
  /** Known when the first message was read, for routing or for a balancer that goes by task. */
  readonly task: { readonly taskId: string } | undefined;
}

/** A caller chooses the path: what is longer is cut. */
const MAX_METHOD_CHARS = 256;

/** The observer of a listener's calls that writes them down. */
export class AccessLog {
  private readonly logger: Logger;

  /** Lines are written at every `log.level`: who turned the access log on wants them. */
  constructor(logger: Logger) {
    this.logger = logger.child({ log: 'access' }, { level: 'info' });
  }

  onCallEnd(call: FinishedCall): void {
    const taskId = call.task?.taskId;
    // JSON leaves out what is undefined.
    this.logger.info({
      listener: call.context.listener,
      method: methodOf(call.head.path),
      status: call.statusName,
      reason: call.reason,
      duration_ms: Math.round((call.context.clock() - call.startedAtMs) * 1000) / 1000,
      attempts: call.attempts,
      cluster: call.cluster?.name,
      endpoint: call.attempt?.endpoint.address,
      task_id: taskId === '' ? undefined : taskId,
    });
  }
}

/** `package.Service/Method`, as metrics have it. A query, which plain HTTP requests may carry, is content. */
function methodOf(path: string): string {
  const query = path.indexOf('?');
  const method = path.slice(path.startsWith('/') ? 1 : 0, query < 0 ? undefined : query);
  return method.slice(0, MAX_METHOD_CHARS);
}
