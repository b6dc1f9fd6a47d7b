/** The series that metrics show before their first event, as far as the configuration names them. */

import type { Sidecar } from '../data-plane/sidecar.ts';
import { REASONS } from '../policy/reasons.ts';
import type { KnownSeries } from '../telemetry/known-series.ts';

/** The result follows reloads. */
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
