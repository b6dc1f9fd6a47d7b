/** Sends the handshake of a WebSocket to an upstream. */
import { type ClientRequest, request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { joinRecords } from '../../tls/joined-records.ts';
import type { Asked } from '../kinds/asked.ts';
import type { Upstream } from '../provider/upstream.ts';
import { MAX_HEADER_BYTES } from '../relay/provider-relay.ts';
import type { HttpHeaders } from '../shared/headers.ts';
import { boundInterimAnswers } from './handshake-feed.ts';
import { handshakePath } from './tunnel-headers.ts';

export interface HandshakeHandlers {
  /** There is a connection, after TLS's handshake where the upstream has TLS. */
  onConnected(): void;
  /** Too much has come before an answer; the handler must end the request. @param what describes the excess */
  onEndless(what: string): void;
}

/** @param asked what the caller asks for */
export function sendHandshake(
  upstream: Upstream,
  asked: Asked,
  headers: HttpHeaders,
  handlers: HandshakeHandlers,
): ClientRequest {
  const path = handshakePath(asked.path, upstream.recipient(asked));
  const isSecure = upstream.protocol === 'https:';
  const client = (isSecure ? httpsRequest : httpRequest)({
    hostname: upstream.hostname,
    port: upstream.port,
    path: upstream.pathOf({ ...asked, path }, ''),
    headers,
    // A connection of its own, because it can't serve requests afterwards.
    agent: false,
    setHost: true,
    maxHeaderSize: MAX_HEADER_BYTES,
  });
  boundInterimAnswers(client, (what) => handlers.onEndless(what));
  client.once('socket', (socket) => {
    if (isSecure) joinRecords(socket);
    socket.once(isSecure ? 'secureConnect' : 'connect', () => handlers.onConnected());
  });
  return client;
}
