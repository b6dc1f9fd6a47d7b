// Mutual TLS: towards the upstream, towards the callers, and between two proxies.
import type { Section } from '../measuring/procedure.ts';
import { paths } from '../traffic/answers.ts';
import type { Setup, Target } from '../world/setup.ts';
import { startTarget } from '../world/targets.ts';
import type { World } from '../world/world.ts';

/** out: plain → mutual TLS. in: mutual TLS → plain. pair: two proxies on the one core, mutual TLS between them. */
const WAYS = ['out', 'in', 'pair'] as const;

export const tls: Section = {
  name: 'tls',
  title: 'Mutual TLS',
  about:
    'TLS 1.3, ECDSA P-256, certificates on both sides: `out` from the proxy to the upstream, `in` from the ' +
    'load to the proxy, `pair` between two proxies on the one core, as between two pods.',
  targets: ['direct', 'envoy', 'haproxy', 'outrigger'],
  quickTargets: ['envoy', 'outrigger'],
  variants: WAYS,
  quickVariants: ['pair'],
  // Without a proxy there is only the load's own TLS.
  applies: (target, way) => target !== 'direct' || way === 'in',
  measures: {
    calls: { title: 'calls/s, 4 x 25', better: 'more' },
    cpu: { title: 'CPU µs a call there', better: 'less', digits: 1 },
    large: { title: '1 MiB answers, MiB/s', better: 'more' },
  },
  start: async (world, name, way) => {
    const overTls = { traffic: { tls: { ...world.tls, serverName: 'localhost' } } };
    if (name === 'direct') {
      const endpoints = [`127.0.0.1:${world.tlsUpstreamPort}`];
      return { ...(await startTarget(name, { ...world.setup, endpoints })), ...overTls };
    }
    if (way === 'out') return startSide(world, name, { upstreamTls: world.tls }, world.tlsUpstreamPort);
    if (way === 'in')
      return {
        ...(await startSide(world, name, { downstreamTls: world.tls }, world.upstreamPort)),
        ...overTls,
      };
    const beside = await startSide(world, name, { downstreamTls: world.tls }, world.upstreamPort);
    const before = await startSide(world, name, { upstreamTls: world.tls }, beside.port);
    return {
      ...before,
      name,
      pids: [...before.pids, ...beside.pids],
      stop: async () => {
        await before.stop();
        await beside.stop();
      },
    };
  },
  measure: async ({ traffic, record, target, quick }) => {
    const wide = await traffic({ connections: 4, streams: 25 });
    record('calls', wide.callsPerSecond);
    if (target.pids.length > 0) record('cpu', wide.cpuMicroseconds / wide.calls);
    if (quick) return;
    record('large', (await traffic({ connections: 4, streams: 4, path: paths.large })).callsPerSecond);
  },
};

function startSide(world: World, name: string, sides: Partial<Setup>, upstreamPort: number): Promise<Target> {
  const side = sides.downstreamTls === undefined ? 'outrigger outbound' : 'outrigger inbound';
  const endpoints = [`127.0.0.1:${upstreamPort}`];
  return startTarget(name === 'outrigger' ? side : name, { ...world.setup, ...sides, endpoints });
}
