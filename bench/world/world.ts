// What stands around the ones that are measured: the upstreams and the collector of traces, on the load's core.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TestAuthority } from '../../scripts/harness/certificates.ts';
import { freePort } from '../../scripts/harness/free-port.ts';
import { canConnect } from '../../scripts/harness/net.ts';
import type { Cleanup } from './cleanup.ts';
import type { Setup, TlsFiles } from './setup.ts';
import { LOAD_CORE, ready, startPinned } from './start.ts';

export interface World {
  readonly cleanup: Cleanup;
  readonly folder: string;
  readonly upstreamPort: number;
  /** The same over TLS 1.3, which asks its callers for a certificate. */
  readonly tlsUpstreamPort: number;
  /** Takes spans over OTLP/HTTP, reads them and says OK. */
  readonly collectorPort: number;
  readonly tls: TlsFiles;
  /** What a target needs in front of the plain upstream. */
  readonly setup: Setup;
}

export async function startWorld(cleanup: Cleanup, image = false): Promise<World> {
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-bench-'));
  cleanup.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const tls = await writeCertificates(folder);
  const [upstreamPort, tlsUpstreamPort, collectorPort] = await Promise.all([
    startUpstream(cleanup),
    startUpstream(cleanup, tls),
    startCollector(cleanup),
  ]);
  const setup = { cleanup, folder, endpoints: [`127.0.0.1:${upstreamPort}`], image };
  return { cleanup, folder, upstreamPort, tlsUpstreamPort, collectorPort, tls, setup };
}

/** An upstream on the load's core. It listens on all of 127/8. */
export async function startUpstream(cleanup: Cleanup, tls?: TlsFiles): Promise<number> {
  const port = await freePort();
  const program = join(import.meta.dirname, '..', 'traffic', 'upstream.ts');
  const files = tls === undefined ? [] : [tls.cert, tls.key, tls.ca];
  const started = startPinned(cleanup, LOAD_CORE, [process.execPath, program, `${port}`, ...files]);
  await ready(started, 'the upstream', () => canConnect(port));
  return port;
}

/** Reads what is sent to it, and nothing else, so that it is never what limits. */
export async function startCollector(cleanup: Cleanup): Promise<number> {
  const port = await freePort();
  const program = `
    require('node:http').createServer((request, response) => {
      request.on('data', () => {});
      request.on('end', () => response.writeHead(200, { 'content-type': 'application/x-protobuf' }).end());
    }).listen(${port}, '127.0.0.1');`;
  const started = startPinned(cleanup, LOAD_CORE, [process.execPath, '-e', program]);
  await ready(started, 'the collector', () => canConnect(port));
  return port;
}

/** ECDSA P-256 certificates of one authority, made for the run. */
async function writeCertificates(folder: string): Promise<TlsFiles> {
  const authority = await TestAuthority.make('bench');
  const names = ['localhost', '127.0.0.1', 'spiffe://bench/workload'];
  const { cert, key } = await authority.issue({ names });
  const files = { cert: join(folder, 'tls.crt'), key: join(folder, 'tls.key'), ca: join(folder, 'ca.crt') };
  writeFileSync(files.cert, cert);
  writeFileSync(files.key, key);
  writeFileSync(files.ca, authority.ca);
  return files;
}
