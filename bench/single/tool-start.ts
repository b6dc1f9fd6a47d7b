// What the sandbox of the tool runner adds to a run: node bench/single/tool-start.ts [ROUNDS]
//
// It starts `true` and Python by turns without and behind each wall, so that a busy machine disturbs all alike, and prints medians,
// runs a second, and processor time for each. It needs root, bubblewrap and the helper (node scripts/install.mjs --tests).
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { layWalls } from '../../agents/tools/sandbox/lay-walls.ts';
import { usualLimits } from '../../agents/tools/sandbox/limits.ts';
import { runBehind } from '../../agents/tools/sandbox/sandboxed-run.ts';
import type { Walls } from '../../agents/tools/sandbox/tiers.ts';
import { giveToRuns } from '../../agents/tools/sandbox/workspaces.ts';
import { requireTool } from '../../scripts/harness/tool.ts';

const rounds = Number(process.argv[2] ?? 100);
const atOnce = 4;
const slices = 10;
const folder = mkdtempSync(join(tmpdir(), 'tool-start-'));
chmodSync(folder, 0o711);
const confine = join(folder, 'confine');
copyFileSync(requireTool('confine'), confine);
chmodSync(confine, 0o755);
const workspace = join(folder, 'workspace');
mkdirSync(workspace);
giveToRuns(workspace);
const programs = await layWalls({ confine, bubblewrap: requireTool('bwrap') }, folder);
const commands = { true: ['/usr/bin/true'], python: ['/usr/bin/python3', '-I', '-c', 'pass'] };

type Way = Walls | 'alone';
const ways: readonly Way[] = ['alone', 'bare', 'landlock', 'namespaces'];

async function run(way: Way, command: readonly string[]): Promise<void> {
  if (way === 'alone') {
    const [program = '', ...args] = command;
    const child = spawn(program, args, { cwd: workspace, env: {}, uid: 15000, gid: 15000 });
    child.stdin.end();
    child.stdout.resume();
    child.stderr.resume();
    await once(child, 'close');
    return;
  }
  const launch = { command, workspace, programs: [], limits: usualLimits, hasProxy: false };
  const end = await runBehind(way, programs, launch, { signal: AbortSignal.timeout(60_000) });
  if (end.kind !== 'exited' || end.code !== 0) throw new Error(`${way}: ${JSON.stringify(end)}`);
}

/** Of this process and of the children that have ended; proc(5). */
function cpuTimeMs(): number {
  const stat = readFileSync('/proc/self/stat', 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks) * 10, 0);
}

const at = (sorted: readonly number[], share: number) =>
  sorted[Math.floor((sorted.length - 1) * share)]!.toFixed(1);

try {
  for (const [name, command] of Object.entries(commands)) {
    const times = new Map<Way, number[]>(ways.map((way) => [way, []]));
    for (let round = 0; round < rounds; round++) {
      for (const way of ways) {
        const startMs = performance.now();
        await run(way, command);
        times.get(way)!.push(performance.now() - startMs);
      }
    }
    // In slices by turns, for the same reason; on a busy machine, compare the processor time.
    const bulk = new Map(ways.map((way) => [way, { runs: 0, wallMs: 0, cpuMs: 0 }]));
    for (let slice = 0; slice < slices; slice++) {
      for (const way of ways) {
        const sums = bulk.get(way)!;
        const startMs = performance.now();
        const cpuMs = cpuTimeMs();
        let left = Math.ceil(rounds / slices);
        sums.runs += left;
        const worker = async () => {
          while (left-- > 0) await run(way, command);
        };
        await Promise.all(Array.from({ length: atOnce }, worker));
        sums.wallMs += performance.now() - startMs;
        sums.cpuMs += cpuTimeMs() - cpuMs;
      }
    }
    for (const way of ways) {
      const sorted = times.get(way)!.sort((a, b) => a - b);
      const { runs, wallMs, cpuMs } = bulk.get(way)!;
      const perSecond = ((runs * 1000) / wallMs).toFixed(0);
      const times50 = `p50 ${at(sorted, 0.5)} ms  p95 ${at(sorted, 0.95)} ms`;
      const rate = `${perSecond} runs/s at ${atOnce} at once  ${(cpuMs / runs).toFixed(2)} ms of processor time`;
      console.log(`${name.padEnd(7)} ${way.padEnd(11)} ${times50}  ${rate}`);
    }
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
