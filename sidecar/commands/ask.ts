/** Asks a page of a sidecar for its JSON, in bounded time and memory. */
import { request as httpRequest } from 'node:http';
import { request as httpsRequest, type RequestOptions } from 'node:https';
import { TypedError } from '../errors/typed-error.ts';
import { parseAddress } from '../net/address.ts';

const MAX_BYTES = 8 << 20;

/** Where to ask: options of `node:http`, or of `node:https`. */
export type Target = RequestOptions & { readonly secure?: boolean };

/** There is no answer, or none that we can use; the message says why. */
export class AskError extends TypedError {
  override readonly name = 'AskError';
  override readonly source = 'upstream';
  override readonly isSafeToRetry = true;
  /** The HTTP status; 0 without an answer. */
  readonly status: number;

  constructor(message: string, status = 0) {
    super(message);
    this.status = status;
  }
}

/** A listen address of a sidecar on this machine, as a client reaches it. */
export function localTarget(listen: string): Target {
  const where = parseAddress(listen);
  if (where.kind === 'unix') return { socketPath: where.path };
  const host = where.host === '0.0.0.0' ? '127.0.0.1' : where.host === '::' ? '::1' : where.host;
  return { host, port: where.port };
}

/** Returns the JSON of the page; throws {@link AskError}. */
export function askJson(target: Target, path: string, timeoutMs: number): Promise<unknown> {
  const { secure = false, ...options } = target;
  return new Promise((resolve, reject) => {
    const fail = (message: string, status = 0): void => {
      clearTimeout(timer);
      reject(new AskError(message, status));
      asked.destroy();
    };
    // The admin port answers to names of this machine only.
    const headers = { Host: 'localhost', Accept: 'application/json', ...options.headers };
    if (secure) delete (headers as { Host?: string }).Host;
    const asked = (secure ? httpsRequest : httpRequest)(
      { ...options, path, headers, agent: options.agent ?? false },
      (response) => {
        const { statusCode = 0 } = response;
        const chunks: Buffer[] = [];
        let bytes = 0;
        response.on('data', (chunk: Buffer) => {
          bytes += chunk.length;
          if (bytes > MAX_BYTES) fail(`the answer has more than ${MAX_BYTES >> 20} MiB`);
          else chunks.push(chunk);
        });
        response.on('error', (error) => fail(describe(error)));
        response.on('end', () => {
          const text = Buffer.concat(chunks).toString('utf8');
          if (statusCode !== 200) return fail(errorIn(text) ?? `it answered ${statusCode}`, statusCode);
          try {
            const value: unknown = JSON.parse(text);
            clearTimeout(timer);
            resolve(value);
          } catch {
            fail('the answer is no JSON; is this a sidecar?', statusCode);
          }
        });
      },
    );
    const timer = setTimeout(() => fail(`no answer within ${timeoutMs / 1000} s`), timeoutMs);
    asked.on('error', (error) => fail(describe(error)));
    asked.end();
  });
}

/** The sidecar says in `error` what is wrong with a request. */
function errorIn(text: string): string | undefined {
  try {
    const { error } = JSON.parse(text) as { error?: unknown };
    return typeof error === 'string' ? error.slice(0, 300) : undefined;
  } catch {
    return undefined;
  }
}

const REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nothing listens there (ECONNREFUSED)',
  ENOENT: 'the socket does not exist (ENOENT)',
  ENOTFOUND: 'the name does not exist (ENOTFOUND)',
  EAI_AGAIN: 'the DNS service does not answer (EAI_AGAIN)',
  EHOSTUNREACH: 'no route leads there (EHOSTUNREACH)',
  ECONNRESET: 'it closed the connection without an answer (ECONNRESET); check the port',
  ENETUNREACH: 'no route leads there (ENETUNREACH)',
};

function describe(error: NodeJS.ErrnoException): string {
  const { code = '' } = error;
  if (code.startsWith('HPE_')) return `it does not answer in HTTP (${code}); check the port`;
  return REASONS[code] ?? (code || error.message);
}
