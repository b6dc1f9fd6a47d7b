/** Reads the JSON body of a request. */
import type { IncomingMessage } from 'node:http';
import { RequestError } from './requests.ts';

const maxBodyBytes = 16 * 1024 * 1024;

/** Reads a request's body as a JSON object. @throws RequestError 400 or 413 */
export async function readJson(request: IncomingMessage): Promise<Record<string, unknown>> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    bytes += part.length;
    if (bytes > maxBodyBytes) throw new RequestError(413, `the body may have at most ${maxBodyBytes} bytes`);
    parts.push(part);
  }
  let value: unknown;
  try {
    value = JSON.parse(Buffer.concat(parts).toString('utf8'));
  } catch {
    throw new RequestError(400, 'the body is not valid JSON');
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  throw new RequestError(400, 'the body must be a JSON object');
}
