/** Makes the upstreams that the settings name; one that is at the same place as before keeps its state. */
import type { ConnectionTimes } from '../relay/provider-connections.ts';
import type { LlmSettings } from '../shared/llm-settings.ts';

import { Upstream, type UpstreamEnvironment } from './upstream.ts';

/** @param before those in use until now */
export function upstreamsFor(
  settings: LlmSettings,
  before: readonly Upstream[],
  environment: UpstreamEnvironment,
): readonly Upstream[] {
  const breaker = JSON.stringify(settings.circuitBreaker);
  const times = connectionTimes(settings);
  return settings.upstreams.map((one) => {
    const known = before.find(({ name }) => name === one.name);
    const isSame = known?.isAt(one) === true && JSON.stringify(known.breaker.settings) === breaker;
    if (known === undefined || !isSame) return new Upstream(one, settings.circuitBreaker, times, environment);
    known.settings = one;
    known.connections.update(times);
    return known;
  });
}

function connectionTimes({ connections }: LlmSettings): ConnectionTimes {
  const { maxAgeMs, dnsRefreshMs, pingAfterMs } = connections;
  return { maxAgeMs, dnsRefreshMs, pingAfterMs };
}
