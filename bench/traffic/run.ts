// Runs the generator on the load's core and reads its output, and the CPU time of the target meanwhile.
import { join } from 'node:path';
import type { TestProcess } from '../../scripts/harness/process.ts';
import { cpuMicroseconds } from '../measuring/cpu.ts';
import type { Cleanup } from '../world/cleanup.ts';
import { LOAD_CORE, startPinned } from '../world/start.ts';
import { largeAnswer, paths, smallAnswer, streamBytes } from './answers.ts';
import type { TrafficLine, TrafficOptions, TrafficResult } from './options.ts';

/** Of a run beyond its time. */
const SPARE_MS = 30_000;
const HOLD_LIMIT_MS = 60_000;

export interface Measured extends TrafficResult {
  /** User and system time of the target's processes while calls were counted, in microseconds; 0 without processes. */
  cpuMicroseconds: number;
  /** Their share of a core meanwhile. Below 1 at saturation, other work used the rest, or the load was too small. */
  cpuShare: number;
  /** The generator's share of its core. */
  loadCpuShare: number;
}

/** The differences from ordinary calls. */
export type Traffic = Pick<TrafficOptions, 'connections' | 'streams'> & Partial<TrafficOptions>;

/** Small tasks with small answers, in plain text, without unusual headers, unless said otherwise. */
export function trafficOptions(port: number, traffic: Traffic): TrafficOptions {
  const path = traffic.path ?? paths.small;
  const answers: Record<string, number> = {
    [paths.small]: smallAnswer.length,
    [paths.large]: largeAnswer.length,
    [paths.stream]: streamBytes(traffic.chunks ?? 0),
    [paths.tokens]: streamBytes(traffic.chunks ?? 0),
  };
  return {
    seconds: 1,
    warmUpSeconds: 0.5,
    inputBytes: 100,
    extraHeaders: 0,
    uniqueHeaders: 'none',
    answerBytes: answers[path]!,
    ...traffic,
    path,
    port,
  };
}

/** Throws when a call failed or an answer had the wrong length: a proxy that refuses calls quickly is not fast. */
export async function runTraffic(
  cleanup: Cleanup,
  { port, pids }: { port: number; pids: readonly number[] },
  traffic: Traffic,
): Promise<Measured> {
  const options = trafficOptions(port, traffic);
  const spent = (): number => pids.reduce((sum, pid) => sum + cpuMicroseconds(pid), 0);
  let before = 0;
  let beganMs = 0;
  let after = 0;
  let elapsedMs = 0;
  let result: TrafficResult | undefined;
  const load = start(cleanup, options, (line) => {
    if (line.event === 'begin') {
      before = spent();
      beganMs = performance.now();
    } else if (line.event === 'end') {
      after = spent();
      elapsedMs = performance.now() - beganMs;
      result = line;
    }
  });
  const limit = setTimeout(
    () => load.kill('SIGKILL'),
    (options.seconds + options.warmUpSeconds) * 1_000 + SPARE_MS,
  );
  const code = await load.ended;
  clearTimeout(limit);
  if (result === undefined) throw new Error(`the load ended with ${code}: ${load.logs().slice(-500)}`);
  if (result.failed > 0)
    throw new Error(`${result.failed} calls failed, the first one with: ${result.firstFailure}`);
  if (result.calls === 0 && result.bytesPerSecond === 0)
    throw new Error('no call ended in the measured time');
  return {
    ...result,
    loadCpuShare: result.cpuShare,
    cpuMicroseconds: after - before,
    cpuShare: (after - before) / 1_000 / elapsedMs,
  };
}

/** Opens streams that stay open until `end` is called. */
export async function holdStreams(
  cleanup: Cleanup,
  port: number,
  traffic: Pick<TrafficOptions, 'connections' | 'streams'>,
): Promise<{ end: () => Promise<void> }> {
  let held = false;
  const options = trafficOptions(port, { ...traffic, path: paths.stream, hold: true });
  const load = start(cleanup, options, (line) => {
    held ||= line.event === 'held';
  });
  let exit: number | NodeJS.Signals | undefined;
  void load.ended.then((code) => {
    exit = code;
  });
  const endMs = performance.now() + HOLD_LIMIT_MS;
  while (!held && exit === undefined && performance.now() < endMs)
    await new Promise((resolve) => setTimeout(resolve, 20));
  if (!held) {
    load.kill('SIGKILL');
    const wanted = traffic.connections * traffic.streams;
    throw new Error(
      `the target did not hold ${wanted} streams open: ${load.logs().slice(-300) || `exit ${exit}`}`,
    );
  }
  return {
    end: async () => {
      load.kill('SIGKILL');
      await load.ended;
    },
  };
}

function start(cleanup: Cleanup, options: TrafficOptions, onLine: (line: TrafficLine) => void): TestProcess {
  const program = join(import.meta.dirname, 'main.ts');
  const load = startPinned(cleanup, LOAD_CORE, [process.execPath, program, JSON.stringify(options)]);
  let rest = '';
  load.child.stdout!.on('data', (text: string) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop()!;
    for (const line of lines) if (line.startsWith('{')) onLine(JSON.parse(line) as TrafficLine);
  });
  return load;
}
