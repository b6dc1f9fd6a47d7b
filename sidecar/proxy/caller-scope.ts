/** Derives a call's scope: what separates its caller from others who reach the same app. */
import { hash } from 'node:crypto';
import { type HeaderList, trimmed } from '../http2/hpack/header-list.ts';

/** Part of every scope, whatever the configuration says. */
const AUTHORIZATION = 'authorization';
/** A cookie may arrive in several fields, which count as one (RFC 9113 §8.2.3). */
const COOKIE = 'cookie';

/**
 * Separates the caller of a request from others who reach the same app, by the name in its certificate, each
 * `authorization`, and each value of the configured fields (`inbound.tasks.scope_headers`). Two requests of one scope
 * may share an answer, and the app's work for one of them may count as work for the other. Never log or show it: it
 * contains credentials.
 *
 * The order of different fields does not matter. The order of one field's values does: the app decides which of two
 * values counts.
 *
 * @param identity '' without a certificate
 * @param names in lower case
 * @returns '' where nothing identifies the caller
 */
export function callerScope(identity: string, { fields }: HeaderList, names: readonly string[]): string {
  let parts: string[] | undefined;
  for (let n = -1; n < names.length; n++) {
    const name = n < 0 ? AUTHORIZATION : names[n]!;
    let cookie: string | undefined;
    for (let i = 0; i < fields.length; i += 2) {
      if (fields[i] !== name) continue;
      const value = trimmed(fields[i + 1]!);
      parts ??= [identity];
      if (name === COOKIE) cookie = cookie === undefined ? value : `${cookie}; ${value}`;
      else parts.push(name, value);
    }
    if (cookie !== undefined) parts!.push(COOKIE, cookie);
  }
  if (parts === undefined) return identity === '' ? '' : JSON.stringify([identity]);
  return JSON.stringify(parts);
}

/** The digest of a scope, for records that outlive a call: it has a fixed length and contains no credential. */
export function scopeDigest(scope: string): string {
  return scope === '' ? '' : hash('sha256', scope, 'base64');
}
