// A real sidecar process with its own ports.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { parse } from 'yaml';
import { freePort } from './free-port.ts';
import { PATIENCE_MS } from './patience.ts';
import { startProcess, type TestProcess } from './process.ts';
import { waitUntil } from './wait-until.ts';

export interface Sidecar extends TestProcess {
  readonly inboundPort: number;
  readonly outboundPort: number;
  readonly llmPort: number;
  readonly adminPort: number;
  readonly metricsPort: number;
  readonly healthPort: number;
  /** The configuration file, for tests that reload it. */
  readonly configFile: string;
}

export interface SidecarOptions {
  env?: Record<string, string>;
  /** 'ready' (the default) waits for /healthz/ready, which also needs the app; 'live' for /healthz/live. */
  until?: 'ready' | 'live';
  limitMs?: number;
  /** The command that starts the process, such as `taskset -c 1`; it must replace itself by the program (exec). */
  launcher?: readonly string[];
  /** The folder of another checkout whose sidecar to start; this checkout by default. */
  checkout?: string | undefined;
}

type Section = Record<string, unknown>;

const root = join(import.meta.dirname, '..', '..');
/** Selects another build of the sidecar for the same tests, for instance a bundle. */
const program = process.env['OUTRIGGER_TEST_SIDECAR'] ?? join(root, 'sidecar', 'main.ts');

function programOf(checkout: string | undefined): string {
  return checkout === undefined ? program : join(checkout, 'sidecar', 'main.ts');
}

const listeners = ['inbound', 'outbound', 'llm', 'admin', 'metrics', 'health'] as const;

/** Starts `outrigger run` with this configuration (an object or YAML), plus free ports. */
export async function startSidecar(
  t: Pick<Test, 'teardown'>,
  config: Section | string = {},
  { env = {}, until = 'ready', limitMs = PATIENCE_MS, launcher = [], checkout }: SidecarOptions = {},
): Promise<Sidecar> {
  const given: Section = typeof config === 'string' ? (parse(config) ?? {}) : config;
  const complete: Section = { ...given };
  const ports = {} as Record<(typeof listeners)[number], number>;
  for (const name of listeners) {
    const section = (given[name] ?? {}) as Section;
    const listen = (section['listen'] as string | undefined) ?? `127.0.0.1:${await freePort()}`;
    ports[name] = Number(listen.slice(listen.lastIndexOf(':') + 1));
    complete[name] = { ...section, listen };
  }
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-test-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const configFile = join(folder, 'outrigger.yaml');
  // JSON is YAML.
  writeFileSync(configFile, JSON.stringify(complete, null, 2));

  const [command, ...args] = [
    ...launcher,
    process.execPath,
    programOf(checkout),
    'run',
    '--config',
    configFile,
  ];
  const started = startProcess(t, command!, args, {
    cwd: root,
    env: { NODE_ENV: 'test', ...env },
  });
  let exit: number | NodeJS.Signals | undefined;
  void started.ended.then((code) => {
    exit = code;
  });
  const url = `http://127.0.0.1:${ports.health}/healthz/${until}`;
  try {
    await waitUntil(
      `the sidecar is ${until}`,
      async () => exit !== undefined || (await fetch(url, { signal: AbortSignal.timeout(1_000) })).ok,
      { limitMs },
    );
    if (exit !== undefined) throw new Error(`the sidecar exited with ${exit} during its start`);
  } catch (error) {
    started.kill('SIGKILL');
    throw new Error(`${(error as Error).message}; its log:\n${started.logs().slice(-4_000)}`, {
      cause: error,
    });
  }
  return {
    ...started,
    configFile,
    inboundPort: ports.inbound,
    outboundPort: ports.outbound,
    llmPort: ports.llm,
    adminPort: ports.admin,
    metricsPort: ports.metrics,
    healthPort: ports.health,
  };
}

/** The configuration of a sidecar whose outbound listener sends every call to these endpoints. */
export function outboundTo(...endpoints: string[]): Section {
  return {
    outbound: {
      routes: [{ match: { path_prefix: '/' }, cluster: 'upstream' }],
      clusters: { upstream: { endpoints } },
    },
  };
}
