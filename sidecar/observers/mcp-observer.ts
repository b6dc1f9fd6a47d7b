/** Observes requests to tool servers: writes a line in the access log for each. It holds no arguments, results and keys. */

import type { HttpHeaders } from '../llm/shared/headers.ts';
import type {
  McpObserver,
  McpRecord,
  McpRequestInfo,
  McpRequestObserver,
} from '../mcp/shared/mcp-observer.ts';
import type { Logger } from '../telemetry/log.ts';

/** One line a request, when `log.access` is on. */
export class McpAccessLog implements McpObserver {
  private readonly logger: Logger;
  /** The line needs nothing from the attempts, so one object serves every request. */
  private readonly line: McpRequestObserver;

  constructor(logger: Logger) {
    this.logger = logger.child({ log: 'access' }, { level: 'info' });
    this.line = { onAttempt() {}, onAttemptEnd() {}, onEnd: (record) => this.write(record) };
  }

  begin(): McpRequestObserver {
    return this.line;
  }

  private write({ info, outcome, reason, status, errorCode, attempts, durationMs }: McpRecord): void {
    // JSON omits undefined fields.
    this.logger.info({
      listener: 'mcp',
      server: info.server,
      method: info.method,
      tool: info.tool === '' ? undefined : info.tool,
      status,
      outcome,
      reason: reason === '' ? undefined : reason,
      error_code: errorCode,
      duration_ms: Math.round(durationMs * 1000) / 1000,
      attempts,
      task_id: info.taskId === '' ? undefined : info.taskId,
    });
  }
}

/** Joins several observers into one; undefined when there are none. */
export function mcpObserverOf(observers: readonly (McpObserver | undefined)[]): McpObserver | undefined {
  const present = observers.filter((one) => one !== undefined);
  if (present.length < 2) return present[0];
  return { begin: (info: McpRequestInfo) => new Several(present.flatMap((one) => one.begin(info) ?? [])) };
}

class Several implements McpRequestObserver {
  private readonly observers: readonly McpRequestObserver[];

  constructor(observers: readonly McpRequestObserver[]) {
    this.observers = observers;
  }

  onAttempt(attempt: number, headers: HttpHeaders): void {
    for (const observer of this.observers) observer.onAttempt(attempt, headers);
  }

  onAttemptEnd(why: string): void {
    for (const observer of this.observers) observer.onAttemptEnd(why);
  }

  onEnd(record: McpRecord): void {
    for (const observer of this.observers) observer.onEnd(record);
  }
}
