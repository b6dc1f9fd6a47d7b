// How the figures grow with the number of endpoints, streams and headers.
import type { Section } from '../measuring/procedure.ts';
import { startTarget } from '../world/targets.ts';

export const ENDPOINTS = [1, 10, 100, 1_000] as const;
/** Streams in all → connections and streams of each. */
export const STREAMS = {
  1: { connections: 1, streams: 1 },
  10: { connections: 1, streams: 10 },
  100: { connections: 4, streams: 25 },
  1000: { connections: 10, streams: 100 },
  10000: { connections: 100, streams: 100 },
} as const;
export const HEADERS = [0, 10, 30, 60] as const;

const proxies = ['direct', 'envoy', 'haproxy', 'outrigger inbound', 'outrigger outbound'] as const;

export const endpoints: Section = {
  name: 'endpoints',
  title: 'More endpoints',
  about:
    'One cluster of 1 to 1,000 endpoints, which are addresses of 127/8 with one upstream process behind all of them, so ' +
    'that each has its own connection. CPU time is measured at a constant 1,500 calls/s.',
  targets: ['envoy', 'haproxy', 'outrigger outbound'],
  quickTargets: ['outrigger outbound'],
  variants: ENDPOINTS.map((count) => `${count}`),
  quickVariants: ['1', '1000'],
  measures: {
    cpu: { title: 'CPU µs a call at 1,500/s', better: 'less', digits: 1 },
    calls: { title: 'calls/s, 4 x 25', better: 'more' },
  },
  start: (world, name, variant) =>
    startTarget(name, {
      ...world.setup,
      // No address ends with 0 or 255.
      endpoints: Array.from(
        { length: Number(variant) },
        (_, i) => `127.1.${Math.floor(i / 250)}.${(i % 250) + 1}:${world.upstreamPort}`,
      ),
    }),
  // Connections to all of them first: making one is no part of a call.
  warmUpFactor: (variant) => (Number(variant) >= 1_000 ? 4 : 1),
  measure: async ({ traffic, record, seconds }) => {
    const wide = await traffic({ connections: 4, streams: 25 });
    record('calls', wide.callsPerSecond);
    const paced = await traffic({
      ...{ connections: 8, streams: 100, callsPerSecond: 1_500, seconds: 1.5 * seconds },
    });
    record('cpu', paced.cpuMicroseconds / paced.calls);
  },
};

export const streams: Section = {
  name: 'streams',
  title: 'More streams',
  about:
    'Unary calls with a growing number in flight: one stream on one connection up to 100 on each of 100.',
  targets: proxies,
  rounds: 3,
  measures: Object.fromEntries(
    Object.keys(STREAMS).map((count) => [
      `s${count}`,
      { title: `calls/s, ${Number(count).toLocaleString('en-US')}`, better: 'more' } as const,
    ]),
  ),
  measure: async ({ traffic, record }) => {
    for (const [count, shape] of Object.entries(STREAMS))
      record(`s${count}`, (await traffic(shape)).callsPerSecond);
  },
};

export const headers: Section = {
  name: 'headers',
  title: 'More headers',
  about: 'Unary calls at 4 x 25 with a growing number of additional headers, the same in each call.',
  targets: proxies,
  rounds: 3,
  measures: Object.fromEntries(
    HEADERS.flatMap((count) => [
      [`h${count}`, { title: `calls/s, ${count}`, better: 'more' }] as const,
      [`cpu${count}`, { title: `CPU µs, ${count}`, better: 'less', digits: 1 }] as const,
    ]),
  ),
  measure: async ({ traffic, record, target }) => {
    for (const extraHeaders of HEADERS) {
      const result = await traffic({ connections: 4, streams: 25, extraHeaders });
      record(`h${extraHeaders}`, result.callsPerSecond);
      if (target.pids.length > 0) record(`cpu${extraHeaders}`, result.cpuMicroseconds / result.calls);
    }
  },
};
