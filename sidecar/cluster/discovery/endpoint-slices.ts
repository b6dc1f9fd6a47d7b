/** Reads the endpoints to call from the EndpointSlices of a Service (Kubernetes API discovery.k8s.io/v1). Pure. */
import { isIP } from 'node:net';
import { formatHostPort } from '../../net/address.ts';

/** The fields of an EndpointSlice that we read. {@link readSlices} skips malformed ones. */
export interface EndpointSlice {
  readonly metadata?: { readonly name?: string; readonly resourceVersion?: string };
  readonly addressType?: string;
  readonly endpoints?: readonly SliceEndpoint[] | null;
  readonly ports?: readonly { readonly name?: string | null; readonly port?: number | null }[] | null;
}

interface SliceEndpoint {
  readonly addresses?: readonly string[] | null;
  readonly conditions?: {
    readonly ready?: boolean | null;
    readonly serving?: boolean | null;
    readonly terminating?: boolean | null;
  } | null;
  readonly zone?: string | null;
  readonly targetRef?: { readonly uid?: string | null } | null;
}

export interface SliceSelection {
  /** The name of a port of the Service, or the number of a port of the pods, which need not be in the Service. */
  readonly port: string | number;
  /** Our own zone; undefined when zones don't matter. */
  readonly zone: string | undefined;
}

export interface SliceEndpoints {
  /** Canonical, sorted, without repeats. */
  readonly addresses: readonly string[];
  /** The addresses in our zone if they are enough to take all its calls; otherwise none. */
  readonly inZone: readonly string[];
}

/** A larger set is a mistake; every sidecar uses the same part of it. */
const MAX_ENDPOINTS = 4_096;
/** Our zone needs at least this share of the endpoints that an even spread would give it. */
const MIN_SHARE_OF_ZONE = 0.5;

/**
 * Returns the endpoints that are ready and not terminating. An endpoint without conditions is ready, as the API defines it.
 * A pod with addresses of both families is one endpoint, with its IPv4 address.
 */
export function readSlices(slices: Iterable<EndpointSlice>, selection: SliceSelection): SliceEndpoints {
  const zoneOf = new Map<string, string>();
  const podsByV4 = new Set<string>();
  const inOrder = [...slices].sort((a, b) => (a.addressType ?? '').localeCompare(b.addressType ?? ''));
  for (const { addressType, endpoints, ports } of inOrder) {
    const port = portOf(selection.port, ports ?? []);
    if (port === undefined || (addressType !== 'IPv4' && addressType !== 'IPv6')) continue;
    for (const { addresses, conditions, zone, targetRef } of endpoints ?? []) {
      if (conditions?.ready === false || conditions?.terminating === true) continue;
      const uid = targetRef?.uid ?? '';
      if (uid !== '' && addressType === 'IPv4') podsByV4.add(uid);
      else if (podsByV4.has(uid)) continue;
      // All addresses of an endpoint reach the same pod (the API's comment): use the first.
      const [address] = addresses ?? [];
      if (address !== undefined && isIP(address) !== 0) zoneOf.set(formatHostPort(address, port), zone ?? '');
    }
  }
  const addresses = [...zoneOf.keys()].sort().slice(0, MAX_ENDPOINTS);
  return { addresses, inZone: inZoneOf(addresses, zoneOf, selection.zone) };
}

function inZoneOf(
  addresses: readonly string[],
  zoneOf: ReadonlyMap<string, string>,
  zone: string | undefined,
): readonly string[] {
  if (zone === undefined || zone === '') return [];
  const inZone = addresses.filter((address) => zoneOf.get(address) === zone);
  const zones = new Set(addresses.map((address) => zoneOf.get(address)));
  const evenShare = addresses.length / zones.size;
  return zones.size > 1 && inZone.length >= evenShare * MIN_SHARE_OF_ZONE ? inZone : [];
}

function portOf(wanted: string | number, ports: NonNullable<EndpointSlice['ports']>): number | undefined {
  if (typeof wanted === 'number') return wanted;
  const port = ports.find(({ name }) => (name ?? '') === wanted)?.port;
  return typeof port === 'number' && port >= 1 && port <= 65_535 ? port : undefined;
}
