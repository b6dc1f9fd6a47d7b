// Makes each call when it is due (an open loop), whatever became of the calls before it.
//
//     due ──▶ sent ──▶ ended            latency = ended - due (a late answer delays no other call's due time)
//      │        └────▶ unfinished       the run was ended while it was open
//      ├──▶ not sent: inFlightBound     as many calls were open as may be
//      └──▶ not sent: generatorLate     this process did not get to it before the end
import type { CallEnd, CallTimes } from './call-end.ts';
import type { RunningCall } from './caller.ts';
import type { Recorder } from './recorder.ts';
import { callsDue, dueMs, type Schedule, totalCalls } from './schedule.ts';

/** Calls made before answers are read again. */
const MOST_AT_ONCE = 64;
/** After the end: a few calls may be late by a little. */
const LATE_SENDING_MS = 1000;
/** After an early end, for the calls that are open. */
const EARLY_END_WAIT_MS = 2000;

export interface GeneratorOptions {
  readonly schedule: Schedule;
  readonly maxInFlight: number;
  readonly call: (onEnd: (end: CallEnd) => void, onChunk: () => void) => RunningCall;
  readonly recorder: Recorder;
}

export class Generator {
  inFlight = 0;
  /** From the start to when the last call was made or given up; undefined until then. */
  sendingEndedMs: number | undefined;

  private readonly schedule: Schedule;
  private readonly maxInFlight: number;
  private readonly makeCall: GeneratorOptions['call'];
  private readonly recorder: Recorder;
  private readonly total: number;
  private readonly open = new Map<RunningCall, CallTimes>();
  private nextCall = 0;
  private startedMs = 0;
  private abandoned = false;
  private timer: NodeJS.Timeout | undefined;
  private wait: NodeJS.Timeout | undefined;
  private resolveDone: () => void = () => {};

  constructor({ schedule, maxInFlight, call, recorder }: GeneratorOptions) {
    this.schedule = schedule;
    this.maxInFlight = maxInFlight;
    this.makeCall = call;
    this.recorder = recorder;
    this.total = totalCalls(schedule);
  }

  /** Milliseconds since the start. */
  get elapsedMs(): number {
    return performance.now() - this.startedMs;
  }

  /** Resolves when every call has ended, or was given up. */
  run(): Promise<void> {
    this.startedMs = performance.now();
    return new Promise((resolve) => {
      this.resolveDone = resolve;
      this.tick();
    });
  }

  /** Makes no more calls and waits shortly for open ones; a second call does not wait. */
  end(): void {
    if (this.sendingEndedMs === undefined) this.endSending();
    if (this.wait !== undefined) this.abandon();
    else if (this.inFlight > 0) this.wait = setTimeout(() => this.abandon(), EARLY_END_WAIT_MS);
  }

  private readonly tick = (): void => {
    if (this.sendingEndedMs !== undefined) return;
    const elapsedMs = this.elapsedMs;
    const due = callsDue(this.schedule, elapsedMs);
    const last = Math.min(due, this.nextCall + MOST_AT_ONCE);
    while (this.nextCall < last) this.send(dueMs(this.schedule, this.nextCall++));
    const endMs = this.schedule.warmupMs + this.schedule.durationMs;
    if (this.nextCall >= this.total || elapsedMs >= endMs + LATE_SENDING_MS) {
      while (this.nextCall < this.total)
        this.recorder.onNotSent(dueMs(this.schedule, this.nextCall++), 'generatorLate');
      this.endSending();
    } else if (this.nextCall < due) setImmediate(this.tick);
    else {
      // Rounded down, for a timer is never early.
      const inMs = dueMs(this.schedule, this.nextCall) - this.elapsedMs;
      this.timer = setTimeout(this.tick, Math.max(1, Math.floor(inMs)));
    }
  };

  private send(dueAtMs: number): void {
    if (this.inFlight >= this.maxInFlight) {
      this.recorder.onNotSent(dueAtMs, 'inFlightBound');
      return;
    }
    const times: CallTimes = { dueMs: dueAtMs, sentMs: this.elapsedMs };
    let lastChunkMs: number | undefined;
    let call: RunningCall | undefined;
    let over = false;
    this.inFlight++;
    this.recorder.onSent(times);
    call = this.makeCall(
      (end) => {
        if (this.abandoned) return;
        over = true;
        this.recorder.onEnd(times, this.elapsedMs, end);
        this.inFlight--;
        if (call !== undefined) this.open.delete(call);
        this.finishWhenDone();
      },
      () => {
        if (this.abandoned) return;
        const nowMs = this.elapsedMs;
        this.recorder.onChunk(times, nowMs, lastChunkMs);
        lastChunkMs = nowMs;
      },
    );
    if (!over) this.open.set(call, times);
  }

  private endSending(): void {
    clearTimeout(this.timer);
    this.sendingEndedMs = this.elapsedMs;
    this.finishWhenDone();
  }

  private finishWhenDone(): void {
    if (this.sendingEndedMs === undefined || this.inFlight > 0) return;
    clearTimeout(this.wait);
    this.resolveDone();
  }

  private abandon(): void {
    clearTimeout(this.wait);
    this.abandoned = true;
    for (const [call, times] of this.open) {
      this.recorder.onUnfinished(times.dueMs);
      call.cancel();
    }
    this.open.clear();
    this.inFlight = 0;
    this.resolveDone();
  }
}
