/** The tool `http_fetch`: follows redirects itself, and checks each hop like the first one. */
import type { IncomingMessage } from 'node:http';
import { type AllowList, NotAllowed } from './allow-list.ts';
import { beginRequest, responseTo } from './request.ts';

export interface Fetched {
  url: string;
  status: number;
  type: string;
  body: Buffer;
}

const mostRedirects = 5;

/** The body is longer than the limit. */
export class TooLong extends Error {
  override readonly name = 'TooLong';
}

/**
 * @throws NotAllowed; TooLong; Error of the connection; the signal's reason
 */
export async function fetchAllowed(
  allow: AllowList,
  first: string,
  method: 'GET' | 'HEAD',
  maxBytes: number,
  signal: AbortSignal,
): Promise<Fetched> {
  let url = new URL(first);
  for (let hop = 0; hop <= mostRedirects; hop++) {
    const headers = { 'user-agent': 'outrigger-tools', accept: '*/*', 'accept-encoding': 'identity' };
    const request = beginRequest(allow, { url, method, headers, signal });
    request.end();
    const response = await responseTo(request);
    const { location } = response.headers;
    const status = response.statusCode ?? 0;
    if (![301, 302, 303, 307, 308].includes(status) || location === undefined) {
      const type = response.headers['content-type'] ?? '';
      return { url: url.href, status, type, body: await bodyOf(response, maxBytes) };
    }
    response.destroy();
    if (!URL.canParse(location, url.href)) throw new NotAllowed('the redirect leads to no URL');
    url = new URL(location, url);
  }
  throw new NotAllowed(`more than ${mostRedirects} redirects`);
}

async function bodyOf(response: IncomingMessage, maxBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > maxBytes) {
      response.destroy();
      throw new TooLong();
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
