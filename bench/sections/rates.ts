// Calls at a constant rate: CPU time a call, and the latency that a proxy adds when it is not busy.
import type { Section } from '../measuring/procedure.ts';

const RATES = [200, 1_000, 1_500] as const;
const QUICK_RATES = [1_000, 1_500] as const;
/**
 * V8 compiles anew what was compiled for calls that come together: it takes some 15,000 calls at such a rate until the
 * time of a call does not fall any more, by a quarter. A sidecar lives for days; its first ten seconds are not these.
 */
const SETTLE_SECONDS = 15;
const LOAD = { connections: 8, streams: 100 } as const;

export const rates: Section = {
  name: 'rates',
  title: 'At fixed rates',
  about:
    'An open loop over 8 connections: the load sends each call when it is due, whether or not earlier ones have been answered. ' +
    `Each proxy first gets ${SETTLE_SECONDS} s of warm-up at 1,500/s. ` +
    'Latency is the time from the sending of a call to its last byte; a proxy adds its figure minus that of `direct`.',
  targets: ['direct', 'envoy', 'haproxy', 'nginx', 'outrigger inbound', 'outrigger outbound'],
  quickTargets: ['direct', 'envoy', 'haproxy', 'outrigger inbound', 'outrigger outbound'],
  settle: { ...LOAD, seconds: SETTLE_SECONDS, warmUpSeconds: 0, callsPerSecond: 1_500 },
  measures: Object.fromEntries(
    RATES.flatMap((rate) => {
      const at = `at ${rate.toLocaleString('en-US')}/s`;
      return [
        [`cpu${rate}`, { title: `CPU µs a call ${at}`, better: 'less' }],
        [`p50at${rate}`, { title: `p50 ms ${at}`, better: 'less', digits: 3, added: true }],
        [`p99at${rate}`, { title: `p99 ms ${at}`, better: 'less', digits: 3, added: true }],
      ] as const;
    }),
  ),
  measure: async ({ traffic, record, target, seconds, quick }) => {
    for (const rate of quick ? QUICK_RATES : RATES) {
      // Percentiles want many calls.
      const paced = { seconds: rate < 1_000 ? 3 * seconds : 1.5 * seconds, callsPerSecond: rate };
      const result = await traffic({ ...LOAD, ...paced });
      record(`p50at${rate}`, result.latencyMs!.p50);
      record(`p99at${rate}`, result.latencyMs!.p99);
      if (target.pids.length > 0) record(`cpu${rate}`, result.cpuMicroseconds / result.calls);
    }
  },
};
