import { hash } from 'node:crypto';
import { type HeaderList, trimmed } from '../http2/hpack/header-list.ts';

/** Whatever the configuration says. */
const AUTHORIZATION = 'authorization';
/** May come in pieces, which are one field (RFC 9113 §8.2.3). */
const COOKIE = 'cookie';

/**
 * What tells the caller of a request from others who reach the same app: the name in its certificate, each `authorization`,
 * and each value of the configured fields (`inbound.tasks.scope_headers`). Two requests of one scope may share an answer, and
 * the app's work for one of them may be taken for the other's. Never shown: it is made of credentials.
 *
 * The fields may stand in any order. The values of one stand in theirs: which of two counts is for the app to say.
 *
 * @param identity '' without a certificate
 * @param names in lower case
 * @returns '' where nothing tells
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

/** Of a scope, for what is kept longer than a call: of one length, and no credential. */
export function scopeDigest(scope: string): string {
  return scope === '' ? '' : hash('sha256', scope, 'base64');
}
