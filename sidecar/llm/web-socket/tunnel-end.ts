/** Records the end of a tunnel in the statistics, and for observers. */
import type { LlmOutcome } from '../../telemetry/llm-stats.ts';
import type { EgressContext } from '../provider/egress-context.ts';
import type { LlmRequestInfo, LlmRequestObserver } from '../shared/request-observer.ts';

export interface EndedTunnel {
  readonly info: LlmRequestInfo;
  readonly observer: LlmRequestObserver | undefined;
  readonly outcome: LlmOutcome;
  /** As in `LlmRecord`. */
  readonly reason: string;
  readonly status: number;
  /** The name of the last upstream; '' without one. */
  readonly upstream: string;
  readonly attempts: number;
  readonly startedMs: number;
}

export function recordTunnel({ clock, stats }: EgressContext, ended: EndedTunnel): void {
  const { info, outcome, reason, status, upstream, attempts } = ended;
  const durationMs = clock() - ended.startedMs;
  stats.ended(stats.of(upstream, info.model), info.model, outcome, durationMs / 1000);
  ended.observer?.onEnd({
    info,
    outcome,
    reason,
    status,
    upstream,
    attempts,
    isReplayed: false,
    responseModel: undefined,
    responseId: undefined,
    finishReason: undefined,
    inputTokens: 0,
    outputTokens: 0,
    wastedTokens: 0,
    tokensAreExact: false,
    costNanos: undefined,
    firstByteMs: 0,
    durationMs,
  });
}
