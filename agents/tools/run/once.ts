/**
 * Runs a call with an id once: a repeated one joins the run, or gets its result. The run goes on while one of its callers waits, and
 * ends when the last one has left.
 */
import { createHash } from 'node:crypto';
import { AgentError } from '../../runtime/errors.ts';
import type { BegunCalls } from './begun.ts';
import type { ToolOutcome, ToolRequest } from './tool-run.ts';

export interface OnceSettings {
  maxAgeMs: number;
  maxBytes: number;
}

interface Entry {
  digest: string;
  outcome: Promise<ToolOutcome>;
  ending: AbortController;
  callers: number;
  /** 0 while it runs. */
  settledMs: number;
  bytes: number;
}

export class Once {
  private readonly settings: OnceSettings;
  private readonly begun: BegunCalls;
  private readonly entries = new Map<string, Entry>();
  private bytes = 0;

  constructor(settings: OnceSettings, begun: BegunCalls) {
    this.settings = settings;
    this.begun = begun;
  }

  /**
   * @param isIdempotent whether the call may run again when nobody knows what its run has done
   * @param run its signal ends the run
   * @throws AgentError ALREADY_EXISTS for another call with the same id; what the run throws; the signal's reason
   */
  async call(
    request: ToolRequest,
    isIdempotent: boolean,
    signal: AbortSignal,
    run: (signal: AbortSignal) => Promise<ToolOutcome>,
  ): Promise<ToolOutcome> {
    if (request.callId === '') return run(signal);
    this.forget(Date.now());
    const key = JSON.stringify([request.caller, request.taskId, request.callId]);
    const digest = createHash('sha256')
      .update(JSON.stringify([request.tool, request.arguments]))
      .digest('hex');
    let known = this.entries.get(key);
    if (known !== undefined && known.digest !== digest) {
      const message = 'another call had this call_id; a call_id names one call for good';
      throw new AgentError('ALREADY_EXISTS', message, { field: 'call_id' });
    }
    if (known?.settledMs === 0 && known.ending.signal.aborted) {
      // Its last caller has left, and it is about to end. What is known of it then is the answer.
      await known.outcome.catch(() => {});
      known = this.entries.get(key);
    }
    const entry =
      known ?? this.begin(key, digest, isIdempotent ? run : this.remembered(key, request.tool, run));
    const outcome = await this.follow(entry, signal);
    return known === undefined ? outcome : { ...outcome, replayed: true };
  }

  /** The run of a call that an earlier process may have begun, or a later one may be asked for. */
  private remembered(
    key: string,
    tool: string,
    run: (signal: AbortSignal) => Promise<ToolOutcome>,
  ): typeof run {
    const name = createHash('sha256').update(key).digest('hex');
    if (this.begun.isLost(name)) {
      return () => Promise.reject(unknownOutcome(tool, 'the runner ended while it ran'));
    }
    return async (signal) => {
      this.begun.begin(name, Date.now());
      try {
        const outcome = await run(signal);
        this.begun.end(name, Date.now());
        return outcome;
      } catch (error) {
        // After this process, a call whose end is known may run again.
        if (!(error instanceof AgentError && error.code === 'UNKNOWN')) this.begun.end(name, Date.now());
        throw error;
      }
    };
  }

  private begin(key: string, digest: string, run: (signal: AbortSignal) => Promise<ToolOutcome>): Entry {
    const ending = new AbortController();
    const entry: Entry = {
      digest,
      ending,
      outcome: run(ending.signal),
      callers: 0,
      settledMs: 0,
      bytes: 0,
    };
    this.entries.set(key, entry);
    entry.outcome.then(
      (outcome) => {
        entry.settledMs = Date.now();
        entry.bytes = outcome.stdout.length + outcome.stderr.length + outcome.arguments.length + 1000;
        this.bytes += entry.bytes;
        this.forget(Date.now());
      },
      (error) => {
        entry.settledMs = Date.now();
        // A call that has not run may run; one that a limit ended, or whose end nobody knows, keeps its answer.
        if (!(error instanceof AgentError) || !isFinal(error)) this.entries.delete(key);
      },
    );
    return entry;
  }

  private async follow(entry: Entry, signal: AbortSignal): Promise<ToolOutcome> {
    signal.throwIfAborted();
    entry.callers++;
    let leave = () => {};
    const left = new Promise<never>((_, reject) => {
      leave = () => reject(signal.reason);
      signal.addEventListener('abort', leave, { once: true });
    });
    try {
      return await Promise.race([entry.outcome, left]);
    } finally {
      signal.removeEventListener('abort', leave);
      entry.callers--;
      if (entry.callers === 0 && entry.settledMs === 0) entry.ending.abort(signal.reason);
    }
  }

  private forget(nowMs: number): void {
    for (const [key, entry] of this.entries) {
      if (entry.settledMs === 0) continue;
      const isOld = nowMs - entry.settledMs > this.settings.maxAgeMs;
      if (!isOld && this.bytes <= this.settings.maxBytes) continue;
      this.bytes -= entry.bytes;
      this.entries.delete(key);
    }
  }
}

/** Whoever sends the call again must not believe that it has done nothing. */
export function unknownOutcome(tool: string, why: string): AgentError {
  const message = `nobody knows whether ${tool} has done its work: ${why}`;
  return new AgentError('UNKNOWN', message, {
    retryAfterMs: -1,
    trailers: { 'agent-error-reason': 'outcome_unknown' },
  });
}

function isFinal({ code, retryAfterMs }: AgentError): boolean {
  return (code === 'RESOURCE_EXHAUSTED' && retryAfterMs === -1) || code === 'UNKNOWN';
}
