/** What the EndpointSlices of a Service say of whom to call (Kubernetes API discovery.k8s.io/v1). Pure. */
import { isIP } from 'node:net';
import { formatHostPort } from '../address.ts';

/** As much of an EndpointSlice as is read; what is not as it should be is left out. */
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

export interface SliceQuestion {
  /** The name of a port of the Service, or a number of the pods', which need not be in the Service. */
  readonly port: string | number;
  /** Our own; undefined where all zones are the same. */
  readonly zone: string | undefined;
}

export interface SliceAnswer {
  /** Canonical, sorted, without repeats. */
  readonly addresses: readonly string[];
  /** Of these, the ones in our zone, where they are enough to take all its calls; otherwise none. */
  readonly near: readonly string[];
}

/** A set this large is a mistake; every sidecar uses the same part of it. */
const MAX_ENDPOINTS = 4_096;
/** Of what each zone would have if the endpoints were spread evenly, so much has to be in ours. */
const MIN_SHARE_OF_ZONE = 0.5;

/**
 * Who gets calls: endpoints that are ready and not terminating. What says nothing of either is ready, as the API has it.
 * A pod with addresses of both families is one endpoint, by its IPv4 address.
 */
export function readSlices(slices: Iterable<EndpointSlice>, question: SliceQuestion): SliceAnswer {
  const zoneOf = new Map<string, string>();
  const podsByV4 = new Set<string>();
  const inOrder = [...slices].sort((a, b) => (a.addressType ?? '').localeCompare(b.addressType ?? ''));
  for (const { addressType, endpoints, ports } of inOrder) {
    const port = portOf(question.port, ports ?? []);
    if (port === undefined || (addressType !== 'IPv4' && addressType !== 'IPv6')) continue;
    for (const { addresses, conditions, zone, targetRef } of endpoints ?? []) {
      if (conditions?.ready === false || conditions?.terminating === true) continue;
      const uid = targetRef?.uid ?? '';
      if (uid !== '' && addressType === 'IPv4') podsByV4.add(uid);
      else if (podsByV4.has(uid)) continue;
      // All addresses of an endpoint are the same one (the API's comment): the first stands for it.
      const [address] = addresses ?? [];
      if (address !== undefined && isIP(address) !== 0) zoneOf.set(formatHostPort(address, port), zone ?? '');
    }
  }
  const addresses = [...zoneOf.keys()].sort().slice(0, MAX_ENDPOINTS);
  return { addresses, near: nearOf(addresses, zoneOf, question.zone) };
}

function nearOf(
  addresses: readonly string[],
  zoneOf: ReadonlyMap<string, string>,
  zone: string | undefined,
): readonly string[] {
  if (zone === undefined || zone === '') return [];
  const near = addresses.filter((address) => zoneOf.get(address) === zone);
  const zones = new Set(addresses.map((address) => zoneOf.get(address)));
  const evenShare = addresses.length / zones.size;
  return zones.size > 1 && near.length >= evenShare * MIN_SHARE_OF_ZONE ? near : [];
}

function portOf(wanted: string | number, ports: NonNullable<EndpointSlice['ports']>): number | undefined {
  if (typeof wanted === 'number') return wanted;
  const port = ports.find(({ name }) => (name ?? '') === wanted)?.port;
  return typeof port === 'number' && port >= 1 && port <= 65_535 ? port : undefined;
}
