// Calls at a steady rate, independent of their results: callers do not wait for each other.
import type { Caller, CallRecord, RunningCall } from './calls.ts';
import { TRAVEL_MS } from './run-record.ts';

export interface LoadOptions {
  readonly perSecond: number;
  /** One of this many calls is a stream; 0 means none, 1 all. */
  readonly streamEvery: number;
  readonly timeoutMs: number;
}

const TICK_MS = 5;

export class Load {
  readonly records: CallRecord[] = [];
  private readonly running: RunningCall[] = [];
  private readonly timer: NodeJS.Timeout;
  private longestPauseMs = 0;

  constructor(caller: Caller, { perSecond, streamEvery, timeoutMs }: LoadOptions) {
    const startedMs = performance.now();
    let lookedMs = startedMs;
    this.timer = setInterval(() => {
      this.longestPauseMs = Math.max(this.longestPauseMs, performance.now() - lookedMs);
      lookedMs = performance.now();
      const due = ((performance.now() - startedMs) * perSecond) / 1_000;
      // After a pause of this process, do not make up for all missed calls at once.
      for (let burst = 0; this.records.length < due && burst < 10; burst++) {
        const streaming = streamEvery > 0 && this.records.length % streamEvery === streamEvery - 1;
        const call = caller.call({ streaming, timeoutMs });
        this.records.push(call.record);
        this.running.push(call);
      }
    }, TICK_MS);
  }

  /**
   * The possible delay of messages between processes: longer when the machine has delayed this process, because it then
   * delays all others, too.
   */
  get travelMs(): number {
    return TRAVEL_MS + this.longestPauseMs;
  }

  /** Unfinished calls. */
  get inFlight(): number {
    return this.records.reduce((count, { code }) => count + (code === undefined ? 1 : 0), 0);
  }

  /** Makes no more calls, and resolves with all records when the last call has ended. */
  async stop(): Promise<CallRecord[]> {
    clearInterval(this.timer);
    await Promise.all(this.running.map(({ ended }) => ended));
    return this.records;
  }
}
