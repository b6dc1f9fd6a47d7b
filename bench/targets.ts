// Everything that is measured: how to start it in front of the upstream, pinned to one core.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../test/support/free-port.ts';
import { canConnect } from '../test/support/net.ts';
import { startProcess } from '../test/support/process.ts';
import { startSidecar } from '../test/support/sidecar.ts';
import { requireTool, skipWithout } from '../test/support/tool.ts';
import { waitUntil } from '../test/support/wait-until.ts';
import type { Cleanup } from './cleanup.ts';

export interface Target {
  name: string;
  port: number;
  /** The process whose CPU time counts; none for the upstream itself. */
  pid?: number;
  /** From start to the first accepted connection or the ready answer, in milliseconds. */
  readyMs?: number;
}

export interface Surroundings {
  cleanup: Cleanup;
  upstreamPort: number;
  /** The core the target runs on. */
  core: number;
  folder: string;
}

type Start = (surroundings: Surroundings) => Promise<Target>;

/** Name → how to start it, or why it can't be. */
export const targets: Record<string, { missing: () => string | false; start: Start }> = {
  direct: {
    missing: () => false,
    start: async ({ upstreamPort }) => ({ name: 'direct', port: upstreamPort }),
  },
  envoy: {
    missing: () => skipWithout('envoy'),
    start: (surroundings) =>
      startPeer(surroundings, 'envoy', 'envoy.yaml', (file) => [
        requireTool('envoy'),
        ...['-c', file, '--concurrency', '1', '-l', 'error', '--use-dynamic-base-id'],
      ]),
  },
  haproxy: {
    missing: () => skipWithout('haproxy'),
    start: (surroundings) =>
      startPeer(surroundings, 'haproxy', 'haproxy.cfg', (file) => [
        requireTool('haproxy'),
        '-db',
        '-f',
        file,
      ]),
  },
  'outrigger inbound': {
    missing: () => false,
    start: ({ cleanup, upstreamPort, core }) =>
      startOutrigger(cleanup, core, 'outrigger inbound', { inbound: { app: `127.0.0.1:${upstreamPort}` } }),
  },
  'outrigger outbound': {
    missing: () => false,
    start: ({ cleanup, upstreamPort, core }) =>
      startOutrigger(cleanup, core, 'outrigger outbound', {
        outbound: {
          routes: [{ match: { path_prefix: '/' }, cluster: 'upstream' }],
          clusters: { upstream: { endpoints: [`127.0.0.1:${upstreamPort}`], timeout: '60s' } },
        },
      }),
  },
};

/** Starts nghttpd on the other core; it ends every answer with gRPC's OK. */
export async function startUpstream(cleanup: Cleanup, core: number, folder: string): Promise<number> {
  const port = await freePort();
  startProcess(cleanup, requireTool('taskset'), [
    ...['-c', `${core}`, requireTool('nghttpd'), '--no-tls', '-a', '127.0.0.1', '-d', folder],
    ...['--trailer', 'grpc-status: 0', `${port}`],
  ]);
  await waitUntil('nghttpd listened', () => canConnect(port));
  return port;
}

async function startPeer(
  { cleanup, upstreamPort, core, folder }: Surroundings,
  name: string,
  template: string,
  commandLine: (configFile: string) => string[],
): Promise<Target> {
  const port = await freePort();
  const configFile = join(folder, template);
  const config = readFileSync(join(import.meta.dirname, 'peers', template), 'utf8')
    .replaceAll('LISTEN_PORT', `${port}`)
    .replaceAll('UPSTREAM_PORT', `${upstreamPort}`);
  writeFileSync(configFile, config);
  const startedMs = performance.now();
  const started = startProcess(cleanup, requireTool('taskset'), [
    '-c',
    `${core}`,
    ...commandLine(configFile),
  ]);
  await waitUntil(`${name} listened`, () => canConnect(port), { limitMs: 15_000, everyMs: 5 }).catch(
    (error) => {
      throw new Error(`${error.message}; it said: ${started.logs().slice(-1_000)}`);
    },
  );
  return { name, port, pid: started.pid, readyMs: performance.now() - startedMs };
}

async function startOutrigger(
  cleanup: Cleanup,
  core: number,
  name: string,
  config: Record<string, unknown>,
): Promise<Target> {
  const startedMs = performance.now();
  const sidecar = await startSidecar(cleanup, config, {
    launcher: [requireTool('taskset'), '-c', `${core}`],
    // Without an app beside it an outbound sidecar never says that it is ready.
    until: 'inbound' in config ? 'ready' : 'live',
    env: { NODE_ENV: 'production' },
  });
  const port = 'inbound' in config ? sidecar.inboundPort : sidecar.outboundPort;
  return { name, port, pid: sidecar.pid, readyMs: performance.now() - startedMs };
}
