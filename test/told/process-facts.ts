// What the kernel says of a process, for what it tells of itself.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import type { Truth } from './ledger.ts';

/** USER_HZ, by which the kernel counts CPU time. */
const TICKS_PER_SECOND = 100;
/** Of CPU time that is told by other clocks than ticks. */
const CPU_SLACK_S = 0.1;
/** Sockets that come or go while the page is on its way. */
const FEW_FDS = 20;
const MIB = 1_048_576;

interface ProcessFacts {
  readonly userS: number;
  readonly systemS: number;
  readonly mostMemory: number;
  readonly fds: number;
  readonly maxFds: number;
}

/** Undefined where there is no /proc. */
export function processFacts(pid: number): ProcessFacts | undefined {
  const folder = `/proc/${pid}`;
  if (!existsSync(`${folder}/stat`)) return undefined;
  const read = (name: string): string => readFileSync(`${folder}/${name}`, 'utf8');
  const numberIn = (text: string, pattern: RegExp): number => Number(pattern.exec(text)?.[1]);
  // After the name, which may hold blanks.
  const fields = read('stat').split(') ').at(-1)!.split(' ');
  return {
    userS: Number(fields[11]) / TICKS_PER_SECOND,
    systemS: Number(fields[12]) / TICKS_PER_SECOND,
    mostMemory: numberIn(read('status'), /^VmHWM:\s+(\d+) kB$/m) * 1024,
    fds: readdirSync(`${folder}/fd`).length,
    maxFds: numberIn(read('limits'), /^Max open files\s+(\d+)/m),
  };
}

const UNKNOWN: Truth = { unknown: 'there is no /proc' };

/** By the metric's name, of a page that came between `before` and `after`. */
export function processTruths(
  before: ProcessFacts | undefined,
  after: ProcessFacts | undefined,
  startedAfterS: number,
): Readonly<Record<string, Truth>> {
  const nowS = Date.now() / 1000;
  const of = (truthOf: (from: ProcessFacts, to: ProcessFacts) => Truth): Truth =>
    before === undefined || after === undefined ? UNKNOWN : truthOf(before, after);
  const cpu = (secondsOf: (facts: ProcessFacts) => number): Truth =>
    of((from, to) => [secondsOf(from) - CPU_SLACK_S, secondsOf(to) + CPU_SLACK_S]);
  const memory = of((_, { mostMemory }) => [10 * MIB, mostMemory]);
  const heap = of((_, { mostMemory }) => [MIB, 2 * mostMemory]);
  const spentS: Truth = [0, nowS - startedAfterS];
  return {
    process_cpu_seconds_total: cpu(({ userS, systemS }) => userS + systemS),
    process_cpu_user_seconds_total: cpu(({ userS }) => userS),
    process_cpu_system_seconds_total: cpu(({ systemS }) => systemS),
    process_start_time_seconds: [startedAfterS, nowS],
    process_resident_memory_bytes: memory,
    process_open_fds: of((from, to) => [
      Math.min(from.fds, to.fds) - FEW_FDS,
      Math.max(from.fds, to.fds) + FEW_FDS,
    ]),
    process_max_fds: of((_, { maxFds }) => maxFds),
    nodejs_heap_size_total_bytes: heap,
    nodejs_heap_size_used_bytes: heap,
    nodejs_external_memory_bytes: heap,
    nodejs_eventloop_active_seconds_total: spentS,
    nodejs_eventloop_idle_seconds_total: spentS,
  };
}
