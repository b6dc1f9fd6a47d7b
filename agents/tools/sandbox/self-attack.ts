/** Attacks the sandbox as a run would, and finds the tier that holds what it promises. */
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { attacks } from './attacks.ts';
import { layOut } from './canary.ts';
import { insideConfine, type Programs, pathInside, workspaceInside } from './launch.ts';
import { layWalls, removeWalls } from './lay-walls.ts';
import { usualLimits } from './limits.ts';
import { foreignRuntime } from './runtime.ts';
import { runBehind } from './sandboxed-run.ts';
import type { Tier, Walls } from './tiers.ts';
import { giveToRuns } from './workspaces.ts';

/** What the attacks have shown. */
export interface Proof {
  tier: Tier | 'none';
  /** How runs are started; undefined where nothing holds. */
  walls: Walls | undefined;
  /** What they are made of. */
  programs: Programs;
  /** The container's runtime, where it is a sandbox itself: `gvisor`, `kata`. */
  runtime: string | undefined;
  /** Attacks that these walls held. */
  held: readonly string[];
  /** Attacks that succeeded, all of them without a promise. */
  notHeld: readonly string[];
  /** Why stronger walls are not in use. */
  problems: readonly string[];
}

/** One wall under attack. */
interface Findings {
  held: string[];
  broken: string[];
  /** Why the attack could not be made. */
  problem?: string;
}

/** @param folder an existing folder that the user of runs may enter */
export async function attackSandbox(given: Programs, folder: string): Promise<Proof> {
  const runtime = foreignRuntime();
  const problems: string[] = [];
  const candidates: [Walls, Programs][] = [
    ['namespaces', given],
    ['namespaces', { ...given, withoutProc: true }],
    ['landlock', given],
  ];
  if (runtime !== undefined) candidates.push(['bare', given]);
  for (const [walls, programs] of candidates) {
    let made = programs;
    const found = await (async () => {
      if (walls === 'namespaces') made = await layWalls(programs, folder);
      return attackWalls(walls, made, folder);
    })().catch(({ message }: Error): Findings => ({ held: [], broken: [], problem: message }));
    const promised = attacks.filter(({ heldBy }) => heldBy.includes(walls)).map(({ name }) => name);
    const failed = promised.filter((name) => !found.held.includes(name));
    if (found.problem === undefined && failed.length === 0) {
      return {
        tier: runtime !== undefined ? 'runtime' : walls === 'namespaces' ? 'namespaces' : 'landlock',
        walls,
        programs: made,
        runtime,
        held: found.held,
        notHeld: found.broken,
        problems,
      };
    }
    removeWalls(made);
    const kind = programs.withoutProc ? `${walls} without /proc` : walls;
    problems.push(`${kind}: ${found.problem ?? `does not hold ${failed.join(', ')}`}`);
  }
  return { tier: 'none', walls: undefined, programs: given, runtime, held: [], notHeld: [], problems };
}

/** Makes every attack once. @param programs for `namespaces`, with the walls that have been laid */
export async function attackWalls(walls: Walls, programs: Programs, folder: string): Promise<Findings> {
  const workspace = mkdtempSync(join(folder, 'probe-'));
  giveToRuns(workspace);
  try {
    const canary = await layOut(programs.confine, folder);
    try {
      const end = await runBehind(
        walls,
        programs,
        {
          command: [
            pathInside(walls, { outside: programs.confine, inside: insideConfine }),
            'probe',
            ...['--workspace', workspaceInside(walls, workspace)],
            ...canary.arguments,
          ],
          workspace,
          programs: [],
          limits: usualLimits,
          hasProxy: false,
        },
        { signal: AbortSignal.timeout(20_000) },
      );
      if (end.kind === 'not_started') return { held: [], broken: [], problem: end.failure };
      if (end.kind !== 'exited') return { held: [], broken: [], problem: `the attack ended as ${end.kind}` };
      const findings = read(end.stdout.toString());
      for (const name of await canary.arrived()) {
        findings.held = findings.held.filter((held) => held !== name);
        if (!findings.broken.includes(name)) findings.broken.push(name);
      }
      const isWhole = findings.held.length + findings.broken.length >= attacks.length;
      return isWhole
        ? findings
        : { ...findings, problem: `the attack ended early: ${end.stderr.toString().slice(0, 200)}` };
    } finally {
      canary.close();
    }
  } finally {
    rmSync(workspace, { recursive: true, force: true });
  }
}

function read(text: string): Findings {
  const findings: Findings = { held: [], broken: [] };
  for (const line of text.split('\n')) {
    const [name = '', outcome] = line.split(' ');
    if (outcome === 'held') findings.held.push(name);
    if (outcome === 'broken') findings.broken.push(name);
  }
  return findings;
}
