// The memory that injection gives a sidecar. Node takes the size of its heap from it: a process that sees the whole machine
// collects later, and says nothing about what a pod would need.
import { mkdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';

/** `outrigger.dev/memory-limit` by default. */
const POD_BYTES = 536_870_912;
/** What Node takes for its old generation in that much memory. */
const OLD_SPACE_MB = 256;
/** As the image starts it. */
const IMAGE_OPTIONS = '--max-semi-space-size=4';
const IMAGE_ENVIRONMENT = { NODE_OPTIONS: IMAGE_OPTIONS, MALLOC_ARENA_MAX: '1' };
/** Where memory groups of processes are made, in both versions of Linux's interface, and the name of their limit. */
const GROUPS = [
  { folder: '/sys/fs/cgroup/memory', limit: 'memory.limit_in_bytes' },
  { folder: '/sys/fs/cgroup', limit: 'memory.max' },
] as const;

export interface PodMemory {
  readonly env: Record<string, string>;
  readonly launcher: readonly string[];
  /** For people: how the memory is limited. */
  readonly how: string;
}

/**
 * A group of processes that gets no more memory than a pod's sidecar, and is killed above it. Where none may be made, the
 * process gets the heap that Node would choose in one.
 */
export function podMemory(t: Pick<Test, 'teardown'>): PodMemory {
  for (const { folder, limit } of GROUPS) {
    const group = join(folder, `outrigger-fuzz-${process.pid}`);
    try {
      mkdirSync(group);
    } catch {
      continue;
    }
    t.teardown(() => removeGroup(group));
    try {
      writeFileSync(join(group, limit), String(POD_BYTES));
    } catch {
      removeGroup(group);
      continue;
    }
    const enter = `echo $$ > ${join(group, 'cgroup.procs')} && exec "$0" "$@"`;
    return { env: IMAGE_ENVIRONMENT, launcher: ['sh', '-c', enter], how: 'in a memory group of 512 MiB' };
  }
  const env = { ...IMAGE_ENVIRONMENT, NODE_OPTIONS: `${IMAGE_OPTIONS} --max-old-space-size=${OLD_SPACE_MB}` };
  return { env, launcher: [], how: 'with the heap that Node chooses in 512 MiB' };
}

function removeGroup(group: string): void {
  try {
    rmdirSync(group);
  } catch {
    // Its process is still ending, or it is gone already: an empty group costs nothing.
  }
}
