import { FIELD_OVERHEAD_BYTES } from './header-list.ts';

/**
 * Fields whose values are secrets. A table shared by all that a connection carries lets whoever can add fields
 * to it guess at them by what gets shorter (RFC 7541 §7.1), so they go as never-indexed literals.
 */
const SECRETS: ReadonlySet<string> = new Set([
  'authorization',
  'proxy-authorization',
  'cookie',
  'set-cookie',
  'x-api-key',
  'api-key',
]);

/** Fields that are new with each call even when two values happen to be alike: an entry would be waste. */
const PER_CALL: ReadonlySet<string> = new Set([
  'grpc-timeout',
  'grpc-message',
  'grpc-status-details-bin',
  'grpc-previous-rpc-attempts',
  'grpc-retry-pushback-ms',
  'traceparent',
  'tracestate',
  'grpc-trace-bin',
  'x-request-id',
  'content-length',
  'date',
  'age',
]);

/** An entry may take this share of the table: what is larger would push out too much. */
const MAX_TABLE_SHARE = 4;

/** Pairs remembered, a power of two. */
const RECENT_PAIRS = 128;

/** Whether a field's value is a secret by its (lower-case) name. */
export function isSecret(name: string): boolean {
  return SECRETS.has(name);
}

/** Whether a pair may ever enter a table of maxBytes. */
export function isIndexable(name: string, value: string, maxBytes: number): boolean {
  const bytes = name.length + value.length + FIELD_OVERHEAD_BYTES;
  return bytes * MAX_TABLE_SHARE <= maxBytes && !PER_CALL.has(name) && !SECRETS.has(name);
}

/**
 * Remembers the pairs seen lately, so that the encoder can wait for a pair's second sight before it spends
 * table space on it. Values that are unique to a call then never churn the table, and what was encoded with
 * it stays valid. Pairs that fall into one slot forget each other: the cost is a literal more.
 */
export class RecentPairs {
  readonly #names: string[] = new Array<string>(RECENT_PAIRS).fill('');
  readonly #values: string[] = new Array<string>(RECENT_PAIRS).fill('');

  /** Whether the pair was seen lately; it now was. */
  seen(name: string, value: string): boolean {
    const slot = sampleHash(name, value) & (RECENT_PAIRS - 1);
    if (this.#values[slot] === value && this.#names[slot] === name) return true;
    this.#names[slot] = name;
    this.#values[slot] = value;
    return false;
  }
}

/** A few characters tell pairs apart well enough to spread them, whatever the lengths. */
function sampleHash(name: string, value: string): number {
  let hash = name.length * 31 + value.length;
  hash = Math.imul(hash, 31) + (name.charCodeAt(name.length - 1) | 0);
  const length = value.length;
  if (length > 0) {
    hash = Math.imul(hash, 31) + value.charCodeAt(length - 1);
    hash = Math.imul(hash, 31) + value.charCodeAt(length >> 1);
    hash = Math.imul(hash, 31) + value.charCodeAt(length >> 2);
    hash = Math.imul(hash, 31) + value.charCodeAt(0);
  }
  return hash ^ (hash >>> 7);
}
