// The result of a run, in the form of the JSON file.
import { cpus } from 'node:os';
import { formatCount, formatMs, formatPercent } from '../../scripts/reports/units.ts';
import type { Generator } from './generator.ts';
import { type Percentiles, rounded } from './histogram.ts';
import type { LoadOptions } from './options.ts';
import type { Recorder } from './recorder.ts';
import { judge, type Verdict } from './thresholds.ts';

/** All times in milliseconds unless a name says otherwise. */
export interface LoadReport {
  readonly version: 1;
  readonly startedAt: string;
  readonly settings: {
    readonly target: string;
    readonly authority?: string;
    readonly method: 'ProcessTask' | 'StreamProcess';
    readonly taskType: string;
    readonly inputBytes: number;
    /** Without their values. */
    readonly metadataKeys: readonly string[];
    readonly ratePerSecond: number;
    readonly durationMs: number;
    readonly warmupMs: number;
    readonly deadlineMs: number;
    readonly connections: number;
    readonly maxInFlight: number;
    readonly tls: boolean;
  };
  /** By a signal. */
  readonly endedEarly: boolean;
  /** How long calls were made, without the warm-up. */
  readonly measuredMs: number;
  readonly calls: {
    readonly due: number;
    readonly sent: number;
    readonly ok: number;
    readonly failed: number;
    readonly notSent: { readonly inFlightBound: number; readonly generatorLate: number };
    /** Open when the run was ended early; neither good nor bad. */
    readonly unfinished: number;
    readonly sentPerSecond: number;
    readonly okPerSecond: number;
    /** Failed and not sent, of all that are settled; 0 to 1. */
    readonly errorShare: number;
  };
  readonly latency: {
    /** From when a call was due, of successful calls: corrected for coordinated omission. */
    readonly corrected: Percentiles;
    /** From when it was made. */
    readonly serviceTime: Percentiles;
    readonly failed: Percentiles;
    /** Of `corrected`: percent and milliseconds. */
    readonly curve: readonly (readonly [number, number])[];
    readonly serviceTimeCurve: readonly (readonly [number, number])[];
  };
  readonly stream?: {
    readonly chunks: number;
    readonly chunksPerSecond: number;
    readonly firstChunk: Percentiles;
    readonly firstChunkServiceTime: Percentiles;
    readonly chunkGap: Percentiles;
  };
  readonly errors: {
    readonly byOutcome: readonly { outcome: string; count: number; example: string }[];
    /** Of `outrigger-reason`. */
    readonly byReason: readonly { reason: string; count: number }[];
    /** Failures with `grpc-retry-pushback-ms`. */
    readonly pushbacks: number;
    /** Tasks answered from an earlier run of theirs. */
    readonly deduplicated: number;
  };
  readonly overTime: readonly {
    /** From the end of the warm-up. */
    readonly atSeconds: number;
    readonly seconds: number;
    readonly due: number;
    readonly ok: number;
    readonly failed: number;
    readonly notSent: number;
    readonly p50?: number;
    readonly p99?: number;
    readonly max?: number;
  }[];
  readonly generator: {
    /** From when a call was due to when it was made. */
    readonly scheduleLag: Percentiles;
    readonly maxLagMs: number;
    readonly late: boolean;
    readonly cpuMicrosecondsPerCall: number;
    /** Of one core, 0 to 1; more with the runtime's own threads. */
    readonly cpuShare: number;
    readonly node: string;
    readonly cores: number;
  };
  readonly warnings: readonly string[];
  readonly thresholds: readonly Verdict[];
  readonly verdict: 'passed' | 'failed' | 'generator late';
}

export interface Finished {
  readonly options: LoadOptions;
  readonly recorder: Recorder;
  readonly generator: Pick<Generator, 'sendingEndedMs'>;
  readonly startedAt: Date;
  readonly endedEarly: boolean;
  /** Of this process during the run, in microseconds, and how long that was. */
  readonly cpuMicroseconds: number;
  readonly wallMs: number;
}

export function makeReport(finished: Finished): LoadReport {
  const { options, recorder, generator, startedAt, endedEarly, cpuMicroseconds, wallMs } = finished;
  const { notSent } = recorder;
  const sendingEndedMs = generator.sendingEndedMs ?? wallMs;
  const measuredMs = Math.max(0, Math.min(options.durationMs, sendingEndedMs - options.warmupMs));
  const perSecond = (count: number): number => rounded(measuredMs > 0 ? (count * 1000) / measuredMs : 0);
  const scheduleLag = recorder.scheduleLag.summary();
  // The warm-up's calls cost as much.
  const allSent = recorder.sent + recorder.sentInWarmup;
  const late = (scheduleLag.p99 ?? 0) > options.maxLagMs || notSent.generatorLate > 0;
  const latency = recorder.latency.summary();
  const firstChunk = recorder.firstChunk.summary();
  const chunkGap = recorder.chunkGap.summary();
  const { errorShare } = recorder;
  const thresholds = judge(options.thresholds, { latency, firstChunk, chunkGap, errorShare });
  const failed = recorder.ok === 0 || thresholds.some(({ held }) => !held);
  const { authority } = options;
  const report: Omit<LoadReport, 'warnings'> = {
    version: 1,
    startedAt: startedAt.toISOString(),
    settings: {
      target: options.target,
      ...(authority === undefined ? {} : { authority }),
      method: options.stream ? 'StreamProcess' : 'ProcessTask',
      taskType: options.taskType,
      inputBytes: options.input === undefined ? options.inputBytes : Buffer.byteLength(options.input),
      metadataKeys: options.metadata.map(([key]) => key),
      ratePerSecond: options.ratePerSecond,
      durationMs: options.durationMs,
      warmupMs: options.warmupMs,
      deadlineMs: options.deadlineMs,
      connections: options.connections,
      maxInFlight: options.maxInFlight,
      tls: options.tls !== undefined,
    },
    endedEarly,
    measuredMs: rounded(measuredMs),
    calls: {
      due: recorder.sent + notSent.inFlightBound + notSent.generatorLate,
      sent: recorder.sent,
      ok: recorder.ok,
      failed: recorder.failed,
      notSent: { ...notSent },
      unfinished: recorder.unfinished,
      sentPerSecond: perSecond(recorder.sent),
      okPerSecond: perSecond(recorder.ok),
      errorShare,
    },
    latency: {
      corrected: latency,
      serviceTime: recorder.serviceTime.summary(),
      failed: recorder.failedLatency.summary(),
      curve: recorder.latency.curve(),
      serviceTimeCurve: recorder.serviceTime.curve(),
    },
    ...(options.stream
      ? {
          stream: {
            chunks: recorder.chunks,
            chunksPerSecond: perSecond(recorder.chunks),
            firstChunk,
            firstChunkServiceTime: recorder.firstChunkServiceTime.summary(),
            chunkGap,
          },
        }
      : {}),
    errors: {
      byOutcome: [...recorder.outcomes]
        .map(([outcome, { count, example }]) => ({ outcome, count, example }))
        .sort((a, b) => b.count - a.count),
      byReason: [...recorder.reasons]
        .map(([reason, count]) => ({ reason, count }))
        .sort((a, b) => b.count - a.count),
      pushbacks: recorder.pushbacks,
      deduplicated: recorder.deduplicated,
    },
    overTime: recorder.intervals
      .map(({ latency, due, ok, failed, notSent }, i) => ({
        atSeconds: (i * recorder.intervalMs) / 1000,
        seconds: recorder.intervalMs / 1000,
        due,
        ok,
        failed,
        notSent,
        ...(latency.count === 0
          ? {}
          : {
              p50: rounded(latency.percentile(50)!),
              p99: rounded(latency.percentile(99)!),
              max: rounded(latency.maxMs!),
            }),
      }))
      // An early end leaves the rest empty.
      .filter(({ due, atSeconds }) => due > 0 || atSeconds * 1000 < measuredMs),
    generator: {
      scheduleLag,
      maxLagMs: options.maxLagMs,
      late,
      cpuMicrosecondsPerCall: Math.round(cpuMicroseconds / Math.max(1, allSent)),
      cpuShare: Math.round(cpuMicroseconds / Math.max(1, wallMs)) / 1000,
      node: process.version,
      cores: cpus().length,
    },
    thresholds,
    verdict: late ? 'generator late' : failed ? 'failed' : 'passed',
  };
  return { ...report, warnings: warningsOf(report) };
}

function warningsOf({ calls, generator, settings, errors }: Omit<LoadReport, 'warnings'>): string[] {
  const warnings: string[] = [];
  const { scheduleLag, maxLagMs, cpuMicrosecondsPerCall, cpuShare, late } = generator;
  if (late) {
    const unsent = calls.notSent.generatorLate;
    warnings.push(
      `the generator was late (lag p99 ${formatMs(scheduleLag.p99)}, allowed ${formatMs(maxLagMs)}` +
        `${unsent > 0 ? `; ${formatCount(unsent)} calls not made` : ''}): the figures show this machine, not the ` +
        'target’s. Lower --rate, use another machine or several, or raise --max-lag',
    );
  }
  if (cpuShare > 0.8)
    warnings.push(
      `the generator took ${formatPercent(cpuShare)} of a core at ${cpuMicrosecondsPerCall} µs a call: beyond about ` +
        `${formatCount(1_000_000 / Math.max(1, cpuMicrosecondsPerCall))} calls/s the generator is the bottleneck. Run several`,
    );
  if (calls.notSent.inFlightBound > 0)
    warnings.push(
      `${formatCount(calls.notSent.inFlightBound)} calls were not made, because ${formatCount(settings.maxInFlight)} were ` +
        'open: they count as errors. The target answers fewer calls than arrive; --max-in-flight is the limit',
    );
  if (errors.deduplicated > 0)
    warnings.push(
      `${formatCount(errors.deduplicated)} answers came from an earlier run of the same task (after a retry on the way)`,
    );
  return warnings;
}
