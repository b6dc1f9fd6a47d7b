// One install at a time in a checkout: two `npm test` in two terminals must not mix their writes.
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { cache } from './paths.mjs';

const lock = join(cache, 'install.lock');
const limitMs = 15 * 60_000;

/** Runs `work` alone. A lock whose owner no longer runs is taken over. */
export async function withInstallLock(work) {
  mkdirSync(cache, { recursive: true });
  const startedMs = Date.now();
  while (!take()) {
    if (!ownerRuns()) {
      rmSync(lock, { force: true });
      continue;
    }
    if (Date.now() - startedMs > limitMs) {
      throw new Error(
        `another install has held ${lock} for over 15 minutes; end that install or remove the file`,
      );
    }
    await sleep(200);
  }
  const release = () => rmSync(lock, { force: true });
  process.once('exit', release);
  try {
    return await work();
  } finally {
    process.off('exit', release);
    release();
  }
}

function take() {
  try {
    writeFileSync(lock, String(process.pid), { flag: 'wx' });
    return true;
  } catch (error) {
    if (error.code === 'EEXIST') return false;
    throw error;
  }
}

function ownerRuns() {
  try {
    const pid = Number(readFileSync(lock, 'utf8'));
    // A file without a number belongs to an owner that has not written it yet, or that has ended.
    if (!(pid > 0)) return Date.now() - statSync(lock).mtimeMs < 2_000;
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}
