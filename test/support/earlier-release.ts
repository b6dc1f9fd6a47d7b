// The release before this one, in a folder of its own, for tests of two versions together.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';

const root = join(import.meta.dirname, '..', '..');
export const EARLIER = '0.1.0';
const tag = `v${EARLIER}`;

/** The value of `skip`: false when git has the release, otherwise why not. */
export function skipWithoutEarlier(): string | false {
  const { status } = spawnSync('git', ['rev-parse', '--verify', '--quiet', `${tag}^{commit}`], { cwd: root });
  return status === 0 ? false : `without the tag ${tag}: git fetch origin tag ${tag} --no-tags`;
}

/** Its files, with this checkout's node_modules. They go with the test. @returns the folder */
export function earlierRelease(t: Pick<Test, 'teardown'>): string {
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-earlier-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const files = execFileSync('git', ['archive', tag], { cwd: root, maxBuffer: 256 << 20 });
  mkdirSync(folder, { recursive: true });
  execFileSync('tar', ['-x', '-C', folder], { input: files });
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
  return folder;
}
