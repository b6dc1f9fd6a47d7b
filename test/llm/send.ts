// Plain HTTP requests that a test can follow and end.
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import { waitUntil } from '../../scripts/harness/wait-until.ts';

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  /** The connection broke before the end. */
  readonly broken: boolean;
}

export interface Sent {
  readonly answer: Promise<Answer>;
  /** Resolves with what has come so far, once it holds this text. */
  until(text: string): Promise<string>;
  abort(): void;
}

/** A request over HTTP/1.1 on a connection of its own; a POST when it has a body. */
export function send(
  baseUrl: string,
  path: string,
  body: string | Buffer | undefined,
  headers: Record<string, string> = {},
): Sent {
  let received = '';
  const request = httpRequest(`${baseUrl}${path}`, {
    method: body === undefined ? 'GET' : 'POST',
    agent: false,
    headers: body === undefined ? headers : { 'content-type': 'application/json', ...headers },
  });
  const answer = new Promise<Answer>((resolve, reject) => {
    request.on('error', reject);
    request.on('response', (response) => {
      const parts: Buffer[] = [];
      response.on('data', (part: Buffer) => {
        parts.push(part);
        received += part.toString();
      });
      const done = (): void =>
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          body: Buffer.concat(parts),
          broken: !response.complete,
        });
      response.on('end', done);
      response.on('error', done);
    });
  });
  answer.catch(() => {});
  request.end(body);
  return {
    answer,
    until: (text) => waitUntil(`${text} came`, () => (received.includes(text) ? received : undefined)),
    abort: () => request.destroy(),
  };
}

/** The body of a chat completion. */
export const chat = (more: object = {}): string =>
  JSON.stringify({ model: 'm', messages: [{ role: 'user', content: 'count' }], ...more });
