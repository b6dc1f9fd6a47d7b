/** Adds a cluster for each address of `outbound.targets` that no cluster and no route of the configuration names. */
import { isIP } from 'node:net';
import { nameScopeOf } from '../cluster/discovery/name-scope.ts';
import { hostName, isSameAuthority, parseAuthority, splitAuthority } from '../net/authority.ts';
import { isSection, valueAt, withValue } from './raw-values.ts';

const CLUSTERS = ['outbound', 'clusters'];

/**
 * The values, before validation, with the clusters that targets imply. A cluster or a route for the authority is the
 * operator's own: it decides alone what happens to such calls.
 */
export function withTargetClusters(raw: unknown): unknown {
  const targets = valueAt(raw, ['outbound', 'targets']);
  if (!Array.isArray(targets)) return raw;
  const text = (key: string): string => {
    const value = valueAt(raw, ['outbound', key]);
    return typeof value === 'string' ? value : '';
  };
  const scope = nameScopeOf({ namespace: text('namespace'), clusterDomain: text('cluster_domain') });
  const clusters = valueAt(raw, CLUSTERS);
  const routes = valueAt(raw, ['outbound', 'routes']);
  const names = [
    ...(isSection(clusters) ? Object.keys(clusters) : []),
    ...(Array.isArray(routes) ? routes : []).map((route) => valueAt(route, ['match', 'authority'])),
  ].filter((name) => typeof name === 'string');
  let value = raw;
  for (const target of targets) {
    const address = valueAt(target, ['address']);
    // Another form is a problem of the target, which the schema reports.
    if (typeof address !== 'string' || !/^[A-Za-z0-9][^/@ ]*:\d{1,5}$/.test(address)) continue;
    const asked = parseAuthority(address, scope);
    if (names.some((name) => isSameAuthority(asked, parseAuthority(name, scope)))) continue;
    const isNumeric = isIP(hostName(splitAuthority(address).host)) !== 0;
    const cluster = isNumeric ? { endpoints: [address] } : { dns: address };
    value = withValue(value, [...CLUSTERS, address], cluster);
  }
  return value;
}
