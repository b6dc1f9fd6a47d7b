// Portkey's gateway as a peer. The run installs it into a folder of its own; no part of the project depends on it.
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { freePort } from '../../scripts/harness/free-port.ts';
import { startProcess } from '../../scripts/harness/process.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import type { Cleanup } from '../world/cleanup.ts';
import { pinned, type System } from './systems.ts';

const VERSION = '1.15.2';
const NAME = '@portkey-ai/gateway';
/** With later ones that it declares to take, it answers each stream with a 500 ("immutable"). */
const WITH = ['hono@4.9.7', '@hono/node-server@1.3.3'];
const INSTALL_MS = 5 * 60_000;

/** Undefined, with the reason printed, where it can't be had. */
export async function startPortkey(cleanup: Cleanup, core: number): Promise<System | undefined> {
  try {
    const entry = await install();
    const port = await freePort();
    const [program, ...args] = [...pinned(core), process.execPath, entry, `--port=${port}`, '--headless'];
    const started = startProcess(cleanup, program!, args, { env: { NODE_ENV: 'production' } });
    const origin = `http://127.0.0.1:${port}`;
    await waitUntil("Portkey's gateway is alive", async () => (await fetch(origin)).ok, {
      limitMs: 60_000,
      everyMs: 200,
    });
    return { name: 'portkey', baseUrl: `${origin}/v1`, pid: started.pid };
  } catch (error) {
    console.log(`The run omits Portkey's gateway: ${(error as Error).message}`);
    return undefined;
  }
}

async function install(): Promise<string> {
  const folder = join(import.meta.dirname, '..', '..', '.cache', `portkey-${VERSION}`);
  const entry = join(folder, 'node_modules', NAME, 'build', 'start-server.js');
  if (existsSync(entry)) return entry;
  mkdirSync(folder, { recursive: true });
  const options = ['--no-save', '--no-audit', '--no-fund', '--ignore-scripts', '--legacy-peer-deps'];
  const packages = [`${NAME}@${VERSION}`, ...WITH];
  await promisify(execFile)('npm', ['install', '--prefix', folder, ...options, ...packages], {
    timeout: INSTALL_MS,
  });
  return entry;
}
