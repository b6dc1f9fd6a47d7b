/**
 * The only network of a run: a connection on its descriptor 3, on which it sends HTTP/1.1 requests one after the other, with whole
 * URLs (`GET https://example.com/ HTTP/1.1`). The runner makes the requests, so it sees and checks every host and address.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { type AllowList, NotAllowed } from './allow-list.ts';
import { beginRequest, responseTo } from './request.ts';

/** Fields that are between the run and this proxy only (RFC 9110, 7.6.1). */
const hopByHop = new Set([
  'connection',
  'proxy-connection',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'proxy-authorization',
  'proxy-authenticate',
  'host',
]);

/** Serves a run until its connection ends. @param maxBytes of all bodies together, in each direction */
export function serveProxy(
  connection: Duplex,
  allow: AllowList,
  maxBytes: number,
  signal: AbortSignal,
): void {
  let left = maxBytes;
  const server = createServer({ maxHeaderSize: 32_768 }, (request, response) => {
    void relay(request, response, allow, signal, (length) => (left -= length) >= 0).catch((error: Error) => {
      if (response.headersSent) connection.destroy();
      else refuse(response, error instanceof NotAllowed ? 403 : 502, error.message);
    });
  });
  server.on('connect', (_request, socket) => {
    socket.end('HTTP/1.1 405 Method Not Allowed\r\n\r\nSend whole URLs instead of CONNECT.\n');
  });
  server.on('clientError', () => connection.destroy());
  connection.on('error', () => {});
  server.emit('connection', connection);
}

async function relay(
  request: IncomingMessage,
  response: ServerResponse,
  allow: AllowList,
  signal: AbortSignal,
  mayPass: (length: number) => boolean,
): Promise<void> {
  const text = request.url ?? '';
  const whole = text.startsWith('/') ? `http://${request.headers.host ?? ''}${text}` : text;
  if (!URL.canParse(whole)) throw new NotAllowed('the request has no whole URL');
  const outgoing = beginRequest(allow, {
    url: new URL(whole),
    method: request.method ?? 'GET',
    headers: endToEnd(request.headers),
    signal,
  });
  const counted = async function* (from: AsyncIterable<Buffer>) {
    for await (const chunk of from) {
      if (!mayPass(chunk.length)) throw new Error('the run has used up its network bytes');
      yield chunk;
    }
  };
  const answered = responseTo(outgoing);
  // Whichever fails first fails the request; the other's failure is no news then.
  answered.catch(() => {});
  await Promise.race([answered, pipeline(request, counted, outgoing).then(() => answered)]);
  const answer = await answered;
  response.writeHead(answer.statusCode ?? 502, endToEnd(answer.headers));
  await pipeline(answer, counted, response);
}

function endToEnd(headers: IncomingMessage['headers']): Record<string, string | string[]> {
  const kept: Record<string, string | string[]> = {};
  for (const [name, value] of Object.entries(headers))
    if (value !== undefined && !hopByHop.has(name)) kept[name] = value;
  return kept;
}

function refuse(response: ServerResponse, status: number, message: string): void {
  response.writeHead(status, { 'content-type': 'text/plain' });
  response.end(`${message}\n`);
}
