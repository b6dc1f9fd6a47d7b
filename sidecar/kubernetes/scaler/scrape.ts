/** Reads the metrics of one pod's sidecar line by line as they come, with bounds on time, size and what is kept. */
import { get } from 'node:http';
import { PageLines } from './page-lines.ts';
import { PageReader, type PodPage } from './pod-page.ts';

const TIMEOUT_MS = 2_000;

/**
 * Each part is read when it comes: nothing waits in between, and nothing is unpacked.
 *
 * @throws Error that says what came instead
 */
export function scrape(ip: string, port: number): Promise<PodPage> {
  const { promise, resolve, reject } = Promise.withResolvers<PodPage>();
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  const headers = { accept: 'text/plain; version=0.0.4' };
  const request = get({ host: ip, port, path: '/metrics', agent: false, headers, signal });
  const fail = (error: unknown): void => {
    reject(signal.aborted ? signal.reason : error);
    request.destroy();
  };
  request.on('error', fail);
  request.on('response', (response) => {
    response.on('error', fail);
    const { statusCode } = response;
    if (statusCode !== 200) {
      fail(new Error(`/metrics answered ${statusCode}`));
      return;
    }
    const reader = new PageReader();
    const lines = new PageLines((line) => reader.line(line));
    const step = (act: () => void): void => {
      try {
        act();
      } catch (error) {
        fail(error);
      }
    };
    response.on('data', (part: Buffer) => step(() => lines.add(part)));
    response.on('end', () =>
      step(() => {
        lines.end();
        resolve(sidecarsPage(reader));
      }),
    );
  });
  return promise;
}

function sidecarsPage(reader: PageReader): PodPage {
  const page = reader.page();
  if (page === undefined)
    throw new Error("/metrics is not a sidecar's; check metadata.podSelector and --metrics-port");
  return page;
}
