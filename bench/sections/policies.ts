// The cost of the policies: the relay with all of them on, beside the same relay with all of them off.
import type { Section } from '../measuring/procedure.ts';
import { startTarget } from '../world/targets.ts';

const OFF = {
  circuit_breaker: { consecutive_failures: 0, failure_percent: 0 },
  outlier_detection: { consecutive_failures: 0, max_ejection_percent: 0 },
  retry: { max_attempts: 1 },
  idle_timeout: '0s',
  task: { status_is_verdict: false, deduplicate: false },
} as const;

export const policies: Section = {
  name: 'policies',
  title: 'Policies on and off',
  about:
    'The sidecar with its defaults, compared with one without circuit breaker, outlier detection, retries, idle timeout, verdicts of tasks ' +
    '(outbound) and without de-duplication (inbound).',
  targets: ['outrigger inbound', 'outrigger outbound'],
  variants: ['on', 'off'],
  rounds: 3,
  measures: {
    calls: { title: 'calls/s, 4 x 25', better: 'more' },
    cpu: { title: 'CPU µs a call there', better: 'less', digits: 1 },
  },
  start: (world, name, variant) =>
    startTarget(name, {
      ...world.setup,
      ...(variant === 'on' ? {} : { inbound: { tasks: { deduplicate: false } }, cluster: OFF }),
    }),
  measure: async ({ traffic, record }) => {
    const wide = await traffic({ connections: 4, streams: 25 });
    record('calls', wide.callsPerSecond);
    record('cpu', wide.cpuMicroseconds / wide.calls);
  },
};
