// What runs that misbehave do to a neighbour in the tool runner: node bench/single/tool-neighbour.ts [ROUNDS [NEIGHBOUR]]
//
// A neighbour starts short runs, one after the other, by turns alone and beside each of a fork bomb, a memory bomb, an endless loop and
// 1 GB of output, so that a busy machine disturbs both alike. It prints the neighbour's p50 and p99 beside the ones alone, and
// what ended the others. The last line of each neighbour is the limit of the machine: a loop that the kernel runs only where a processor has
// nothing else to do (SCHED_IDLE). What that does to the neighbour, no scheduler takes away: it warms and shares the processor.
// TOOLS_HELPER names another build of the helper, for comparisons. It needs root, bubblewrap and the helper (node scripts/install.mjs --tests). The bombs are bounded by the
// sandbox, and by a limit of processes that this program sets on itself and all that it starts.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { layWalls } from '../../agents/tools/sandbox/lay-walls.ts';
import { usualLimits } from '../../agents/tools/sandbox/limits.ts';
import { type RunEnd, runBehind } from '../../agents/tools/sandbox/sandboxed-run.ts';
import { giveToRuns } from '../../agents/tools/sandbox/workspaces.ts';
import { requireTool } from '../../scripts/harness/tool.ts';

const rounds = Number(process.argv[2] ?? 6);
const only = process.argv[3];
const runsPerTurn = 100;
spawnSync('prlimit', ['--pid', String(process.pid), '--nproc=2000:2000']);
const folder = mkdtempSync(join(tmpdir(), 'tool-neighbour-'));
chmodSync(folder, 0o711);
const confine = join(folder, 'confine');
copyFileSync(process.env['TOOLS_HELPER'] || requireTool('confine'), confine);
chmodSync(confine, 0o755);
const programs = await layWalls({ confine, bubblewrap: requireTool('bwrap') }, folder);

const python = (code: string) => ['/usr/bin/python3', '-I', '-c', code];
const bombs: Record<string, readonly string[]> = {
  'fork bomb': ['/bin/sh', '-c', 'f() { f | f & }; f; sleep 30'],
  'memory bomb': python('a = []\nwhile True: a.append(b"x" * 1_000_000 + bytes(len(a)))'),
  'endless loop': ['/bin/sh', '-c', 'while :; do :; done'],
  '1 GB of output': ['/bin/sh', '-c', 'head -c 1000000000 /dev/zero'],
};

/** So that a loop, too, ends within the measurement. */
const limits = { ...usualLimits, cpuMs: 1_000 };

let workspaces = 0;
async function run(command: readonly string[], signal: AbortSignal): Promise<RunEnd> {
  const workspace = join(folder, `w${workspaces++}`);
  mkdirSync(workspace);
  giveToRuns(workspace);
  try {
    const launch = { command, workspace, programs: [], limits, hasProxy: false };
    return await runBehind('namespaces', programs, launch, { signal });
  } finally {
    rmSync(workspace, { recursive: true, force: true });
  }
}

const neighbours: Record<string, readonly string[]> = { true: ['/usr/bin/true'], python: python('pass') };

async function turn(command: readonly string[], into: number[]): Promise<void> {
  for (let at = 0; at < runsPerTurn; at++) {
    const startMs = performance.now();
    const end = await run(command, AbortSignal.timeout(60_000));
    if (end.kind !== 'exited' || end.code !== 0) throw new Error(`the neighbour: ${JSON.stringify(end)}`);
    into.push(performance.now() - startMs);
  }
}

/** Starts the bomb again while the turn lasts, so that it is always there, and its start is not what is measured. */
async function beside(bomb: readonly string[], ends: Set<string>, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const end = await run(bomb, signal);
    if (end.kind !== 'cancelled') ends.add(end.kind === 'limit' ? end.limit : end.kind);
    await sleep(250, undefined, { signal }).catch(() => {});
  }
}

/** The limit of the machine: a loop that gives way to everybody. */
async function besideIdle(signal: AbortSignal): Promise<void> {
  const child = spawn('chrt', ['--idle', '0', '/bin/sh', '-c', 'while :; do :; done'], { stdio: 'ignore' });
  const ended = once(child, 'close');
  signal.addEventListener('abort', () => child.kill('SIGKILL'), { once: true });
  await ended;
}

const at = (times: readonly number[], share: number) =>
  [...times].sort((a, b) => a - b)[Math.floor((times.length - 1) * share)]!;

try {
  for (const [name, command] of Object.entries(neighbours)) {
    if (only !== undefined && only !== name) continue;
    for (const [bomb, bombCommand] of [...Object.entries(bombs), ['idle loop', undefined] as const]) {
      const alone: number[] = [];
      const together: number[] = [];
      const ends = new Set<string>();
      for (let round = 0; round < rounds; round++) {
        await turn(command, alone);
        const over = new AbortController();
        const bombing = bombCommand ? beside(bombCommand, ends, over.signal) : besideIdle(over.signal);
        await turn(command, together);
        over.abort();
        await bombing;
      }
      const shown = (share: number) => {
        const [before, after] = [at(alone, share), at(together, share)];
        const moved = `${after >= before ? '+' : ''}${((after / before - 1) * 100).toFixed(0)} %`;
        return `${before.toFixed(1)} → ${after.toFixed(1)} ms (${moved})`;
      };
      const ended = [...ends].join(', ') || 'outlived its turns';
      console.log(
        `${name.padEnd(7)} beside ${bomb.padEnd(15)} p50 ${shown(0.5)}  p99 ${shown(0.99)}  ended by: ${ended}`,
      );
    }
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
