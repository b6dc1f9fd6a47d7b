/** Decides which fields may enter the dynamic table. */
import { FIELD_OVERHEAD_BYTES } from './header-list.ts';
import { type StaticName, staticByName } from './static-table.ts';

/**
 * How to encode the values of a field, by its name:
 *
 * - `repeats`: a value may enter the table after it has repeated;
 * - `per-call`: each call has a new value, even if two happen to be equal, so an entry would be useless;
 * - `secret`: a never-indexed literal. All calls of a connection share the table, so a caller that can add fields could guess
 *   the secrets of others by which blocks become shorter (RFC 7541 §7.1).
 */
export type Treatment = 'repeats' | 'per-call' | 'secret';

const PER_CALL = ['age', 'content-length', 'date', 'traceparent', 'tracestate', 'x-request-id'];
const SECRET = [
  'api-key',
  'authorization',
  'cookie',
  'proxy-authorization',
  'set-cookie',
  'x-access-token',
  'x-amz-security-token',
  'x-api-key',
  'x-auth-token',
  'x-goog-api-key',
  'x-vault-token',
];

/** The treatment and static entry of a name. */
export interface KnownName {
  readonly treatment: Treatment;
  readonly static: StaticName | undefined;
}

/** The names of the static table, and names that are not treated as `repeats`. */
export const knownNames: ReadonlyMap<string, KnownName> = knownNamesWith([]);

/** The same with further `per-call` names, for an owner that knows the content of its connections. */
export function knownNamesWith(perCall: readonly string[]): ReadonlyMap<string, KnownName> {
  const all = [...PER_CALL, ...perCall];
  return new Map(
    [...staticByName.keys(), ...all, ...SECRET].map((name) => {
      const treatment = SECRET.includes(name) ? 'secret' : all.includes(name) ? 'per-call' : 'repeats';
      return [name, { treatment, static: staticByName.get(name) }];
    }),
  );
}

/** The divisor of an entry's largest share of the table; a larger entry would evict too many others. */
const MAX_TABLE_SHARE = 4;

/** Whether a pair is small enough for a table of maxBytes. */
export function isWorthAnEntry(name: string, value: string, maxBytes: number): boolean {
  return (name.length + value.length + FIELD_OVERHEAD_BYTES) * MAX_TABLE_SHARE <= maxBytes;
}
