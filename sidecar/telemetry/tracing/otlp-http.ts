/**
 * OTLP over HTTP/1.1: one request a batch. The OpenTelemetry SDK reads endpoint, headers, certificates, compression and
 * time-out from the standard variables. We don't use the SDK's transport, because it hides what a collector's answer
 * asks for.
 */
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { convertLegacyHttpOptions } from '@opentelemetry/otlp-exporter-base/node-http';
import { httpRetry } from './retry-info.ts';
import type { ExportResult, SpanExporter } from './span-queue.ts';

/** We read no more of an answer than this; it reports the number of rejected spans, and why. */
const MAX_ANSWER_BYTES = 4_194_304;
const compress = promisify(gzip);
/** The collector may recover in a moment. */
const TRY_AGAIN = { afterMs: 0 };

/**
 * @param rejectedBy reads the number of rejected spans from an answer
 * @throws Error when the environment names something unusable, such as a missing certificate
 */
export async function createHttpExporter(
  contentType: string,
  rejectedBy: (answer: Buffer) => number,
): Promise<SpanExporter> {
  const options = convertLegacyHttpOptions({}, 'TRACES', 'v1/traces', { 'Content-Type': contentType });
  const url = new URL(options.url);
  const agent = await options.agentFactory(url.protocol);
  const { request } = await (url.protocol === 'https:' ? import('node:https') : import('node:http'));

  const send = async (body: Uint8Array, done: (result: ExportResult) => void): Promise<void> => {
    const headers: Record<string, string> = { ...(await options.headers()) };
    const zipped = options.compression === 'gzip';
    const payload = zipped ? await compress(body) : body;
    if (zipped) headers['Content-Encoding'] = 'gzip';
    headers['Content-Length'] = String(payload.length);
    const outgoing = request(url, { method: 'POST', headers, agent }, (response) => {
      const { statusCode = 0 } = response;
      const ok = statusCode >= 200 && statusCode < 300;
      const refused = (): ExportResult => ({
        ok: false,
        error: `the collector answered ${statusCode}`,
        retry: httpRetry(statusCode, response.headers['retry-after'], Date.now()),
      });
      const chunks: Buffer[] = [];
      let bytes = 0;
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > MAX_ANSWER_BYTES) response.destroy(new Error('the answer is too long'));
        else if (ok) chunks.push(chunk);
      });
      response.on('end', () => end(ok ? { ok, rejected: rejectedBy(Buffer.concat(chunks)) } : refused()));
      // The head has arrived, and its status shows whether the collector accepted the spans.
      response.on('error', () => end(ok ? { ok, rejected: 0 } : refused()));
    });
    const timeout = setTimeout(() => {
      end({ ok: false, error: `no answer within ${options.timeoutMillis} ms`, retry: TRY_AGAIN });
      outgoing.destroy();
    }, options.timeoutMillis);
    timeout.unref();
    let over = false;
    const end = (result: ExportResult): void => {
      if (over) return;
      over = true;
      clearTimeout(timeout);
      done(result);
    };
    outgoing.on('error', (error: NodeJS.ErrnoException) =>
      end({ ok: false, error: error.message.slice(0, 200), retry: TRY_AGAIN }),
    );
    outgoing.end(payload);
  };
  return {
    send: (body, done) =>
      void send(body, done).catch((error: Error) => done({ ok: false, error: error.message.slice(0, 200) })),
  };
}
