/** Finds the keys that a caller presents, where each provider's client puts its own, and takes them out of a request. Pure. */
import { type Headers, type HttpHeaders, textOf } from '../shared/headers.ts';
import { decoded, isSecretHeader, withoutSecrets } from '../shared/provider-credentials.ts';

/** The headers in which the clients of OpenAI, Anthropic, Azure and Google send a key. */
const KEY_HEADERS = ['x-api-key', 'api-key', 'x-goog-api-key'] as const;
/** A browser's client of OpenAI puts it there for a WebSocket. */
const KEY_PROTOCOL = /(?:^|,\s*)openai-insecure-api-key\.([^,\s]+)/;
/** Takes the place of a key that is taken out: the provider's own key goes where the caller had its own. */
const TAKEN_OUT = 'outrigger';

/** Returns each key that a request presents. @param target with its query, in which Gemini's clients may put `key` */
export function presentedKeys(headers: Headers, target: string): string[] {
  const found: string[] = [];
  const bearer = /^Bearer +(\S+)$/i.exec(textOf(headers['authorization'])?.trim() ?? '')?.[1];
  if (bearer !== undefined) found.push(bearer);
  for (const name of KEY_HEADERS) {
    const key = textOf(headers[name])?.trim();
    if (key !== undefined && key !== '') found.push(key);
  }
  const protocol = KEY_PROTOCOL.exec(textOf(headers['sec-websocket-protocol']) ?? '')?.[1];
  if (protocol !== undefined) found.push(protocol);
  const at = target.indexOf('?');
  if (at < 0) return found;
  for (const part of target.slice(at + 1).split('&'))
    if (part.startsWith('key=') && part.length > 4) found.push(decoded(part.slice(4)));
  return found;
}

/**
 * Takes all secrets out of a request's headers: they are for this service, and no provider and no log may have them. The
 * names stay, with a word in the place of the secret.
 */
export function takeOutSecrets(headers: HttpHeaders): void {
  for (const name in headers) if (isSecretHeader(name)) headers[name] = TAKEN_OUT;
  const protocols = textOf(headers['sec-websocket-protocol']);
  if (protocols === undefined) return;
  headers['sec-websocket-protocol'] = protocols.replace(
    /openai-insecure-api-key\.[^,\s]+/g,
    `openai-insecure-api-key.${TAKEN_OUT}`,
  );
}

/** Returns a path without the secrets of its query. */
export function pathWithoutSecrets(path: string): string {
  return path.includes('?') ? withoutSecrets(path) : path;
}
