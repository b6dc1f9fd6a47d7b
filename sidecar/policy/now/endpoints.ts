/** Finds the problems of endpoints and circuits. Pure. */
import type { Finding, FindingKind, Severity } from './finding.ts';
import { counted, joined, shortMethod, spanOf } from './words.ts';

export interface EndpointFacts {
  readonly address: string;
  /** The balancer may send calls there. */
  readonly usable: boolean;
  readonly service: 'in_service' | 'ejected' | 'probation';
  /** The state of its connections: `idle`, `connecting`, `ready`, `backingOff`. */
  readonly pool: string;
  /** Why the endpoint is not usable, or was not; '' otherwise. */
  readonly because: string;
  /** The sidecar asked it for a sign of life and got none. */
  readonly absent: boolean;
  /** The number of calls there that have no answer yet. */
  readonly waiting: number;
  readonly longestMs: number;
}

export interface CircuitFacts {
  readonly method: string;
  readonly state: string;
  readonly because: string;
  /** The model failure that is the cause, in words; '' where none is known. */
  readonly behind: string;
}

/** The condition of an endpoint in a word or two; `kind` is undefined where it is no finding. */
export interface Condition {
  readonly word: string;
  readonly tone: 'good' | Severity;
  readonly kind: FindingKind | undefined;
}

export function conditionOf({ usable, service, because, pool, absent }: EndpointFacts): Condition {
  const ejected = service === 'ejected';
  if (because.startsWith('connecting failed'))
    return {
      word: ejected ? 'ejected, unreachable' : 'unreachable',
      tone: 'bad',
      kind: 'endpoint_unreachable',
    };
  if (absent)
    return {
      word: ejected ? 'ejected, no sign of life' : 'no sign of life',
      tone: 'bad',
      kind: 'endpoint_silent',
    };
  if (because.startsWith('removed')) return { word: 'removed', tone: 'warn', kind: 'endpoint_removed' };
  if (ejected) return { word: 'ejected', tone: 'bad', kind: 'endpoint_ejected' };
  if (because.startsWith('cooling')) return { word: 'cooling down', tone: 'warn', kind: 'endpoint_cooling' };
  if (service === 'probation') return { word: 'on probation', tone: 'warn', kind: 'endpoint_probation' };
  if (!usable) return { word: 'not usable', tone: 'bad', kind: 'endpoint_unusable' };
  return { word: pool === 'idle' ? 'in service, idle' : 'in service', tone: 'good', kind: undefined };
}

export function endpointFinding(cluster: string, endpoint: EndpointFacts): Finding | undefined {
  const { kind, tone, word } = conditionOf(endpoint);
  if (kind === undefined || tone === 'good') return undefined;
  const { address, because, waiting, longestMs } = endpoint;
  const why = because === '' ? '' : `: ${plain(because)}`;
  return {
    kind,
    id: `endpoint ${cluster} ${address}`,
    severity: tone,
    text:
      kind === 'endpoint_silent'
        ? `${address} of ${cluster} gives no sign of life: its process is stopped or blocked, or its host does not answer.`
        : kind === 'endpoint_removed'
          ? `${address} of ${cluster} has been taken out, and calls still run there.`
          : `${address} of ${cluster} is ${word}${why}.`,
    detail: waitsInWords(waiting, longestMs),
    about: { cluster, endpoint: address },
    numbers: waiting === 0 ? {} : { waiting_calls: waiting, longest_wait_ms: Math.round(longestMs) },
  };
}

function waitsInWords(waiting: number, longestMs: number): string {
  if (waiting === 0) return '';
  if (waiting === 1) return `1 call has waited for its answer for ${spanOf(longestMs)}`;
  return `${counted(waiting, 'call', 'waits')} for an answer, the longest for ${spanOf(longestMs)}`;
}

/** The cluster has several endpoints, and none of those with calls gives a sign of life. */
export function silentCluster(cluster: string, endpoints: readonly EndpointFacts[]): Finding | undefined {
  if (endpoints.length < 2 || !endpoints.every(isOut) || !endpoints.some(({ absent }) => absent))
    return undefined;
  let waiting = 0;
  let longestMs = 0;
  for (const endpoint of endpoints) {
    waiting += endpoint.waiting;
    longestMs = Math.max(longestMs, endpoint.longestMs);
  }
  return {
    kind: 'cluster_silent',
    id: `silent ${cluster}`,
    severity: 'bad',
    text: `No answers from ${cluster}: none of its endpoints gives a sign of life.`,
    detail: joined('; ', waitsInWords(waiting, longestMs), counted(endpoints.length, 'endpoint')),
    about: { cluster },
    numbers: { waiting_calls: waiting, longest_wait_ms: Math.round(longestMs), endpoints: endpoints.length },
  };
}

function isOut({ absent, because }: EndpointFacts): boolean {
  return absent || because.startsWith('connecting failed');
}

export function circuitFinding(cluster: string, circuit: CircuitFacts): Finding | undefined {
  const { method, state, because, behind } = circuit;
  if (state === 'closed') return undefined;
  const isOpen = state === 'open';
  const what = isOpen ? 'is open' : 'is half-open, and probes find out whether it can close';
  const cause = behind === '' ? because : `${because}; behind it: ${behind}`;
  return {
    kind: isOpen ? 'circuit_open' : 'circuit_half_open',
    id: `circuit ${cluster} ${method}`,
    severity: isOpen ? 'bad' : 'warn',
    text: `The circuit of ${cluster} ${shortMethod(method)} ${what}: ${cause}.`,
    detail: '',
    about: { cluster, method },
    numbers: {},
  };
}

/** Removes what the endpoint's state says already. */
function plain(because: string): string {
  return because
    .replace(/^(ejected \([a-z_]+\)|back from an ejection \([a-z_]+\)|connecting failed): /, '')
    .replace(/\.$/, '');
}
