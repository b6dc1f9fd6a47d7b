import { FIELD_OVERHEAD_BYTES } from './header-list.ts';
import { type StaticName, staticByName } from './static-table.ts';

/**
 * How a field's values are encoded, by its name:
 *
 * - `repeats`: may enter the table once it has shown that it repeats;
 * - `per-call`: new with each call even if two values happen to be alike; an entry would be waste;
 * - `secret`: a table shared by all that a connection carries lets whoever can add fields to it guess at
 *   others by what gets shorter (RFC 7541 §7.1), so these go as never-indexed literals.
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

/** What is known of a name before anything was encoded. */
export interface KnownName {
  readonly treatment: Treatment;
  readonly static: StaticName | undefined;
}

/** The names of the static table and those that are not treated as `repeats`. */
export const knownNames: ReadonlyMap<string, KnownName> = knownNamesWith([]);

/** The same with further names that are `per-call`, for whoever knows what a connection carries. */
export function knownNamesWith(perCall: readonly string[]): ReadonlyMap<string, KnownName> {
  const all = [...PER_CALL, ...perCall];
  return new Map(
    [...staticByName.keys(), ...all, ...SECRET].map((name) => {
      const treatment = SECRET.includes(name) ? 'secret' : all.includes(name) ? 'per-call' : 'repeats';
      return [name, { treatment, static: staticByName.get(name) }];
    }),
  );
}

/** An entry may take this share of the table: what is larger would push out too much. */
const MAX_TABLE_SHARE = 4;

/** Whether a pair is small enough for a table of maxBytes. */
export function isWorthAnEntry(name: string, value: string, maxBytes: number): boolean {
  return (name.length + value.length + FIELD_OVERHEAD_BYTES) * MAX_TABLE_SHARE <= maxBytes;
}
