/**
 * Decides whose credentials a request carries to which upstream. Pure.
 *
 *     first upstream, no key configured       the caller's own
 *     any upstream with a key configured      that key, where the caller had its own; nothing else of the caller's
 *     any other upstream without one          none
 *
 * The first upstream is the one that the caller's client would have called without the egress; no other may learn the
 * caller's secrets.
 */
import type { HttpHeaders } from './headers.ts';

/** How the egress treats one of the caller's headers. */
type Kind =
  /** Every upstream receives it. */
  | 'plain'
  /** It is ours, or new for each request. */
  | 'dropped'
  /** It proves who the caller is. */
  | 'secret'
  /** It names an account at one provider. */
  | 'account';

const DROPPED = /^(?:outrigger-.*|host|content-length|expect|accept-encoding|forwarded)$/;
/** Names of credentials, in headers and in queries; an underscore stands for a hyphen. */
const SECRET =
  /^(?:(?:.*-)?(?:authorization|authentication|auth|bearer|jwt|jwt-assertion|credentials?|signature|secret-id)|.*(?:secret|password|passwd)|(?:x-)?key|.*(?:api|subscription|functions|access|master|virtual|private|signing|account|license)-?keys?|(?:.*-)?(?:access|api|auth|bearer|id|identity|refresh|security|session)-?token)$/;
/** Further names of credentials in headers: a token in a query may be a position in a list. */
const SECRET_HEADER = /^(?:cookie2?|(?:.*-)?token)$/;
const SECRET_PARAMETER = /^(?:token|sig)$/;
const ACCOUNT = /^(?:openai-(?:organization|project)|x-goog-user-project)$/;

/** Callers choose the names of headers; a handful of them comes again and again. */
const MAX_KNOWN = 1_000;
const known = new Map<string, Kind>();

function kindOf(name: string): Kind {
  let kind = known.get(name);
  if (kind === undefined) {
    kind = isSecret(name, SECRET_HEADER)
      ? 'secret'
      : DROPPED.test(name)
        ? 'dropped'
        : ACCOUNT.test(name)
          ? 'account'
          : 'plain';
    if (known.size < MAX_KNOWN) known.set(name, kind);
  }
  return kind;
}

/** @param others further names of secrets, of headers or of queries */
function isSecret(name: string, others: RegExp): boolean {
  const plain = name.replaceAll('_', '-').toLowerCase();
  return SECRET.test(plain) || others.test(plain);
}

export interface Recipient {
  /** The caller's client would have called it without the egress. */
  readonly isFirst: boolean;
  /** The configured credentials: a key, or the value of `authorization`; undefined without any. */
  readonly own: OwnCredentials | undefined;
  /** Puts the configured key into the headers to send. @param callers the caller's own, to see where its key stands */
  readonly authorize: (sent: HttpHeaders, callers: HttpHeaders, key: string) => void;
}

export type OwnCredentials = { readonly key: string } | { readonly authorization: string };

/** Whether the caller's own secrets may go there. */
export function takesCallers({ isFirst, own }: Recipient): boolean {
  return isFirst && own === undefined;
}

/** Returns the caller's headers for one upstream. */
export function headersFor(headers: HttpHeaders, recipient: Recipient): HttpHeaders {
  const sent: HttpHeaders = {};
  const callers = takesCallers(recipient);
  for (const name in headers) {
    const kind = kindOf(name);
    if (kind === 'plain' || (kind === 'secret' && callers) || (kind === 'account' && recipient.isFirst))
      sent[name] = headers[name]!;
  }
  const { own } = recipient;
  if (own === undefined) return sent;
  if ('key' in own) recipient.authorize(sent, headers, own.key);
  else sent['authorization'] = own.authorization;
  return sent;
}

/** Whether a header of this name, or a parameter, holds a secret. */
export function isSecretHeader(name: string): boolean {
  return isSecret(name, SECRET_HEADER);
}

/** Returns a path without the secrets in its query, for upstreams that must not receive them. */
export function withoutSecrets(path: string): string {
  const at = path.indexOf('?');
  if (at < 0) return path;
  const kept = path
    .slice(at + 1)
    .split('&')
    .filter((part) => !isSecret(decoded(part.split('=', 1)[0]!), SECRET_PARAMETER));
  return path.slice(0, at) + (kept.length > 0 ? `?${kept.join('&')}` : '');
}

/** Returns the secrets in a URL's query, as they stand there and decoded. */
export function secretsInQuery(search: string): string[] {
  return search
    .slice(1)
    .split('&')
    .map((part) => part.split('=', 2))
    .filter(([name, value]) => value !== undefined && isSecret(decoded(name!), SECRET_PARAMETER))
    .flatMap(([, value]) => [value!, decoded(value!)]);
}

/** Returns the headers that distinguish two callers with the same request. */
export function secretsOf(headers: HttpHeaders): string[] {
  const secrets: string[] = [];
  for (const name in headers) {
    const kind = kindOf(name);
    if (kind === 'secret' || kind === 'account') secrets.push(`${name}: ${String(headers[name])}`);
  }
  return secrets.sort();
}

/** Undoes percent-encoding once, byte by byte; other text stays. */
export function decoded(text: string): string {
  return text.replace(/%([\da-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}
