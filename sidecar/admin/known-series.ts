/** What metrics show before it has happened, as far as the configuration tells. */

import type { Sidecar } from '../data-plane/sidecar.ts';
import { REASONS } from '../policy/reasons.ts';
import type { KnownSeries } from '../telemetry/known-series.ts';

/** Follows reloads. */
export function knownSeries(sidecar: Sidecar): KnownSeries {
  return {
    reasons: Object.keys(REASONS),
    agent: () => sidecar.inbound.context.name,
    models: () =>
      sidecar.config.llm.upstreams.flatMap(({ name, model }) =>
        model === undefined ? [] : [{ upstream: name, model }],
      ),
  };
}
