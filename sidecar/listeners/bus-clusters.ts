/**
 * The settings of clusters whose calls become tasks. Their endpoint is this process, so that what an answer proves about an
 * endpoint means nothing there: an agent's error is its task's result, a task may wait for hours, and what an attempt left
 * behind is joined by the log. So no circuit opens, nothing is ejected, tried again or hedged, and only the caller's deadline
 * and `max_timeout` end a call.
 */
import type { OutboundClusterSettings } from './settings.ts';

/** The settings by which the pipeline serves a cluster; the same as given for one without a bus. */
export function servedSettings(
  clusters: ReadonlyMap<string, OutboundClusterSettings>,
): ReadonlyMap<string, OutboundClusterSettings> {
  const served = new Map<string, OutboundClusterSettings>();
  for (const [name, cluster] of clusters)
    served.set(name, cluster.bus === undefined ? cluster : ofBus(cluster));
  return served;
}

function ofBus(cluster: OutboundClusterSettings): OutboundClusterSettings {
  return {
    ...cluster,
    timeoutMs: 0,
    firstChunkTimeoutMs: 0,
    idleTimeoutMs: 0,
    keepalive: { ...cluster.keepalive, timeMs: 0 },
    circuitBreaker: { ...cluster.circuitBreaker, consecutiveFailures: 0, failurePercent: 0 },
    outlierDetection: { ...cluster.outlierDetection, maxEjectionPercent: 0 },
    healthCheck: { ...cluster.healthCheck, intervalMs: 0 },
    retry: { ...cluster.retry, maxAttempts: 1, perTryTimeoutMs: 0 },
    hedge: { ...cluster.hedge, delayMs: 0, percentile: 0 },
    task: { ...cluster.task, statusIsVerdict: false },
  };
}
