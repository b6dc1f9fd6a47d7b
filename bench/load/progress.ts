// How far the run is: a bar that is drawn again and again on a terminal, a line now and then elsewhere.

import { formatCount, formatDuration, formatMs } from '../../scripts/reports/units.ts';
import type { Generator } from './generator.ts';
import type { Recorder } from './recorder.ts';
import type { Schedule } from './schedule.ts';

const BAR_EVERY_MS = 200;
const LINE_EVERY_MS = 5000;
const BAR_WIDTH = 20;
/** On terminals of 80 columns, which the figures need. */
const NARROW_BAR_WIDTH = 8;
const NARROW_COLUMNS = 100;

/** What a line is made of. */
export interface Progress {
  readonly elapsedMs: number;
  readonly schedule: Schedule;
  readonly inFlight: number;
  readonly ok: number;
  /** Not sent ones included. */
  readonly failed: number;
  readonly p50: number | undefined;
  readonly p99: number | undefined;
}

/** No longer than the terminal is wide, or it could not be drawn over. */
export function progressBar(progress: Progress, columns: number): string {
  const { warmupMs, durationMs } = progress.schedule;
  const share = Math.min(1, progress.elapsedMs / (warmupMs + durationMs));
  const width = columns < NARROW_COLUMNS ? NARROW_BAR_WIDTH : BAR_WIDTH;
  const filled = Math.round(share * width);
  return `[${'█'.repeat(filled)}${'░'.repeat(width - filled)}] ${progressLine(progress)}`.slice(
    0,
    columns - 1,
  );
}

export function progressLine({ elapsedMs, schedule, inFlight, ok, failed, p50, p99 }: Progress): string {
  const { warmupMs, durationMs } = schedule;
  const measuredMs = elapsedMs - warmupMs;
  if (measuredMs < 0) return `warming up ${formatDuration(-measuredMs)}, ${inFlight} in flight`;
  const waiting = measuredMs > durationMs ? ', waiting for the last answers' : '';
  const shownMs = Math.floor(Math.min(durationMs, measuredMs) / 1000) * 1000;
  return (
    `${formatDuration(shownMs)}/${formatDuration(durationMs)} ${formatCount(ok)} ok, ${formatCount(failed)} failed, ` +
    `${formatCount(inFlight)} in flight, p50 ${formatMs(p50)}, p99 ${formatMs(p99)}${waiting}`
  );
}

/** Draws until the function that it returns is called. */
export function showProgress(
  generator: Generator,
  recorder: Recorder,
  schedule: Schedule,
  stream: NodeJS.WriteStream,
): () => void {
  const now = (): Progress => ({
    elapsedMs: generator.elapsedMs,
    schedule,
    inFlight: generator.inFlight,
    ok: recorder.ok,
    failed: recorder.settled - recorder.ok,
    p50: recorder.latency.percentile(50),
    p99: recorder.latency.percentile(99),
  });
  if (!stream.isTTY) {
    const timer = setInterval(() => stream.write(`${progressLine(now())}\n`), LINE_EVERY_MS);
    return () => clearInterval(timer);
  }
  const draw = (): void => void stream.write(`\r\x1b[K${progressBar(now(), stream.columns || 80)}`);
  const timer = setInterval(draw, BAR_EVERY_MS);
  return () => {
    clearInterval(timer);
    stream.write('\r\x1b[K');
  };
}
