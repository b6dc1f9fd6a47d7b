// Where and when something was measured.
import { execFileSync } from 'node:child_process';
import { cpus, loadavg, release } from 'node:os';
import { skipWithout } from '../../scripts/harness/tool.ts';
import type { SectionResult } from './results.ts';

/** Throws where the bench can't work. */
export function checkMachine(): void {
  if (process.platform !== 'linux' || cpus().length < 2)
    throw new Error(
      'the bench needs Linux with two cores or more, because it pins processes to cores and reads /proc',
    );
  const lacking = skipWithout('taskset');
  if (lacking !== false) throw new Error(lacking);
}

export function describeMachine(
  section: string,
): Omit<SectionResult, 'build' | 'rounds' | 'seconds' | 'rows'> {
  return {
    section,
    at: new Date().toISOString(),
    commit: commit(),
    processor: cpus()[0]!.model,
    cores: cpus().length,
    kernel: release(),
    node: process.version,
    loadBefore: loadavg()[0]!,
  };
}

/** Undefined outside of a repository; with a plus where files of the sidecar were changed since. */
function commit(): string | undefined {
  try {
    const git = (...args: string[]): string =>
      execFileSync('git', args, {
        cwd: import.meta.dirname,
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      });
    const changed = git('status', '--porcelain', '--untracked-files=no', '../../sidecar').trim() !== '';
    return `${git('rev-parse', '--short', 'HEAD').trim()}${changed ? '+' : ''}`;
  } catch {
    return undefined;
  }
}
