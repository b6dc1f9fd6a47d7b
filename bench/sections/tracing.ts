// Tracing of no call, of one in a hundred, and of each.
import type { Section } from '../measuring/procedure.ts';
import { startTarget } from '../world/targets.ts';

const PERCENTS = ['0 %', '1 %', '100 %'] as const;

export const tracing: Section = {
  name: 'tracing',
  title: 'Tracing',
  about:
    'The proxies send spans over OTLP to a collector on the load’s core, which reads and acknowledges them. Envoy uses its OpenTelemetry tracer, ' +
    'with one span for the call and one for the attempt. Calls have no traceparent, so the proxy decides about sampling.',
  targets: ['envoy', 'outrigger inbound', 'outrigger outbound'],
  quickTargets: ['envoy', 'outrigger outbound'],
  variants: PERCENTS,
  quickVariants: ['100 %'],
  measures: {
    calls: { title: 'calls/s, 4 x 25', better: 'more' },
    cpu: { title: 'CPU µs a call there', better: 'less', digits: 1 },
    paced: { title: 'CPU µs a call at 1,500/s', better: 'less', digits: 1 },
    lost: { title: '% of spans dropped', better: 'less', digits: 1, aside: true },
  },
  start: (world, name, variant) => {
    const percent = Number.parseInt(variant, 10);
    if (percent === 0) return startTarget(name, world.setup);
    return startTarget(name, { ...world.setup, tracing: { percent, collectorPort: world.collectorPort } });
  },
  measure: async ({ traffic, record, target, seconds, variant, quick }) => {
    const wide = await traffic({ connections: 4, streams: 25 });
    record('calls', wide.callsPerSecond);
    record('cpu', wide.cpuMicroseconds / wide.calls);
    if (!quick) {
      const paced = { connections: 8, streams: 100, callsPerSecond: 1_500, seconds: 1.5 * seconds };
      const result = await traffic(paced);
      record('paced', result.cpuMicroseconds / result.calls);
    }
    // Calls that are fast because their spans were thrown away show here.
    if (variant !== '0 %' && target.metricsPort !== undefined)
      record('lost', await droppedPercent(target.metricsPort));
  },
};

async function droppedPercent(metricsPort: number): Promise<number> {
  const page = await (
    await fetch(`http://127.0.0.1:${metricsPort}/metrics`, {
      signal: AbortSignal.timeout(10_000),
    })
  ).text();
  let all = 0;
  let dropped = 0;
  for (const [, outcome, count] of page.matchAll(/^outrigger_spans_total\{outcome="(\w+)"\} (\d+)/gm)) {
    all += Number(count);
    if (outcome === 'dropped') dropped += Number(count);
  }
  return all === 0 ? 0 : (100 * dropped) / all;
}
