// Everything that is measured: how to start it in front of the upstream, pinned to a core of its own.
import { globSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { freePort } from '../../scripts/harness/free-port.ts';
import { canConnect } from '../../scripts/harness/net.ts';
import { requireTool, skipWithout } from '../../scripts/harness/tool.ts';
import { imageLaunch, type Launch } from './image.ts';
import { envoyConfig } from './peers/envoy.ts';
import { inboundConfig, outboundConfig, tracingEnvironment } from './peers/outrigger.ts';
import type { Setup, Target, TlsFiles } from './setup.ts';
import { isOk, ready, startPinned, TARGET_CORE } from './start.ts';

const root = join(import.meta.dirname, '..', '..');

const fromSources: Launch = {
  program: process.env['OUTRIGGER_TEST_SIDECAR'] ?? sidecarOf(root),
  nodeArgs: [],
  env: { NODE_ENV: 'production' },
};

function sidecarOf(checkout: string): string {
  return join(checkout, 'sidecar', 'bin.mjs');
}

type Start = (setup: Setup) => Promise<Omit<Target, 'name'>>;

interface Kind {
  /** Why it can't be had, or false. */
  missing: () => string | false;
  start: Start;
}

const never = (): false => false;

/** In the order of the tables. */
export const targets: Readonly<Record<string, Kind>> = {
  direct: {
    missing: never,
    start: async ({ endpoints }) => ({
      port: Number(endpoints[0]!.split(':')[1]),
      pids: [],
      stop: async () => {},
    }),
  },
  envoy: {
    missing: () => skipWithout('envoy'),
    start: (setup) =>
      startPeer(setup, 'envoy', (port) => {
        const file = configFile(setup, 'envoy.json', JSON.stringify(envoyConfig(port, setup)));
        return [envoyProgram(), '-c', file, '--concurrency', '1', '-l', 'error', '--use-dynamic-base-id'];
      }),
  },
  haproxy: {
    missing: () => skipWithout('haproxy'),
    start: (setup) =>
      startPeer(setup, 'haproxy', (port) => {
        const servers = setup.endpoints.map(
          (endpoint, i) => `  server agent${i} ${endpoint} ${haproxyServer(setup)}`,
        );
        const config = template('haproxy.cfg')
          .replaceAll('LISTEN_PORT', `${port}`)
          .replaceAll('BIND_TLS', haproxyBind(setup))
          .replaceAll('SERVERS', servers.join('\n'));
        return [requireTool('haproxy'), '-db', '-f', configFile(setup, 'haproxy.cfg', config)];
      }),
  },
  nginx: {
    missing: () => skipWithout('nginx'),
    start: (setup) =>
      startPeer(setup, 'nginx', (port) => {
        const config = template('nginx.conf')
          .replaceAll('LISTEN_PORT', `${port}`)
          .replaceAll('FOLDER', setup.folder)
          .replaceAll('UPSTREAMS', setup.endpoints.map((endpoint) => `server ${endpoint};`).join('\n    '));
        return [requireTool('nginx'), '-p', setup.folder, '-c', configFile(setup, 'nginx.conf', config)];
      }),
  },
  'node:http2': { missing: never, start: (setup) => startScript(setup, 'node-http2.ts') },
  'grpc-js': { missing: never, start: (setup) => startScript(setup, 'grpc-js.ts') },
  'outrigger inbound': { missing: never, start: (setup) => startOutrigger(setup, 'inbound') },
  'outrigger outbound': { missing: never, start: (setup) => startOutrigger(setup, 'outbound') },
};

/** Two sidecars in a row, as between two agents; their costs are counted together. */
export async function startPair(setup: Setup): Promise<Target> {
  const inbound = await startOutrigger(setup, 'inbound');
  const outbound = await startOutrigger({ ...setup, endpoints: [`127.0.0.1:${inbound.port}`] }, 'outbound');
  const stop = async (): Promise<void> => {
    await outbound.stop();
    await inbound.stop();
  };
  return { ...outbound, name: 'outrigger pair', pids: [...outbound.pids, ...inbound.pids], stop };
}

export async function startTarget(name: string, setup: Setup): Promise<Target> {
  return { name, ...(await targets[name]!.start(setup)) };
}

/** What PyPI installs is a script in Python around the program, whose own start is none of Envoy's. */
function envoyProgram(): string {
  const launcher = requireTool('envoy');
  const pattern = join(dirname(launcher), '..', 'lib', '*', 'site-packages', 'envoy', '_bin', 'envoy');
  return globSync(pattern)[0] ?? launcher;
}

function haproxyBind({ downstreamTls, folder }: Setup): string {
  if (downstreamTls === undefined) return 'proto h2';
  return `ssl crt ${joinedPem(folder, downstreamTls)} ca-file ${downstreamTls.ca} verify required alpn h2 ssl-min-ver TLSv1.3`;
}

function haproxyServer({ upstreamTls, folder }: Setup): string {
  if (upstreamTls === undefined) return 'proto h2 check inter 30s observe layer7';
  return `ssl crt ${joinedPem(folder, upstreamTls)} ca-file ${upstreamTls.ca} verify required sni str(localhost) alpn h2 proto h2`;
}

/** HAProxy wants certificate and key in one file. */
function joinedPem(folder: string, { cert, key }: TlsFiles): string {
  const path = join(folder, 'haproxy.pem');
  writeFileSync(path, readFileSync(cert, 'utf8') + readFileSync(key, 'utf8'));
  return path;
}

function template(name: string): string {
  return readFileSync(join(import.meta.dirname, 'peers', name), 'utf8');
}

let configFiles = 0;

function configFile({ folder }: Setup, name: string, content: string): string {
  const path = join(folder, `${configFiles++}-${name}`);
  writeFileSync(path, content);
  return path;
}

function startScript(setup: Setup, script: string): Promise<Omit<Target, 'name'>> {
  const upstreamPort = setup.endpoints[0]!.split(':')[1]!;
  return startPeer(setup, script, (port) => [
    process.execPath,
    ...(setup.nodeArgs ?? []),
    ...[join(import.meta.dirname, 'peers', script), `${port}`, upstreamPort],
  ]);
}

async function startPeer(
  { cleanup }: Setup,
  name: string,
  commandLine: (port: number) => string[],
): Promise<Omit<Target, 'name'>> {
  const port = await freePort();
  const command = commandLine(port);
  const startedMs = performance.now();
  const started = startPinned(cleanup, TARGET_CORE, command);
  await ready(started, name, () => canConnect(port));
  return {
    port,
    pids: [started.pid],
    readyMs: performance.now() - startedMs,
    stop: async () => void (await started.stop()),
  };
}

async function startOutrigger(setup: Setup, side: 'inbound' | 'outbound'): Promise<Omit<Target, 'name'>> {
  const listeners = ['inbound', 'outbound', 'llm', 'admin', 'metrics', 'health'];
  const ports: Record<string, number> = {};
  for (const listener of listeners) ports[listener] = await freePort();
  const config: Record<string, object> = {
    ...(side === 'inbound' ? inboundConfig(setup) : outboundConfig(setup)),
  };
  for (const [listener, port] of Object.entries(ports))
    config[listener] = { ...config[listener], listen: `127.0.0.1:${port}` };
  const file = configFile(setup, `outrigger-${side}.yaml`, JSON.stringify(config));
  const { nodeArgs, env, ...launch } = setup.image === true ? imageLaunch() : fromSources;
  const program = setup.checkout === undefined ? launch.program : sidecarOf(setup.checkout);
  const startedMs = performance.now();
  const started = startPinned(
    setup.cleanup,
    TARGET_CORE,
    [process.execPath, ...nodeArgs, ...(setup.nodeArgs ?? []), program, 'run', '--config', file],
    { ...env, ...tracingEnvironment(setup.tracing) },
  );
  // Without an app beside it an outbound sidecar never says that it is ready.
  const path = side === 'inbound' ? '/healthz/ready' : '/healthz/live';
  await ready(started, `outrigger ${side}`, () => isOk(ports['health']!, path));
  return {
    port: ports[side]!,
    pids: [started.pid],
    readyMs: performance.now() - startedMs,
    metricsPort: ports['metrics']!,
    logs: () => started.logs(),
    stop: async () => void (await started.stop()),
  };
}
