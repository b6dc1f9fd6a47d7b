/** Reads the metrics of one pod's sidecar line by line as they come, with bounds on time, size and what is kept. */
import { formatHostPort } from '../../net/address.ts';
import { PageLines } from './page-lines.ts';
import { PageReader, type PodPage } from './pod-page.ts';

const TIMEOUT_MS = 2_000;

/** @throws Error that says what came instead */
export async function scrape(ip: string, port: number): Promise<PodPage> {
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  const response = await fetch(`http://${formatHostPort(ip, port)}/metrics`, {
    signal,
    redirect: 'error',
    headers: { accept: 'text/plain; version=0.0.4' },
  });
  if (!response.ok || response.body === null) {
    await response.body?.cancel();
    throw new Error(`/metrics answered ${response.status}`);
  }
  const reader = new PageReader();
  const lines = new PageLines((line) => reader.line(line));
  // What throws here ends the connection, too.
  for await (const part of response.body) lines.add(part);
  lines.end();
  const page = reader.page();
  if (page === undefined)
    throw new Error("/metrics is not a sidecar's; check metadata.podSelector and --metrics-port");
  return page;
}
