// Calls at a steady rate, whatever becomes of them: callers do not wait for each other.
import type { Caller, CallRecord, RunningCall } from './calls.ts';

export interface LoadOptions {
  readonly perSecond: number;
  /** Of every so many calls one is a stream; 0 is none, 1 all. */
  readonly streamEvery: number;
  readonly timeoutMs: number;
}

const TICK_MS = 5;

export class Load {
  readonly records: CallRecord[] = [];
  readonly #running: RunningCall[] = [];
  readonly #timer: NodeJS.Timeout;

  constructor(caller: Caller, { perSecond, streamEvery, timeoutMs }: LoadOptions) {
    const startedMs = performance.now();
    this.#timer = setInterval(() => {
      const due = ((performance.now() - startedMs) * perSecond) / 1_000;
      // After a pause of this very process the calls that were missed are not all made at once.
      for (let burst = 0; this.records.length < due && burst < 10; burst++) {
        const streaming = streamEvery > 0 && this.records.length % streamEvery === streamEvery - 1;
        const call = caller.call({ streaming, timeoutMs });
        this.records.push(call.record);
        this.#running.push(call);
      }
    }, TICK_MS);
  }

  /** Calls that have not ended. */
  get inFlight(): number {
    return this.records.reduce((count, { code }) => count + (code === undefined ? 1 : 0), 0);
  }

  /** Makes no more calls, and gives those made when the last has ended. */
  async stop(): Promise<CallRecord[]> {
    clearInterval(this.#timer);
    await Promise.all(this.#running.map(({ ended }) => ended));
    return this.records;
  }
}
