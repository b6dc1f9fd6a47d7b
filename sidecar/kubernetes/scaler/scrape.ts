/** Reads the metrics of one pod's sidecar, with a bound on time and size. */
import { formatHostPort } from '../../net/address.ts';
import { type PodPage, readPage } from './pod-page.ts';

const TIMEOUT_MS = 2_000;
/** A page with all of the models and methods that a sidecar counts by name has less. */
const MAX_BYTES = 16 << 20;

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
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of response.body) {
    bytes += part.length;
    if (bytes > MAX_BYTES) throw new Error(`/metrics has more than ${MAX_BYTES >> 20} MiB`);
    parts.push(part);
  }
  const page = readPage(Buffer.concat(parts).toString('utf8'));
  if (page === undefined)
    throw new Error("/metrics is not a sidecar's; check metadata.podSelector and --metrics-port");
  return page;
}
