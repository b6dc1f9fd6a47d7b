/** Builds the outlier detection of a caller's proxy, and notes what it can't express: rates, latency, the circuit. */
import type { ClusterConfig } from '../../config/config.ts';
import { durationOf, type Note, note, notesOf, type Part, spoken } from './resource.ts';

export function outlierDetection(cluster: ClusterConfig): Part {
  const settings = cluster.outlierDetection;
  const { consecutiveFailures: failures, maxEjectionPercent } = settings;
  const rates =
    'outlier_detection: the sidecar also ejects by failure rate and by latency, for which Istio has no setting: a pod that fails every other call, or is ten times slower than its peers, keeps receiving calls.';
  if (failures === 0 || maxEjectionPercent === 0) {
    const which = failures === 0 ? 'consecutive_failures' : 'max_ejection_percent';
    return {
      fields: undefined,
      notes: [note('', `outlier_detection.${which} 0: no outlierDetection.`), note('', rates)],
    };
  }
  const fields = {
    consecutiveGatewayErrors: failures,
    consecutive5xxErrors: 0,
    splitExternalLocalOriginErrors: true,
    consecutiveLocalOriginFailures: failures,
    interval: durationOf(settings.intervalMs),
    baseEjectionTime: durationOf(settings.baseEjectionTimeMs),
    maxEjectionPercent: Math.max(1, Math.round(maxEjectionPercent)),
    minHealthPercent: 0,
  };
  // Envoy's default, which Istio does not change.
  const longestMs = Math.max(300_000, settings.baseEjectionTimeMs);
  const notes = notesOf(
    note('', rates),
    note(
      'consecutiveGatewayErrors',
      'outlier_detection.consecutive_failures, for UNAVAILABLE and DEADLINE_EXCEEDED, and only in responses without a message. Istio counts a status in trailers after a message as success, and so every stream that fails.',
    ),
    cluster.task.statusIsVerdict &&
      note(
        'consecutiveGatewayErrors',
        'task.status_is_verdict: Istio counts OK with TaskResponse.status FAILED or TIMEOUT as success.',
      ),
    note(
      'consecutive5xxErrors',
      '0: off. It would count INTERNAL, UNKNOWN and DATA_LOSS, but also UNIMPLEMENTED, and eject a pod that answers correctly.',
    ),
    note(
      'consecutiveLocalOriginFailures',
      'Failed connections, resets and timeouts, counted separately from responses.',
    ),
    note(
      'interval',
      'outlier_detection.interval: how often Istio ends ejections, so an ejection may last that much longer. A pod returns with its whole share of calls, without probation.',
    ),
    settings.maxEjectionTimeMs !== longestMs &&
      note(
        'baseEjectionTime',
        `outlier_detection.max_ejection_time ${spoken(settings.maxEjectionTimeMs)}: Istio has no setting for it; Envoy's is ${spoken(longestMs)}.`,
      ),
    maxEjectionPercent === 100 &&
      note(
        'maxEjectionPercent',
        'The sidecar never ejects the last pod, whatever the percentage; Istio can eject all of them, and calls then fail at once.',
      ),
    note('minHealthPercent', '0: no panic mode. Ejected pods receive no calls even when few others remain.'),
  );
  return { fields, notes };
}

export function breakerNotes({ circuitBreaker: breaker }: ClusterConfig): Note[] {
  const rules = [
    breaker.consecutiveFailures > 0 ? [`${breaker.consecutiveFailures} failures in a row`] : [],
    breaker.failurePercent > 0
      ? [`${breaker.failurePercent} % of ${breaker.minCalls} or more calls in ${spoken(breaker.windowMs)}`]
      : [],
  ].flat();
  if (rules.length === 0) return [];
  const after = `half-open after ${spoken(breaker.recoveryTimeoutMs)} for ${breaker.halfOpenMax} probes`;
  return [
    note(
      'trafficPolicy',
      `circuit_breaker (open after ${rules.join(' or ')}, ${after}): Istio has none. Its "circuit breaker" is the limits of connectionPool; outlierDetection ejects pods, not a cluster's method, and has no half-open state.`,
    ),
  ];
}
