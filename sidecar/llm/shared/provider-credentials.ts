/**
 * Decides whose credentials a request carries to which upstream. Pure.
 *
 *     first upstream, no key configured       the caller's own
 *     any upstream with a key configured      that key, where the caller had its own; nothing else of the caller's
 *     any other upstream without one          none
 *
 * The first upstream is the one that the caller's client would have asked by itself; no other has ever been told its
 * secrets.
 */
import type { HttpHeaders } from './headers.ts';

/** The treatment of one of the caller's headers. */
type Kind =
  /** Goes to every upstream. */
  | 'plain'
  /** Ours, or made anew for each request. */
  | 'dropped'
  /** Proves who asks. */
  | 'secret'
  /** Names an account at one provider, which no other has. */
  | 'account';

const DROPPED = /^(?:outrigger-.*|host|content-length|expect|accept-encoding|forwarded)$/;
/** Names of what proves who asks, in headers and in queries; an underscore stands for a hyphen. */
const SECRET =
  /^(?:(?:.*-)?(?:authorization|authentication|auth|bearer|jwt|jwt-assertion|credentials?|signature|secret-id)|.*(?:secret|password|passwd)|(?:x-)?key|.*(?:api|subscription|functions|access|master|virtual|private|signing|account|license)-?keys?|(?:.*-)?(?:access|api|auth|bearer|id|identity|refresh|security|session)-?token)$/;
/** Other names that only headers have: a token in a query may be the place in a list. */
const SECRET_HEADER = /^(?:cookie2?|(?:.*-)?token)$/;
const SECRET_PARAMETER = /^(?:token|sig)$/;
const ACCOUNT = /^(?:openai-(?:organization|project)|x-goog-user-project)$/;

/** Names of headers come from whoever asks; a handful of them comes again and again. */
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

/** @param others secrets of the place where the name stands */
function isSecret(name: string, others: RegExp): boolean {
  const plain = name.replaceAll('_', '-').toLowerCase();
  return SECRET.test(plain) || others.test(plain);
}

export interface Recipient {
  /** The one that the caller's client would have asked by itself. */
  readonly isFirst: boolean;
  /** Its own credentials, as the value of `authorization` and as a bare key; undefined where none is configured. */
  readonly own: { readonly authorization: string; readonly key: string | undefined } | undefined;
}

/** May the caller's own secrets go there? */
export function takesCallers({ isFirst, own }: Recipient): boolean {
  return isFirst && own === undefined;
}

/** The caller's headers as one upstream gets them. */
export function headersFor(headers: HttpHeaders, recipient: Recipient): HttpHeaders {
  const sent: HttpHeaders = {};
  const callers = takesCallers(recipient);
  for (const name in headers) {
    const kind = kindOf(name);
    if (kind === 'plain' || (kind === 'secret' && callers) || (kind === 'account' && recipient.isFirst))
      sent[name] = headers[name]!;
  }
  if (recipient.own !== undefined) authorize(sent, headers, recipient.own.authorization, recipient.own.key);
  return sent;
}

/** In the places where the caller had its own; providers of OpenAI's API take it as a bearer token. */
function authorize(
  sent: HttpHeaders,
  headers: HttpHeaders,
  authorization: string,
  key: string | undefined,
): void {
  let isNative = false;
  if (key !== undefined) {
    if (headers['api-key'] !== undefined) sent['api-key'] = key;
    for (const name of ['x-api-key', 'x-goog-api-key'] as const) {
      if (headers[name] === undefined) continue;
      sent[name] = key;
      // Anthropic's and Gemini's own APIs: one that gets two credentials may refuse both.
      isNative = headers['authorization'] === undefined;
    }
  }
  if (!isNative) sent['authorization'] = authorization;
}

/** A path without the secrets in its query, for upstreams that are not to have them. */
export function withoutSecrets(path: string): string {
  const at = path.indexOf('?');
  if (at < 0) return path;
  const kept = path
    .slice(at + 1)
    .split('&')
    .filter((part) => !isSecret(decoded(part.split('=', 1)[0]!), SECRET_PARAMETER));
  return path.slice(0, at) + (kept.length > 0 ? `?${kept.join('&')}` : '');
}

/** The secrets in a URL's query, as they stand there and decoded. */
export function secretsInQuery(search: string): string[] {
  return search
    .slice(1)
    .split('&')
    .map((part) => part.split('=', 2))
    .filter(([name, value]) => value !== undefined && isSecret(decoded(name!), SECRET_PARAMETER))
    .flatMap(([, value]) => [value!, decoded(value!)]);
}

/** Headers that tell apart two callers who ask for the same. */
export function secretsOf(headers: HttpHeaders): string[] {
  const secrets: string[] = [];
  for (const name in headers) {
    const kind = kindOf(name);
    if (kind === 'secret' || kind === 'account') secrets.push(`${name}: ${String(headers[name])}`);
  }
  return secrets.sort();
}

/** Percent-encoding undone once, byte by byte; what is no encoding stays. */
export function decoded(text: string): string {
  return text.replace(/%([\da-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}
