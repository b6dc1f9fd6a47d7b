/** One HTTP request to an allowed host, at an address that was checked before and after the connection. */
import { lookup as resolveName } from 'node:dns';
import { type ClientRequest, type IncomingMessage, request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import type { LookupFunction } from 'node:net';
import { type AllowList, NotAllowed } from './allow-list.ts';

export interface OutgoingRequest {
  url: URL;
  method: string;
  headers: Record<string, string | string[]>;
  signal: AbortSignal;
}

/**
 * Begins a request; its body is still to be written.
 *
 * @throws NotAllowed before anything is sent
 */
export function beginRequest(
  allow: AllowList,
  { url, method, headers, signal }: OutgoingRequest,
): ClientRequest {
  if (url.protocol !== 'http:' && url.protocol !== 'https:')
    throw new NotAllowed(`${url.protocol} is not allowed`);
  if (url.username !== '' || url.password !== '')
    throw new NotAllowed('a URL with a user or password is not allowed');
  const port = Number(url.port || (url.protocol === 'https:' ? 443 : 80));
  const host = url.hostname;
  allow.checkHost(host, port);
  const lookup: LookupFunction = (name, options, answer) => {
    resolveName(name, { ...options, all: true }, (error, addresses) => {
      if (error !== null) return answer(error, '', 0);
      try {
        for (const { address } of addresses) allow.checkAddress(host, address, port);
      } catch (refused) {
        return answer(refused as NodeJS.ErrnoException, '', 0);
      }
      if (options.all) answer(null, addresses);
      else answer(null, addresses[0]!.address, addresses[0]!.family);
    });
  };
  const send = url.protocol === 'https:' ? requestHttps : requestHttp;
  // No agent: a kept connection would be one that nobody checked for this request.
  const request = send(url, { method, headers, lookup, agent: false, signal, maxHeaderSize: 32_768 });
  request.once('socket', (socket) =>
    socket.once('connect', () => {
      try {
        allow.checkAddress(host, socket.remoteAddress ?? '', port);
      } catch (refused) {
        request.destroy(refused as Error);
      }
    }),
  );
  return request;
}

export function responseTo(request: ClientRequest): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    request.once('response', resolve);
    request.once('error', reject);
  });
}
