/**
 * The folders of runners that share one `workspaces.path`: each process has a root of its own, and removes those of processes
 * that have ended.
 */
import { randomBytes } from 'node:crypto';
import { readdirSync, readlinkSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';

/** A runner in another container touches its root every half minute; after this silence it counts as ended. */
const DEAD_AFTER_MS = 300_000;

const own = new Set<string>();

/** `NAMESPACE-PID-RANDOM`: processes of one pid namespace see whether the others live. */
export function ownRootName(): string {
  const name = `${pidNamespace()}-${process.pid}-${randomBytes(8).toString('hex')}`;
  own.add(name);
  return name;
}

/** Removes the roots of processes that have ended, and what is none. @throws if the folder can't be read */
export function removeDeadRoots(all: string, nowMs: number): void {
  const here = pidNamespace();
  for (const name of readdirSync(all)) {
    const [namespace, pid] = /^(\d+)-(\d+)-[0-9a-f]{16}$/.exec(name)?.slice(1) ?? [];
    if (own.has(name)) continue;
    const path = join(all, name);
    const isDead = namespace === here && pid !== undefined ? !isAlive(Number(pid)) : isSilent(path, nowMs);
    if (isDead) rmSync(path, { recursive: true, force: true });
  }
}

/** The number of our pid namespace; 0 where the kernel does not tell. */
function pidNamespace(): string {
  try {
    return /\d+/.exec(readlinkSync('/proc/self/ns/pid'))?.[0] ?? '0';
  } catch {
    return '0';
  }
}

/** A container that starts anew may have the pid of the one before. */
function isAlive(pid: number): boolean {
  if (pid === process.pid) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

function isSilent(path: string, nowMs: number): boolean {
  const { mtimeMs } = statSync(path, { throwIfNoEntry: false }) ?? { mtimeMs: 0 };
  return nowMs - mtimeMs > DEAD_AFTER_MS;
}
