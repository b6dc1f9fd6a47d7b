// The common procedure of all sections: start the targets, prove that each one works, warm up, measure in interleaved
// rounds, keep every value.
import { loadavg } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Measured, runTraffic, type Traffic } from '../traffic/run.ts';
import { Fleet, warmUp } from '../world/fleet.ts';
import type { Target } from '../world/setup.ts';
import { startTarget, targets } from '../world/targets.ts';
import type { World } from '../world/world.ts';
import { describeMachine } from './machine.ts';
import type { SectionResult, SectionRow } from './results.ts';

export interface MeasureSpec {
  readonly title: string;
  readonly better: 'more' | 'less';
  /** Decimal places in tables; by size when absent. */
  readonly digits?: number;
  /** A figure about the measurement itself, which is not compared with the peers'. */
  readonly aside?: true;
  /** The report shows the difference to `direct`. */
  readonly added?: true;
}

export interface Section {
  /** Of the option --rows and of the file of results. */
  readonly name: string;
  readonly title: string;
  /** The procedure, for the reader of the report. */
  readonly about: string;
  /** Names of targets, in the order of the table. */
  readonly targets: readonly string[];
  /** Without them with --quick; all when absent. */
  readonly quickTargets?: readonly string[];
  /** Each target is started once for each of these; one without a name when absent. */
  readonly variants?: readonly string[];
  readonly quickVariants?: readonly string[];
  readonly measures: Readonly<Record<string, MeasureSpec>>;
  /** Rounds unless another number is asked for; the usual one when absent. */
  readonly rounds?: number;
  /** How much longer than usual this variant has to be warmed up. */
  readonly warmUpFactor?: (variant: string) => number;
  /** Calls before the first round of a full run, for what the usual warm-up does not show of these; see the section. */
  readonly settle?: Traffic;
  /** Each round has processes of its own, one after the other. */
  readonly fresh?: boolean;
  /** Whether a target has this variant at all; each has all when absent. */
  readonly applies?: (target: string, variant: string) => boolean;
  /** Why this one can't be measured, or false. */
  readonly lacks?: (target: string, variant: string) => string | false;
  /** How a target is started; in front of the plain upstream when absent. */
  readonly start?: (world: World, target: string, variant: string) => Promise<Target>;
  readonly measure: (run: Run) => Promise<void>;
}

export interface Run {
  readonly world: World;
  readonly target: Target;
  readonly variant: string;
  readonly quick: boolean;
  /** Of each measurement. */
  readonly seconds: number;
  /** Keeps a value of this round. */
  readonly record: (measure: string, value: number) => void;
  readonly traffic: (traffic: Traffic) => Promise<Measured>;
}

export interface ProcedureOptions {
  /** The section's own number, or the usual one, when absent. */
  readonly rounds: number | undefined;
  readonly seconds: number;
  readonly quick: boolean;
  /** The sidecar as the image has it. */
  readonly image: boolean;
  /** Names of targets; all that can be had when empty. */
  readonly only: readonly string[];
  readonly log: (line: string) => void;
}

const ROUNDS = 5;
/** After this long a process that has started is idle. */
const SETTLE_MS = 2_500;

interface Running {
  readonly row: SectionRow;
  target: Target | undefined;
}

/** Measures with targets of its own, or with those of a fleet that other sections use, too. */
export async function measureSection(
  section: Section,
  options: ProcedureOptions,
  shared?: Fleet,
): Promise<SectionResult> {
  const { seconds, quick, only, log } = options;
  const rounds = options.rounds ?? section.rounds ?? ROUNDS;
  const result: SectionResult = {
    ...describeMachine(section.name),
    build: options.image ? 'image' : 'sources',
    rounds,
    seconds,
    rows: [],
  };
  const fleet = shared ?? (await Fleet.start(options));
  const { world } = fleet;
  const running: Running[] = [];
  try {
    for (const name of (quick ? section.quickTargets : undefined) ?? section.targets) {
      if (only.length > 0 && !only.some((wanted) => name.startsWith(wanted))) continue;
      for (const variant of (quick ? section.quickVariants : undefined) ?? section.variants ?? ['']) {
        if (section.applies?.(name, variant) === false) continue;
        const row: SectionRow = { target: name, variant, values: {} };
        const missing = targets[name]?.missing() || section.lacks?.(name, variant) || false;
        if (missing !== false) row.missing = missing;
        result.rows.push(row);
        if (missing === false) running.push({ row, target: undefined });
        else log(`${label(row)}: omitted (${missing})`);
      }
    }
    if (section.fresh !== true) {
      for (const entry of running) {
        await attempt(entry.row, log, async () => {
          await begin(section, fleet, entry, quick);
          if (section.settle !== undefined && !quick)
            await runTraffic(world.cleanup, entry.target!, section.settle);
        });
      }
      // Those that another section has used have settled.
      if (shared === undefined || section.start !== undefined || fleet.isNew)
        await sleep(quick ? SETTLE_MS / 2 : SETTLE_MS);
      fleet.isNew = false;
    }
    for (let round = 1; round <= rounds; round++) {
      for (const entry of running) {
        const { row } = entry;
        const values: Record<string, number> = {};
        const record = (measure: string, value: number): void => {
          values[measure] = value;
          row.values[measure] = [...(row.values[measure] ?? []), value];
        };
        await attempt(row, log, async () => {
          if (section.fresh === true) await begin(section, fleet, entry, quick);
          const { target } = entry;
          if (target === undefined) return;
          const traffic = (traffic: Traffic): Promise<Measured> =>
            runTraffic(world.cleanup, target, {
              ...{ seconds, warmUpSeconds: warmUpOf(seconds) },
              ...target.traffic,
              ...traffic,
            });
          await section.measure({ world, target, variant: row.variant, quick, seconds, record, traffic });
        });
        if (section.fresh === true) await entry.target?.stop();
        log(`${section.name}, round ${round} of ${rounds}, ${label(row)}: ${describe(values)}`);
      }
      // Each round begins with another target, so that none always follows the same neighbour.
      running.push(...running.splice(0, 1));
    }
    result.loadAfter = loadavg()[0]!;
    return result;
  } finally {
    for (const { target } of running) if (section.start !== undefined) await target?.stop();
    if (shared === undefined) await fleet.end();
  }
}

/** Starts a target, or takes the fleet's, and sees that it works. */
async function begin(section: Section, fleet: Fleet, entry: Running, quick: boolean): Promise<void> {
  const { target: name, variant } = entry.row;
  const { world } = fleet;
  const warmUpSeconds = (quick ? 1 : 3) * (section.warmUpFactor?.(variant) ?? 1);
  if (section.start === undefined && section.fresh !== true) {
    entry.target = await fleet.plain(name, warmUpSeconds);
    return;
  }
  entry.target = await (section.start?.(world, name, variant) ?? startTarget(name, world.setup));
  if (section.fresh !== true) await warmUp(world, entry.target, warmUpSeconds);
}

/** If one target fails, the figures of the others remain; its row keeps the failure, and the report shows it. */
async function attempt(
  row: SectionRow,
  log: (line: string) => void,
  step: () => Promise<void>,
): Promise<void> {
  try {
    await step();
  } catch (error) {
    const { message } = error as Error;
    row.failures = [...(row.failures ?? []), message];
    log(`${label(row)}: ${message}`);
  }
}

/** A third of the time, as much as lets a connection and its streams get under way. */
function warmUpOf(seconds: number): number {
  return Math.max(0.4, seconds / 3);
}

function label({ target, variant }: SectionRow): string {
  return variant === '' ? target : `${target}, ${variant}`;
}

function describe(values: Readonly<Record<string, number>>): string {
  const parts = Object.entries(values).map(
    ([name, value]) => `${name} ${value.toFixed(Math.abs(value) < 10 ? 2 : 0)}`,
  );
  return parts.length === 0 ? 'nothing' : parts.join(', ');
}
