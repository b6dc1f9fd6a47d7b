// CPU time of a process, all its threads together, from /proc (Linux).
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

let ticksPerSecond: number | undefined;

/** User and system time so far, in microseconds. Its grain is the scheduler's nanoseconds where the kernel shows them. */
export function cpuMicroseconds(pid: number): number {
  return scheduledMicroseconds(pid) ?? accountedMicroseconds(pid);
}

/** From `schedstat` of each thread; undefined on kernels without it. */
function scheduledMicroseconds(pid: number): number | undefined {
  let nanoseconds = 0;
  try {
    for (const thread of readdirSync(`/proc/${pid}/task`)) {
      const [spent] = readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ');
      nanoseconds += Number(spent);
    }
  } catch {
    return undefined;
  }
  return nanoseconds > 0 ? nanoseconds / 1_000 : undefined;
}

/** From `stat`, whose grain is a clock tick, mostly 10 ms. */
function accountedMicroseconds(pid: number): number {
  ticksPerSecond ??= Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // The name, in parentheses, may contain spaces; utime and stime are the 14th and 15th fields.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return ((Number(fields[11]) + Number(fields[12])) / ticksPerSecond) * 1e6;
}
