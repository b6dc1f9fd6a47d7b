// The Python package, built as its users get it and installed in a folder of its own.
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { runProcess } from '../../scripts/harness/process.ts';
import { requireTool } from '../../scripts/harness/tool.ts';

const LIMIT_MS = 120_000;

/** @returns the folder for PYTHONPATH */
export async function installWheel(t: Pick<Test, 'teardown'>): Promise<string> {
  const site = mkdtempSync(join(tmpdir(), 'outrigger-python-'));
  t.teardown(() => rmSync(site, { recursive: true, force: true }));
  const run = async (...args: string[]): Promise<void> => {
    const { code, output } = await runProcess(t, requireTool('python-package'), ['-m', ...args], {
      limitMs: LIMIT_MS,
    });
    if (code !== 0) throw new Error(`python3 -m ${args.join(' ')} failed:\n${output}`);
  };
  const wheel = join(site, 'wheel');
  const source = join(import.meta.dirname, '..', '..', 'python');
  await run('build', '--no-isolation', '--wheel', '--outdir', wheel, source);
  const file = join(wheel, readdirSync(wheel).find((name) => name.endsWith('.whl'))!);
  await run('pip', 'install', '--quiet', '--no-deps', '--no-index', '--target', site, file);
  return site;
}
