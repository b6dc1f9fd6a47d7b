/** Makes the headers of a WebSocket's handshake for each side. Pure. */
import { BAGGAGE_HEADER, withoutCall } from '../../policy/call-baggage.ts';
import { HOP_BY_HOP, withoutNamed } from '../provider/hop-by-hop.ts';
import { type HttpHeaders, textOf } from '../shared/headers.ts';
import { headersFor, type Recipient, takesCallers, withoutSecrets } from '../shared/provider-credentials.ts';

const PROTOCOLS = 'sec-websocket-protocol';
/** A client that can't set headers, like a browser's, puts its key into a subprotocol. */
const KEY_PROTOCOL = /^openai-insecure-api-key\./;
/** Names an account at one provider. */
const ACCOUNT_PROTOCOL = /^openai-(?:organization|project)\./;

/** Returns the headers for the provider, with an upgrade of our own. */
export function handshakeHeaders(headers: HttpHeaders, recipient: Recipient): HttpHeaders {
  const callers: HttpHeaders = {};
  for (const [name, value] of Object.entries(withoutNamed(headers)))
    if (!HOP_BY_HOP.has(name)) callers[name] = value;
  const sent = headersFor(callers, recipient);
  const baggage = withoutCall(textOf(sent[BAGGAGE_HEADER]) ?? '');
  if (baggage === '') delete sent[BAGGAGE_HEADER];
  else sent[BAGGAGE_HEADER] = baggage;
  const protocols = textOf(sent[PROTOCOLS]);
  if (protocols !== undefined) {
    const kept = protocolsFor(protocols, recipient);
    if (kept === '') delete sent[PROTOCOLS];
    else sent[PROTOCOLS] = kept;
    // The key stands where the caller had its own: some providers refuse two.
    if (
      KEY_PROTOCOL.test(kept.split(', ').find((one) => KEY_PROTOCOL.test(one)) ?? '') &&
      !takesCallers(recipient)
    )
      delete sent['authorization'];
  }
  return { ...sent, connection: 'Upgrade', upgrade: 'websocket' };
}

function protocolsFor(protocols: string, recipient: Recipient): string {
  const { own, isFirst } = recipient;
  const kept: string[] = [];
  for (const one of protocols.split(',').map((text) => text.trim())) {
    if (KEY_PROTOCOL.test(one)) {
      if (takesCallers(recipient)) kept.push(one);
      else if (own !== undefined && 'key' in own) kept.push(`openai-insecure-api-key.${own.key}`);
    } else if (one !== '' && (isFirst || !ACCOUNT_PROTOCOL.test(one))) {
      kept.push(one);
    }
  }
  return kept.join(', ');
}

export function handshakePath(path: string, recipient: Recipient): string {
  return takesCallers(recipient) ? path : withoutSecrets(path);
}

/** Returns the provider's headers for the caller. */
export function withoutHops(headers: HttpHeaders, recipient: Recipient): HttpHeaders {
  const kept: HttpHeaders = {};
  // A provider's own `outrigger-` fields would pass for ours.
  for (const [name, value] of Object.entries(headers))
    if (!HOP_BY_HOP.has(name) && !name.startsWith('outrigger-')) kept[name] = value;
  // The caller would send the cookies back, perhaps to another provider.
  if (!takesCallers(recipient)) delete kept['set-cookie'];
  return kept;
}
