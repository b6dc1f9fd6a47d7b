/** Reads the numbers of the LLM egress for its metrics. */
import type { LlmListener } from '../../listeners/llm.ts';
import { CIRCUIT_STATE_VALUE } from '../../policy/circuit-state.ts';
import { inMs, shownModels } from '../llm-snapshot.ts';
import type { MeasuredLlm } from './llm-metrics.ts';

export function measuredLlm(llm: LlmListener, clock: () => number): MeasuredLlm {
  return {
    stats: llm.stats,
    waiting: () => llm.egress?.waiting ?? 0,
    bodyBytes: () => llm.egress?.bodyBytes ?? 0,
    upstreams: () => {
      const nowMs = clock();
      return (llm.egress?.upstreams ?? []).map((upstream) => ({
        name: upstream.name,
        state: CIRCUIT_STATE_VALUE[upstream.breaker.state],
        rejections: upstream.breaker.rejections,
        models: shownModels(upstream, nowMs).map((state) => {
          const left = state.learned.left(nowMs);
          return {
            model: state.model,
            coolingSeconds: inMs(state.restsUntilMs, nowMs) / 1000,
            outOfCredit: state.outOfCredit !== undefined,
            requestsLeft: left.requests,
            tokensLeft: left.tokens,
          };
        }),
      }));
    },
  };
}
