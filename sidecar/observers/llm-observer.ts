/**
 * Observes requests to models: writes a line in the access log and a span for each. Neither holds a body, a key or a
 * header.
 */

import type { ProviderFailure } from '../llm/shared/provider-failure.ts';
import type {
  LlmAttemptInfo,
  LlmObserver,
  LlmRecord,
  LlmRequestInfo,
  LlmRequestObserver,
} from '../llm/shared/request-observer.ts';
import { usdOf } from '../policy/money.ts';
import type { Logger } from '../telemetry/log.ts';

/** One line a request, when `log.access` is on. */
export class LlmAccessLog implements LlmObserver {
  private readonly logger: Logger;
  private readonly line: LlmRequestObserver;

  constructor(logger: Logger) {
    this.logger = logger.child({ log: 'access' }, { level: 'info' });
    // The line needs nothing from the attempts, so one object serves every request.
    this.line = { onAttempt() {}, onAttemptEnd() {}, onEnd: (record) => this.write(record) };
  }

  begin(): LlmRequestObserver {
    return this.line;
  }

  private write(record: LlmRecord): void {
    const { info } = record;
    // JSON omits undefined fields.
    this.logger.info({
      listener: 'llm',
      method: info.operation,
      model: info.model === '' ? undefined : info.model,
      stream: info.stream,
      status: record.status,
      outcome: record.outcome,
      reason: record.reason === '' ? undefined : record.reason,
      duration_ms: rounded(record.durationMs),
      first_byte_ms: record.firstByteMs === 0 ? undefined : rounded(record.firstByteMs),
      attempts: record.attempts,
      journal: record.isReplayed ? 'replayed' : undefined,
      upstream: record.upstream === '' ? undefined : record.upstream,
      input_tokens: record.inputTokens,
      output_tokens: record.outputTokens,
      wasted_tokens: record.wastedTokens === 0 ? undefined : record.wastedTokens,
      tokens_are_exact: record.tokensAreExact,
      cost_usd: record.costNanos === undefined ? 'unknown' : usdOf(record.costNanos),
      task_id: info.taskId === '' ? undefined : info.taskId,
      caller: info.client === '' ? undefined : info.client,
    });
  }
}

function rounded(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}

/** Joins several observers into one; undefined when there are none. */
export function observerOf(observers: readonly (LlmObserver | undefined)[]): LlmObserver | undefined {
  const present = observers.filter((one) => one !== undefined);
  if (present.length < 2) return present[0];
  return { begin: (info: LlmRequestInfo) => new Several(present.flatMap((one) => one.begin(info) ?? [])) };
}

class Several implements LlmRequestObserver {
  private readonly observers: readonly LlmRequestObserver[];

  constructor(observers: readonly LlmRequestObserver[]) {
    this.observers = observers;
  }

  onAttempt(info: LlmAttemptInfo): void {
    for (const observer of this.observers) observer.onAttempt(info);
  }

  onAttemptEnd(failure: ProviderFailure | undefined, status: number): void {
    for (const observer of this.observers) observer.onAttemptEnd(failure, status);
  }

  onEnd(record: LlmRecord): void {
    for (const observer of this.observers) observer.onEnd(record);
  }
}
