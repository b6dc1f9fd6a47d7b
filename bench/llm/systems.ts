// The systems under comparison: no proxy, the egress, and LiteLLM's proxy if it can be installed.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from '../../scripts/harness/free-port.ts';
import { CLOCKS } from '../../scripts/harness/llm/faults.ts';
import { startProcess, type TestProcess } from '../../scripts/harness/process.ts';
import { type SidecarOptions, startSidecar } from '../../scripts/harness/sidecar.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import type { Cleanup } from '../world/cleanup.ts';

export interface System {
  readonly name: string;
  readonly baseUrl: string;
  /** Undefined where nothing is in between. */
  readonly pid: number | undefined;
}

type CreateVenv = (folder: string, packages: readonly string[]) => Promise<void>;

const LITELLM = 'litellm[proxy]==1.106.2';
const LITELLM_KEY = 'sk-only-for-the-comparison-0123456789';

/** Runs a program on one core where the machine has more than one. */
export function pinned(core: number): string[] {
  return ['taskset', '-c', String(core)];
}

export async function startProvider(cleanup: Cleanup, core: number): Promise<string> {
  const [program, ...args] = [...pinned(core), process.execPath, join(import.meta.dirname, 'provider.ts')];
  const started = startProcess(cleanup, program!, args);
  return waitUntil('the provider listens', () => /http:\S+/.exec(started.logs())?.[0]);
}

export async function startOutrigger(
  cleanup: Cleanup,
  url: string,
  core: number,
  llm: object = {},
  { checkout, env }: Pick<SidecarOptions, 'checkout' | 'env'> = {},
): Promise<System> {
  const sidecar = await startSidecar(
    cleanup,
    { llm: { upstreams: [{ name: 'provider', url }], ...llm } },
    {
      until: 'live',
      limitMs: 60_000,
      launcher: pinned(core),
      checkout,
      ...(env === undefined ? {} : { env }),
    },
  );
  return { name: 'outrigger', baseUrl: `http://127.0.0.1:${sidecar.llmPort}/v1`, pid: sidecar.pid };
}

/** Each name of a model leads to the URL of its own. Undefined, with the reason printed, where it can't be had. */
export async function startLiteLlm(
  cleanup: Cleanup,
  models: Readonly<Record<string, string>>,
  core: number,
  params: object = { model: 'openai/m' },
): Promise<System | undefined> {
  try {
    // Plain JavaScript without types, for it runs before anything is installed.
    const tools = (await import(`${'../../scripts/tools/python.mjs'}`)) as { createVenv: CreateVenv };
    await tools.createVenv('venv-litellm', [LITELLM]);
  } catch (error) {
    console.log(`The run omits LiteLLM's proxy: ${(error as Error).message}`);
    return undefined;
  }
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-bench-'));
  cleanup.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const seconds = CLOCKS.firstByteMs / 1000;
  const config = {
    model_list: Object.entries(models).map(([name, url]) => ({
      model_name: name,
      litellm_params: {
        ...params,
        api_base: url,
        api_key: 'x',
        timeout: seconds,
        stream_timeout: seconds,
      },
    })),
    router_settings: { num_retries: CLOCKS.attempts - 1, disable_cooldowns: true },
    litellm_settings: { request_timeout: seconds, telemetry: false },
    general_settings: { master_key: LITELLM_KEY },
  };
  const file = join(folder, 'litellm.yaml');
  // JSON is YAML.
  writeFileSync(file, JSON.stringify(config));
  const port = await freePort();
  const program = join(import.meta.dirname, '..', '..', '.cache', 'venv-litellm', 'bin', 'litellm');
  const [command, ...args] = [
    ...pinned(core),
    program,
    '--config',
    file,
    '--host',
    '127.0.0.1',
    '--port',
    String(port),
  ];
  const env = {
    LITELLM_LOCAL_MODEL_COST_MAP: 'True',
    PYTHONUNBUFFERED: '1',
    LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY: 'true',
  };
  const started: TestProcess = startProcess(cleanup, command!, args, { env, cwd: folder });
  try {
    await waitUntil(
      "LiteLLM's proxy is alive",
      async () => (await fetch(`http://127.0.0.1:${port}/health/liveliness`)).ok,
      { limitMs: 240_000, everyMs: 500 },
    );
  } catch (error) {
    console.log(`The run omits LiteLLM's proxy: ${(error as Error).message}; ${started.logs().slice(-500)}`);
    return undefined;
  }
  return { name: 'litellm', baseUrl: `http://127.0.0.1:${port}/v1`, pid: started.pid };
}

export const API_KEYS: Readonly<Record<string, string>> = { litellm: LITELLM_KEY };
